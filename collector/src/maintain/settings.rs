//! How much is kept, and when it is put in order.

use std::time::Duration;

/// The section `[maintain]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Time between two looks at what is to be done.
    pub interval: Duration,
    /// Commits between two checkpoints of a table's log.
    pub checkpoint_commits: u64,
    /// How long commits stay that a checkpoint makes unneeded.
    pub log_age: Duration,
    /// How long after its end an hour is taken for closed.
    pub closed_after: Duration,
    /// How long a file stays that is not live any more.
    pub grace: Duration,
}
