//! Rows that are durable in the WAL but not yet in Parquet, and what is in Parquet already.
//!
//! * [`schema`]: a table's Arrow schema.
//! * [`convert`]: chunk to record batch.
//! * [`restore`]: record batch back to chunk.
//! * [`packed`]: distributions as rows in memory have them.
//! * [`size`]: what rows take in memory.
//! * [`join`]: small batches made one.
//! * [`memtable`]: the rows of one WAL segment.
//! * [`room`]: memory for rows, and who has how much of it.
//! * [`store`]: all memtables and all files, changed together, so that a query sees every row once.

pub mod schema;

pub mod convert;

pub mod restore;

pub mod packed;

pub mod size;

pub mod join;

pub mod memtable;

pub mod room;

pub mod store;

#[cfg(test)]
pub(crate) mod sample;

pub use memtable::Memtable;
pub use room::Room;
pub use store::{Snapshot, Store, TableSnapshot};
