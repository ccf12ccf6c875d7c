//! A table's Arrow schema: the same in memory, in Parquet and in query results.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use skep_wire::tables::{Column, Kind, TABLES, Table};

/// Name of a list's only child, as the Parquet format wants it.
const ELEMENT: &str = "element";

static SCHEMAS: LazyLock<Vec<(&'static str, SchemaRef)>> =
    LazyLock::new(|| TABLES.iter().map(|table| (table.name, Arc::new(build(table)))).collect());

/// The schema of `table`'s stored columns.
pub fn schema(table: &'static Table) -> SchemaRef {
    let known = SCHEMAS.iter().find(|(name, _)| *name == table.name);
    known.map_or_else(|| Arc::new(build(table)), |(_, schema)| Arc::clone(schema))
}

fn build(table: &'static Table) -> Schema {
    Schema::new(table.stored_columns().map(field).collect::<Vec<_>>())
}

fn field(column: &'static Column) -> Field {
    Field::new(column.name, data_type(column.kind), column.nullable)
}

/// The Arrow type of a kind of column.
pub fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Int => DataType::Int64,
        Kind::Float => DataType::Float64,
        Kind::Bool => DataType::Boolean,
        Kind::Text => DataType::Utf8,
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::TextList => DataType::List(text_item()),
        Kind::Histogram => DataType::List(bucket_item()),
    }
}

/// The child of a list of texts.
pub fn text_item() -> Arc<Field> {
    Arc::new(Field::new(ELEMENT, DataType::Utf8, false))
}

/// The child of a histogram.
pub fn bucket_item() -> Arc<Field> {
    Arc::new(Field::new(ELEMENT, DataType::Struct(bucket_fields()), false))
}

/// The parts of a bucket.
pub fn bucket_fields() -> Fields {
    vec![Field::new("value_ns", DataType::Int64, false), Field::new("count", DataType::Int64, false)].into()
}
