//! What rows take in memory: what is in them, whatever room was made for it.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type};

/// Bytes of these rows, which are as [`super::schema::held`] says.
pub fn of(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(|column| of_column(column.as_ref())).sum()
}

fn of_column(column: &dyn Array) -> usize {
    let rows = column.len();
    let validity = if column.nulls().is_some() { rows.div_ceil(8) } else { 0 };
    let values = match column.data_type() {
        DataType::Dictionary(..) => {
            let texts = column.as_dictionary_opt::<Int32Type>().and_then(|texts| texts.values().as_string_opt::<i32>());
            rows * 4 + texts.map_or(0, |texts| texts.len() * 4 + texts.value_data().len())
        }
        DataType::Binary => rows * 4 + column.as_binary_opt::<i32>().map_or(0, |bytes| bytes.value_data().len()),
        DataType::Boolean => rows.div_ceil(8),
        DataType::List(_) => column.get_array_memory_size(),
        _ => rows * 8,
    };
    values + validity
}
