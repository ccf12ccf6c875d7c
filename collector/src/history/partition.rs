//! Rows to hours, each hour's rows sorted as the table wants them.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use skep_wire::tables::Table;

use super::path::Hour;
use crate::buffer::schema;

/// One hour's rows.
#[derive(Debug)]
pub struct Partition {
    /// Which hour.
    pub hour: Hour,
    /// Its rows, sorted by [`Table::sort`].
    pub rows: RecordBatch,
    /// Smallest `time` in it, microseconds since the epoch.
    pub first_us: i64,
    /// Largest.
    pub last_us: i64,
}

/// Splits rows of `table` by the hour of their `time` and sorts each part. Ascending by hour.
///
/// # Errors
/// The batches are not of the table's schema, or hold more text than one array can.
pub fn partition(table: &'static Table, batches: &[RecordBatch]) -> Result<Vec<Partition>, ArrowError> {
    let all = concat_batches(&schema::schema(table), batches)?;
    let mut hours: BTreeMap<Hour, Vec<u32>> = BTreeMap::new();
    let times = times(&all)?;
    for (row, time) in times.iter().enumerate() {
        hours.entry(Hour::of(*time)).or_default().push(row as u32);
    }
    let mut partitions = Vec::with_capacity(hours.len());
    for (hour, rows) in hours {
        let part =
            if rows.len() == all.num_rows() { all.clone() } else { take_record_batch(&all, &UInt32Array::from(rows))? };
        let times = self::times(&part)?;
        let first_us = times.iter().copied().min().unwrap_or_default();
        let last_us = times.iter().copied().max().unwrap_or_default();
        partitions.push(Partition { hour, rows: sort(table, &part)?, first_us, last_us });
    }
    Ok(partitions)
}

fn times(batch: &RecordBatch) -> Result<Vec<i64>, ArrowError> {
    let column = batch.column_by_name("time").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    let column = column.ok_or_else(|| ArrowError::SchemaError("no column time".to_owned()))?;
    Ok(column.values().to_vec())
}

fn sort(table: &'static Table, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<_> = table
        .sort
        .iter()
        .filter_map(|name| batch.column_by_name(name))
        .map(|values| SortColumn { values: std::sync::Arc::clone(values), options: None })
        .collect();
    take_record_batch(batch, &lexsort_to_indices(&columns, None)?)
}
