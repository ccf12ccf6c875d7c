//! Detect, decide, dispatch as one state machine.
//!
//! * [`responder`]: durable rows in, rows to store and commands to send out.
//! * [`watch`]: rows to findings.
//! * [`rows`]: collects the rows of one call.

pub mod responder;

mod watch;

mod rows;

#[cfg(test)]
mod tests;

pub use responder::{OWN_NODE, Outgoing, Output, Responder, Setup};
