//! Batches into one of the formats, to standard output or a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::ArrayWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::flat::flatten;
use super::sheet::{Layout, render};
use super::zone::by_offset;
use super::{DataFormat, OutputError};

type Sink = BufWriter<Box<dyn Write + Send>>;

/// Takes an answer's batches in order; nothing is complete before [`Writer::finish`].
///
/// A file is written beside its name and renamed at the end, so that a failure leaves no half file under it.
pub struct Writer {
    encoder: Encoder,
    target: Option<Target>,
    rows: u64,
}

struct Target {
    partial: PathBuf,
    path: PathBuf,
}

impl Drop for Target {
    /// After a rename there is nothing left to remove; after a failure the half file goes.
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.partial));
    }
}

enum Encoder {
    Table { schema: SchemaRef, batches: Vec<RecordBatch>, layout: Layout, sink: Sink },
    Json(Box<ArrayWriter<Sink>>),
    Csv(Box<arrow::csv::Writer<Sink>>),
    Arrow(Box<StreamWriter<Sink>>),
    Parquet(Box<ArrowWriter<Sink>>),
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts an output of `schema`, to `path` or standard output.
    ///
    /// # Errors
    /// [`OutputError`]; nothing was written then.
    pub fn start(format: DataFormat, schema: &SchemaRef, path: Option<&Path>) -> Result<Self, OutputError> {
        let (sink, target, layout): (Box<dyn Write + Send>, _, _) = match path {
            Some(path) => {
                let mut partial = path.as_os_str().to_owned();
                partial.push(".partial");
                let partial = PathBuf::from(partial);
                let file =
                    File::create(&partial).map_err(|source| OutputError::File { path: partial.clone(), source })?;
                (Box::new(file), Some(Target { partial, path: path.to_owned() }), Layout::WIDE)
            }
            None => {
                refuse_terminal(format)?;
                (Box::new(io::stdout()), None, Layout::stdout())
            }
        };
        let sink = BufWriter::new(sink);
        let schema = SchemaRef::clone(schema);
        let encoder = match format {
            DataFormat::Table => Encoder::Table { schema, batches: Vec::new(), layout, sink },
            DataFormat::Json => Encoder::Json(Box::new(ArrayWriter::new(sink))),
            DataFormat::Csv => {
                let mut writer = CsvBuilder::new().with_header(true).build(sink);
                // The header stands there even when no row follows.
                writer.write(&text_of(&RecordBatch::new_empty(schema))?).map_err(OutputError::Arrow)?;
                Encoder::Csv(Box::new(writer))
            }
            DataFormat::Arrow => {
                Encoder::Arrow(Box::new(StreamWriter::try_new(sink, &schema).map_err(OutputError::Arrow)?))
            }
            DataFormat::Parquet => {
                let level = ZstdLevel::try_new(3).map_err(OutputError::Parquet)?;
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
                let writer = ArrowWriter::try_new(sink, schema, Some(properties)).map_err(OutputError::Parquet)?;
                Encoder::Parquet(Box::new(writer))
            }
        };
        Ok(Self { encoder, target, rows: 0 })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        self.rows += batch.num_rows() as u64;
        match &mut self.encoder {
            Encoder::Table { batches, .. } => batches.push(batch.clone()),
            Encoder::Json(writer) => {
                writer.write(&by_offset(batch).map_err(OutputError::Arrow)?).map_err(OutputError::Arrow)?;
            }
            Encoder::Csv(writer) => writer.write(&text_of(batch)?).map_err(OutputError::Arrow)?,
            Encoder::Arrow(writer) => writer.write(batch).map_err(OutputError::Arrow)?,
            Encoder::Parquet(writer) => writer.write(batch).map_err(OutputError::Parquet)?,
        }
        Ok(())
    }

    /// Ends the output; returns the rows written.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn finish(self) -> Result<u64, OutputError> {
        let Self { encoder, target, rows } = self;
        let fail = |source| match &target {
            Some(target) => OutputError::File { path: target.partial.clone(), source },
            None => OutputError::Stdout(source),
        };
        let mut sink = match encoder {
            Encoder::Table { schema, batches, layout, mut sink } => {
                sink.write_all(render(&schema, &batches, layout).as_bytes()).map_err(fail)?;
                sink
            }
            Encoder::Json(mut writer) => {
                writer.finish().map_err(OutputError::Arrow)?;
                let mut sink = writer.into_inner();
                sink.write_all(b"\n").map_err(fail)?;
                sink
            }
            Encoder::Csv(writer) => writer.into_inner(),
            Encoder::Arrow(mut writer) => {
                writer.finish().map_err(OutputError::Arrow)?;
                writer.into_inner().map_err(OutputError::Arrow)?
            }
            Encoder::Parquet(writer) => writer.into_inner().map_err(OutputError::Parquet)?,
        };
        sink.flush().map_err(fail)?;
        drop(sink);
        if let Some(target) = &target {
            std::fs::rename(&target.partial, &target.path)
                .map_err(|source| OutputError::File { path: target.path.clone(), source })?;
        }
        Ok(rows)
    }
}

/// Rows as one JSON array of objects.
///
/// # Errors
/// [`OutputError::Arrow`].
pub fn to_json(batches: &[RecordBatch]) -> Result<serde_json::Value, OutputError> {
    let mut writer = ArrayWriter::new(Vec::new());
    for batch in batches {
        writer.write(&by_offset(batch).map_err(OutputError::Arrow)?).map_err(OutputError::Arrow)?;
    }
    writer.finish().map_err(OutputError::Arrow)?;
    serde_json::from_slice(&writer.into_inner())
        .map_err(|error| OutputError::Arrow(ArrowError::JsonError(error.to_string())))
}

fn text_of(batch: &RecordBatch) -> Result<RecordBatch, OutputError> {
    by_offset(batch).and_then(|batch| flatten(&batch)).map_err(OutputError::Arrow)
}

fn refuse_terminal(format: DataFormat) -> Result<(), OutputError> {
    let name = match format {
        DataFormat::Arrow => "arrow",
        DataFormat::Parquet => "parquet",
        DataFormat::Table | DataFormat::Json | DataFormat::Csv => return Ok(()),
    };
    if io::stdout().is_terminal() { Err(OutputError::Terminal { format: name }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
