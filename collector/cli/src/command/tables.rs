//! `skep tables`: the tables and views this program was built with; asks nobody.

use std::sync::Arc;

use arrow::array::Int64Array;
use clap::Args;
use skep_wire::reference::unit;
use skep_wire::tables::{self, Column, Table};
use skep_wire::views::{self, View};

use super::{CommandError, listing};
use crate::exit::Failure;
use crate::output::{ListFormat, Paint, Style, print};

/// What `skep tables --help` says above its options.
pub(crate) const ABOUT: &str = "What the tables and views and their columns are.\n\n\
    Without a name: every table and view with what a row of it is. With a name: its columns, their types, units and \
    meaning, and of a view its SQL. The same definitions make the Parquet files, so any other engine sees the tables' \
    columns too.";

/// Arguments of `skep tables`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep tables
  skep tables cpu
  skep tables top_cpu
  skep tables --format json | jq -r '.[].table'")]
pub struct TablesArgs {
    /// Show the columns of this table or view
    #[arg(value_name = "TABLE", value_parser = clap::builder::PossibleValuesParser::new(all_names()))]
    pub table: Option<String>,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
}

/// Names of all tables.
pub fn names() -> impl Iterator<Item = &'static str> {
    tables::TABLES.iter().map(|table| table.name)
}

/// Names of all tables and views.
pub fn all_names() -> impl Iterator<Item = &'static str> {
    names().chain(views::VIEWS.iter().map(|view| view.name))
}

/// What a statement can name.
#[derive(Debug, Clone, Copy)]
enum Relation {
    Table(&'static Table),
    View(&'static View),
}

impl Relation {
    fn all() -> impl Iterator<Item = Self> {
        tables::TABLES.iter().map(|table| Self::Table(table)).chain(views::VIEWS.iter().map(Self::View))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Table(table) => table.name,
            Self::View(view) => view.name,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Table(_) => "table",
            Self::View(_) => "view",
        }
    }

    fn doc(self) -> &'static str {
        match self {
            Self::Table(table) => table.doc,
            Self::View(view) => view.doc,
        }
    }

    fn columns(self) -> Vec<&'static Column> {
        match self {
            Self::Table(table) => table.stored_columns().collect(),
            Self::View(view) => view.columns.iter().collect(),
        }
    }
}

pub(super) fn run(args: &TablesArgs) -> Result<(), Failure> {
    let chosen = match &args.table {
        None => None,
        Some(name) => Some(Relation::all().find(|relation| relation.name() == name).ok_or_else(|| {
            Failure::Command(CommandError::NotFound { what: "table", name: name.clone(), hint: String::new() })
        })?),
    };
    match (args.format, chosen) {
        (ListFormat::Json, _) => print(&json(chosen)).map_err(Failure::Output),
        (format, None) => overview(format),
        (format, Some(relation)) => columns(relation, format),
    }
}

fn overview(format: ListFormat) -> Result<(), Failure> {
    let all: Vec<Relation> = Relation::all().collect();
    let widths: Int64Array = all.iter().map(|relation| Some(relation.columns().len() as i64)).collect();
    let batch = listing::batch([
        ("table", listing::texts(all.iter().map(|relation| relation.name()))),
        ("kind", listing::texts(all.iter().map(|relation| relation.kind()))),
        ("columns", Arc::new(widths) as _),
        ("what", listing::texts(all.iter().map(|relation| relation.doc()))),
    ])?;
    listing::write(&batch.schema(), &[batch], format, "")
}

fn columns(relation: Relation, format: ListFormat) -> Result<(), Failure> {
    let all = relation.columns();
    let batch = listing::batch([
        ("column", listing::texts(all.iter().map(|column| column.name))),
        ("type", listing::texts(all.iter().map(|column| column.kind.sql()))),
        ("null", listing::texts(all.iter().map(|column| if column.nullable { "maybe" } else { "never" }))),
        ("unit", listing::texts(all.iter().map(|column| unit(column).unwrap_or_default()))),
        ("what", listing::texts(all.iter().map(|column| column.doc))),
    ])?;
    let style = Style::stdout();
    let for_people = format == ListFormat::Table;
    if for_people {
        let about = match relation {
            Relation::Table(table) => format!("sorted by {}", table.sort.join(", ")),
            Relation::View(view) => format!("a view over {}", view.tables.join(", ")),
        };
        let title = format!("{}: {}\n", style.paint(Paint::Strong, relation.name()), relation.doc());
        print(&format!("{title}{}\n\n", style.paint(Paint::Faint, &about)))?;
    }
    listing::write(&batch.schema(), &[batch], format, "")?;
    match relation {
        Relation::View(view) if for_people => Ok(print(&format!("\n{}\n", style.paint(Paint::Faint, view.sql)))?),
        _ => Ok(()),
    }
}

fn json(chosen: Option<Relation>) -> String {
    let describe = |relation: Relation| {
        let columns = relation.columns().into_iter().map(|column| {
            serde_json::json!({
                "column": column.name,
                "type": column.kind.sql(),
                "nullable": column.nullable,
                "unit": unit(column),
                "what": column.doc,
            })
        });
        let columns: Vec<serde_json::Value> = columns.collect();
        let (name, kind, what) = (relation.name(), relation.kind(), relation.doc());
        match relation {
            Relation::Table(table) => serde_json::json!({
                "table": name, "kind": kind, "what": what, "sort": table.sort, "columns": columns,
            }),
            Relation::View(view) => serde_json::json!({
                "table": name, "kind": kind, "what": what, "reads": view.tables, "columns": columns, "sql": view.sql,
            }),
        }
    };
    let all: Vec<serde_json::Value> = match chosen {
        Some(relation) => vec![describe(relation)],
        None => Relation::all().map(describe).collect(),
    };
    format!("{:#}\n", serde_json::Value::Array(all))
}
