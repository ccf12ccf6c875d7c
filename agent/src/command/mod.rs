//! Commands from the collector to the executor, and what came of them back.
//!
//! * [`rows`]: receipts as rows of `actions` and `audit`.
//! * [`relay`]: the task between the two.
//!
//! The agent neither checks nor changes a command: that is the executor's business. It only sees to it that a command
//! reaches it in time, and that each receipt is in a batch once.

pub mod relay;
pub mod rows;

pub use relay::Relay;
