//! Which batches files hold, by (stream, sequence): how rows that two collectors stored are told.
//!
//! A file with rows as they came says it in its columns. One whose rows are sums over several batches says in its footer
//! what went into them, where others may have the same: see [`of_sums`].

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::path::{FileName, Hour};
use super::place::{Place, SharedPlace};
use super::table::DataFile;
use crate::buffer::schema;

/// Most files remembered.
const MAX_REMEMBERED: usize = 100_000;

/// Files far away that are read at once.
const AT_ONCE: usize = 16;

/// Key in a file's own metadata under which one with sums says what went into them, as JSON.
pub const SUMMED: &str = "skep.batches";

/// Why it is not known what is in a file.
#[derive(Debug, Error)]
pub enum BatchesError {
    /// The file does not read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ParquetError,
    },
    /// Rows that do not say of which batch they are.
    #[error("rows without stream and seq")]
    Columns,
}

/// Batches: ranges of sequences, ascending, by stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batches(BTreeMap<String, Vec<(i64, i64)>>);

/// Whose file it is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Which collector wrote it.
    pub collector: String,
    /// Whether its rows are sums over several batches, which cannot be taken apart.
    pub summed: bool,
    /// The hour of its rows.
    pub hour: Hour,
}

impl Writer {
    /// Of the file at `path`; `None` for those of other programs.
    pub fn of(path: &Path) -> Option<Self> {
        let mut parts = path.components().rev().filter_map(|part| part.as_os_str().to_str());
        let (name, hour, date) = (parts.next()?, parts.next()?, parts.next()?);
        let file = FileName::parse(name)?;
        let hour = Hour::of_path(&format!("{date}/{hour}/{name}"))?;
        let summed = file.merged.is_some_and(|merged| merged.window_s > 0);
        Some(Self { collector: file.collector, summed, hour })
    }
}

/// Remembers which batches are in which file.
#[derive(Debug)]
pub struct KnownBatches {
    place: SharedPlace,
    known: Mutex<HashMap<PathBuf, Arc<Batches>>>,
}

impl KnownBatches {
    /// Of files in this place.
    pub fn new(place: SharedPlace) -> Self {
        Self { place, known: Mutex::default() }
    }

    /// What is in each file, in their order. Blocks on the file system where it is not known yet.
    ///
    /// # Errors
    /// [`BatchesError`].
    pub fn of_all(&self, files: &[DataFile]) -> Result<Vec<Arc<Batches>>, BatchesError> {
        if !self.place.is_remote() {
            return files.iter().map(|file| self.of(file)).collect();
        }
        let mut found = Vec::with_capacity(files.len());
        for files in files.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let reading: Vec<_> = files.iter().map(|file| scope.spawn(|| self.of(file))).collect();
                for read in reading {
                    found.push(read.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
                }
                Ok::<(), BatchesError>(())
            })?;
        }
        Ok(found)
    }

    /// What is in a file. Blocks on the file system where it is not known yet.
    ///
    /// # Errors
    /// [`BatchesError`].
    pub fn of(&self, file: &DataFile) -> Result<Arc<Batches>, BatchesError> {
        let path = &file.path;
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(read_file(self.place.as_ref(), file)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(path.clone(), Arc::clone(&read));
        Ok(read)
    }
}

impl Batches {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a batch is one of these.
    pub fn hold(&self, stream: &str, seq: i64) -> bool {
        let Some(ranges) = self.0.get(stream) else { return false };
        let at = ranges.partition_point(|(_, last)| *last < seq);
        ranges.get(at).is_some_and(|(first, _)| *first <= seq)
    }

    /// Which rows are not of these batches; `None` when the columns are not there.
    pub fn others(&self, streams: &dyn Array, seqs: &dyn Array) -> Option<BooleanArray> {
        let (streams, seqs) = (streams.as_string_opt::<i32>()?, seqs.as_primitive_opt::<Int64Type>()?);
        Some(streams.iter().zip(seqs.values()).map(|(stream, seq)| Some(!self.hold(stream?, *seq))).collect())
    }

