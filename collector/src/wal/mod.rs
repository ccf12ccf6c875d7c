//! What is acknowledged is here first.
//!
//! * [`record`]: what one entry of the log says.
//! * [`offsets`]: how far each stream has come, and what to do with a batch that arrives; no IO.
//! * [`writer`]: the one thread that appends, syncs and acknowledges.
//! * [`replay`]: what a start finds.
//!
//! Every segment begins with a snapshot of all offsets, twice, so that the oldest segment can go as soon as its rows are in
//! Parquet, and no single damaged place takes the offsets with it. There is always one segment with a durable snapshot.

pub mod record;

pub mod offsets;

pub mod replay;

pub mod writer;

pub use offsets::{Offsets, StreamKey, Verdict};
pub use record::Record;
pub use replay::{Damage, Replayed, replay};
pub use writer::{Arrival, Command, Outcome, Wal, Writer};
