//! Single values out of a batch, by column name, whatever integer or text type the engine chose.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};

use super::cell::Distribution;

/// One row of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

/// The rows of an answer, in order.
pub fn rows(batches: &[RecordBatch]) -> impl Iterator<Item = Row<'_>> {
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| Row { batch, row }))
}

impl<'a> Row<'a> {
    fn column(&self, name: &str) -> Option<&'a ArrayRef> {
        self.batch.column_by_name(name).filter(|column| !column.is_null(self.row))
    }

    /// An integer, truth value or time in microseconds; `None` when null, absent or of another kind.
    pub fn int(&self, name: &str) -> Option<i64> {
        let column = self.column(name)?;
        let at = self.row;
        Some(match column.data_type() {
            DataType::Int64 => column.as_primitive::<Int64Type>().value(at),
            DataType::Int32 => column.as_primitive::<Int32Type>().value(at).into(),
            DataType::Int16 => column.as_primitive::<Int16Type>().value(at).into(),
            DataType::Int8 => column.as_primitive::<Int8Type>().value(at).into(),
            DataType::UInt64 => i64::try_from(column.as_primitive::<UInt64Type>().value(at)).unwrap_or(i64::MAX),
            DataType::UInt32 => column.as_primitive::<UInt32Type>().value(at).into(),
            DataType::UInt16 => column.as_primitive::<UInt16Type>().value(at).into(),
            DataType::UInt8 => column.as_primitive::<UInt8Type>().value(at).into(),
            DataType::Boolean => column.as_any().downcast_ref::<BooleanArray>()?.value(at).into(),
            DataType::Timestamp(_, _) => time_of(column, at)?,
            _ => return None,
        })
    }

    /// A floating-point value, or an integer as one.
    pub fn float(&self, name: &str) -> Option<f64> {
        let column = self.column(name)?;
        match column.data_type() {
            DataType::Float64 => Some(column.as_primitive::<Float64Type>().value(self.row)),
            DataType::Float32 => Some(column.as_primitive::<Float32Type>().value(self.row).into()),
            _ => self.int(name).map(|value| value as f64),
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<String> {
        text_of(self.column(name)?, self.row)
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        let column = self.column(name)?;
        let items = match column.data_type() {
            DataType::List(_) => column.as_list::<i32>().value(self.row),
            DataType::LargeList(_) => column.as_list::<i64>().value(self.row),
            _ => return None,
        };
        Some((0..items.len()).map(|at| text_of(&items, at).unwrap_or_default()).collect())
    }

    /// A histogram.
    pub fn distribution(&self, name: &str) -> Option<Distribution> {
        let column = self.column(name)?;
        match column.data_type() {
            DataType::List(_) => Distribution::of(&column.as_list::<i32>().value(self.row)),
            _ => None,
        }
    }
}

/// Microseconds since the epoch.
pub(super) fn time_of(column: &ArrayRef, at: usize) -> Option<i64> {
    let DataType::Timestamp(unit, _) = column.data_type() else { return None };
    Some(match unit {
        TimeUnit::Second => column.as_primitive::<TimestampSecondType>().value(at).saturating_mul(1_000_000),
        TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().value(at).saturating_mul(1_000),
        TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().value(at),
        TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().value(at).div_euclid(1_000),
    })
}

fn text_of(column: &ArrayRef, at: usize) -> Option<String> {
    if column.is_null(at) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(at).to_owned()),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(at).to_owned()),
        DataType::Utf8View => Some(column.as_string_view().value(at).to_owned()),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary();
            let key = *dictionary.normalized_keys().get(at)?;
            text_of(dictionary.values(), key)
        }
        _ => None,
    }
}
