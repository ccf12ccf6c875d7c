//! Findings that belong together, and what people do about them. Pure.
//!
//! * [`state`]: an incident, and its row.
//! * [`talk`]: who depends on whom.
//! * [`book`]: which finding belongs to which, and when one begins and ends.

pub mod state;

pub mod talk;

pub mod book;

pub use book::Book;
pub use state::{COLLECTOR, Cause, Change, Incident, Member, State};

#[cfg(test)]
mod tests;
