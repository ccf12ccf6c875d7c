//! Rows to hours, each hour's rows sorted as the table wants them.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use foldhash::fast::RandomState;
use skep_wire::tables::Table;

use super::path::Hour;

/// Most columns a table is sorted by, its time left out.
const MOST_KEYS: usize = 6;

/// Rows that are gathered at a time: what they take stays in the processor's caches and is used again for the next.
const PIECE_ROWS: usize = 1 << 15;

/// One hour's rows, sorted by [`Table::sort`].
#[derive(Debug)]
pub struct Partition<'a> {
    /// Which hour.
    pub hour: Hour,
    /// Smallest `time` in it, microseconds since the epoch.
    pub first_us: i64,
    /// Largest.
    pub last_us: i64,
    batches: &'a [RecordBatch],
    /// Batch and row of each row, in order.
    places: Vec<(u32, u32)>,
}

impl Partition<'_> {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.places.len()
    }

    /// The rows, in pieces.
    ///
    /// An item is an error when the batches are not of one schema, or hold more text than one array can.
    pub fn pieces(&self) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        self.places.chunks(PIECE_ROWS).map(move |places| {
            let places: Vec<_> = places.iter().map(|(batch, row)| (*batch as usize, *row as usize)).collect();
            interleave_record_batch(&batches, &places)
        })
    }
}

/// Splits rows of `table` by the hour of their `time` and sorts each part. Ascending by hour.
///
/// Comparing rows column by column is what sorting costs, and rows have much in common: there are far fewer different
/// keys than rows. So the keys are numbered first and only they are compared; rows are then sorted by two numbers, and
/// copied once, piece by piece as they are written.
///
/// # Errors
/// The batches are not of the table's schema.
pub fn partition<'a>(table: &'static Table, batches: &'a [RecordBatch]) -> Result<Vec<Partition<'a>>, ArrowError> {
    let mut keys = Keys::default();
    let mut hours: BTreeMap<Hour, Vec<Row>> = BTreeMap::new();
    for (batch, rows) in batches.iter().enumerate() {
        let columns = SortColumns::of(table, rows)?;
        for row in 0..rows.num_rows() {
            let time_us = columns.times.value(row);
            let key = keys.number(&columns, row);
            let row = Row { key, time_us, batch: batch as u32, row: row as u32 };
            hours.entry(Hour::of(time_us)).or_default().push(row);
        }
    }
    let ranks = keys.ranks();
    let sorted = hours.into_iter().map(|(hour, mut rows)| {
        for row in &mut rows {
            row.key = ranks[row.key as usize];
        }
        // What came first stays first among equals.
        rows.sort_unstable_by_key(|row| (row.key, row.time_us, row.batch, row.row));
        let times = || rows.iter().map(|row| row.time_us);
        let (first_us, last_us) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        let places = rows.iter().map(|row| (row.batch, row.row)).collect();
        Partition { hour, first_us, last_us, batches, places }
    });
    Ok(sorted.collect())
}

/// One row: the number of its key, later that key's rank, and where it is.
struct Row {
    time_us: i64,
    key: u32,
    batch: u32,
    row: u32,
}

/// The columns rows are sorted by, of one batch.
struct SortColumns<'a> {
    keys: Vec<KeyColumn<'a>>,
    times: &'a TimestampMicrosecondArray,
}

enum KeyColumn<'a> {
    Text(&'a StringArray),
    Int(&'a Int64Array),
}

impl<'a> SortColumns<'a> {
    fn of(table: &'static Table, batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let unfit = |name: &str| ArrowError::SchemaError(format!("rows of {} cannot be sorted by {name}", table.name));
        let times =
            batch.column_by_name("time").and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let times = times.ok_or_else(|| unfit("time"))?;
        let mut keys = Vec::with_capacity(MOST_KEYS);
        for name in table.sort.iter().filter(|name| **name != "time") {
            let column = batch.column_by_name(name).ok_or_else(|| unfit(name))?;
            let text = column.as_string_opt::<i32>().map(KeyColumn::Text);
            let key = text.or_else(|| column.as_primitive_opt::<Int64Type>().map(KeyColumn::Int));
            keys.push(key.filter(|_| keys.len() < MOST_KEYS).ok_or_else(|| unfit(name))?);
        }
        Ok(Self { keys, times })
    }
}

/// Values of the sort columns but time; a text by its number, null before everything.
type Key = [i64; MOST_KEYS];

/// Every different key, numbered as they come.
#[derive(Default)]
struct Keys<'a> {
    numbers: HashMap<Key, u32, RandomState>,
    texts: HashMap<&'a str, i64, RandomState>,
    /// Which columns are texts.
    is_text: [bool; MOST_KEYS],
    /// By column, the text that came last: neighbours often have the same.
    last: [Option<(&'a str, i64)>; MOST_KEYS],
}

impl<'a> Keys<'a> {
    fn number(&mut self, columns: &SortColumns<'a>, row: usize) -> u32 {
        let mut key = [i64::MIN; MOST_KEYS];
        for (place, column) in columns.keys.iter().enumerate() {
            match column {
                KeyColumn::Int(ints) if ints.is_valid(row) => key[place] = ints.value(row),
                KeyColumn::Text(texts) if texts.is_valid(row) => key[place] = self.text(place, texts.value(row)),
                KeyColumn::Int(_) | KeyColumn::Text(_) => {}
            }
        }
        let next = self.numbers.len() as u32;
        *self.numbers.entry(key).or_insert(next)
    }

    fn text(&mut self, place: usize, text: &'a str) -> i64 {
        if let Some((last, number)) = self.last[place]
            && last == text
        {
            return number;
        }
        let next = self.texts.len() as i64;
        let number = *self.texts.entry(text).or_insert(next);
        self.is_text[place] = true;
        self.last[place] = Some((text, number));
        number
    }

    /// By its number, which place a key has among all of them.
    fn ranks(self) -> Vec<u32> {
        let mut texts: Vec<_> = self.texts.into_iter().collect();
        texts.sort_unstable();
        let mut text_ranks = vec![0; texts.len()];
        for (rank, (_, number)) in texts.iter().enumerate() {
            text_ranks[*number as usize] = rank as i64;
        }
        let rank = |(mut key, number): (Key, u32)| {
            for (value, _) in key.iter_mut().zip(self.is_text).filter(|(value, is_text)| *is_text && **value >= 0) {
                *value = text_ranks[*value as usize];
            }
            (key, number)
        };
        let mut keys: Vec<_> = self.numbers.into_iter().map(rank).collect();
        keys.sort_unstable();
        let mut ranks = vec![0; keys.len()];
        for (rank, (_, number)) in keys.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        ranks
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
