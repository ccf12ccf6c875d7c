//! Who hears of what.
//!
//! ```text
//! finding, rule ──Report──► desk ──Notice──► queue (disk) ──► channel
//! ```
//!
//! * [`settings`]: channels, routes, silences and rules, as an operator writes them.
//! * [`report`]: something is wrong, or is not any more.
//! * [`rule`]: rows of a statement become reports: for how long, and how long after. Pure.
//! * [`pattern`]: which reports a route or a silence is about. Pure.
//! * [`desk`]: groups, waits, holds back, repeats. Pure: time goes in, notices come out.
//! * [`queue`]: notices on disk until their channel took them, within bounds.
//! * [`channel`]: how each kind of channel is told.
//! * [`deliver`]: brings what is in the queue to its channel, however often that takes.
//!
//! A notice is told at least once, and carries an id that is the same each time. What does not fit is counted.

#![forbid(unsafe_code)]

pub mod settings;

pub mod report;

pub mod rule;

pub mod pattern;

pub mod desk;

pub mod queue;

pub mod channel;

pub mod deliver;
