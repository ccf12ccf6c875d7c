//! Service checks: asks services how they are, from beside them.
//!
//! [`settings`] -> [`check`] -> [`schedule`] -> [`outcome`], and [`kind`] has a file for each way of asking.
//!
//! * A run ends within its timeout and leaves nothing behind: no connection, no process.
//! * One that fails is run again soon, and counts as down when it has failed more often in a row than `retries` lets pass.
//! * What a server says of itself comes as [`figure::Figure`]s with limits; one beyond its limit is a failed run.
//! * Secrets are read from a file or the environment at each run, and are in no outcome, error or log.
//! * At most [`schedule::AT_ONCE`] run side by side; a check that has to wait for its turn is late, not left out.
//!
//! * What a collector asks about other nodes' services is looked at by [`peer`], within what the settings allow.
//!
//! Entry points: [`settings::read`], [`schedule::Runner`].

pub mod settings;

pub mod check;

pub mod schedule;

pub mod kind;

pub mod figure;

pub mod outcome;

pub mod peer;
