//! A table's Arrow schema: the same in Parquet and in query results. Rows in memory differ in two things: their texts are
//! numbers into dictionaries, as they came over the wire, so that sorting and gathering them moves four bytes a text, and
//! their distributions are [`packed`].

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use skep_wire::tables::{Column, Kind, TABLES, Table};

use super::packed;

/// Name of a list's only child, as the Parquet format wants it.
pub const ELEMENT: &str = "element";

type Schemas = LazyLock<Vec<(&'static str, SchemaRef)>>;

static PLAIN: Schemas = LazyLock::new(|| TABLES.iter().map(|table| (table.name, build(table, data_type))).collect());
static HELD: Schemas = LazyLock::new(|| TABLES.iter().map(|table| (table.name, build(table, held_type))).collect());

/// The schema of `table`'s stored columns.
pub fn schema(table: &'static Table) -> SchemaRef {
    find(&PLAIN, table).unwrap_or_else(|| build(table, data_type))
}

/// The schema of `table`'s rows in memory.
pub fn held(table: &'static Table) -> SchemaRef {
    find(&HELD, table).unwrap_or_else(|| build(table, held_type))
}

fn find(schemas: &Schemas, table: &'static Table) -> Option<SchemaRef> {
    schemas.iter().find(|(name, _)| *name == table.name).map(|(_, schema)| Arc::clone(schema))
}

fn build(table: &'static Table, data_type: fn(Kind) -> DataType) -> SchemaRef {
    let field = |column: &'static Column| Field::new(column.name, data_type(column.kind), column.nullable);
    Arc::new(Schema::new(table.stored_columns().map(field).collect::<Vec<_>>()))
}

/// Rows in memory as rows of query results. Cost: their texts are copied, and their distributions unpacked.
///
/// # Errors
/// A column with more text than one array can hold.
pub fn plain(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = rows.columns().iter().map(plain_column).collect::<Result<Vec<_>, _>>()?;
    let schema = rows.schema();
    let fields = schema.fields().iter().zip(&columns);
    let fields: Vec<_> = fields
        .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), field.is_nullable()))
        .collect();
    // Of a projection to no column the number of rows is all there is.
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

/// As [`plain`], for one column.
///
/// # Errors
/// As there.
pub fn plain_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Dictionary(_, texts) => cast(column, texts),
        DataType::Binary => packed::unpack(column.as_binary()),
        _ => Ok(Arc::clone(column)),
    }
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

/// The Arrow type of a kind of column in memory.
pub fn held_type(kind: Kind) -> DataType {
    match kind {
        Kind::Text => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        Kind::Histogram => DataType::Binary,
        _ => data_type(kind),
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
