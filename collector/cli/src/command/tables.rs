//! `skep tables`: the definitions this program was built with; asks nobody.

use clap::Args;
use skep_wire::tables::{self, Column, Kind, Table};

use super::{CommandError, listing};
use crate::exit::Failure;
use crate::output::{ListFormat, Paint, Style, print};

/// What `skep tables --help` says above its options.
pub(crate) const ABOUT: &str = "What the tables and their columns are.\n\n\
    Without a name: every table with what a row of it is. With a name: its columns, their types and meaning. The \
    same definitions make the Parquet files, so any other engine sees these columns too.";

/// Arguments of `skep tables`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep tables
  skep tables cpu
  skep tables --format json | jq -r '.[].table'")]
pub struct TablesArgs {
    /// Show the columns of this table
    #[arg(value_name = "TABLE", value_parser = clap::builder::PossibleValuesParser::new(names()))]
    pub table: Option<String>,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
}

/// Names of all tables.
pub fn names() -> impl Iterator<Item = &'static str> {
    tables::TABLES.iter().map(|table| table.name)
}

pub(super) fn run(args: &TablesArgs) -> Result<(), Failure> {
    let chosen = match &args.table {
        None => None,
        Some(name) => Some(tables::find(name).ok_or_else(|| {
            Failure::Command(CommandError::NotFound { what: "table", name: name.clone(), hint: String::new() })
        })?),
    };
    match (args.format, chosen) {
        (ListFormat::Json, _) => print(&json(chosen)).map_err(Failure::Output),
        (format, None) => overview(format),
        (format, Some(table)) => columns(table, format),
    }
}

fn overview(format: ListFormat) -> Result<(), Failure> {
    let all = tables::TABLES;
    let batch = listing::batch([
        ("table", listing::texts(all.iter().map(|table| table.name))),
        (
            "columns",
            std::sync::Arc::new(
                all.iter()
                    .map(|table| Some(table.stored_columns().count() as i64))
                    .collect::<arrow::array::Int64Array>(),
            ) as _,
        ),
        ("what", listing::texts(all.iter().map(|table| table.doc))),
    ])?;
    listing::write(&batch.schema(), &[batch], format, "")
}

fn columns(table: &'static Table, format: ListFormat) -> Result<(), Failure> {
    let all: Vec<&Column> = table.stored_columns().collect();
    let batch = listing::batch([
        ("column", listing::texts(all.iter().map(|column| column.name))),
        ("type", listing::texts(all.iter().map(|column| type_name(column.kind)))),
        ("null", listing::texts(all.iter().map(|column| if column.nullable { "maybe" } else { "never" }))),
        ("what", listing::texts(all.iter().map(|column| column.doc))),
    ])?;
    if format == ListFormat::Table {
        let style = Style::stdout();
        let title = format!("{}: {}\n", style.paint(Paint::Strong, table.name), table.doc);
        let sort = style.paint(Paint::Faint, &format!("sorted by {}\n\n", table.sort.join(", ")));
        print(&format!("{title}{sort}"))?;
    }
    listing::write(&batch.schema(), &[batch], format, "")
}

fn json(chosen: Option<&'static Table>) -> String {
    let describe = |table: &&'static Table| {
        let columns: Vec<serde_json::Value> = table
            .stored_columns()
            .map(|column| {
                serde_json::json!({
                    "column": column.name,
                    "type": type_name(column.kind),
                    "nullable": column.nullable,
                    "what": column.doc,
                })
            })
            .collect();
        serde_json::json!({ "table": table.name, "what": table.doc, "sort": table.sort, "columns": columns })
    };
    let all: Vec<serde_json::Value> = match chosen {
        Some(table) => vec![describe(&table)],
        None => tables::TABLES.iter().map(describe).collect(),
    };
    format!("{:#}\n", serde_json::Value::Array(all))
}

/// What SQL calls it.
fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "bigint",
        Kind::Float => "double",
        Kind::Bool => "boolean",
        Kind::Text => "text",
        Kind::Time => "timestamp(us, UTC)",
        Kind::TextList => "list<text>",
        Kind::Histogram => "list<struct<value_ns, count>>",
    }
}
