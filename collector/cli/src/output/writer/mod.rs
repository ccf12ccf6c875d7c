//! Batches into one of the formats, to standard output or a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::{ArrayWriter, LineDelimitedWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::flat::flatten;
use super::sheet::{Layout, Sheet};
use super::zone::by_offset;
use super::{DataFormat, OutputError};

type Sink = BufWriter<Box<dyn Write + Send>>;

/// Rows a table's first page has at most: enough to know how wide columns are.
const PAGE_ROWS: usize = 500;

/// How long rows wait for a page to fill.
const PAGE_WITHIN: Duration = Duration::from_millis(300);

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
    Table(Box<Table>),
    Json(Box<ArrayWriter<Sink>>),
    Ndjson(Box<LineDelimitedWriter<Sink>>),
    Csv(Box<arrow::csv::Writer<Sink>>),
    Arrow(Box<StreamWriter<Sink>>),
    Parquet(Box<ArrowWriter<Sink>>),
}

/// Rows that wait for their page, and the pages before them.
struct Table {
    schema: SchemaRef,
    sheet: Sheet,
    waiting: Vec<RecordBatch>,
    since: Instant,
    pages: usize,
    sink: Sink,
}

impl Table {
    fn push(&mut self, batch: &RecordBatch) -> io::Result<()> {
        if self.waiting.is_empty() {
            self.since = Instant::now();
        }
        self.waiting.push(batch.clone());
        let rows: usize = self.waiting.iter().map(RecordBatch::num_rows).sum();
        if rows >= PAGE_ROWS { self.page() } else { Ok(()) }
    }

    /// Writes what waits.
    fn page(&mut self) -> io::Result<()> {
        let text = self.sheet.page(&self.schema, &std::mem::take(&mut self.waiting));
        self.pages += 1;
        self.sink.write_all(text.as_bytes())?;
        self.sink.flush()
    }
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
        // Lines leave at once for whoever reads them from a pipe; standard output holds the line that has not ended.
        let lines = path.is_none() && matches!(format, DataFormat::Json | DataFormat::Ndjson | DataFormat::Csv);
        let sink = if lines { BufWriter::with_capacity(0, sink) } else { BufWriter::new(sink) };
        let schema = SchemaRef::clone(schema);
        let encoder = match format {
            DataFormat::Table => {
                let sheet = Sheet::new(layout);
                let table = Table { schema, sheet, waiting: Vec::new(), since: Instant::now(), pages: 0, sink };
                Encoder::Table(Box::new(table))
            }
            DataFormat::Json => Encoder::Json(Box::new(ArrayWriter::new(sink))),
            DataFormat::Ndjson => Encoder::Ndjson(Box::new(LineDelimitedWriter::new(sink))),
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
            Encoder::Table(table) => {
                let pushed = table.push(batch);
                pushed.map_err(|source| self.failed(source))?;
            }
            Encoder::Json(writer) => {
                writer.write(&by_offset(batch).map_err(OutputError::Arrow)?).map_err(OutputError::Arrow)?;
            }
            Encoder::Ndjson(writer) => {
                writer.write(&by_offset(batch).map_err(OutputError::Arrow)?).map_err(OutputError::Arrow)?;
            }
            Encoder::Csv(writer) => writer.write(&text_of(batch)?).map_err(OutputError::Arrow)?,
            Encoder::Arrow(writer) => writer.write(batch).map_err(OutputError::Arrow)?,
            Encoder::Parquet(writer) => writer.write(batch).map_err(OutputError::Parquet)?,
        }
        Ok(())
    }

    /// For the time between two batches: rows that have waited long enough for a page become one.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn idle(&mut self) -> Result<(), OutputError> {
        match &mut self.encoder {
            Encoder::Table(table) if !table.waiting.is_empty() && table.since.elapsed() >= PAGE_WITHIN => {
                let written = table.page();
                written.map_err(|source| self.failed(source))
            }
            _ => Ok(()),
        }
    }

    /// For an answer that broke off: rows that wait for their page are shown, they are good. A file is not made.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn abandon(mut self) -> Result<(), OutputError> {
        match &mut self.encoder {
            Encoder::Table(table) if self.target.is_none() && !table.waiting.is_empty() => {
                table.page().map_err(OutputError::Stdout)
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> OutputError {
        failed(self.target.as_ref(), source)
    }

    /// Ends the output; returns the rows written.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn finish(self) -> Result<u64, OutputError> {
        let Self { encoder, target, rows } = self;
        let fail = |source| failed(target.as_ref(), source);
        let mut sink = match encoder {
            Encoder::Table(mut table) => {
                // The names stand there even when no row follows.
                if table.pages == 0 || !table.waiting.is_empty() {
                    table.page().map_err(fail)?;
                }
                table.sink
            }
            Encoder::Ndjson(mut writer) => {
                writer.finish().map_err(OutputError::Arrow)?;
                writer.into_inner()
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

fn failed(target: Option<&Target>, source: io::Error) -> OutputError {
    match target {
        Some(target) => OutputError::File { path: target.partial.clone(), source },
        None => OutputError::Stdout(source),
    }
}

fn refuse_terminal(format: DataFormat) -> Result<(), OutputError> {
    let name = match format {
        DataFormat::Arrow => "arrow",
        DataFormat::Parquet => "parquet",
        DataFormat::Table | DataFormat::Json | DataFormat::Ndjson | DataFormat::Csv => return Ok(()),
    };
    if io::stdout().is_terminal() { Err(OutputError::Terminal { format: name }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
