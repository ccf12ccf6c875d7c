//! Sorted rows to one Parquet file.
//!
//! Zstd, level 1 for what was flushed and 3 for distributions and for what was merged, which stays; integers and times as
//! deltas, because neighbours in the sort order are close; text and histogram values through dictionaries; statistics for
//! every page of a column that something can be left out by, of flushed texts only those that rows are sorted by: to find
//! the least and the largest of a page's texts costs as much as to write them. No Arrow schema is embedded: the Parquet
//! types say it all, and any engine reads them.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use skep_seglog::{Disk, Storage};
use skep_wire::tables::{Kind, Table};
use thiserror::Error;

use super::batches::{self, Batches};
use super::place::{Counted, NewFile, Place};
use crate::buffer::schema;

/// How long a file stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stays {
    /// It was flushed, and is merged when its hour is over.
    Hours,
    /// It was merged.
    Long,
}

/// Zstd level of files that are merged within hours: higher ones cost much and save little of what is sorted.
const FLUSHED_LEVEL: i32 = 1;

/// Zstd level of files that stay, and of distributions, which take nearly half of a file and are where it tells.
const MERGED_LEVEL: i32 = 3;

/// Rows in one row group: with page statistics, large groups compress and scan best.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// Rows in one page: what a lookup by key has to decode at least.
const PAGE_ROWS: usize = 20_000;

/// Rows of a column that are handed to the encoder at a time: of distributions fewer, which take a hundred times the memory.
const PIECE_ROWS: usize = 1 << 13;
const PIECE_DISTRIBUTIONS: usize = 1 << 11;

/// Columns by whose statistics nothing is left out: nearly every page holds all there is.
const UNPRUNED: [&str; 3] = ["boot", "stream", "attribution"];

/// Why a file could not be written. What was begun is gone.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The encoder refused, or the file system did beneath it.
    #[error("cannot write {}", path.display())]
    Encode {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ParquetError,
    },
}

/// Key in a file's own metadata under which a merged file says what it was made of, as a JSON list of paths.
const INPUTS: &str = "skep.inputs";

/// A file that was written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// Its size.
    pub bytes: u64,
    /// CRC-32C of all of it.
    pub crc32c: u32,
}

/// Columns of rows in their table's order, of which any part can be had.
pub trait Columns {
    /// How many rows.
    fn rows(&self) -> usize;

    /// What the column of this number, from 0, has in a range of the rows.
    ///
    /// # Errors
    /// There is more of something than one array can hold.
    fn column(&self, index: usize, rows: Range<usize>) -> Result<ArrayRef, ArrowError>;
}

#[cfg(test)]
impl Columns for RecordBatch {
    fn rows(&self) -> usize {
        self.num_rows()
    }

    fn column(&self, index: usize, rows: Range<usize>) -> Result<ArrayRef, ArrowError> {
        schema::plain_column(&RecordBatch::column(self, index).slice(rows.start, rows.len()))
    }
}

/// Writes rows to `path` so that the file is there whole and durable, or not at all.
///
/// One column after the other: what one takes is in memory at a time.
///
/// # Errors
/// [`WriteError`]; try again later.
pub fn write(
    place: &dyn Place,
    path: &Path,
    table: &'static Table,
    columns: &dyn Columns,
) -> Result<Written, WriteError> {
    let file = place.begin(path).map_err(|source| WriteError::Io { path: path.to_owned(), source })?;
    let file = encode(file, table, columns).map_err(|source| WriteError::Encode { path: path.to_owned(), source })?;
    let written = Written { bytes: file.bytes, crc32c: file.crc32c };
    file.finish().map_err(|source| WriteError::Io { path: path.to_owned(), source })?;
    Ok(written)
}

fn encode(file: Box<dyn NewFile>, table: &'static Table, columns: &dyn Columns) -> Result<Counted, ParquetError> {
    let schema = schema::schema(table);
    let (mut file, factory) = writer(file, table, Stays::Hours)?.into_serialized_writer()?;
    let rows = columns.rows();
    for (number, start) in (0..rows).step_by(ROW_GROUP_ROWS).enumerate() {
        let end = rows.min(start + ROW_GROUP_ROWS);
        let mut group = file.next_row_group()?;
        let mut leaves = factory.create_column_writers(number)?.into_iter();
        for ((index, field), column) in schema.fields().iter().enumerate().zip(table.stored_columns()) {
            let mut writers: Vec<_> = leaves.by_ref().take(leaf_columns(column.kind)).collect();
            let rows = if column.kind == Kind::Histogram { PIECE_DISTRIBUTIONS } else { PIECE_ROWS };
            for from in (start..end).step_by(rows) {
                let piece = columns.column(index, from..end.min(from + rows))?;
                for (leaf, writer) in compute_leaves(field, &piece)?.iter().zip(&mut writers) {
                    writer.write(leaf)?;
                }
            }
            for writer in writers {
                writer.close()?.append_to_row_group(&mut group)?;
            }
        }
        group.close()?;
    }
    file.into_inner()
}

