//! Rows to columns and back.
//!
//! [`Builder`] takes rows one value at a time and refuses a value that is not of the column's kind; [`check`] does the
//! same for a chunk that came from elsewhere, so that code behind it may index without asking again.

use std::collections::HashMap;

use thiserror::Error;

use crate::tables::{Column, Kind, Table};
use crate::v1::{self, column_data::Data};

/// Most rows in one chunk; a batch with more is refused whole.
pub const MAX_ROWS: usize = 1 << 20;

/// Why a row or a chunk was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChunkError {
    /// The table has no such column.
    #[error("table {table} has no column {column}")]
    NoSuchColumn {
        /// Table.
        table: &'static str,
        /// Column asked for.
        column: String,
    },
    /// The value is of another kind than the column.
    #[error("{table}.{column} holds {expected:?}, not what was given")]
    WrongKind {
        /// Table.
        table: &'static str,
        /// Column.
        column: String,
        /// What it holds.
        expected: Kind,
    },
    /// A row ended without a value for a column that always has one.
    #[error("{table}.{column} is never null and row {row} has no value for it")]
    Missing {
        /// Table.
        table: &'static str,
        /// Column.
        column: String,
        /// Row, from 0.
        row: usize,
    },
    /// A column's parts do not add up to the chunk's rows.
    #[error("{table}.{column}: {found} values for {expected} rows")]
    WrongLength {
        /// Table.
        table: &'static str,
        /// Column.
        column: String,
        /// Rows of the chunk.
        expected: usize,
        /// Values found.
        found: usize,
    },
    /// An index points outside its dictionary, or a bucket lies outside the layout.
    #[error("{table}.{column}: value {value} at {position} is out of range")]
    OutOfRange {
        /// Table.
        table: &'static str,
        /// Column.
        column: String,
        /// Offending number.
        value: u64,
        /// Where, from 0.
        position: usize,
    },
    /// More texts than there are values.
    #[error("{table}.{column}: a dictionary of {texts} texts for {values} values")]
    LargeDictionary {
        /// Table.
        table: &'static str,
        /// Column.
        column: String,
        /// Texts in the dictionary.
        texts: usize,
        /// Values.
        values: usize,
    },
    /// A column comes twice.
    #[error("table {table}: a column comes twice")]
    Twice {
        /// Table.
        table: &'static str,
    },
    /// More rows than [`MAX_ROWS`].
    #[error("table {table}: {rows} rows in one chunk, the limit is {MAX_ROWS}")]
    TooManyRows {
        /// Table.
        table: &'static str,
        /// Rows claimed.
        rows: usize,
    },
}

/// Collects rows of one table.
///
/// Set the columns of a row in any order (in the table's order it is cheapest), then call [`Builder::end_row`].
/// Cost: one allocation per new dictionary entry.
#[derive(Debug)]
pub struct Builder {
    table: &'static Table,
    columns: Vec<Growing>,
    rows: usize,
    cursor: usize,
    fault: Option<ChunkError>,
}

#[derive(Debug)]
struct Growing {
    column: &'static Column,
    data: Data,
    /// Text to its place in the dictionary.
    seen: HashMap<String, u32>,
    present: Vec<bool>,
    any_missing: bool,
}

impl Builder {
    /// Starts an empty chunk of `table`.
    pub fn new(table: &'static Table) -> Self {
        let columns = table
            .columns()
            .map(|column| Growing {
                column,
                data: empty(column.kind),
                seen: HashMap::new(),
                present: Vec::new(),
                any_missing: false,
            })
            .collect();
        Self { table, columns, rows: 0, cursor: 0, fault: None }
    }

    /// Rows ended so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Sets an integer.
    pub fn int(&mut self, name: &str, value: i64) -> &mut Self {
        self.set(name, |data, _| match data {
            Data::Ints(ints) => {
                ints.values.push(value);
                true
            }
            _ => false,
        })
    }

