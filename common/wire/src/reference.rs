//! The page about tables, views and functions, docs/TABLES.md, out of their definitions.

use std::fmt::{self, Write};

use crate::tables::{Column, Kind, TABLES, Table};
use crate::views::{FUNCTIONS, VIEWS, View};

const TOP: &str = "\
# Tables, views and functions

Written by `cargo xtask generate` from `common/wire/src/tables.rs` and `views.rs`; `skep tables` shows the same.

Every table lies in `DIR/history/TABLE/date=YYYY-MM-DD/hour=HH/` as Parquet, partitioned by the day and hour of `time`
(UTC), each file sorted by the columns named with its table, under a Delta Lake log. `skep query` sees what is not in a
file yet as well. `date` and `hour` are the folder's: other engines have them as columns, `skep query` prunes by `time`.

Units stand in names: `_ns` nanoseconds, `_us` microseconds, `_s` seconds, `_bytes` bytes, `_ratio` 0..1. A histogram is
`list<struct<value_ns, count>>`: midpoints of non-empty buckets, ascending, at most 3.2 % off; merging is a sum by
`value_ns` in any engine.
";

/// The whole page.
pub fn page() -> String {
    let mut page = String::from(TOP);
    // Writing into a String does not fail.
    let _written = write(&mut page).is_ok();
    page
}

fn write(page: &mut String) -> fmt::Result {
    page.push_str("\n## Functions\n\n| function | what |\n|---|---|\n");
    for function in FUNCTIONS {
        writeln!(page, "| `{}` | {} |", function.usage, cell(function.doc))?;
    }
    page.push_str("\n## Tables\n\n| table | what |\n|---|---|\n");
    for table in TABLES {
        writeln!(page, "| [{0}](#{0}) | {1} |", table.name, cell(table.doc))?;
    }
    page.push_str("\n## Views\n\n| view | what |\n|---|---|\n");
    for view in VIEWS {
        writeln!(page, "| [{0}](#{0}) | {1} |", view.name, cell(view.doc))?;
    }
    TABLES.iter().try_for_each(|table| write_table(page, table))?;
    VIEWS.iter().try_for_each(|view| write_view(page, view))
}

fn write_table(page: &mut String, table: &'static Table) -> fmt::Result {
    writeln!(page, "\n## {}\n\n{}.\n\nSorted by {}.\n", table.name, sentence(table.doc), list(table.sort))?;
    write_columns(page, table.stored_columns())
}

fn write_view(page: &mut String, view: &'static View) -> fmt::Result {
    writeln!(page, "\n## {}\n\n{}. A view over {}.\n", view.name, sentence(view.doc), list(view.tables))?;
    write_columns(page, view.columns.iter())?;
    writeln!(page, "\n```sql\n{}\n```", view.sql)
}

fn write_columns(page: &mut String, columns: impl Iterator<Item = &'static Column>) -> fmt::Result {
    page.push_str("| column | type | null | unit | what |\n|---|---|---|---|---|\n");
    for column in columns {
        let null = if column.nullable { "maybe" } else { "never" };
        let unit = unit(column).unwrap_or_default();
        writeln!(page, "| `{}` | {} | {null} | {unit} | {} |", column.name, column.kind.sql(), cell(column.doc))?;
    }
    Ok(())
}

/// The unit its name or its kind says.
pub fn unit(column: &Column) -> Option<&'static str> {
    if column.kind == Kind::Histogram {
        return Some(if column.name == "size" { "bytes" } else { "ns" });
    }
    if !matches!(column.kind, Kind::Int | Kind::Float) {
        return None;
    }
    let endings = [("_ns", "ns"), ("_us", "us"), ("_s", "s"), ("_bytes", "bytes"), ("_ratio", "0..1")];
    let by_name = endings.into_iter().find(|(ending, _)| column.name.ends_with(ending)).map(|(_, unit)| unit);
    by_name.or(match column.name {
        "bytes" => Some("bytes"),
        "coverage" => Some("0..1"),
        "cores" => Some("CPUs"),
        _ => None,
    })
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn sentence(doc: &str) -> String {
    let mut chars = doc.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn cell(doc: &str) -> String {
    doc.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{BLOCK_IO, CPU};

    #[test]
    fn every_table_view_column_and_function_is_on_the_page() {
        let page = page();
        for table in TABLES {
            assert!(page.contains(&format!("\n## {}\n", table.name)), "{}", table.name);
            for column in table.stored_columns() {
                assert!(page.contains(&format!("| `{}` | {} |", column.name, column.kind.sql())), "{}", column.name);
            }
        }
        for view in VIEWS {
            assert!(page.contains(&format!("\n```sql\n{}\n```\n", view.sql)), "{}", view.name);
        }
        assert!(FUNCTIONS.iter().all(|function| page.contains(function.usage)));
        assert!(page.lines().filter(|line| line.starts_with("| `")).all(|line| line.ends_with('|')));
    }

    #[test]
    fn units_come_from_names() {
        let of = |table: &'static Table, name: &str| table.column(name).and_then(unit);
        assert_eq!(of(&CPU, "on_cpu_ns"), Some("ns"));
        assert_eq!(of(&CPU, "window_s"), Some("s"));
        assert_eq!(of(&CPU, "run_queue_delay"), Some("ns"));
        assert_eq!(of(&CPU, "slices"), None);
        assert_eq!(of(&BLOCK_IO, "size"), Some("bytes"));
        assert_eq!(of(&BLOCK_IO, "bytes"), Some("bytes"));
    }
}
