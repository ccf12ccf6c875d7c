//! Where a test has this program end as by `kill -9`: see [`skep_journal::fault`].

/// Names the point.
pub const ENVIRONMENT: &str = "SKEP_TEST_CLUSTER_DIES_AT";

/// Every point, in the order a command passes them.
pub const POINTS: [&str; 7] = ["admitted", "journalled", "applied", "told", "undoing", "undone", "closed"];
