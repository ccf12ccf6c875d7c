//! An answer as it comes in: Arrow IPC pieces, whoever sends them, turned into record batches one at a time.

use std::collections::VecDeque;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use thiserror::Error;

use super::folder::FolderPieces;
use super::live::LivePieces;

/// Why a question has no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// The statement is wrong, or took too long; the other side's own words.
    #[error("{message}")]
    Failed {
        /// One line.
        message: String,
    },
    /// The collector did not let us.
    #[error("collector {url} refused: {message}")]
    Refused {
        /// `https://host:port`.
        url: String,
        /// One line.
        message: String,
    },
    /// The collector went away.
    #[error("lost collector {url}: {message}")]
    Lost {
        /// `https://host:port`.
        url: String,
        /// One line.
        message: String,
    },
    /// No collector runs and the program that would read the files is not there.
    #[error("no collector runs and {} cannot be started to read the files", program.display())]
    NoCollectorProgram {
        /// Path tried.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program that reads the files broke off.
    #[error("reading the files of {} failed", data.display())]
    Folder {
        /// The folder.
        data: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The pieces are no Arrow IPC stream.
    #[error("the answer is damaged")]
    Pieces(#[from] ArrowError),
    /// A column that the question asked for is not in the answer, or is of another type.
    #[error("the answer lacks a usable column {name}")]
    Column {
        /// Its name.
        name: String,
    },
}

#[derive(Debug)]
pub(super) enum Pieces {
    Live(LivePieces),
    Folder(FolderPieces),
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Buffer>, AskError> {
        match self {
            Self::Live(pieces) => pieces.next().await,
            Self::Folder(pieces) => pieces.next().await,
        }
    }
}

/// The answer to one statement.
///
/// Shape: the schema is known as soon as the answer exists; batches come in the order of the result.
#[derive(Debug)]
pub struct Answer {
    schema: SchemaRef,
    ready: VecDeque<RecordBatch>,
    pieces: Pieces,
    decoder: StreamDecoder,
}

impl Answer {
    /// Reads up to the schema, so that a wrong statement fails here and not while its rows are written.
    pub(super) async fn start(mut pieces: Pieces) -> Result<Self, AskError> {
        let mut decoder = StreamDecoder::new();
        let mut ready = VecDeque::new();
        while decoder.schema().is_none() {
            match pieces.next().await? {
                Some(piece) => decode(&mut decoder, piece, &mut ready)?,
                None => break,
            }
        }
        let schema = decoder.schema().unwrap_or_else(|| Schema::empty().into());
        Ok(Self { schema, ready, pieces, decoder })
    }

    /// Names and types of the columns.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The next rows, `None` after the last.
    ///
    /// # Errors
    /// [`AskError`]; what came before is good.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, AskError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            match self.pieces.next().await? {
                Some(piece) => decode(&mut self.decoder, piece, &mut self.ready)?,
                None => {
                    self.decoder.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// All rows. For answers that are bounded by their statement.
    ///
    /// # Errors
    /// As [`Answer::next`].
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, AskError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await? {
            batches.push(batch);
        }
        Ok(batches)
    }
}

fn decode(decoder: &mut StreamDecoder, mut piece: Buffer, ready: &mut VecDeque<RecordBatch>) -> Result<(), AskError> {
    while !piece.is_empty() {
        ready.extend(decoder.decode(&mut piece)?.filter(|batch| batch.num_rows() > 0));
    }
    Ok(())
}
