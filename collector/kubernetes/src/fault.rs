//! Points at which a test has this program end as by `kill -9`: what is true there must be made good by the next start.
//!
//! Only for tests: nothing sets [`ENVIRONMENT`] but them, and where it is set the log says so.

/// Names the point.
pub const ENVIRONMENT: &str = "SKEP_TEST_CLUSTER_DIES_AT";

/// Every point, in the order a command passes them.
pub const POINTS: [&str; 7] = ["admitted", "journalled", "applied", "told", "undoing", "undone", "closed"];

/// The point at which this process ends, if any.
#[derive(Debug, Clone, Default)]
pub struct Fault(Option<String>);

impl Fault {
    /// As the environment says.
    pub fn of_environment() -> Self {
        let point = std::env::var(ENVIRONMENT).ok();
        if let Some(point) = &point {
            tracing::error!("{ENVIRONMENT} is set: this program kills itself at {point:?}; that is for tests only");
        }
        Self(point)
    }

    /// Ends here, without any of what an orderly end does, if this is the point.
    pub fn point(&self, name: &str) {
        if self.0.as_deref() == Some(name) {
            let this = rustix::process::getpid();
            let _ended = rustix::process::kill_process(this, rustix::process::Signal::KILL);
        }
    }
}
