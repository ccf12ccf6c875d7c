//! The rows of one WAL segment.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use skep_seglog::SegmentId;
use skep_wire::tables::Table;

use super::join::{Batches, joined};
use super::room::Room;

/// Rows of one table on their way through the stages.
pub type Rows = (&'static Table, RecordBatch);

/// The rows of one WAL segment, in memory until each table of it is in Parquet.
#[derive(Debug)]
pub struct Memtable {
    /// Where the rows are durable.
    pub segment: SegmentId,
    /// By table name.
    pub tables: BTreeMap<&'static str, Batches>,
    /// Rows of all tables.
    pub rows: usize,
    /// The share of the memory budget these rows hold; given back when they go.
    room: Vec<Room>,
}

impl Memtable {
    /// Nothing yet of `segment`.
    pub fn new(segment: SegmentId) -> Self {
        Self { segment, tables: BTreeMap::new(), rows: 0, room: Vec::new() }
    }

    /// Adds the rows of one envelope.
    pub fn insert(&mut self, rows: Vec<Rows>, room: Option<Room>) {
        for (table, batch) in rows {
            self.rows += batch.num_rows();
            self.tables.entry(table.name).or_default().push(batch);
        }
        self.room.extend(room);
    }

    /// Makes small batches one where there are many.
    pub fn join(&mut self) {
        for (table, batches) in &mut self.tables {
            if let Some(small) = batches.due() {
                batches.put(joined(table, &small));
            }
        }
    }
}
