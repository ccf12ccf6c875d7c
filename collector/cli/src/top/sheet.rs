//! Rows of cells that know how to be sorted.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::error::ArrowError;

use crate::output::{Layout, TextColumn, escape, render_columns};

/// A column of a pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Name for programs, with its unit.
    pub(super) field: &'static str,
    /// Numbers: right-aligned, sorted downwards first.
    pub(super) number: bool,
    /// Least width on the screen.
    pub(super) width: u16,
    /// Takes a share of what is left over.
    pub(super) grows: bool,
    /// Left out on narrow screens, highest first; 0 never.
    pub(super) optional: u8,
}

/// What a cell shows and what it is sorted by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    key: Key,
    pub(super) mood: Mood,
}

#[derive(Debug, Clone, PartialEq)]
enum Key {
    Number(f64),
    Text,
}

/// Whether a cell deserves attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mood {
    #[default]
    Calm,
    Warn,
    Bad,
}

impl Cell {
    /// A name.
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self { text: escape(text.as_ref()), key: Key::Text, mood: Mood::Calm }
    }

    /// A number and how it is written.
    pub(super) fn number(value: f64, text: String) -> Self {
        Self { text, key: Key::Number(value), mood: Mood::Calm }
    }

    /// A number that may be unknown; unknown sorts lowest.
    pub(super) fn maybe(value: Option<f64>, write: impl Fn(f64) -> String) -> Self {
        match value {
            Some(value) => Self::number(value, write(value)),
            None => Self::number(f64::NEG_INFINITY, "-".to_owned()),
        }
    }

    pub(super) fn with_mood(mut self, mood: Mood) -> Self {
        self.mood = mood;
        self
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (&self.key, &other.key) {
            (Key::Number(one), Key::Number(two)) => one.total_cmp(two),
            _ => self.text.cmp(&other.text),
        }
    }
}

/// A pane's rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sheet {
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Sheet {
    /// Sorts by a column; rows that are equal there keep their order.
    pub(super) fn sort(&mut self, column: usize, descending: bool) {
        self.rows.sort_by(|one, two| match (one.get(column), two.get(column)) {
            (Some(one), Some(two)) if descending => two.compare(one),
            (Some(one), Some(two)) => one.compare(two),
            _ => Ordering::Equal,
        });
    }

    /// Keeps rows with a cell that contains `text`, whatever the case.
    pub(super) fn filter(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let wanted = text.to_lowercase();
        self.rows.retain(|row| row.iter().any(|cell| cell.text.to_lowercase().contains(&wanted)));
    }

    /// The first rows for people.
    pub(super) fn text(&self, limit: usize, layout: Layout) -> String {
        let columns = self.columns.iter().enumerate().map(|(at, column)| {
            let cells = self.rows.iter().take(limit);
            let cells = cells.map(|row| row.get(at).map_or(String::new(), |cell| cell.text.clone())).collect();
            TextColumn::new(column.title, column.number, cells)
        });
        render_columns(columns.collect(), layout)
    }

    /// The first rows for programs: numbers as numbers.
    pub(super) fn batch(&self, limit: usize) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.iter().enumerate().map(|(at, column)| {
            let cells = self.rows.iter().take(limit).map(move |row| row.get(at));
            let values: ArrayRef = if column.number {
                Arc::new(cells.map(|cell| cell.and_then(Cell::value)).collect::<Float64Array>())
            } else {
                Arc::new(cells.map(|cell| cell.map(|cell| cell.text.as_str())).collect::<StringArray>())
            };
            (column.field, values, true)
        });
        RecordBatch::try_from_iter_with_nullable(columns)
    }
}

impl Cell {
    fn value(&self) -> Option<f64> {
        match self.key {
            Key::Number(value) if value.is_finite() => Some(value),
            Key::Number(_) | Key::Text => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column { title: "NAME", field: "name", number: false, width: 4, grows: true, optional: 0 },
        Column { title: "P99", field: "p99_ns", number: true, width: 4, grows: false, optional: 0 },
    ];

    fn sheet() -> Sheet {
        let row = |name: &str, value| vec![Cell::text(name), Cell::maybe(value, |value| format!("{value}"))];
        Sheet { columns: COLUMNS, rows: vec![row("b", Some(2.0)), row("A", None), row("c", Some(10.0))] }
    }

    fn names(sheet: &Sheet) -> Vec<&str> {
        sheet.rows.iter().map(|row| row[0].text.as_str()).collect()
    }

    #[test]
    fn numbers_sort_as_numbers_and_unknown_last_when_descending() {
        let mut sheet = sheet();
        sheet.sort(1, true);
        assert_eq!(names(&sheet), ["c", "b", "A"]);
        sheet.sort(0, false);
        assert_eq!(names(&sheet), ["A", "b", "c"]);
    }

    #[test]
    fn a_filter_looks_at_every_cell_and_not_at_case() {
        let mut one = sheet();
        one.filter("a");
        assert_eq!(names(&one), ["A"]);
        let mut two = sheet();
        two.filter("10");
        assert_eq!(names(&two), ["c"]);
    }

    #[test]
    fn printing_keeps_numbers_as_numbers() {
        let batch = sheet().batch(2).unwrap();
        assert_eq!(batch.num_rows(), 2);
        let json = crate::output::to_json(&[batch]).unwrap();
        assert_eq!(json[0]["p99_ns"], 2.0);
        assert!(json[1].get("p99_ns").is_none_or(serde_json::Value::is_null));
    }
}
