//! Third stage: batches wait on disk until the collector has them.
//!
//! * [`record`]: one batch as it lies in a segment.
//! * [`state`]: the small file beside the segments.
//! * [`lane`]: one stream of numbered batches, on disk or, while the disk refuses, in memory.
//! * [`correction`]: what the ledger says of batches that had to go. Pure.
//! * [`store`]: all lanes together: append, read, acknowledge, evict.
//! * [`worker`]: the thread that owns the store, and the requests it serves.
//!
//! ```text
//! DIR/spool/state                      streams in order, how far each was sent, how far the host was watched
//! DIR/spool/STREAM/0000...1.seg        records, see skep_seglog::format
//! DIR/spool/quarantine/STREAM/...      segments with damage, kept for people
//! ```
//!
//! Invariants:
//! * A batch leaves for the collector only after it was synced; so no number is ever used for two batches, whatever
//!   part of the disk's cache a crash takes.
//! * A batch that was sent and not acknowledged is not evicted: nobody could say whether it is lost.
//! * An eviction is one record: it holds the correction of the ledger and names what it replaces, and is synced before
//!   anything is removed. What it replaces is removed at the next start if a crash came in between.

pub mod correction;
pub mod lane;
pub mod record;
pub mod state;
pub mod store;
pub mod worker;

pub use record::ReceiptMark;
pub use store::{Opened, SpoolOptions, Store};
pub use worker::{Append, Request, SpoolState};
