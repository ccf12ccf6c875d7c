//! Detect, decide, dispatch as one state machine.
//!
//! * [`responder`]: durable rows in, rows to store and commands to send out.
//! * `restore`: what was durable before this start is learned again.
//! * `decided`: the policy hears of findings, and what it decides is carried out.
//! * `operator`: an operator's word on an action or an incident.
//! * `command`: commands are made of actions.
//! * `receipt`: what nodes say became of actions.
//! * `output`: what comes of one call.
//! * `poll`: peers that are asked before something disruptive is done.
//! * `cluster`: what is heard of the cluster.
//! * [`watch`]: rows to findings.
//! * `found`: what is judged of a batch, as findings.
//! * `glance`: what a quick look at each window says, likewise.
//! * [`minute`]: what the minutes' series say, as rows and findings.
//! * [`service`]: services that are down, as findings.
//! * [`vigil`]: how well skep itself sees, as findings.
//! * [`rows`]: collects the rows of one call.

pub mod responder;

mod restore;

mod decided;

mod operator;

mod command;

mod receipt;

mod output;

mod poll;

mod cluster;

mod watch;

mod found;

mod minute;

mod glance;

mod service;

mod vigil;

mod rows;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod glance_tests;

#[cfg(test)]
mod minute_tests;

#[cfg(test)]
mod poll_tests;

#[cfg(test)]
mod cluster_tests;

#[cfg(test)]
mod vigil_tests;

pub use output::{Outgoing, Output};
pub use responder::{OWN_NODE, Responder, Setup};
