//! Parquet files in Hive folders, under a Delta log.
//!
//! ```text
//! history/<table>/_delta_log/00000000000000000000.json
//! history/<table>/date=2026-01-31/hour=07/<collector>-<first segment>-<last segment>.parquet
//! history/<table>/date=2026-01-31/hour=07/<collector>-<first segment>-<last segment>-m<of what>.parquet
//! ```
//!
//! * [`place`]: where the tables are, as far as the others have to know; [`folders`] is a disk, [`bucket`] an object
//!   store, [`location`] says which.
//! * [`part_reader`]: parts of a file, wherever it is.
//! * [`path`]: the names of files.
//! * [`partition`]: rows to hours.
//! * [`gather`]: rows of many batches, picked in any order.
//! * [`parquet_file`]: sorted rows to one file.
//! * [`action`]: what a Delta log says.
//! * [`delta`]: the Delta log, as far as this writer needs it.
//! * [`checkpoint`]: all of a log up to a version, in one file.
//! * [`delta_schema`]: a table's schema as Delta writes it.
//! * [`tables`]: all tables.
//! * [`table`]: one table's folder: what is live, and how a segment's rows get there exactly once.
//! * [`batches`]: what files hold, by (stream, sequence).
//! * [`upkeep`]: files that take the place of others, and files that go.
//! * [`flush`]: sealed segments to files.
//! * [`flusher`]: when that happens.
//! * [`refresher`]: what other collectors wrote to the same history.
//!
//! Exactly once: a segment's rows of one table become files and then one Delta commit that carries
//! `txn(collector, segment)`. At start, segments up to that number are in; files of ours that no commit names are not,
//! and go if their segment is still in the WAL. If it is not, the commits are what is missing, and the files stay.
//!
//! A merged file takes the place of others in one commit. One no commit names goes if all it was made of is live.

pub mod place;

pub mod part_reader;

pub mod folders;

pub mod bucket;

pub mod location;

pub mod gather;

pub mod path;

pub mod partition;

pub mod parquet_file;

pub mod action;

pub mod delta;

pub mod checkpoint;

pub mod delta_schema;

pub mod table;

pub mod tables;

pub mod batches;

pub mod upkeep;

pub mod flush;

pub mod flusher;

pub mod refresher;

pub use folders::Folders;
pub use location::Location;
pub use place::{Place, SharedPlace};
pub use table::{DataFile, HistoryError, TableHistory};
pub use tables::History;
