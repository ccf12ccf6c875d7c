//! SQL over what is in memory and what is in files, as one.
//!
//! * [`engine`]: a statement to a stream of rows.
//! * [`readonly`]: which statements are served.
//! * [`provider`]: one table at one moment.
//! * [`prune`]: which files a statement's times can touch.
//! * [`files`]: files that are missing or broken.
//! * [`quantile`]: `hist_quantile(histogram, q)`.
//! * [`suggest`]: names that were probably meant.
//! * [`ipc`]: rows to an Arrow IPC stream in pieces.
//! * [`error`]: why a statement has no answer, in one line.
//! * [`offline`]: a data folder nobody runs on.

pub mod engine;

pub mod readonly;

pub mod provider;

pub mod prune;

pub mod files;

pub mod quantile;

pub mod suggest;

pub mod ipc;

pub mod error;

pub mod offline;

pub use engine::{Answer, Engine};
pub use error::QueryError;
pub use files::{Unreadable, Verifier};