    /// The rows that are not of these batches.
    ///
    /// # Errors
    /// The columns are not there.
    pub fn leave_out(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let streams = rows.column_by_name("stream").map(schema::plain_column).transpose()?;
        let others = streams.zip(rows.column_by_name("seq"));
        let others = others.and_then(|(streams, seqs)| self.others(&streams, seqs));
        let others = others.ok_or_else(|| ArrowError::SchemaError(BatchesError::Columns.to_string()))?;
        filter_record_batch(rows, &others)
    }

    /// Batches of rows in memory.
    ///
    /// # Errors
    /// [`BatchesError::Columns`].
    pub fn of_rows(batches: &[RecordBatch]) -> Result<Self, BatchesError> {
        let mut pairs = Pairs::default();
        batches.iter().try_for_each(|rows| pairs.read(rows))?;
        Ok(pairs.into_batches())
    }

    /// Those in both.
    pub fn both(&self, other: &Self) -> Self {
        let mut both = BTreeMap::new();
        for (stream, ranges) in &self.0 {
            let Some(others) = other.0.get(stream) else { continue };
            let mut found = Vec::new();
            for (first, last) in ranges {
                let from = others.partition_point(|(_, end)| end < first);
                let touching = others[from..].iter().take_while(|(start, _)| start <= last);
                found.extend(touching.map(|(start, end)| (*first.max(start), *last.min(end))));
            }
            if !found.is_empty() {
                both.insert(stream.clone(), found);
            }
        }
        Self(both)
    }

    /// Those of these that are not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = BTreeMap::new();
        for (stream, ranges) in &self.0 {
            let mut found = Vec::new();
            for &(first, last) in ranges {
                let mut from = first;
                let touching = other.0.get(stream).into_iter().flatten().filter(|(s, e)| *s <= last && *e >= first);
                for (start, end) in touching {
                    if *start > from {
                        found.push((from, start - 1));
                    }
                    from = from.max(end.saturating_add(1));
                }
                if from <= last {
                    found.push((from, last));
                }
            }
            if !found.is_empty() {
                left.insert(stream.clone(), found);
            }
        }
        Self(left)
    }

    /// These and those of `other`.
    pub fn add(&mut self, other: &Self) {
        for (stream, ranges) in &other.0 {
            let own = self.0.entry(stream.clone()).or_default();
            own.extend_from_slice(ranges);
            own.sort_unstable();
            own.dedup_by(|next, before| {
                let touch = next.0 <= before.1.saturating_add(1);
                if touch {
                    before.1 = before.1.max(next.1);
                }
                touch
            });
        }
    }
}

/// (stream, sequence) of rows, streams by number.
#[derive(Debug, Default)]
struct Pairs {
    streams: HashMap<String, usize>,
    pairs: Vec<(usize, i64)>,
}

impl Pairs {
    fn read(&mut self, rows: &RecordBatch) -> Result<(), BatchesError> {
        let streams = rows.column_by_name("stream").and_then(|column| schema::plain_column(column).ok());
        let streams = streams.as_ref().and_then(|column| column.as_string_opt::<i32>());
        let seqs = rows.column_by_name("seq").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (streams, seqs) = streams.zip(seqs).ok_or(BatchesError::Columns)?;
        let mut last: Option<(&str, usize)> = None;
        for (stream, seq) in streams.iter().zip(seqs.values()) {
            let stream = stream.unwrap_or_default();
            let number = match last {
                Some((before, number)) if before == stream => number,
                _ => {
                    let next = self.streams.len();
                    *self.streams.entry(stream.to_owned()).or_insert(next)
                }
            };
            last = Some((stream, number));
            self.pairs.push((number, *seq));
        }
        // Rows of many windows name few batches.
        self.pairs.sort_unstable();
        self.pairs.dedup();
        Ok(())
    }

    fn into_batches(self) -> Batches {
        let mut names = vec![String::new(); self.streams.len()];
        for (name, number) in self.streams {
            names[number] = name;
        }
        let mut batches: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
        for (number, seq) in self.pairs {
            let ranges = batches.entry(names[number].clone()).or_default();
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == seq => *last = seq,
                _ => ranges.push((seq, seq)),
            }
        }
        Batches(batches)
    }
}

