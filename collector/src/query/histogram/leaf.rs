//! One of the two columns of a histogram, in one row group: its pages, opened one after the other.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::levels::{Levels, NULL, Shape, lengths};
use super::runs::{broken, take};
use super::values::{Values, numbers};

/// What is read ahead at first, and at most, of pages that are wanted one after the other.
const AHEAD_BYTES: Range<u64> = 128 << 10..4 << 20;

/// A column's pages.
pub struct Leaf {
    shape: Shape,
    pages: SerializedPageReader<Parts>,
    parts: Arc<Parts>,
    index: Vec<Place>,
    /// Entries of all pages together, by the footer.
    entries: usize,
    /// Where the dictionary is, until it is asked for.
    dictionary_at: Option<Range<u64>>,
    dictionary: Option<Arc<[i64]>>,
    /// Number of the page to open next.
    next: usize,
    /// Number of the page to ask for next, and how much to ask for behind it.
    unasked: usize,
    ahead_bytes: u64,
    open: Option<Open>,
}

/// Where a page is in the file, and its rows in the row group.
struct Place {
    bytes: Range<u64>,
    rows: Range<usize>,
}

/// A page that is being read.
struct Open {
    /// Its rows that were not read yet.
    rows: Range<usize>,
    /// Of all its rows.
    lengths: Vec<u32>,
    values: Values,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Leaf {
    /// Column `leaf` of row group `group`.
    ///
    /// # Errors
    /// An index that cannot be.
    pub fn new(file: &ParquetMetaData, group: usize, leaf: usize, shape: Shape) -> Result<Self> {
        let (column, rows) = (file.row_group(group).column(leaf), file.row_group(group).num_rows());
        let index = file.offset_index().and_then(|groups| groups.get(group)?.get(leaf));
        let locations = index.ok_or_else(|| broken("it is in no index"))?.page_locations();
        let index = places(locations, rows)?;
        let parts = Arc::new(Parts::default());
        let rows = usize::try_from(rows)?;
        let pages = SerializedPageReader::new(Arc::clone(&parts), column, rows, Some(locations.clone()))?;
        let first = index.first().map(|place| place.bytes.start);
        let dictionary_at = first.map(|first| column.byte_range().0..first).filter(|range| !range.is_empty());
        let (next, unasked, ahead_bytes) = (0, 0, AHEAD_BYTES.start);
        let entries = usize::try_from(column.num_values())?;
        Ok(Self {
            shape,
            pages,
            parts,
            index,
            entries,
            dictionary_at,
            dictionary: None,
            next,
            unasked,
            ahead_bytes,
            open: None,
        })
    }

    /// What has to be read of the file before these rows can be taken, all of which follow those taken before.
    pub fn missing(&mut self, wanted: &[Range<usize>]) -> Vec<Range<u64>> {
        let mut missing: Vec<Range<u64>> = Vec::new();
        let Some(end) = wanted.last().map(|last| last.end) else { return missing };
        let mut wanted = wanted.iter().peekable();
        let (asked, mut left_bytes) = (self.unasked, 0);
        for (number, place) in self.index.iter().enumerate().skip(asked) {
            let is_ahead = place.rows.start >= end;
            if is_ahead && left_bytes == 0 {
                break;
            }
            while wanted.next_if(|rows| rows.end <= place.rows.start).is_some() {}
            if !is_ahead && wanted.peek().is_none_or(|rows| rows.start >= place.rows.end) {
                continue;
            }
            if missing.is_empty() {
                // The more pages were wanted one after the other, the more will be.
                let goes_on = number == asked;
                self.ahead_bytes = if goes_on { AHEAD_BYTES.end.min(self.ahead_bytes * 2) } else { AHEAD_BYTES.start };
                left_bytes = self.ahead_bytes;
            }
            if is_ahead {
                left_bytes = left_bytes.saturating_sub(place.bytes.end - place.bytes.start);
            }
            self.unasked = number + 1;
            match missing.last_mut() {
                Some(last) if last.end == place.bytes.start => last.end = place.bytes.end,
                _ => missing.push(place.bytes.clone()),
            }
        }
        if !missing.is_empty()
            && let Some(dictionary) = self.dictionary_at.take()
        {
            missing.insert(0, dictionary);
        }
        missing
    }

    /// What was missing.
    pub fn give(&self, at: u64, bytes: Bytes) {
        self.parts.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((at, bytes));
    }

    /// Memory of what was read ahead and of the page that is open.
    pub fn bytes(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.values.bytes() + size_of_val(open.lengths.as_slice()));
        self.parts.bytes() + open
    }

    /// Takes these rows: how many buckets each has, or [`NULL`], and the numbers of the buckets.
    ///
    /// # Errors
    /// A page that does not decode, or was not given.
    pub fn take(&mut self, rows: Range<usize>, counts: &mut Vec<u32>, into: &mut Vec<i64>) -> Result<()> {
        let mut row = rows.start;
        while row < rows.end {
            let page = match self.open.take().filter(|page| page.rows.end > row) {
                Some(page) => self.open.insert(page),
                None => {
                    let page = self.page_of(row)?;
                    self.open.insert(page)
                }
            };
            page.pass_over(row)?;
            let end = rows.end.min(page.rows.end);
            page.take(end, counts, into)?;
            row = end;
        }
        Ok(())
    }

