//! What is done about which finding, when, how often and in which order.
//!
//! Nothing here reads a clock, a file or a socket: whoever owns an [`Engine`] passes the time in, carries out what it
//! decides, and says what came of it. The same findings at the same times give the same decisions, which is what makes
//! [`replay`] over recorded findings worth something.
//!
//! * [`finding`]: what the policy needs to know of a finding.
//! * [`pattern`]: names with `*`; whom no policy may act on.
//! * [`recipe`]: what a rung makes of a finding.
//! * [`policy`], [`parse`]: the policy file.
//! * [`window`]: maintenance windows.
//! * [`outcome`]: how often which action helped.
//! * [`choice`]: which rung, and why not the others.
//! * [`spent`]: budgets, cooldowns, limits.
//! * [`quorum`]: what peers say before something disruptive is done.
//! * [`instances`]: how many of a service are healthy.
//! * [`case`]: one finding on its way up the ladder.
//! * [`decision`]: what comes out, and what is told to it.
//! * [`engine`]: all of them.
//! * [`replay`]: the same over recorded findings.

#![forbid(unsafe_code)]

pub mod finding;

pub mod pattern;

pub mod recipe;

pub mod policy;

pub mod parse;

pub mod window;

pub mod outcome;

pub mod choice;

pub mod spent;

pub mod quorum;

pub mod instances;

pub mod case;

pub mod decision;

pub mod engine;

pub mod replay;

pub use decision::{Begin, Decision, End, Heard};
pub use engine::Engine;
pub use finding::{Finding, Severity};
pub use policy::{Mode, Policy};
pub use spent::Full;

/// Microseconds of a second.
pub(crate) const SECOND_US: i64 = 1_000_000;
