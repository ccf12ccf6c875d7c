//! Distributions as rows in memory have them: some two bytes a bucket, of the sixteen it takes in a file's schema.
//!
//! A row is bytes. For each bucket that is not empty, ascending, there is a number whose lowest bit says whether a count
//! follows (or it is one) and whose other bits are the bucket's index, less that of the bucket before; then the count, if
//! one follows. Numbers are seven bits a byte, the lowest first, as in the messages they came in.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array, ListArray, NullBufferBuilder, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use skep_common::bucket;
use skep_wire::v1;

use super::schema;

/// The value each bucket stands for.
static MIDPOINTS: [i64; bucket::BUCKETS] = {
    let mut midpoints = [0; bucket::BUCKETS];
    let mut index = 0;
    while index < bucket::BUCKETS {
        midpoints[index] = bucket::midpoint(index as u16) as i64;
        index += 1;
    }
    midpoints
};

/// The rows of a checked column.
///
/// # Errors
/// More bytes than one array can hold.
pub fn pack(histograms: &v1::Histograms, nulls: Option<NullBuffer>) -> Result<BinaryArray, ArrowError> {
    let mut bytes = Vec::with_capacity(histograms.buckets.len() * 3);
    let mut offsets = Vec::with_capacity(histograms.lengths.len() + 1);
    offsets.push(0);
    let mut buckets = histograms.buckets.iter().zip(&histograms.counts);
    for &length in &histograms.lengths {
        for (&step, &count) in buckets.by_ref().take(length as usize) {
            put(&mut bytes, u64::from(step) << 1 | u64::from(count != 1));
            if count != 1 {
                put(&mut bytes, count);
            }
        }
        offsets.push(i32::try_from(bytes.len()).map_err(|_| too_many())?);
    }
    bytes.shrink_to_fit();
    BinaryArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(bytes), nulls)
}

/// The same rows as everybody knows them.
///
/// # Errors
/// More buckets than one array can hold.
pub fn unpack(rows: &BinaryArray) -> Result<ArrayRef, ArrowError> {
    let mut lists = Lists::of(rows.len());
    (0..rows.len()).for_each(|row| lists.push(Row::of(rows, row)));
    lists.finish()
}

/// A row that was looked up.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    bytes: &'a [u8],
    is_valid: bool,
}

impl<'a> Row<'a> {
    /// The row of this number.
    pub fn of(rows: &'a BinaryArray, row: usize) -> Self {
        Self { bytes: rows.value(row), is_valid: rows.is_valid(row) }
    }

    /// Asks memory for it. Whoever wants rows from all over the place asks for some before the first is unpacked, or waits
    /// for each by itself.
    pub fn touch(&self) {
        std::hint::black_box(self.bytes.first());
    }
}

/// Rows, unpacked one after the other.
#[derive(Debug)]
pub struct Lists {
    values: Vec<i64>,
    counts: Vec<i64>,
    lengths: Vec<usize>,
    nulls: NullBufferBuilder,
}

impl Lists {
    /// Room for so many.
    pub fn of(rows: usize) -> Self {
        let lengths = Vec::with_capacity(rows);
        Self { values: Vec::new(), counts: Vec::new(), lengths, nulls: NullBufferBuilder::new(rows) }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row<'_>) {
        let before = self.values.len();
        self.nulls.append(row.is_valid);
        let (mut bytes, mut index) = (row.bytes, 0);
        while let Some(number) = take(&mut bytes) {
            let count = if number & 1 == 0 { Some(1) } else { take(&mut bytes) };
            index += (number >> 1) as usize;
            // What was packed here has no end but this one.
            let (Some(count), Some(midpoint)) = (count, MIDPOINTS.get(index)) else { break };
            self.values.push(*midpoint);
            self.counts.push(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.lengths.push(self.values.len() - before);
    }

    /// As a column.
    ///
    /// # Errors
    /// More buckets than one array can hold.
    pub fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        if i32::try_from(self.values.len()).is_err() {
            return Err(too_many());
        }
        let parts: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(self.values)), Arc::new(Int64Array::from(self.counts))];
        let buckets = StructArray::try_new(schema::bucket_fields(), parts, None)?;
        let offsets = OffsetBuffer::from_lengths(self.lengths);
        Ok(Arc::new(ListArray::try_new(schema::bucket_item(), offsets, Arc::new(buckets), self.nulls.finish())?))
    }
}

fn too_many() -> ArrowError {
    ArrowError::InvalidArgumentError("more buckets than one array can hold".to_owned())
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;

    fn parts(array: &ArrayRef, row: usize) -> (Vec<i64>, Vec<i64>) {
        let buckets = array.as_list::<i32>().value(row);
        let part = |name: &str| buckets.as_struct()[name].as_primitive::<Int64Type>().values().to_vec();
        (part("value_ns"), part("count"))
    }

    #[test]
    fn a_bucket_is_stored_as_its_midpoint() {
        let data = v1::Histograms { lengths: vec![2, 0, 1], buckets: vec![40, 500, 3], counts: vec![3, 1, u64::MAX] };
        let packed = pack(&data, Some(NullBuffer::from(vec![true, false, true]))).unwrap();
        assert_eq!(packed.value_data().len(), 1 + 1 + 2 + 1 + 10);
        let lists = unpack(&packed).unwrap();
        assert_eq!(lists.data_type(), &schema::data_type(skep_wire::tables::Kind::Histogram));
        let midpoints = [40, 540].map(|index| bucket::midpoint(index) as i64).to_vec();
        assert_eq!(parts(&lists, 0), (midpoints, vec![3, 1]));
        assert!(lists.is_null(1));
        assert_eq!(parts(&lists, 2), (vec![3], vec![i64::MAX]));
    }
}