fn read_file(place: &dyn Place, file: &DataFile) -> Result<Batches, BatchesError> {
    let path = &file.path;
    let failed = |source| BatchesError::Read { path: path.clone(), source };
    let file = place.open(path, Some(file.bytes).filter(|bytes| *bytes > 0)).map_err(|error| failed(error.into()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
    if Writer::of(path).is_some_and(|writer| writer.summed) {
        let pairs = builder.metadata().file_metadata().key_value_metadata();
        let summed = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == SUMMED)?.value.as_deref());
        // One made when nobody else could have the same says nothing.
        return Ok(summed.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default());
    }
    let columns = ProjectionMask::columns(builder.parquet_schema(), ["stream", "seq"]);
    let reader = builder.with_projection(columns).with_batch_size(65_536).build().map_err(failed)?;
    let mut pairs = Pairs::default();
    for rows in reader {
        pairs.read(&rows.map_err(|error| failed(error.into()))?)?;
    }
    Ok(pairs.into_batches())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(of: &[(&str, &[(i64, i64)])]) -> Batches {
        Batches(of.iter().map(|(stream, ranges)| ((*stream).to_owned(), ranges.to_vec())).collect())
    }

    #[test]
    fn what_both_hold_is_found_range_by_range() {
        let one = batches(&[("a", &[(1, 5), (10, 20)]), ("b", &[(1, 1)])]);
        let other = batches(&[("a", &[(4, 11), (19, 30)]), ("c", &[(1, 9)])]);
        let both = batches(&[("a", &[(4, 5), (10, 11), (19, 20)])]);
        assert_eq!((one.both(&other), other.both(&one)), (both.clone(), both.clone()));
        for (seq, held) in [(3, false), (4, true), (5, true), (6, false), (19, true), (20, true), (21, false)] {
            assert_eq!(both.hold("a", seq), held, "{seq}");
        }
        assert!(!both.hold("b", 4));
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut all = batches(&[("a", &[(1, 3), (8, 9)])]);
        all.add(&batches(&[("a", &[(4, 5), (7, 20)]), ("b", &[(2, 2)])]));
        assert_eq!(all, batches(&[("a", &[(1, 5), (7, 20)]), ("b", &[(2, 2)])]));
    }

    #[test]
    fn what_is_left_without_others_is_found_range_by_range() {
        let one = batches(&[("a", &[(1, 5), (10, 20), (30, 30)]), ("b", &[(1, 1)]), ("c", &[(2, 3)])]);
        let other = batches(&[("a", &[(3, 3), (5, 11), (19, 30)]), ("b", &[(0, 4)])]);
        let left = batches(&[("a", &[(1, 2), (4, 4), (12, 18)]), ("c", &[(2, 3)])]);
        assert_eq!(one.without(&other), left);
        assert_eq!(left.both(&other), Batches::default());
        let mut all = left;
        all.add(&one.both(&other));
        let whole = batches(&[("a", &[(1, 5), (10, 20), (30, 30)]), ("b", &[(1, 1)]), ("c", &[(2, 3)])]);
        assert_eq!(all, whole);
    }

    #[test]
    fn batches_are_written_and_read_as_json() {
        let some = batches(&[("a", &[(1, 3), (8, 9)]), ("b", &[(2, 2)])]);
        let text = serde_json::to_string(&some).unwrap();
        assert_eq!(text, r#"{"a":[[1,3],[8,9]],"b":[[2,2]]}"#);
        assert_eq!(serde_json::from_str::<Batches>(&text).unwrap(), some);
    }

    #[test]
    fn a_files_name_says_whose_it_is() {
        let writer = |name: &str| Writer::of(&Path::new("s3://b/cpu/date=2026-01-31/hour=07").join(name));
        let summed = writer("c-1-2-m0123456789abcdef-60s.parquet").unwrap();
        assert_eq!((summed.collector.as_str(), summed.summed), ("c", true));
        assert!(!writer("c-1-2-m0123456789abcdef.parquet").unwrap().summed);
        assert_eq!(writer("part-0.parquet"), None);
    }
}
