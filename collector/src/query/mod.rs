//! SQL over what is in memory and what is in files, as one.
//!
//! * [`engine`]: a statement to a stream of rows.
//! * [`turn`]: how many run at once.
//! * [`interrupt`]: each can be ended.
//! * [`memory`]: what one may take of what all have.
//! * [`readonly`]: which statements are served.
//! * [`catalog`]: which tables and views a statement may name.
//! * [`provider`]: one table at one moment.
//! * `scan`: its live files as the engine reads them.
//! * `held`: its rows in memory as the engine reads them.
//! * [`histogram`]: histograms from files, faster than the engine reads them.
//! * [`once`]: rows that two collectors stored, read once, and the rule for it; `leave_out` is the condition for it.
//! * [`prune`]: which files a statement's times can touch.
//! * [`files`]: files that are missing or broken.
//! * [`alike`]: texts that are the same in every row of a file.
//! * [`function`]: `hist_quantile`, `time_bucket` and what else SQL can do here.
//! * [`suggest`]: names that were probably meant.
//! * [`ipc`]: rows to an Arrow IPC stream in pieces.
//! * [`error`]: why a statement has no answer, in one line.
//! * [`offline`]: a data folder nobody runs on.

pub mod engine;

pub mod turn;

pub mod interrupt;

pub mod memory;

pub mod readonly;

pub mod catalog;

pub mod provider;

mod scan;

mod held;

pub mod histogram;

pub mod once;

mod leave_out;

pub mod prune;

pub mod files;

pub mod alike;

pub mod function;

pub mod suggest;

pub mod ipc;

pub mod error;

pub mod offline;

pub use engine::{Answer, Engine};
pub use error::QueryError;
pub use files::{Unreadable, Verifier};
