//! Checkpoints of a Delta log: all that is still true after a version, in one Parquet file, a row an action.
//!
//! ```text
//! _delta_log/00000000000000000100.checkpoint.parquet
//! _delta_log/_last_checkpoint                          which is the newest, for readers that do not list the folder
//! ```
//!
//! The classic form with one part. The rows are the actions of the log, so JSON is what goes in and comes out; columns
//! other writers put beside ours are not read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::{ReaderBuilder, WriterBuilder, writer::LineDelimited};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::json;
use thiserror::Error;

use super::action::Action;
use super::place::Place;

/// For readers that do not list the folder.
const POINTER: &str = "_last_checkpoint";

/// Why a checkpoint could not be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("the file system refuses")]
    Io(#[from] io::Error),
    /// The file is no Parquet, or breaks off.
    #[error("it is not readable as Parquet")]
    Parquet(#[from] ParquetError),
    /// Its columns are not those of a checkpoint.
    #[error("its columns are not those of a checkpoint")]
    Columns(#[from] ArrowError),
    /// A row is not an action.
    #[error("a row is not an action")]
    Row(#[from] serde_json::Error),
}

/// Name of the checkpoint of a version.
pub fn file_name(version: u64) -> String {
    format!("{version:020}.checkpoint.parquet")
}

/// The version a name speaks of; `None` for what is no checkpoint in one part.
pub fn parse_name(name: &str) -> Option<u64> {
    name.strip_suffix(".checkpoint.parquet")?.parse().ok()
}

/// Writes the checkpoint of `version` into the log's folder `dir`, whole and durable or not at all. One that another
/// writer made first stays: it may differ in bytes, and readers may be about to read it by the size they know.
///
/// # Errors
/// [`CheckpointError`]; the log is as good without it.
pub fn write(
    place: &dyn Place,
    dir: &Path,
    writer: &str,
    version: u64,
    actions: &[Action],
) -> Result<(), CheckpointError> {
    let checkpoint = encode(actions)?;
    match place.put_new(&path(dir, version), &checkpoint, writer) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    place.settle(dir)?;
    let adds = actions.iter().filter(|action| action.add.is_some()).count();
    let (size, bytes) = (actions.len(), checkpoint.len());
    let pointer = json!({ "version": version, "size": size, "sizeInBytes": bytes, "numOfAddFiles": adds }).to_string();
    Ok(place.put(&dir.join(POINTER), pointer.as_bytes(), writer)?)
}

fn encode(actions: &[Action]) -> Result<Vec<u8>, CheckpointError> {
    let schema = schema();
    let mut rows = ReaderBuilder::new(Arc::clone(&schema)).build_decoder()?;
    rows.serialize(actions)?;
    let batch = rows.flush()?.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&schema)));
    let properties = WriterProperties::builder()
        .set_created_by(concat!("skep ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

/// The actions a checkpoint holds.
///
/// # Errors
/// [`CheckpointError`].
pub fn read(place: &dyn Place, path: &Path) -> Result<Vec<Action>, CheckpointError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(place.read(path)?)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted());
    let mut actions = Vec::new();
    for batch in builder.with_projection(mask).build()? {
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(&batch?)?;
        writer.finish()?;
        for line in writer.into_inner().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            actions.push(serde_json::from_slice(line)?);
        }
    }
    Ok(actions)
}

/// The leaves we read, as Parquet names them: what other writers put beside them (parsed statistics, say) may have types
/// that JSON has not.
fn wanted() -> impl Iterator<Item = &'static str> {
    [
        "txn",
        "add.path",
        "add.partitionValues",
        "add.size",
        "add.modificationTime",
        "add.dataChange",
        "add.stats",
        "add.tags",
        "remove.path",
        "remove.dataChange",
        "remove.deletionTimestamp",
        "metaData",
        "protocol",
    ]
    .into_iter()
}

fn schema() -> SchemaRef {
    let text = || DataType::Utf8;
    let long = || DataType::Int64;
    let fields = |parts: &[(&str, DataType)]| -> Fields {
        parts.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect()
    };
    let group = |parts: &[(&str, DataType)]| DataType::Struct(fields(parts));
    let format = group(&[("provider", text()), ("options", text_map())]);
    let columns = DataType::List(Arc::new(Field::new("element", text(), true)));
    let roots = [
        ("txn", group(&[("appId", text()), ("version", long()), ("lastUpdated", long())])),
        (
            "add",
            group(&[
                ("path", text()),
                ("partitionValues", text_map()),
                ("size", long()),
                ("modificationTime", long()),
                ("dataChange", DataType::Boolean),
                ("stats", text()),
                ("tags", text_map()),
            ]),
        ),
        ("remove", group(&[("path", text()), ("deletionTimestamp", long()), ("dataChange", DataType::Boolean)])),
        (
            "metaData",
            group(&[
                ("id", text()),
                ("format", format),
                ("schemaString", text()),
                ("partitionColumns", columns),
                ("configuration", text_map()),
                ("createdTime", long()),
            ]),
        ),
        ("protocol", group(&[("minReaderVersion", DataType::Int32), ("minWriterVersion", DataType::Int32)])),
    ];
    Arc::new(Schema::new(fields(&roots)))
}

fn text_map() -> DataType {
    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    let entries = Field::new("key_value", DataType::Struct(entry.into()), false);
    DataType::Map(Arc::new(entries), false)
}

/// Where a checkpoint lies.
pub fn path(dir: &Path, version: u64) -> PathBuf {
    dir.join(file_name(version))
}
