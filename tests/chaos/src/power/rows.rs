//! How often each batch is there: in memory and in the live files, as a query would see it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use skep_collector::buffer::Store;
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
        let bytes = disk.read(&file.path).with_context(|| format!("live file {}", file.path.display()))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))
            .and_then(|builder| builder.build())
            .with_context(|| format!("live file {}", file.path.display()))?;
        for batch in reader {
            count(&mut rows, &batch?)?;
        }
    }
    Ok(rows)
}

fn count(rows: &mut Rows, batch: &RecordBatch) -> Result<()> {
    let nodes = batch.column_by_name("node").and_then(|column| column.as_string_opt::<i32>()).context("node")?;
    let seqs = batch.column_by_name("seq").and_then(|column| column.as_primitive_opt::<Int64Type>()).context("seq")?;
    for row in 0..batch.num_rows() {
        *rows.entry((nodes.value(row).to_owned(), seqs.value(row).unsigned_abs())).or_default() += 1;
    }
    Ok(())
}
