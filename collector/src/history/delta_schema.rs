//! A table's schema as Delta writes it.

use serde_json::{Value, json};
use skep_wire::tables::{Column, Kind, Table};

/// The partition columns, as they stand in the folders' names.
pub const PARTITION_COLUMNS: [&str; 2] = ["date", "hour"];

/// The `schemaString` of a table: its stored columns, then the partition columns.
pub fn schema_string(table: &'static Table) -> String {
    let mut fields: Vec<Value> = table.stored_columns().map(field).collect();
    fields.push(plain_field("date", "date".into(), true));
    fields.push(plain_field("hour", "integer".into(), true));
    json!({ "type": "struct", "fields": fields }).to_string()
}

fn field(column: &'static Column) -> Value {
    let kind = match column.kind {
        Kind::Int => "long".into(),
        Kind::Float => "double".into(),
        Kind::Bool => "boolean".into(),
        Kind::Text => "string".into(),
        Kind::Time => "timestamp".into(),
        Kind::TextList => array("string".into()),
        Kind::Histogram => {
            let parts = ["value_ns", "count"].map(|name| plain_field(name, "long".into(), false));
            array(json!({ "type": "struct", "fields": parts }))
        }
    };
    plain_field(column.name, kind, column.nullable)
}

fn plain_field(name: &str, kind: Value, nullable: bool) -> Value {
    json!({ "name": name, "type": kind, "nullable": nullable, "metadata": {} })
}

fn array(element: Value) -> Value {
    json!({ "type": "array", "elementType": element, "containsNull": false })
}
