//! The real binary against real cgroups, processes, units, packet filters and folders. Needs root.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the line that is wrong")]

mod support;

mod throttle;

mod cgroups;

mod processes;

mod boxed;

mod units;

mod shipped;

mod containers;

mod network;

mod files;

mod crash;

mod authority;
