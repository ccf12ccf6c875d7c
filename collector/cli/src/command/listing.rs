//! A bounded answer in one of the listing formats.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;

use crate::connect::Source;
use crate::exit::Failure;
use crate::output::{ListFormat, OutputError, Writer, quoted, remark};

/// Asks and prints; `none` is said, to people only, when there are no rows.
pub(super) async fn print(source: &Source, sql: &str, format: ListFormat, none: &str) -> Result<(), Failure> {
    let answer = source.ask(sql).await?;
    let schema = answer.schema();
    let batches = answer.collect().await?;
    write(&schema, &batches, format, none)
}

/// What a statement says behind its other conditions to have only these states; nothing where none is named.
pub(super) fn in_states(states: &[String]) -> String {
    if states.is_empty() {
        return String::new();
    }
    let states: Vec<String> = states.iter().map(|state| quoted(state)).collect();
    format!(" AND state IN ({})", states.join(", "))
}

/// Prints batches that are there already.
pub(super) fn write(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    format: ListFormat,
    none: &str,
) -> Result<(), Failure> {
    if batches.iter().all(|batch| batch.num_rows() == 0) && format == ListFormat::Table {
        remark(none);
        return Ok(());
    }
    let mut writer = Writer::start(format.into(), schema, None)?;
    for batch in batches {
        writer.push(batch)?;
    }
    writer.finish()?;
    Ok(())
}

/// A batch of columns made here.
pub(super) fn batch<'a>(columns: impl IntoIterator<Item = (&'a str, ArrayRef)>) -> Result<RecordBatch, Failure> {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .map_err(|error| OutputError::Arrow(error).into())
}

/// A text column.
pub(super) fn texts<T: Into<String>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| Some(value.into())).collect::<StringArray>())
}
