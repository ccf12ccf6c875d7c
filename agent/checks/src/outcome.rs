//! What came of a run.

use std::sync::Arc;
use std::time::Duration;

use crate::check::Check;
use crate::figure::Figure;

/// One run of one check.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which.
    pub check: Arc<Check>,
    /// When it began, microseconds since the epoch.
    pub time_us: i64,
    /// How long it took.
    pub latency: Duration,
    /// Why it failed, in one line; `None` when all is well.
    pub error: Option<String>,
    /// What the server said of itself, also where that is why it failed.
    pub figures: Vec<Figure>,
    /// Runs that failed in a row, this one included.
    pub failures: u32,
    /// Of the checks it depends on, the first that is down.
    pub blocked_by: Option<String>,
}

impl Outcome {
    /// Whether it failed more often than is let pass.
    pub fn is_down(&self) -> bool {
        self.failures > self.check.retries
    }
}
