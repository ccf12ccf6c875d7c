//! Beside the stages: what the agent may cost this host, and what it gives up to keep to it.
//!
//! * [`spending`]: what was spent lately.
//! * [`ladder`]: what is given up first.
//! * [`governor`]: when to go down it, and when up again.
//! * [`memory`]: the same for memory.
//! * [`desk`]: all of these together, with what is told of it.
//!
//! All of it is pure: whoever owns the [`Desk`] reads clocks and costs, and passes the decisions on.

pub mod desk;
pub mod governor;
pub mod ladder;
pub mod memory;
pub mod spending;

pub use desk::{Budget, Desk};
