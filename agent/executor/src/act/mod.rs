//! The only code that changes the host.
//!
//! * [`hierarchy`]: where the hierarchy that controls cpu is mounted, and a cgroup in it.
//! * [`throttle`]: reads and writes a cgroup's cpu limit.
//! * [`usage`]: how much cpu a cgroup uses and wants.

pub mod hierarchy;

pub mod throttle;

pub mod usage;
