//! Columns of a checked chunk, each found by its name once: for code that goes over all rows.

use skep_wire::chunk::is_present;
use skep_wire::v1::{self, column_data::Data};

/// Integers or times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ints<'a>(Option<&'a v1::ColumnData>);

/// Texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts<'a>(Option<&'a v1::ColumnData>);

/// Floating-point values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floats<'a>(Option<&'a v1::ColumnData>);

/// Distributions; read from the first row to the last.
#[derive(Debug, Clone)]
pub(super) struct Histograms<'a> {
    column: Option<&'a v1::Histograms>,
    row: usize,
    at: usize,
}

fn find<'a>(chunk: &'a v1::Chunk, name: &str) -> Option<&'a v1::ColumnData> {
    chunk.columns.iter().find(|column| column.name == name)
}

/// A column that is absent gives nothing, as one of another kind does.
pub(super) fn ints<'a>(chunk: &'a v1::Chunk, name: &str) -> Ints<'a> {
    Ints(find(chunk, name))
}

pub(super) fn texts<'a>(chunk: &'a v1::Chunk, name: &str) -> Texts<'a> {
    Texts(find(chunk, name))
}

pub(super) fn floats<'a>(chunk: &'a v1::Chunk, name: &str) -> Floats<'a> {
    Floats(find(chunk, name))
}

pub(super) fn histograms<'a>(chunk: &'a v1::Chunk, name: &str) -> Histograms<'a> {
    let column = match find(chunk, name).and_then(|column| column.data.as_ref()) {
        Some(Data::Histograms(histograms)) => Some(histograms),
        _ => None,
    };
    Histograms { column, row: 0, at: 0 }
}

impl Ints<'_> {
    pub(super) fn at(self, row: usize) -> Option<i64> {
        match self.0.filter(|column| is_present(column, row))?.data.as_ref()? {
            Data::Ints(ints) => ints.values.get(row).copied(),
            _ => None,
        }
    }
}

impl Floats<'_> {
    pub(super) fn at(self, row: usize) -> Option<f64> {
        match self.0.filter(|column| is_present(column, row))?.data.as_ref()? {
            Data::Floats(floats) => floats.values.get(row).copied(),
            _ => None,
        }
    }
}

impl<'a> Texts<'a> {
    pub(super) fn at(self, row: usize) -> Option<&'a str> {
        match self.0.filter(|column| is_present(column, row))?.data.as_ref()? {
            Data::Texts(texts) => texts.dictionary.get(*texts.index.get(row)? as usize).map(String::as_str),
            _ => None,
        }
    }
}

impl<'a> Histograms<'a> {
    /// The buckets of the next row, ascending.
    pub(super) fn next(&mut self) -> impl Iterator<Item = (u16, u64)> + use<'a> {
        let length = self.column.and_then(|column| column.lengths.get(self.row)).map_or(0, |&length| length as usize);
        let range = self.at..self.at + length;
        self.row += 1;
        self.at = range.end;
        let column = self.column;
        let mut bucket = 0u16;
        range.filter_map(move |at| {
            let column = column?;
            bucket += column.buckets[at] as u16;
            Some((bucket, column.counts[at]))
        })
    }
}
