//! How often each batch is there: in memory and in the live files, as a query would see it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use skep_collector::buffer::{Store, schema};
use skep_seglog::Storage;
use skep_seglog::sim::SimDisk;

/// Rows by (node, seq).
pub(super) type Rows = BTreeMap<(String, u64), u64>;

/// Rows of `table`.
pub(super) fn of(table: &str, store: &Store, disk: &SimDisk) -> Result<Rows> {
    let snapshot = store.snapshot();
    let table = snapshot.tables.get(table).context("a table that is there")?;
    let mut rows = Rows::new();
    for batch in &table.batches {
        count(&mut rows, batch)?;
    }
    for file in table.files.iter() {
        for batch in read(&file.path, disk)? {
            count(&mut rows, &batch)?;
        }
    }
    Ok(rows)
}

/// What is in a live file.
pub(super) fn read(path: &Path, disk: &SimDisk) -> Result<Vec<RecordBatch>> {
    let what = || format!("live file {}", path.display());
    let bytes = disk.read(path).with_context(what)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).with_context(what)?;
    let batches = reader.build().and_then(|batches| Ok(batches.collect::<std::result::Result<_, _>>()?));
    batches.with_context(what)
}

fn count(rows: &mut Rows, batch: &RecordBatch) -> Result<()> {
    // In memory texts are numbers.
    let nodes = schema::plain_column(batch.column_by_name("node").context("node")?)?;
    let nodes = nodes.as_string_opt::<i32>().context("node")?;
    let seqs = batch.column_by_name("seq").and_then(|column| column.as_primitive_opt::<Int64Type>()).context("seq")?;
    for row in 0..batch.num_rows() {
        *rows.entry((nodes.value(row).to_owned(), seqs.value(row).unsigned_abs())).or_default() += 1;
    }
    Ok(())
}
