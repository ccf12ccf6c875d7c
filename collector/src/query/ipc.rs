//! Rows to one Arrow IPC stream, in pieces.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;

/// Largest piece: well below what a gRPC peer takes by default.
pub const PIECE_BYTES: usize = 1 << 20;

/// Writes a stream and hands it out as it grows.
pub struct Pieces {
    writer: StreamWriter<Sink>,
    sink: Sink,
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pieces {
    /// Begins with the schema.
    ///
    /// # Errors
    /// A schema IPC cannot hold.
    pub fn new(schema: &Schema) -> Result<Self, ArrowError> {
        let sink = Sink::default();
        Ok(Self { writer: StreamWriter::try_new(sink.clone(), schema)?, sink })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// Rows of another schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.writer.write(batch)
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// None in practice: the sink is memory.
    pub fn finish(&mut self) -> Result<(), ArrowError> {
        self.writer.finish()
    }

    /// What was written since the last call, cut into pieces of at most [`PIECE_BYTES`].
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        let bytes = std::mem::take(&mut *self.sink.0.lock().unwrap_or_else(PoisonError::into_inner));
        if bytes.len() <= PIECE_BYTES {
            return if bytes.is_empty() { Vec::new() } else { vec![bytes] };
        }
        bytes.chunks(PIECE_BYTES).map(<[u8]>::to_vec).collect()
    }
}
