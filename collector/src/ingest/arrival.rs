//! An envelope opened, checked and turned into rows.

use std::sync::Arc;

use arrow::error::ArrowError;
use skep_wire::chunk::{self, ChunkError};
use skep_wire::envelope::{self, EnvelopeError, Origin};
use skep_wire::{tables, v1};
use thiserror::Error;

use super::durable::Durable;
use crate::buffer::convert;
use crate::buffer::memtable::Rows;
use crate::buffer::size;

/// Why a batch cannot be stored.
#[derive(Debug, Error)]
pub enum Refused {
    /// The payload does not open.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A chunk is not what its table wants.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// Two chunks of one table.
    #[error("table {table} twice in one batch")]
    Twice {
        /// Which.
        table: String,
    },
    /// A checked chunk that makes no arrays.
    #[error("rows of {table} do not convert")]
    Convert {
        /// Which table.
        table: &'static str,
        /// Why.
        source: ArrowError,
    },
}

/// A batch that may be stored.
#[derive(Debug)]
pub struct Checked {
    /// For listeners.
    pub durable: Arc<Durable>,
    /// For the buffer.
    pub rows: Vec<Rows>,
    /// Chunks of tables this collector does not know: stored nowhere.
    pub unknown_tables: Vec<String>,
    /// Columns this collector does not know.
    pub unknown_columns: usize,
}

impl Checked {
    /// What its rows take in memory.
    pub fn row_bytes(&self) -> usize {
        self.rows.iter().map(|(_, batch)| size::of(batch)).sum()
    }
}

/// Opens and checks `envelope`.
///
/// # Errors
/// [`Refused`]: nothing of it may be stored.
pub fn check(envelope: &v1::Envelope, received_us: i64) -> Result<Checked, Refused> {
    let batch = envelope::open(envelope)?;
    check_batch(origin(envelope), batch, received_us)
}

/// Checks a batch that is open already.
///
/// # Errors
/// As [`check`].
pub fn check_batch(origin: Origin, mut batch: v1::Batch, received_us: i64) -> Result<Checked, Refused> {
    let mut rows: Vec<Rows> = Vec::with_capacity(batch.chunks.len());
    let mut unknown_tables = Vec::new();
    let mut unknown_columns = 0;
    for chunk in &batch.chunks {
        let Some(table) = tables::find(&chunk.table) else {
            unknown_tables.push(chunk.table.clone());
            continue;
        };
        if rows.iter().any(|(known, _)| known.name == table.name) {
            return Err(Refused::Twice { table: chunk.table.clone() });
        }
        unknown_columns += chunk::check(chunk, table)?;
        chunk::check_dictionaries(chunk, table)?;
        let batch = convert::record_batch(&origin, table, chunk)
            .map_err(|source| Refused::Convert { table: table.name, source })?;
        rows.push((table, batch));
    }
    rows.retain(|(_, batch)| batch.num_rows() > 0);
    batch.chunks.retain(|chunk| tables::find(&chunk.table).is_some());
    if unknown_columns > 0 {
        // Nobody looks at them, and nobody counts what they take.
        for chunk in &mut batch.chunks {
            let Some(table) = tables::find(&chunk.table) else { continue };
            chunk.columns.retain(|data| table.columns().any(|column| column.name == data.name));
        }
    }
    Ok(Checked { durable: Arc::new(Durable { origin, batch, received_us }), rows, unknown_tables, unknown_columns })
}

/// Whose batch it is and which.
pub fn origin(envelope: &v1::Envelope) -> Origin {
    Origin {
        node: envelope.node.clone(),
        boot: envelope.boot.clone(),
        stream: envelope.stream.clone(),
        seq: envelope.seq,
    }
}
