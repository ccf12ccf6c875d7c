//! Rows to hours, each hour's rows sorted as the table wants them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use foldhash::fast::RandomState;
use skep_wire::tables::Table;

use super::gather::{Gather, Place, Texts};
use super::parquet_file::Columns;
use super::path::Hour;

/// Most columns a table is sorted by, its time left out.
const MOST_KEYS: usize = 6;

/// One hour's rows, sorted by [`Table::sort`].
#[derive(Debug)]
pub struct Partition<'a> {
    /// Which hour.
    pub hour: Hour,
    /// Smallest `time` in it, microseconds since the epoch.
    pub first_us: i64,
    /// Largest.
    pub last_us: i64,
    gather: Arc<Gather<'a>>,
    /// Where each row is, in order.
    places: Vec<Place>,
}

impl Columns for Partition<'_> {
    fn rows(&self) -> usize {
        self.places.len()
    }

    fn column(&self, index: usize, rows: Range<usize>) -> Result<ArrayRef, ArrowError> {
        self.gather.column(index, &self.places[rows])
    }
}

/// Splits rows of `table` by the hour of their `time` and sorts each part. Ascending by hour.
///
/// Comparing rows column by column is what sorting costs, and rows have much in common: there are far fewer different
/// keys than rows. So the keys are numbered first and only they are compared; rows are then put where their key belongs,
/// and copied once, column by column as they are written.
///
/// # Errors
/// The batches are not as [`crate::buffer::schema::held`] says.
pub fn partition<'a>(table: &'static Table, batches: &'a [RecordBatch]) -> Result<Vec<Partition<'a>>, ArrowError> {
    let gather = Arc::new(Gather::new(batches)?);
    let mut hours: BTreeMap<Hour, Vec<Row>> = BTreeMap::new();
    let mut keys = Keys::default();
    let columns = SortColumns::new(table, batches, &gather)?;
    for (batch, times) in columns.times.iter().enumerate() {
        for (row, time_us) in times.values().iter().enumerate() {
            let key = keys.number(columns.key(batch, row));
            let row = Row { key, time_us: *time_us, batch: batch as u32, row: row as u32 };
            hours.entry(Hour::of(*time_us)).or_default().push(row);
        }
    }
    let ranks = keys.ranks();
    let sorted = hours.into_iter().map(|(hour, mut rows)| {
        for row in &mut rows {
            row.key = ranks[row.key as usize];
        }
        let rows = sort(rows, ranks.len());
        let times = || rows.iter().map(|row| row.time_us);
        let (first_us, last_us) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        let places = rows.iter().map(|row| (row.batch, row.row)).collect();
        Partition { hour, first_us, last_us, gather: Arc::clone(&gather), places }
    });
    Ok(sorted.collect())
}

/// By key and time; what came first stays first among equals. There are `keys` keys.
fn sort(mut rows: Vec<Row>, keys: usize) -> Vec<Row> {
    if rows.len() < keys {
        rows.sort_by_key(|row| (row.key, row.time_us));
        return rows;
    }
    // Every row goes straight to its key's rows, which came in the order of their times as a rule.
    let mut ends = vec![0; keys + 1];
    rows.iter().for_each(|row| ends[row.key as usize + 1] += 1);
    for key in 0..keys {
        ends[key + 1] += ends[key];
    }
    let mut sorted = vec![Row::default(); rows.len()];
    for row in rows {
        let end = &mut ends[row.key as usize];
        sorted[*end] = row;
        *end += 1;
    }
    for of_key in sorted.chunk_by_mut(|a, b| a.key == b.key) {
        if !of_key.is_sorted_by_key(|row| row.time_us) {
            of_key.sort_by_key(|row| row.time_us);
        }
    }
    sorted
}

/// One row: the number of its key, later that key's rank, and where it is.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    time_us: i64,
    key: u32,
    batch: u32,
    row: u32,
}

/// The columns rows are sorted by.
struct SortColumns<'a> {
    keys: Vec<KeyColumn<'a>>,
    /// By batch.
    times: Vec<&'a TimestampMicrosecondArray>,
}

enum KeyColumn<'a> {
    /// A text is compared by the place it has among all there are.
    Text(&'a Texts<'a>, Vec<i64>),
    /// By batch.
    Int(Vec<&'a Int64Array>),
}

impl<'a> SortColumns<'a> {
    fn new(table: &'static Table, batches: &'a [RecordBatch], gather: &'a Gather<'a>) -> Result<Self, ArrowError> {
        let unfit = |name: &str| ArrowError::SchemaError(format!("rows of {} cannot be sorted by {name}", table.name));
        let time =
            |batch: &'a RecordBatch| batch.column_by_name("time")?.as_primitive_opt::<TimestampMicrosecondType>();
        let times = batches.iter().map(time).collect::<Option<_>>().ok_or_else(|| unfit("time"))?;
        let mut keys = Vec::with_capacity(MOST_KEYS);
        for name in table.sort.iter().filter(|name| **name != "time") {
            let int = |batch: &'a RecordBatch| batch.column_by_name(name)?.as_primitive_opt::<Int64Type>();
            let text = gather.texts(name).map(|texts| KeyColumn::Text(texts, ranks(texts.all())));
            let key = text.or_else(|| batches.iter().map(int).collect::<Option<_>>().map(KeyColumn::Int));
            keys.push(key.filter(|_| keys.len() < MOST_KEYS).ok_or_else(|| unfit(name))?);
        }
        Ok(Self { keys, times })
    }

    fn key(&self, batch: usize, row: usize) -> Key {
        let mut key = [i64::MIN; MOST_KEYS];
        for (place, column) in key.iter_mut().zip(&self.keys) {
            let value = match column {
                KeyColumn::Text(texts, ranks) => texts.number(batch, row).map(|number| ranks[number]),
                KeyColumn::Int(ints) => ints[batch].is_valid(row).then(|| ints[batch].value(row)),
            };
            *place = value.unwrap_or(i64::MIN);
        }
        key
    }
}

/// By number, which place a text has among all of them.
fn ranks(texts: &[&str]) -> Vec<i64> {
    let mut sorted: Vec<usize> = (0..texts.len()).collect();
    sorted.sort_unstable_by_key(|number| texts[*number]);
    let mut ranks = vec![0; texts.len()];
    for (rank, number) in sorted.into_iter().enumerate() {
        ranks[number] = rank as i64;
    }
    ranks
}

/// Values of the sort columns but time; a text by its rank, null before everything.
type Key = [i64; MOST_KEYS];

/// Every different key, numbered as they come.
#[derive(Default)]
struct Keys(HashMap<Key, u32, RandomState>);

impl Keys {
    fn number(&mut self, key: Key) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(key).or_insert(next)
    }

    /// By its number, which place a key has among all of them.
    fn ranks(self) -> Vec<u32> {
        let mut keys: Vec<_> = self.0.into_iter().collect();
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
