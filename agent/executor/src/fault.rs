//! Where a test has this program end as by `kill -9`: see [`skep_journal::fault`].

/// Names the point.
pub const ENVIRONMENT: &str = "SKEP_TEST_EXECUTOR_DIES_AT";

/// Every point, in the order a command passes them.
pub const POINTS: [&str; 10] =
    ["admitted", "observed", "captured", "journalled", "applied", "told", "followed", "undoing", "undone", "closed"];
