//! Record batch back to chunk, for code that reads rows of history as if they had just come in.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use skep_common::bucket;
use skep_wire::chunk::{Builder, ChunkError};
use skep_wire::tables::{Kind, Table};
use skep_wire::v1;

/// The rows of `batch` without the envelope's columns; `None` when there are none.
///
/// Columns are found by name; one that is missing or of another type is null.
///
/// # Errors
/// [`ChunkError`]: a column that always holds a value is missing, or there are too many rows.
pub fn chunk(table: &'static Table, batch: &RecordBatch) -> Result<Option<v1::Chunk>, ChunkError> {
    let mut builder = Builder::new(table);
    for row in 0..batch.num_rows() {
        for column in table.columns() {
            let array = batch.column_by_name(column.name).filter(|array| array.is_valid(row));
            if let Some(array) = array {
                put(&mut builder, column.name, column.kind, array, row);
            }
        }
        builder.end_row()?;
    }
    Ok(builder.finish())
}

fn put(builder: &mut Builder, name: &str, kind: Kind, array: &ArrayRef, row: usize) {
    match kind {
        Kind::Int => {
            let value = array.as_primitive_opt::<Int64Type>().map(|ints| ints.value(row));
            builder.maybe_int(name, value);
        }
        Kind::Time => {
            let value = array.as_primitive_opt::<TimestampMicrosecondType>().map(|times| times.value(row));
            builder.maybe_int(name, value);
        }
        Kind::Bool => {
            let value = array.as_boolean_opt().map(|bits| i64::from(bits.value(row)));
            builder.maybe_int(name, value);
        }
        Kind::Float => {
            if let Some(floats) = array.as_primitive_opt::<Float64Type>() {
                builder.float(name, floats.value(row));
            }
        }
        Kind::Text => {
            builder.maybe_text(name, array.as_string_opt::<i32>().map(|texts| texts.value(row)));
        }
        Kind::TextList => {
            let items = array.as_list_opt::<i32>().map(|lists| lists.value(row));
            if let Some(texts) = items.as_ref().and_then(|items| items.as_string_opt::<i32>()) {
                let texts: Vec<&str> = texts.iter().flatten().collect();
                builder.text_list(name, &texts);
            }
        }
        Kind::Histogram => {
            let items = array.as_list_opt::<i32>().map(|lists| lists.value(row));
            if let Some(buckets) = items.as_ref().and_then(buckets) {
                builder.histogram(name, buckets);
            }
        }
    }
}

fn buckets(items: &ArrayRef) -> Option<Vec<(u16, u64)>> {
    let parts = items.as_struct_opt()?;
    let values = parts.column_by_name("value_ns")?.as_primitive_opt::<Int64Type>()?;
    let counts = parts.column_by_name("count")?.as_primitive_opt::<Int64Type>()?;
    let pairs = values.values().iter().zip(counts.values());
    Some(pairs.map(|(value, count)| (bucket::index(value.unsigned_abs()), count.unsigned_abs())).collect())
}
