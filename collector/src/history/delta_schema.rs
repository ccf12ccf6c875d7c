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

/// Whether rows of the schema `own` can be written to a table whose `schemaString` is `known`.
pub fn covers(known: &str, own: &str) -> bool {
    let fields = |text: &str| -> Vec<Value> {
        let schema: Value = serde_json::from_str(text).unwrap_or_default();
        schema["fields"].as_array().cloned().unwrap_or_default()
    };
    let known = fields(known);
    let has = |own: &Value| {
        let known = known.iter().find(|known| known["name"] == own["name"]);
        known.is_some_and(|known| {
            known["type"] == own["type"] && (known["nullable"] == true || own["nullable"] == false)
        })
    };
    fields(own).iter().all(has)
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

#[cfg(test)]
mod tests {
    use skep_wire::tables::{CPU, LOSS};

    use super::*;

    #[test]
    fn a_table_with_more_columns_takes_rows_with_fewer() {
        let (all, cpu) = (schema_string(&CPU), serde_json::from_str::<Value>(&schema_string(&CPU)).unwrap());
        let mut fewer = cpu.clone();
        fewer["fields"].as_array_mut().unwrap().remove(3);
        let mut nullable = cpu;
        nullable["fields"][0]["nullable"] = (!nullable["fields"][0]["nullable"].as_bool().unwrap()).into();
        assert!(covers(&all, &all) && covers(&all, &fewer.to_string()));
        assert!(!covers(&fewer.to_string(), &all) && !covers(&all, &schema_string(&LOSS)) && !covers("", &all));
        let nullable = nullable.to_string();
        assert!(covers(&all, &nullable) != covers(&nullable, &all), "one way only");
    }
}
