//! Rows that two collectors stored.
//!
//! One collector stores a batch once. An agent that changes to another collector sends again what was not acknowledged,
//! and an acknowledgement may have been lost: then both have the batch, under the same (stream, sequence). Until
//! compaction removes one, statements read it from the first collector that has it, by name.
//!
//! Nothing is looked at as long as all files are of one collector. After that each file's batches are read once and
//! remembered as ranges of sequences.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use datafusion::error::{DataFusionError, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::buffer::schema;
use crate::history::DataFile;
use crate::history::path::FileName;

/// Most files remembered.
const MAX_REMEMBERED: usize = 100_000;

/// Batches: ranges of sequences, ascending, by stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batches(BTreeMap<String, Vec<(i64, i64)>>);

/// Remembers which batches are in which file.
#[derive(Debug, Default)]
pub struct Once {
    known: Mutex<HashMap<PathBuf, Arc<Batches>>>,
}

/// How a table's rows have to be read.
#[derive(Debug, Default)]
pub struct Reads {
    /// Files, and the batches to leave out of them.
    pub files: Vec<(Vec<DataFile>, Batches)>,
    /// Batches to leave out of the rows in memory.
    pub memory: Batches,
}

impl Once {
    /// Whether anything can be there twice at all.
    pub fn is_needed(files: &[DataFile]) -> bool {
        let mut writers = files.iter().filter_map(|file| writer(&file.path));
        writers.next().is_some_and(|first| writers.any(|other| other != first))
    }

    /// How to read `files` and the rows in memory so that every batch comes once. Blocks on the file system.
    ///
    /// # Errors
    /// A file that does not read.
    pub fn reads(&self, files: Vec<DataFile>, memory: &[RecordBatch]) -> Result<Reads> {
        let mut by_collector: BTreeMap<String, Vec<DataFile>> = BTreeMap::new();
        let mut others = Vec::new();
        for file in files {
            match writer(&file.path) {
                Some(collector) => by_collector.entry(collector).or_default().push(file),
                None => others.push(file),
            }
        }
        let (mut reads, mut seen) = (Reads::default(), Batches::default());
        if !others.is_empty() {
            reads.files.push((others, Batches::default()));
        }
        for of_one in by_collector.into_values() {
            let mut own = Batches::default();
            for file in &of_one {
                own.add(self.batches(&file.path)?.as_ref());
            }
            reads.files.push((of_one, own.both(&seen)));
            seen.add(&own);
        }
        let mut pairs = Pairs::default();
        memory.iter().try_for_each(|rows| pairs.read(rows))?;
        reads.memory = pairs.into_batches().both(&seen);
        Ok(reads)
    }

    fn batches(&self, path: &Path) -> Result<Arc<Batches>> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(read_file(path)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(path.to_owned(), Arc::clone(&read));
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
    pub fn leave_out(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let streams = rows.column_by_name("stream").map(schema::plain_column).transpose()?;
        let others = streams.zip(rows.column_by_name("seq"));
        let others = others.and_then(|(streams, seqs)| self.others(&streams, seqs));
        let others = others.ok_or_else(|| DataFusionError::Internal("rows without stream and seq".to_owned()))?;
        Ok(filter_record_batch(rows, &others)?)
    }

    fn both(&self, other: &Self) -> Self {
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

    fn add(&mut self, other: &Self) {
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
    fn read(&mut self, rows: &RecordBatch) -> Result<()> {
        let streams = rows.column_by_name("stream").map(schema::plain_column).transpose()?;
        let streams = streams.as_ref().and_then(|column| column.as_string_opt::<i32>());
        let seqs = rows.column_by_name("seq").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (streams, seqs) =
            streams.zip(seqs).ok_or_else(|| DataFusionError::Internal("rows without stream and seq".to_owned()))?;
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

fn read_file(path: &Path) -> Result<Batches> {
    let external = |error: parquet::errors::ParquetError| DataFusionError::ParquetError(Box::new(error));
    let file = File::open(path).map_err(DataFusionError::IoError)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(external)?;
    let columns = ProjectionMask::columns(builder.parquet_schema(), ["stream", "seq"]);
    let reader = builder.with_projection(columns).with_batch_size(65_536).build().map_err(external)?;
    let mut pairs = Pairs::default();
    for rows in reader {
        pairs.read(&rows?)?;
    }
    Ok(pairs.into_batches())
}

/// The collector whose batches a file holds as they came. `None` for files of other programs, and for those whose rows
/// are sums over several batches: their sequences say nothing.
fn writer(path: &Path) -> Option<String> {
    let name = FileName::parse(path.file_name()?.to_str()?)?;
    name.merged.is_none_or(|merged| merged.window_s == 0).then_some(name.collector)
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
}
