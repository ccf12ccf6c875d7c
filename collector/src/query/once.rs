//! Rows that two collectors stored.
//!
//! One collector stores a batch once. An agent that changes to another collector sends again what was not acknowledged,
//! and an acknowledgement may have been lost: then both have the batch, under the same (stream, sequence). Until
//! compaction removes one, statements read it once. Which of several is one rule, for statements and for compaction,
//! hour by hour:
//!
//! 1. a file whose rows are sums has the batches that went into it, since they cannot be taken out of it;
//! 2. of files with rows as they came, those of the first collector by name;
//! 3. rows in memory come last.
//!
//! Nothing is looked at in an hour whose files are all of one collector.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::error::{DataFusionError, Result};

use crate::history::DataFile;
use crate::history::batches::{Batches, BatchesError, KnownBatches, Writer};
use crate::history::path::{FileName, Hour};

/// How a table's rows have to be read.
#[derive(Debug, Default)]
pub struct Reads {
    /// Files, and the batches to leave out of them.
    pub files: Vec<(Vec<DataFile>, Batches)>,
    /// Batches to leave out of the rows in memory.
    pub memory: Batches,
}

/// Whether anything can be there twice at all, where the rows in memory, if there are any, are those of `own`.
pub fn is_needed(files: &[DataFile], own: &str, has_memory: bool) -> bool {
    let names = files.iter().filter_map(|file| FileName::parse(file.path.file_name()?.to_str()?));
    let mut writers = names.map(|name| name.collector);
    let Some(first) = writers.next() else { return false };
    (has_memory && first != own) || writers.any(|other| other != first)
}

/// How to read `files` and the rows in memory so that every batch comes once. Blocks on the file system.
///
/// # Errors
/// A file that does not read.
pub fn reads(known: &KnownBatches, files: Vec<DataFile>, memory: &[RecordBatch]) -> Result<Reads> {
    let own = Batches::of_rows(memory).map_err(external)?;
    let in_memory = hours_of(memory);
    let (mut plain, mut apart) = (Vec::new(), Vec::new());
    let mut reads = Reads::default();
    let mut in_files = Batches::default();
    for (hour, files) in by_hour(files) {
        let touches_memory = hour.is_some_and(|hour| in_memory.iter().any(|(from, to)| (*from..=*to).contains(&hour)));
        if hour.is_none() || !(touches_memory || is_needed(&files, "", false)) {
            plain.extend(files);
            continue;
        }
        let batches = known.of_all(&files).map_err(external)?;
        batches.iter().for_each(|batches| in_files.add(batches));
        let (whole, parted) = once_of_hour(files.into_iter().zip(batches).collect());
        plain.extend(whole);
        apart.extend(parted);
    }
    if !plain.is_empty() {
        reads.files.push((plain, Batches::default()));
    }
    reads.files.extend(apart);
    reads.memory = own.both(&in_files);
    Ok(reads)
}

/// The files of one hour to be read whole, and those to be read without some batches.
fn once_of_hour(files: Vec<(DataFile, Arc<Batches>)>) -> (Vec<DataFile>, Vec<(Vec<DataFile>, Batches)>) {
    let mut seen = Batches::default();
    let mut by_collector: BTreeMap<String, Vec<(DataFile, Arc<Batches>)>> = BTreeMap::new();
    let (mut whole, mut parted) = (Vec::with_capacity(files.len()), Vec::new());
    for (file, batches) in files {
        match Writer::of(&file.path) {
            Some(writer) if !writer.summed => by_collector.entry(writer.collector).or_default().push((file, batches)),
            _ => {
                seen.add(&batches);
                whole.push(file);
            }
        }
    }
    for of_one in by_collector.into_values() {
        let mut own = Batches::default();
        of_one.iter().for_each(|(_, batches)| own.add(batches));
        let left_out = own.both(&seen);
        let (with, without): (Vec<_>, Vec<_>) =
            of_one.into_iter().partition(|(_, batches)| !batches.both(&left_out).is_empty());
        whole.extend(without.into_iter().map(|(file, _)| file));
        if !with.is_empty() {
            parted.push((with.into_iter().map(|(file, _)| file).collect(), left_out));
        }
        seen.add(&own);
    }
    (whole, parted)
}

/// First and last hour of each batch of rows.
fn hours_of(memory: &[RecordBatch]) -> Vec<(Hour, Hour)> {
    let times = memory.iter().filter_map(|rows| {
        rows.column_by_name("time").and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
    });
    times.filter_map(|times| Some((Hour::of(min(times)?), Hour::of(max(times)?)))).collect()
}

/// By the hour of their rows; files of other programs under none.
fn by_hour(files: Vec<DataFile>) -> BTreeMap<Option<Hour>, Vec<DataFile>> {
    let mut hours: BTreeMap<Option<Hour>, Vec<DataFile>> = BTreeMap::new();
    for file in files {
        hours.entry(Writer::of(&file.path).map(|writer| writer.hour)).or_default().push(file);
    }
    hours
}

fn external(error: BatchesError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
