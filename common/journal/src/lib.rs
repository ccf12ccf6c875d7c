//! What was done and how to take it back, on disk before it is done: to a host by its executor, to a cluster by the
//! collector.
//!
//! * [`record`]: the bytes of an entry.
//! * [`state`]: what all entries together say; pure.
//! * [`store`]: entries on disk.
//! * [`fault`]: where tests have a program end between two of them.
//!
//! An entry is one indivisible step. The journal is rewritten as one snapshot entry when it is opened and when it has
//! grown, so its size is bounded by what stands, by the receipts nobody acknowledged and by the nonces still valid.

#![forbid(unsafe_code)]

pub mod fault;

pub mod record;

pub mod state;

pub mod store;

pub use record::{Change, Entry, Seen, Standing};
pub use state::{Now, State};
pub use store::{Journal, JournalError};
