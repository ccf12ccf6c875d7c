//! Points at which a test has a program end as by `kill -9`: what is true there must be made good by the next start.
//!
//! Only for tests: nothing sets the variable that names the point but them, and where it is set the log says so.

/// The point at which this process ends, if any.
#[derive(Debug, Clone, Default)]
pub struct Fault(Option<String>);

impl Fault {
    /// As this variable of the environment says.
    pub fn of_environment(variable: &str) -> Self {
        let point = std::env::var(variable).ok();
        if let Some(point) = &point {
            tracing::error!("{variable} is set: this program kills itself at {point:?}; that is for tests only");
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