fn writer(file: Box<dyn NewFile>, table: &'static Table, stays: Stays) -> Result<ArrowWriter<Counted>, ParquetError> {
    let options = ArrowWriterOptions::new().with_properties(properties(table, stays)).with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(Counted::new(file), schema::schema(table), options)
}

/// A file being written; nothing is there under its name before it is finished.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    writer: ArrowWriter<Counted>,
}

impl Draft {
    /// Begins the file at `path`.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn new(place: &dyn Place, path: &Path, table: &'static Table) -> Result<Self, WriteError> {
        let file = place.begin(path).map_err(|source| WriteError::Io { path: path.to_owned(), source })?;
        let writer =
            writer(file, table, Stays::Long).map_err(|source| WriteError::Encode { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Adds rows, which must follow those before in the table's order.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), WriteError> {
        self.writer.write(rows).map_err(|source| WriteError::Encode { path: self.path.clone(), source })
    }

    /// Says in the file itself what it is made of; see [`inputs`].
    pub fn made_of(&mut self, inputs: &[String]) {
        let list = serde_json::to_string(inputs).ok();
        self.writer.append_key_value_metadata(KeyValue { key: INPUTS.to_owned(), value: list });
    }

    /// Says in the file itself which batches its sums are of; see [`super::batches`].
    pub fn sum_of(&mut self, batches: &Batches) {
        let text = serde_json::to_string(batches).ok();
        self.writer.append_key_value_metadata(KeyValue { key: batches::SUMMED.to_owned(), value: text });
    }

    /// Makes the file durable under its name.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn finish(self) -> Result<Written, WriteError> {
        let Self { path, writer } = self;
        let file = writer.into_inner().map_err(|source| WriteError::Encode { path: path.clone(), source })?;
        let written = Written { bytes: file.bytes, crc32c: file.crc32c };
        file.finish().map_err(|source| WriteError::Io { path, source })?;
        Ok(written)
    }
}

/// What a merged file says it was made of; `None` for any other.
pub fn inputs(place: &dyn Place, path: &Path) -> Option<Vec<String>> {
    // Read whole: few are asked, and a test's disk has no parts.
    let footer = ParquetMetaDataReader::new().parse_and_finish(&place.read(path).ok()?).ok()?;
    let pairs = footer.file_metadata().key_value_metadata()?;
    let list = pairs.iter().find(|pair| pair.key == INPUTS)?.value.as_deref()?;
    serde_json::from_str(list).ok()
}

fn properties(table: &'static Table, stays: Stays) -> WriterProperties {
    let level = if stays == Stays::Long { MERGED_LEVEL } else { FLUSHED_LEVEL };
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("skep ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(zstd(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_sorting_columns(Some(sorting(table)));
    for name in UNPRUNED {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::None);
    }
    for column in table.stored_columns() {
        match column.kind {
            Kind::Int | Kind::Time => {
                let path = ColumnPath::from(column.name);
                builder = builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
            Kind::Histogram => {
                for part in schema::bucket_fields().iter() {
                    let path = [column.name, "list", schema::ELEMENT, part.name()].map(str::to_owned).to_vec();
                    let path = ColumnPath::new(path);
                    builder = builder
                        .set_column_compression(path.clone(), zstd(MERGED_LEVEL))
                        .set_column_statistics_enabled(path, EnabledStatistics::None);
                }
            }
            Kind::Text if stays == Stays::Hours && !table.sort.contains(&column.name) => {
                builder = builder.set_column_statistics_enabled(column.name.into(), EnabledStatistics::None);
            }
            _ => {}
        }
    }
    builder.build()
}

fn zstd(level: i32) -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default())
}

/// How many columns it is in Parquet: a list of texts is one, a histogram two.
fn leaf_columns(kind: Kind) -> usize {
    if kind == Kind::Histogram { 2 } else { 1 }
}

/// The sort columns as leaf numbers.
fn sorting(table: &'static Table) -> Vec<SortingColumn> {
    let leaf = |name: &str| -> i32 {
        let before = table.stored_columns().take_while(|column| column.name != name);
        before.map(|column| leaf_columns(column.kind) as i32).sum()
    };
    let column = |name: &&str| SortingColumn { column_idx: leaf(name), descending: false, nulls_first: true };
    table.sort.iter().map(column).collect()
}

/// Makes a folder and its missing parents so that they stay after a power loss.
///
/// # Errors
/// As the file system says.
pub fn create_dir_durably(folder: &Path) -> std::io::Result<()> {
    Disk.create_dir(folder)
}

/// `fsync` of a folder.
///
/// # Errors
/// As the file system says.
pub fn sync_dir(folder: &Path) -> std::io::Result<()> {
    Disk.sync_dir(folder)
}