    /// Opens the page that holds a row behind those that were read.
    fn page_of(&mut self, row: usize) -> Result<Open> {
        if self.dictionary.is_none() && self.pages.peek_next_page()?.is_some_and(|page| page.is_dict) {
            self.dictionary = Some(dictionary(self.pages.get_next_page()?)?);
        }
        while self.index.get(self.next).is_some_and(|place| place.rows.end <= row) {
            self.pages.skip_next_page()?;
            self.next += 1;
        }
        let place = self.index.get(self.next).ok_or_else(|| broken("it has too few rows"))?;
        self.next += 1;
        let page = self.pages.get_next_page()?.ok_or_else(|| broken("it is not there"))?;
        if page.num_values() as usize > self.entries {
            return Err(broken("it has more entries than all pages"));
        }
        open(self.shape, page, place.rows.clone(), self.dictionary.as_ref())
    }
}

impl Open {
    /// How many of the page's rows are behind.
    fn read(&self) -> usize {
        self.lengths.len() - self.rows.len()
    }

    fn pass_over(&mut self, to: usize) -> Result<()> {
        let passed = to.saturating_sub(self.rows.start);
        let from = self.read();
        self.values.skip(sum(&self.lengths[from..from + passed]))?;
        self.rows.start += passed;
        Ok(())
    }

    fn take(&mut self, to: usize, counts: &mut Vec<u32>, into: &mut Vec<i64>) -> Result<()> {
        let from = self.read();
        let lengths = &self.lengths[from..from + (to - self.rows.start)];
        counts.extend_from_slice(lengths);
        self.values.take(sum(lengths), into)?;
        self.rows.start = to;
        Ok(())
    }
}

fn sum(lengths: &[u32]) -> usize {
    lengths.iter().map(|length| if *length == NULL { 0 } else { *length as usize }).sum()
}

fn places(locations: &[PageLocation], rows: i64) -> Result<Vec<Place>> {
    let ends = locations.iter().skip(1).map(|location| location.first_row_index).chain([rows]);
    let mut row = 0;
    let place = |(location, end): (&PageLocation, i64)| {
        let (start, length) =
            (u64::try_from(location.offset).ok()?, u64::try_from(location.compressed_page_size).ok()?);
        let first = usize::try_from(location.first_row_index).ok()?;
        let rows = first..usize::try_from(end).ok()?;
        let follows = rows.start == row && rows.end >= rows.start;
        row = rows.end;
        follows.then(|| Some(Place { bytes: start..start.checked_add(length)?, rows }))?
    };
    let places = locations.iter().zip(ends).map(place).collect::<Option<Vec<_>>>();
    places.ok_or_else(|| broken("its index cannot be"))
}

fn dictionary(page: Option<Page>) -> Result<Arc<[i64]>> {
    match page {
        Some(Page::DictionaryPage {
            buf, num_values, encoding: Encoding::PLAIN | Encoding::PLAIN_DICTIONARY, ..
        }) => {
            let entries: Arc<[i64]> = numbers(&buf).take(num_values as usize).collect();
            if entries.len() < num_values as usize { Err(broken("its dictionary ends too early")) } else { Ok(entries) }
        }
        _ => Err(broken("its dictionary is none")),
    }
}

fn open(shape: Shape, page: Page, rows: Range<usize>, dictionary: Option<&Arc<[i64]>>) -> Result<Open> {
    let entries = page.num_values() as usize;
    let (repetition, definition, rest, encoding) = match page {
        Page::DataPage { buf, encoding, .. } => {
            let mut rest = buf.as_ref();
            let (repetition, definition) = (level(&mut rest)?, level(&mut rest)?);
            (buf.slice_ref(repetition), buf.slice_ref(definition), buf.slice_ref(rest), encoding)
        }
        Page::DataPageV2 { buf, encoding, rep_levels_byte_len, def_levels_byte_len, .. } => {
            let mut rest = buf.as_ref();
            let repetition = take(&mut rest, rep_levels_byte_len as usize)?;
            let definition = take(&mut rest, def_levels_byte_len as usize)?;
            (buf.slice_ref(repetition), buf.slice_ref(definition), buf.slice_ref(rest), encoding)
        }
        Page::DictionaryPage { .. } => return Err(broken("it is a second dictionary")),
    };
    let levels = Levels { repetition: &repetition, definition: &definition, entries };
    let lengths = lengths(shape, levels, rows.len())?;
    let values = Values::new(encoding, rest, sum(&lengths), dictionary)?;
    Ok(Open { rows, lengths, values })
}

/// Levels with their length in front.
fn level<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take(rest, 4)?.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
    take(rest, length)
}

/// What was read of the file, in the order of its bytes.
#[derive(Debug, Default)]
struct Parts(Mutex<VecDeque<(u64, Bytes)>>);

impl Parts {
    fn bytes(&self) -> usize {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

impl Length for Parts {
    fn len(&self) -> u64 {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.back().map_or(0, |(at, bytes)| at + bytes.len() as u64)
    }
}

impl ChunkReader for Parts {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, _: u64) -> Result<Self::T> {
        // Pages are found by their index.
        Err(ParquetError::General("pages of a histogram are read whole".to_owned()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while parts.front().is_some_and(|(at, bytes)| at + bytes.len() as u64 <= start) {
            parts.pop_front();
        }
        let part = parts.front().and_then(|(at, bytes)| {
            let from = usize::try_from(start.checked_sub(*at)?).ok()?;
            bytes.get(from..from.checked_add(length)?).map(|part| bytes.slice_ref(part))
        });
        part.ok_or_else(|| ParquetError::EOF(format!("{length} bytes at {start} were not read")))
    }
}
