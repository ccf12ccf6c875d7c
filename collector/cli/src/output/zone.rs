//! Times in UTC under a name the text formats know.
//!
//! Arrow's formatters know zones by offset only unless a zone database is linked; `UTC` is `+00:00`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;

const OFFSET: &str = "+00:00";

fn unit_in_utc(kind: &DataType) -> Option<TimeUnit> {
    match kind {
        DataType::Timestamp(unit, Some(zone)) if matches!(&**zone, "UTC" | "Z") => Some(*unit),
        _ => None,
    }
}

/// The schema with UTC columns renamed to their offset.
fn by_offset_schema(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match unit_in_utc(field.data_type()) {
        Some(unit) => {
            let kind = DataType::Timestamp(unit, Some(OFFSET.into()));
            Arc::new(Field::new(field.name(), kind, field.is_nullable()))
        }
        None => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The batch with UTC columns renamed to their offset; no value changes.
pub(super) fn by_offset(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| -> ArrayRef {
        match unit_in_utc(field.data_type()) {
            Some(TimeUnit::Second) => {
                Arc::new(column.as_primitive::<TimestampSecondType>().clone().with_timezone(OFFSET))
            }
            Some(TimeUnit::Millisecond) => {
                Arc::new(column.as_primitive::<TimestampMillisecondType>().clone().with_timezone(OFFSET))
            }
            Some(TimeUnit::Microsecond) => {
                Arc::new(column.as_primitive::<TimestampMicrosecondType>().clone().with_timezone(OFFSET))
            }
            Some(TimeUnit::Nanosecond) => {
                Arc::new(column.as_primitive::<TimestampNanosecondType>().clone().with_timezone(OFFSET))
            }
            None => Arc::clone(column),
        }
    });
    RecordBatch::try_new(by_offset_schema(&schema), columns.collect())
}