    /// Sets an integer that may be unknown.
    pub fn maybe_int(&mut self, name: &str, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => self.int(name, value),
            None => self,
        }
    }

    /// Sets an unsigned integer; what does not fit is held at the largest a table can hold.
    pub fn count(&mut self, name: &str, value: u64) -> &mut Self {
        self.int(name, i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// Sets a truth value.
    pub fn bool(&mut self, name: &str, value: bool) -> &mut Self {
        self.int(name, i64::from(value))
    }

    /// Sets a floating-point value.
    pub fn float(&mut self, name: &str, value: f64) -> &mut Self {
        self.set(name, |data, _| match data {
            Data::Floats(floats) => {
                floats.values.push(value);
                true
            }
            _ => false,
        })
    }

    /// Sets a text.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.set(name, |data, seen| match data {
            Data::Texts(texts) => {
                push_text(texts, seen, value);
                true
            }
            _ => false,
        })
    }

    /// Sets a text that may be unknown.
    pub fn maybe_text(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Sets a list of texts.
    pub fn text_list<S: AsRef<str>>(&mut self, name: &str, values: &[S]) -> &mut Self {
        self.set(name, |data, seen| match data {
            Data::TextLists(lists) => {
                lists.lengths.push(values.len() as u32);
                let items = lists.items.get_or_insert_default();
                for value in values {
                    push_text(items, seen, value.as_ref());
                }
                true
            }
            _ => false,
        })
    }

    /// Sets a histogram from its non-empty buckets, indices ascending.
    pub fn histogram(&mut self, name: &str, buckets: impl IntoIterator<Item = (u16, u64)>) -> &mut Self {
        self.set(name, |data, _| match data {
            Data::Histograms(histograms) => {
                let before = histograms.buckets.len();
                let mut last = 0;
                for (bucket, count) in buckets {
                    histograms.buckets.push(u32::from(bucket - last));
                    histograms.counts.push(count);
                    last = bucket;
                }
                histograms.lengths.push((histograms.buckets.len() - before) as u32);
                true
            }
            _ => false,
        })
    }

    /// Ends the row: columns not set become null.
    ///
    /// # Errors
    /// What was wrong first in this row or an earlier one; the builder is then of no further use.
    pub fn end_row(&mut self) -> Result<(), ChunkError> {
        for growing in &mut self.columns {
            if growing.present.len() > self.rows {
                continue;
            }
            if !growing.column.nullable && self.fault.is_none() {
                self.fault = Some(ChunkError::Missing {
                    table: self.table.name,
                    column: growing.column.name.to_owned(),
                    row: self.rows,
                });
            }
            growing.push_null();
        }
        self.rows += 1;
        self.cursor = 0;
        if self.rows > MAX_ROWS && self.fault.is_none() {
            self.fault = Some(ChunkError::TooManyRows { table: self.table.name, rows: self.rows });
        }
        match &self.fault {
            Some(_) => Err(self.fault.take().unwrap_or(ChunkError::TooManyRows { table: self.table.name, rows: 0 })),
            None => Ok(()),
        }
    }

    /// The chunk, or `None` when no row was ended.
    pub fn finish(self) -> Option<v1::Chunk> {
        if self.rows == 0 {
            return None;
        }
        let columns = self.columns.into_iter().map(Growing::finish).collect();
        Some(v1::Chunk { table: self.table.name.to_owned(), rows: self.rows as u32, columns })
    }

    fn set(&mut self, name: &str, put: impl FnOnce(&mut Data, &mut HashMap<String, u32>) -> bool) -> &mut Self {
        let count = self.columns.len();
        let found = (0..count).map(|i| (self.cursor + i) % count).find(|&i| self.columns[i].column.name == name);
        let Some(at) = found else {
            self.note(ChunkError::NoSuchColumn { table: self.table.name, column: name.to_owned() });
            return self;
        };
        self.cursor = (at + 1) % count;
        let growing = &mut self.columns[at];
        if growing.present.len() > self.rows {
            let found = growing.present.len() + 1;
            self.note(ChunkError::WrongLength {
                table: self.table.name,
                column: name.to_owned(),
                expected: self.rows + 1,
                found,
            });
        } else if put(&mut growing.data, &mut growing.seen) {
            growing.present.push(true);
        } else {
            let expected = growing.column.kind;
            self.note(ChunkError::WrongKind { table: self.table.name, column: name.to_owned(), expected });
        }
        self
    }

    fn note(&mut self, fault: ChunkError) {
        self.fault.get_or_insert(fault);
    }
}

impl Growing {
    fn push_null(&mut self) {
        match &mut self.data {
            Data::Ints(ints) => ints.values.push(0),
            Data::Floats(floats) => floats.values.push(0.0),
            Data::Texts(texts) => push_text(texts, &mut self.seen, ""),
            Data::TextLists(lists) => lists.lengths.push(0),
            Data::Histograms(histograms) => histograms.lengths.push(0),
        }
        self.present.push(false);
        self.any_missing = true;
    }

