//! Rows of short windows to rows of longer ones.
//!
//! Rows come in the table's order, in which the windows of one key follow each other, so a group is a run of rows: the
//! same key, the same longer window. What becomes of each column is [`Merge`]. Rows of windows that are as long already
//! join in, which is how rows that came late find theirs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, StructArray, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use skep_wire::tables::{Column, Merge, Table};

use crate::buffer::schema;

/// Takes rows of one table in its order and gives those of longer windows.
#[derive(Debug)]
pub struct Coarsener {
    table: &'static Table,
    window_s: u32,
    keys: RowConverter,
    /// The last group, which the next rows may belong to.
    rest: Option<RecordBatch>,
}

impl Coarsener {
    /// Windows of `window_s` seconds, aligned to the clock.
    ///
    /// # Errors
    /// The table has a column whose values cannot be compared.
    pub fn new(table: &'static Table, window_s: u32) -> Result<Self, ArrowError> {
        let fields = key_columns(table).map(|column| SortField::new(schema::data_type(column.kind))).collect();
        Ok(Self { table, window_s, keys: RowConverter::new(fields)?, rest: None })
    }

    /// The groups that are complete with these rows.
    ///
    /// # Errors
    /// The rows are not of the table.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rows = match self.rest.take() {
            Some(rest) => concat_batches(&schema::schema(self.table), [&rest, batch])?,
            None => batch.clone(),
        };
        let mut groups = self.groups(&rows)?;
        if let Some(last) = groups.pop() {
            // A copy, so that a few rows do not keep the whole batch.
            let rest = UInt32Array::from_iter_values(last.map(|row| row as u32));
            self.rest = Some(arrow::compute::take_record_batch(&rows, &rest)?);
        }
        self.merge(&rows, &groups)
    }

    /// The last group.
    ///
    /// # Errors
    /// As [`Coarsener::push`].
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        match self.rest.take() {
            Some(rest) => {
                let groups = self.groups(&rest)?;
                self.merge(&rest, &groups)
            }
            None => Ok(RecordBatch::new_empty(schema::schema(self.table))),
        }
    }

    /// Runs of rows with one key and one longer window.
    fn groups(&self, rows: &RecordBatch) -> Result<Vec<Range<usize>>, ArrowError> {
        let columns = key_columns(self.table).map(|column| found(rows, column)).collect::<Result<Vec<_>, _>>()?;
        let keys = self.keys.convert_columns(&columns)?;
        let starts = self.starts(rows)?;
        let mut groups: Vec<Range<usize>> = Vec::new();
        for row in 0..rows.num_rows() {
            match groups.last_mut() {
                Some(group) if keys.row(group.start) == keys.row(row) && starts[group.start] == starts[row] => {
                    group.end = row + 1;
                }
                _ => groups.push(row..row + 1),
            }
        }
        Ok(groups)
    }

    /// The longer window's start of each row.
    fn starts(&self, rows: &RecordBatch) -> Result<Vec<i64>, ArrowError> {
        let length_us = i64::from(self.window_s) * 1_000_000;
        let times = rows.column_by_name("time").and_then(|array| array.as_primitive_opt::<TimestampMicrosecondType>());
        let times = times.ok_or_else(|| ArrowError::SchemaError("no column time".to_owned()))?;
        Ok(times.values().iter().map(|time| time.div_euclid(length_us) * length_us).collect())
    }

    fn merge(&self, rows: &RecordBatch, groups: &[Range<usize>]) -> Result<RecordBatch, ArrowError> {
        let firsts = UInt32Array::from_iter_values(groups.iter().map(|group| group.start as u32));
        let starts = self.starts(rows)?;
        let weights = floats(rows, "window_s")?;
        let mut columns = Vec::with_capacity(rows.num_columns());
        for column in self.table.stored_columns() {
            let array = found(rows, column)?;
            columns.push(match column.merge() {
                None | Some(Merge::Key) => take(&array, &firsts, None)?,
                Some(Merge::Start) => {
                    let starts = groups.iter().map(|group| starts[group.start]);
                    Arc::new(TimestampMicrosecondArray::from_iter_values(starts).with_timezone("UTC"))
                }
                Some(Merge::Length) => {
                    let longest =
                        |group: &Range<usize>| weights.values()[group.clone()].iter().copied().fold(0.0, f64::max);
                    let lengths = groups.iter().map(|group| longest(group).max(f64::from(self.window_s)));
                    Arc::new(Float64Array::from_iter_values(lengths))
                }
                Some(Merge::Sum) => integers(&array, groups, i64::saturating_add)?,
                Some(Merge::Least) => integers(&array, groups, i64::min)?,
                Some(Merge::Most) if array.as_primitive_opt::<Float64Type>().is_some() => {
                    let values = floats(rows, column.name)?;
                    let most = |group: &Range<usize>| values.values()[group.clone()].iter().copied().reduce(f64::max);
                    Arc::new(Float64Array::from_iter(groups.iter().map(most)))
                }
                Some(Merge::Most) => integers(&array, groups, i64::max)?,
                Some(Merge::Mean) => Arc::new(means(floats(rows, column.name)?, weights, groups)),
                Some(Merge::Buckets) => buckets(&array, groups)?,
            });
        }
        RecordBatch::try_new(schema::schema(self.table), columns)
    }
}

