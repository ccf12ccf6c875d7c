//! A histogram column of one row group: two columns of numbers to one of lists.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, NullBufferBuilder, StructArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;

use super::leaf::Leaf;
use super::levels::NULL;
use super::runs::broken;
use super::shape::Leaves;
use crate::buffer::schema;

/// Columns that may still be in use when the next is begun: the one handed on last, and one that waits before an operator.
const COLUMNS_IN_USE: usize = 2;

/// The column in one row group.
#[derive(Debug)]
pub struct Column {
    value: Leaf,
    count: Leaf,
    /// The first row, in the row group, that can still be taken.
    row: usize,
}

impl Column {
    /// The column in row group `group`.
    ///
    /// # Errors
    /// An index that cannot be.
    pub fn new(file: &ParquetMetaData, group: usize, leaves: &Leaves) -> Result<Self> {
        let leaf = |number| Leaf::new(file, group, number, leaves.shape);
        Ok(Self { value: leaf(leaves.value)?, count: leaf(leaves.count)?, row: 0 })
    }

    /// Whether rows from `row` of the row group on can be taken.
    pub fn is_before(&self, row: usize) -> bool {
        self.row <= row
    }

    /// What has to be read of the file for these rows; see [`Leaf::missing`]. How many of the ranges are of midpoints.
    pub fn missing(&mut self, rows: &[Range<usize>]) -> (Vec<Range<u64>>, usize) {
        let mut missing = self.value.missing(rows);
        let of_values = missing.len();
        missing.extend(self.count.missing(rows));
        (missing, of_values)
    }

    /// What was missing, as it was asked for.
    pub fn give(&self, missing: &[Range<u64>], of_values: usize, bytes: Vec<Bytes>) {
        for (number, (range, bytes)) in missing.iter().zip(bytes).enumerate() {
            let leaf = if number < of_values { &self.value } else { &self.count };
            leaf.give(range.start, bytes);
        }
    }

    /// Memory of both columns; see [`Leaf::bytes`].
    pub fn bytes(&self) -> usize {
        self.value.bytes() + self.count.bytes()
    }

    /// Takes these rows of the row group, ascending.
    ///
    /// # Errors
    /// A page that does not decode.
    pub fn take(&mut self, rows: &[Range<usize>], into: &mut Lists) -> Result<()> {
        for rows in rows {
            self.row = rows.end;
            into.counts.clear();
            let from = into.lengths.len();
            self.value.take(rows.clone(), &mut into.lengths, &mut into.values)?;
            self.count.take(rows.clone(), &mut into.counts, &mut into.sums)?;
            if into.lengths[from..] != into.counts {
                return Err(broken("its midpoints are not as many as its counts"));
            }
        }
        Ok(())
    }
}

/// Rows taken so far.
#[derive(Debug, Default)]
pub struct Lists {
    /// How many buckets each has, or [`NULL`].
    lengths: Vec<u32>,
    values: Vec<i64>,
    sums: Vec<i64>,
    /// As `lengths`, of those rows that were taken last.
    counts: Vec<u32>,
}

impl Lists {
    /// As a column of lists.
    ///
    /// # Errors
    /// More buckets than one array can hold, or a null where the column has none.
    pub fn finish(self) -> Result<ArrayRef> {
        let Self { lengths, values, sums, .. } = self;
        if i32::try_from(values.len()).is_err() {
            return Err(ParquetError::General("more buckets than one batch of rows can hold".to_owned()));
        }
        let mut nulls = NullBufferBuilder::new(lengths.len());
        lengths.iter().for_each(|length| nulls.append(*length != NULL));
        let length = |length: &u32| if *length == NULL { 0 } else { *length as usize };
        let offsets = OffsetBuffer::from_lengths(lengths.iter().map(length));
        let parts: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(values)), Arc::new(Int64Array::from(sums))];
        let parts = StructArray::try_new(schema::bucket_fields(), parts, None)?;
        Ok(Arc::new(ListArray::try_new(schema::bucket_item(), offsets, Arc::new(parts), nulls.finish())?))
    }
}

/// Memory of columns that were handed on, for those that follow: fresh memory costs more than what is written into it.
#[derive(Debug, Default)]
pub struct Spare {
    handed_on: VecDeque<[Buffer; 2]>,
    buckets: usize,
}

impl Spare {
    /// Nothing yet, in memory that nobody uses any more if there is some.
    pub fn lists(&mut self) -> Lists {
        let first = if self.handed_on.len() > COLUMNS_IN_USE { self.handed_on.pop_front() } else { None };
        let mut parts = first.into_iter().flatten();
        // Batches are much alike.
        let room = self.buckets + self.buckets / 8;
        let mut numbers = || {
            let old = parts.next().and_then(|part| part.into_vec::<i64>().ok());
            let mut numbers = old.unwrap_or_default();
            numbers.clear();
            numbers.reserve(room);
            numbers
        };
        Lists { values: numbers(), sums: numbers(), ..Lists::default() }
    }

    /// Remembers the memory of a column that is handed on.
    pub fn remember(&mut self, column: &dyn Array) {
        let parts = column.as_list_opt::<i32>().and_then(|lists| lists.values().as_struct_opt());
        let Some(parts) = parts else { return };
        self.buckets = parts.len();
        let mut buffers = parts.columns().iter().filter_map(|part| part.as_primitive_opt::<Int64Type>());
        let mut buffer = || buffers.next().map(|part| part.values().inner().clone());
        if let (Some(value), Some(count)) = (buffer(), buffer()) {
            self.handed_on.push_back([value, count]);
        }
    }
}
