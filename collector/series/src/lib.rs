//! What is abnormal in a series of numbers, what comes next, and how well a node is. Pure arithmetic: no clock, no files.
//!
//! Two questions about one value, never fused into one number:
//!
//! * [`novelty`]: was nothing like this ever seen here? One pass, no look-ahead, learns for ever.
//! * [`level`]: is it far from what is usual now, or beyond a limit? Answers every time, however often it happens.
//!
//! What they rest on, and what comes next:
//!
//! * [`point`]: one value at one time, and why some are not taken.
//! * [`tail`]: how large residuals have been, and how surprising another one is.
//! * [`season`]: what is usual at this hour of the day and of the week.
//! * [`mean`]: means that forget.
//! * [`hold`]: one incident is one alarm, and many alarms make the next one dearer.
//! * [`forecast`]: what the value will be in an hour, between which bounds, and whether there is any skill in that.
//! * [`limit`]: when it reaches a limit, a disk being full, with the interval.
//! * [`rush`]: likewise, of what fills up while one looks on.
//! * [`health`]: 0 to 100 for a node or a workload, with the parts that made it.
//! * [`replay`]: series from files of other tools.
//! * [`state`]: all of it as bytes, to survive a restart.
//!
//! Invariants: the same points give the same results, to the bit, with or without a restart in between; after the first
//! point nothing is allocated; one series takes at most 16 KiB, however long it lives; nothing is fitted to any series
//! in advance.

#![forbid(unsafe_code)]

pub mod point;

pub mod tail;

pub mod season;

pub mod mean;

pub mod hold;

pub mod novelty;

pub mod level;

pub mod forecast;

pub mod limit;

pub mod rush;

pub mod health;

pub mod replay;

pub mod state;

pub use novelty::{Novelty, Verdict};
pub use point::{Ignored, Point};
