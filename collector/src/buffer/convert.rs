//! Chunk to record batch.
//!
//! Shape: one row a row, columns as [`schema::held`]. A column the chunk lacks is null, or the kind's zero where the
//! table never holds null: a peer of another version may not know it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use skep_wire::envelope::Origin;
use skep_wire::tables::{Column, Kind, Table};
use skep_wire::v1::{self, column_data::Data};

use super::{packed, schema};

/// Most bytes of text in one column: far above what a window holds, and a bound on what a small batch may unfold to.
const MAX_TEXT_BYTES: usize = 128 << 20;

/// The rows of `chunk`, with the envelope's columns in front.
///
/// The chunk must have passed [`skep_wire::chunk::check`] against `table`.
///
/// # Errors
/// A column whose text unfolds to more than [`MAX_TEXT_BYTES`], or an array that does not fit its schema, which a checked
/// chunk does not make; refuse the batch.
pub fn record_batch(origin: &Origin, table: &'static Table, chunk: &v1::Chunk) -> Result<RecordBatch, ArrowError> {
    let rows = chunk.rows as usize;
    // A third of the columns have one text or none in all rows: they have these numbers in common.
    let zeros = ScalarBuffer::from(vec![0; rows]);
    let mut arrays = Vec::new();
    for column in table.stored_columns() {
        let array = match column.name {
            "node" => constant(&origin.node, &zeros)?,
            "boot" => constant(&origin.boot, &zeros)?,
            "stream" => constant(&origin.stream, &zeros)?,
            "seq" => Arc::new(Int64Array::from_value(i64::try_from(origin.seq).unwrap_or(i64::MAX), rows)),
            _ => match chunk.columns.iter().find(|data| data.name == column.name) {
                Some(data) => array(column, data, &zeros)?,
                None => absent(column, rows)?,
            },
        };
        arrays.push(array);
    }
    RecordBatch::try_new(schema::held(table), arrays)
}

fn constant(text: &str, zeros: &ScalarBuffer<i32>) -> Result<ArrayRef, ArrowError> {
    check_unfolded(text.len().saturating_mul(zeros.len()))?;
    let texts = Arc::new(StringArray::from_iter_values([text]));
    Ok(Arc::new(DictionaryArray::try_new(Int32Array::try_new(zeros.clone(), None)?, texts)?))
}

/// A dictionary's text is copied for every row that names it when somebody asks for the rows.
fn check_unfolded(bytes: usize) -> Result<(), ArrowError> {
    if bytes > MAX_TEXT_BYTES {
        let what = format!("a column unfolds to {bytes} bytes of text; {MAX_TEXT_BYTES} are the most");
        return Err(ArrowError::InvalidArgumentError(what));
    }
    Ok(())
}

fn array(column: &Column, data: &v1::ColumnData, zeros: &ScalarBuffer<i32>) -> Result<ArrayRef, ArrowError> {
    let rows = zeros.len();
    let nulls = nulls(column, data, rows);
    Ok(match (&data.data, column.kind) {
        (Some(Data::Ints(ints)), Kind::Int) => Arc::new(Int64Array::try_new(ints.values.clone().into(), nulls)?),
        (Some(Data::Ints(ints)), Kind::Time) => {
            Arc::new(TimestampMicrosecondArray::try_new(ints.values.clone().into(), nulls)?.with_timezone("UTC"))
        }
        (Some(Data::Ints(ints)), Kind::Bool) => {
            let bits = BooleanBuffer::from_iter(ints.values.iter().map(|value| *value != 0));
            Arc::new(BooleanArray::new(bits, nulls))
        }
        (Some(Data::Floats(floats)), Kind::Float) => {
            Arc::new(Float64Array::try_new(floats.values.clone().into(), nulls)?)
        }
        (Some(Data::Texts(texts)), Kind::Text) => named(texts, nulls, zeros)?,
        (Some(Data::TextLists(lists)), Kind::TextList) => text_lists(lists, nulls)?,
        (Some(Data::Histograms(histograms)), Kind::Histogram) => Arc::new(packed::pack(histograms, nulls)?),
        _ => absent(column, rows)?,
    })
}

/// Which rows hold a value; `None` when all do.
fn nulls(column: &Column, data: &v1::ColumnData, rows: usize) -> Option<NullBuffer> {
    if data.validity.is_empty() || !column.nullable {
        return None;
    }
    Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_slice_ref(&data.validity), 0, rows)))
}

/// Texts by their number in the chunk's dictionary.
fn named(texts: &v1::Texts, nulls: Option<NullBuffer>, zeros: &ScalarBuffer<i32>) -> Result<ArrayRef, ArrowError> {
    check_unfolded(unfolded_bytes(texts))?;
    let numbers = match texts.dictionary.len() {
        1 => zeros.clone(),
        _ => texts.index.iter().map(|&index| index as i32).collect(),
    };
    let values = Arc::new(StringArray::from_iter_values(&texts.dictionary));
    Ok(Arc::new(DictionaryArray::try_new(Int32Array::try_new(numbers, nulls)?, values)?))
}

/// Never less than what it is, and what it is where that may matter.
fn unfolded_bytes(texts: &v1::Texts) -> usize {
    let longest = texts.dictionary.iter().map(String::len).max().unwrap_or(0);
    let most = longest.saturating_mul(texts.index.len());
    if most <= MAX_TEXT_BYTES {
        return most;
    }
    texts.index.iter().map(|&index| texts.dictionary[index as usize].len()).fold(0, usize::saturating_add)
}

fn strings(texts: &v1::Texts) -> Result<StringArray, ArrowError> {
    check_unfolded(unfolded_bytes(texts))?;
    Ok(StringArray::from_iter_values(texts.index.iter().map(|&index| &texts.dictionary[index as usize])))
}

fn text_lists(lists: &v1::TextLists, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    let empty = v1::Texts::default();
    let items = Arc::new(strings(lists.items.as_ref().unwrap_or(&empty))?);
    Ok(Arc::new(ListArray::try_new(schema::text_item(), offsets(&lists.lengths), items, nulls)?))
}

fn offsets(lengths: &[u32]) -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths(lengths.iter().map(|&length| length as usize))
}

/// A column nobody sent.
pub(crate) fn absent(column: &Column, rows: usize) -> Result<ArrayRef, ArrowError> {
    if column.nullable {
        return Ok(arrow::array::new_null_array(&schema::held_type(column.kind), rows));
    }
    Ok(match column.kind {
        Kind::Int => Arc::new(Int64Array::from_value(0, rows)),
        Kind::Float => Arc::new(Float64Array::from_value(0.0, rows)),
        Kind::Bool => Arc::new(BooleanArray::from(vec![false; rows])),
        Kind::Text => constant("", &ScalarBuffer::from(vec![0; rows]))?,
        Kind::Time => Arc::new(TimestampMicrosecondArray::from_value(0, rows).with_timezone("UTC")),
        Kind::TextList => {
            text_lists(&v1::TextLists { lengths: vec![0; rows], items: Some(v1::Texts::default()) }, None)?
        }
        Kind::Histogram => {
            let none = v1::Histograms { lengths: vec![0; rows], ..v1::Histograms::default() };
            Arc::new(packed::pack(&none, None)?)
        }
    })
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
