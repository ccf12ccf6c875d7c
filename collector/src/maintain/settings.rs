//! How much is kept, and when it is put in order.

use std::collections::BTreeMap;
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
    /// Lengths of windows by age, from the shortest to the longest.
    pub tiers: Vec<Tier>,
    /// How long and how much is kept.
    pub retention: Retention,
    /// How long another collector is silent before its files are taken over; `None` for ever.
    pub adopt_after: Option<Duration>,
}

/// Windows of at least this length once an hour is so old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// Length of the windows in seconds; divides an hour.
    pub window_s: u32,
    /// Time since the end of the hour.
    pub after: Duration,
}

/// The section `[retention]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Days rows are kept; `None` for ever.
    pub days: Option<u32>,
    /// Tables that have days of their own.
    pub tables: BTreeMap<&'static str, Option<u32>>,
    /// Most bytes of all tables together; `None` for no limit.
    pub bytes: Option<u64>,
}

impl Retention {
    /// Days the rows of a table are kept.
    pub fn days_of(&self, table: &str) -> Option<u32> {
        self.tables.get(table).copied().unwrap_or(self.days)
    }
}