    fn finish(self) -> v1::ColumnData {
        let validity = if self.any_missing { pack(&self.present) } else { Vec::new() };
        v1::ColumnData { name: self.column.name.to_owned(), validity, data: Some(self.data) }
    }
}

fn empty(kind: Kind) -> Data {
    match kind {
        Kind::Int | Kind::Bool | Kind::Time => Data::Ints(v1::Ints::default()),
        Kind::Float => Data::Floats(v1::Floats::default()),
        Kind::Text => Data::Texts(v1::Texts::default()),
        Kind::TextList => Data::TextLists(v1::TextLists { lengths: Vec::new(), items: Some(v1::Texts::default()) }),
        Kind::Histogram => Data::Histograms(v1::Histograms::default()),
    }
}

fn push_text(texts: &mut v1::Texts, seen: &mut HashMap<String, u32>, value: &str) {
    let index = match seen.get(value) {
        Some(&index) => index,
        None => {
            let index = texts.dictionary.len() as u32;
            texts.dictionary.push(value.to_owned());
            seen.insert(value.to_owned(), index);
            index
        }
    };
    texts.index.push(index);
}

fn pack(bits: &[bool]) -> Vec<u8> {
    let mut bytes = vec![0u8; bits.len().div_ceil(8)];
    for (i, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
        bytes[i / 8] |= 1 << (i % 8);
    }
    bytes
}

/// Whether row `row` of `column` holds a value. The chunk must have passed [`check`].
pub fn is_present(column: &v1::ColumnData, row: usize) -> bool {
    column.validity.is_empty() || column.validity[row / 8] & (1 << (row % 8)) != 0
}

/// Checks a chunk against its table; returns how many columns the table does not know.
///
/// # Errors
/// The first thing found wrong. Nothing of the chunk may then be stored.
pub fn check(chunk: &v1::Chunk, table: &'static Table) -> Result<usize, ChunkError> {
    let rows = chunk.rows as usize;
    if rows > MAX_ROWS {
        return Err(ChunkError::TooManyRows { table: table.name, rows });
    }
    let mut unknown = 0;
    for data in &chunk.columns {
        match table.columns().find(|column| column.name == data.name) {
            Some(column) => check_column(table, column, data, rows)?,
            None => unknown += 1,
        }
    }
    if chunk.columns.len() - unknown > table.columns().count() {
        return Err(ChunkError::Twice { table: table.name });
    }
    Ok(unknown)
}

fn check_column(
    table: &'static Table,
    column: &'static Column,
    data: &v1::ColumnData,
    rows: usize,
) -> Result<(), ChunkError> {
    let name = || column.name.to_owned();
    let length = |found: usize, expected: usize| {
        if found == expected {
            Ok(())
        } else {
            Err(ChunkError::WrongLength { table: table.name, column: name(), expected, found })
        }
    };
    let range =
        |value: u64, position: usize| ChunkError::OutOfRange { table: table.name, column: name(), value, position };
    if !data.validity.is_empty() {
        length(data.validity.len(), rows.div_ceil(8))?;
        if !column.nullable && (0..rows).any(|row| !is_present(data, row)) {
            let row = (0..rows).find(|&row| !is_present(data, row)).unwrap_or(0);
            return Err(ChunkError::Missing { table: table.name, column: name(), row });
        }
    }
    match (column.kind, &data.data) {
        (Kind::Int | Kind::Time, Some(Data::Ints(ints))) => length(ints.values.len(), rows),
        (Kind::Bool, Some(Data::Ints(ints))) => {
            length(ints.values.len(), rows)?;
            match ints.values.iter().position(|value| !matches!(value, 0 | 1)) {
                Some(at) => Err(range(ints.values[at] as u64, at)),
                None => Ok(()),
            }
        }
        (Kind::Float, Some(Data::Floats(floats))) => length(floats.values.len(), rows),
        (Kind::Text, Some(Data::Texts(texts))) => {
            length(texts.index.len(), rows)?;
            check_texts(texts).map_err(|(value, at)| range(value, at))
        }
        (Kind::TextList, Some(Data::TextLists(lists))) => {
            length(lists.lengths.len(), rows)?;
            let total: usize = lists.lengths.iter().map(|&n| n as usize).sum();
            let items = lists.items.as_ref();
            length(items.map_or(0, |items| items.index.len()), total)?;
            items.map_or(Ok(()), check_texts).map_err(|(value, at)| range(value, at))
        }
        (Kind::Histogram, Some(Data::Histograms(histograms))) => {
            length(histograms.lengths.len(), rows)?;
            let total: usize = histograms.lengths.iter().map(|&n| n as usize).sum();
            length(histograms.buckets.len(), total)?;
            length(histograms.counts.len(), total)?;
            check_buckets(histograms).map_err(|(value, at)| range(value, at))
        }
        (expected, _) => Err(ChunkError::WrongKind { table: table.name, column: name(), expected }),
    }
}