fn key_columns(table: &'static Table) -> impl Iterator<Item = &'static Column> {
    table.stored_columns().filter(|column| column.merge() == Some(Merge::Key))
}

fn found(rows: &RecordBatch, column: &Column) -> Result<ArrayRef, ArrowError> {
    let array = rows.column_by_name(column.name);
    array.cloned().ok_or_else(|| ArrowError::SchemaError(format!("no column {}", column.name)))
}

fn floats<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a Float64Array, ArrowError> {
    let array = rows.column_by_name(name).and_then(|array| array.as_primitive_opt::<Float64Type>());
    array.ok_or_else(|| ArrowError::SchemaError(format!("{name} holds no numbers")))
}

/// What the known values of each group make; unknown where none is known.
fn integers(array: &ArrayRef, groups: &[Range<usize>], fold: impl Fn(i64, i64) -> i64) -> Result<ArrayRef, ArrowError> {
    let array = array.as_primitive_opt::<Int64Type>();
    let array = array.ok_or_else(|| ArrowError::SchemaError("a count that is no whole number".to_owned()))?;
    let known = |row: &usize| array.is_valid(*row);
    let group = |group: &Range<usize>| group.clone().filter(known).map(|row| array.value(row)).reduce(&fold);
    Ok(Arc::new(Int64Array::from_iter(groups.iter().map(group))))
}

fn means(values: &Float64Array, weights: &Float64Array, groups: &[Range<usize>]) -> Float64Array {
    let mean = |group: &Range<usize>| {
        let weight: f64 = group.clone().map(|row| weights.value(row)).sum();
        if weight > 0.0 {
            group.clone().map(|row| values.value(row) * weights.value(row)).sum::<f64>() / weight
        } else {
            values.value(group.start)
        }
    };
    Float64Array::from_iter_values(groups.iter().map(mean))
}

/// Counts of equal values added up, ascending by value.
fn buckets(array: &ArrayRef, groups: &[Range<usize>]) -> Result<ArrayRef, ArrowError> {
    let wrong = || ArrowError::SchemaError("a histogram that is none".to_owned());
    let lists = array.as_list_opt::<i32>().ok_or_else(wrong)?;
    let parts = lists.values().as_struct_opt().ok_or_else(wrong)?;
    let part =
        |name| parts.column_by_name(name).and_then(|array| array.as_primitive_opt::<Int64Type>()).ok_or_else(wrong);
    let (values, counts) = (part("value_ns")?, part("count")?);
    let (mut all_values, mut all_counts, mut lengths) = (Vec::<i64>::new(), Vec::<i64>::new(), Vec::new());
    for group in groups {
        let mut merged: BTreeMap<i64, i64> = BTreeMap::new();
        let offsets = &lists.value_offsets()[group.start..=group.end];
        let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
        for bucket in first..last {
            let count = merged.entry(values.value(bucket)).or_default();
            *count = count.saturating_add(counts.value(bucket));
        }
        lengths.push(merged.len());
        all_values.extend(merged.keys());
        all_counts.extend(merged.values());
    }
    let items: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(all_values)), Arc::new(Int64Array::from(all_counts))];
    let items = StructArray::try_new(schema::bucket_fields(), items, None)?;
    Ok(Arc::new(ListArray::try_new(schema::bucket_item(), OffsetBuffer::from_lengths(lengths), Arc::new(items), None)?))
}

#[cfg(test)]
#[path = "coarsen_tests.rs"]
mod tests;
