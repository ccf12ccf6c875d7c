//! Second stage: readings and events become batches.
//!
//! * [`window`]: where windows begin and end.
//! * [`hierarchy`], [`tree`], [`membership`]: which cgroups there are and which a process is in.
//! * [`workload`], [`pods`], [`cgroup`]: who a cgroup belongs to.
//! * [`lookup`], [`identity`]: who a pid and a start time are.
//! * [`files`], [`gauges`], [`rows`], [`security`], [`block`], [`capability`]: what the columns hold.
//! * [`account`]: the ledger of this stage.
//! * [`aggregator`]: all of these together.
//! * [`watch`]: the loop that owns probes and aggregator.
//!
//! Events are sealed within a quarter of a second, in batches of their own that already hold their part of the ledger;
//! what was counted is sealed at the end of its window.

pub mod account;
pub mod aggregator;
pub mod block;
pub mod capability;
pub mod cgroup;
pub mod files;
pub mod gauges;
pub mod hierarchy;
pub mod identity;
pub mod lookup;
pub mod membership;
pub mod pods;
pub mod rows;
pub mod security;
pub mod tree;
pub mod watch;
pub mod window;
pub mod workload;

pub use aggregator::{Aggregator, Sealed};