/// Whether the dictionaries of a checked chunk hold no more than its values can name: so it is as it is sent, and not
/// where rows were chosen from a larger chunk.
///
/// # Errors
/// [`ChunkError::LargeDictionary`].
pub fn check_dictionaries(chunk: &v1::Chunk, table: &'static Table) -> Result<(), ChunkError> {
    for data in &chunk.columns {
        let texts = match &data.data {
            Some(Data::Texts(texts)) => texts,
            Some(Data::TextLists(v1::TextLists { items: Some(texts), .. })) => texts,
            _ => continue,
        };
        let (texts, values) = (texts.dictionary.len(), texts.index.len());
        if texts > values {
            let column = data.name.clone();
            return Err(ChunkError::LargeDictionary { table: table.name, column, texts, values });
        }
    }
    Ok(())
}

fn check_texts(texts: &v1::Texts) -> Result<(), (u64, usize)> {
    // The largest is found many at a time; where it is, only when it must be said.
    if texts.index.iter().copied().max().is_none_or(|most| (most as usize) < texts.dictionary.len()) {
        return Ok(());
    }
    match texts.index.iter().position(|&index| index as usize >= texts.dictionary.len()) {
        Some(at) => Err((u64::from(texts.index[at]), at)),
        None => Ok(()),
    }
}

fn check_buckets(histograms: &v1::Histograms) -> Result<(), (u64, usize)> {
    let mut at = 0;
    for &length in &histograms.lengths {
        let mut bucket = 0u64;
        for (i, &step) in histograms.buckets[at..at + length as usize].iter().enumerate() {
            bucket += u64::from(step);
            if bucket >= skep_common::bucket::BUCKETS as u64 || (i > 0 && step == 0) {
                return Err((bucket, at + i));
            }
        }
        at += length as usize;
    }
    Ok(())
}

/// Reads one row's values back; for code that looks at single rows (rules, event lines), not for bulk.
///
/// The chunk must have passed [`check`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    chunk: &'a v1::Chunk,
    row: usize,
}

/// The rows of a checked chunk.
pub fn rows(chunk: &v1::Chunk) -> impl Iterator<Item = Row<'_>> {
    (0..chunk.rows as usize).map(move |row| Row { chunk, row })
}

impl<'a> Row<'a> {
    fn data(&self, name: &str) -> Option<&'a Data> {
        let column = self.chunk.columns.iter().find(|column| column.name == name)?;
        if is_present(column, self.row) { column.data.as_ref() } else { None }
    }

    /// An integer, truth value or time; `None` when null, absent or of another kind.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.data(name)? {
            Data::Ints(ints) => ints.values.get(self.row).copied(),
            _ => None,
        }
    }

    /// A floating-point value.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.data(name)? {
            Data::Floats(floats) => floats.values.get(self.row).copied(),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.data(name)? {
            Data::Texts(texts) => Some(texts.dictionary[texts.index[self.row] as usize].as_str()),
            _ => None,
        }
    }

    /// A list of texts. Cost: linear in the rows before.
    pub fn text_list(&self, name: &str) -> Option<Vec<&'a str>> {
        match self.data(name)? {
            Data::TextLists(lists) => {
                let start: usize = lists.lengths[..self.row].iter().map(|&n| n as usize).sum();
                let items = lists.items.as_ref()?;
                let range = start..start + lists.lengths[self.row] as usize;
                Some(items.index[range].iter().map(|&i| items.dictionary[i as usize].as_str()).collect())
            }
            _ => None,
        }
    }

    /// A histogram's non-empty buckets. Cost: linear in the rows before.
    pub fn histogram(&self, name: &str) -> Option<Vec<(u16, u64)>> {
        match self.data(name)? {
            Data::Histograms(histograms) => {
                let start: usize = histograms.lengths[..self.row].iter().map(|&n| n as usize).sum();
                let range = start..start + histograms.lengths[self.row] as usize;
                let mut bucket = 0u16;
                let steps = histograms.buckets[range.clone()].iter().zip(&histograms.counts[range]);
                Some(
                    steps
                        .map(|(&step, &count)| {
                            bucket += step as u16;
                            (bucket, count)
                        })
                        .collect(),
                )
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
