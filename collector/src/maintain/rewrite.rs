//! Files of an hour to one file, as they are or changed on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use skep_wire::tables::Table;
use thiserror::Error;
use tokio::runtime::Runtime;

use super::coarsen::Coarsener;
use super::merge::{self, MergeError, Source};
use super::twice::Parting;
use crate::history::batches::BatchesError;
use crate::history::delta::DeltaError;
use crate::history::path::Hour;
use crate::history::upkeep::{Finished, HourFile, Replacement, Rows};
use crate::history::{History, HistoryError};

/// What happens to the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// They become rows of windows of so many seconds.
    Windows(u32),
    /// Those of one node, or about it, go.
    Without(String),
}

/// What becomes one file.
#[derive(Debug)]
pub struct Job<'a> {
    /// Which table.
    pub table: &'static Table,
    /// Files of one hour.
    pub inputs: &'a [HourFile],
    /// What happens to their rows.
    pub change: Change,
    /// What is left out of them for others' sake; `None` where nobody else writes.
    pub parting: Option<&'a Parting>,
}

/// What came of it; nothing is live yet.
#[derive(Debug)]
pub struct Rewritten {
    /// The file; `None` when no row is left.
    pub file: Option<Finished>,
    /// What is in it.
    pub rows: Rows,
    /// Rows read, but for those left out.
    pub read: u64,
    /// Rows another collector's files have.
    pub left_out: u64,
}

/// Why files stay as they are. Nothing is lost by it.
#[derive(Debug, Error)]
pub enum RewriteError {
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The files.
    #[error("table {table}, {hour}: {source}")]
    Merge {
        /// Which table.
        table: &'static str,
        /// Which hour.
        hour: Hour,
        /// Why.
        source: MergeError,
    },
    /// The rows.
    #[error("table {table}: rows cannot be changed")]
    Change {
        /// Which table.
        table: &'static str,
        /// Why.
        source: ArrowError,
    },
    /// What else is in the hour is not known.
    #[error("table {table}: {source}")]
    Batches {
        /// Which table.
        table: &'static str,
        /// Why.
        source: BatchesError,
    },
    /// The collector stops.
    #[error("the collector stops")]
    Stopping,
}

impl RewriteError {
    /// Whether another collector changed what was to be changed: there is nothing wrong with that.
    pub fn is_overtaken(&self) -> bool {
        let Self::History(HistoryError::Delta { source, .. }) = self else { return false };
        matches!(source, DeltaError::Moved | DeltaError::Conflict { .. })
    }
}

/// The file while it is written.
#[derive(Debug)]
struct Writing {
    table: &'static str,
    replacement: Replacement,
    rows: u64,
    times_us: Option<(i64, i64)>,
}

impl Writing {
    fn add(&mut self, batch: &RecordBatch) -> Result<(), HistoryError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows() as u64;
        self.times_us = merge::widen(self.times_us, batch);
        let table = self.table;
        self.replacement.write(batch).map_err(|source| HistoryError::Write { table, source })
    }
}

/// How the rows are changed while they pass.
#[derive(Debug)]
enum Changer<'a> {
    None,
    Windows(Box<Coarsener>),
    Without(&'a str),
}

impl Job<'_> {
    /// Writes the file. `go_on` is asked now and then whether there is still time.
    ///
    /// # Errors
    /// [`RewriteError`].
    pub fn run(
        &self,
        history: &History,
        runtime: &Runtime,
        go_on: impl Fn() -> bool,
    ) -> Result<Rewritten, RewriteError> {
        let table = self.table;
        let hour = self.inputs.first().map_or(Hour::of(0), |input| input.hour);
        let failed = |source| RewriteError::Merge { table: table.name, hour, source };
        let changed = |source| RewriteError::Change { table: table.name, source };
        let sources = self.sources(history).map_err(failed)?;
        let expected = sources.iter().map(|source| source.rows).sum::<u64>();
        let left_out: Vec<_> = sources.iter().map(|source| Arc::clone(&source.without)).collect();
        let mut changer = self.changer().map_err(changed)?;
        let mut writing = self.begin(history)?;
        let mut stream = merge::merged(table, sources).map_err(failed)?;
        let mut read = 0;
        while let Some(batch) = merge::next(runtime, &mut stream).map_err(failed)? {
            if !go_on() {
                return Err(RewriteError::Stopping);
            }
            read += batch.num_rows() as u64;
            writing.add(&changer.pass(batch).map_err(changed)?)?;
        }
        let left_out = left_out.iter().map(|rows| rows.load(Ordering::Relaxed)).sum::<u64>();
        if read + left_out != expected {
            return Err(failed(MergeError::Rows { expected, found: read + left_out }));
        }
        if let Changer::Windows(coarsener) = &mut changer {
            writing.add(&coarsener.finish().map_err(changed)?)?;
        }
        let Writing { replacement, rows, times_us, .. } = writing;
        let finish = |replacement: Replacement| {
            replacement.finish().map_err(|source| HistoryError::Write { table: table.name, source })
        };
        let file = if rows > 0 { Some(finish(replacement)?) } else { None };
        let changed = self.change != Change::None || left_out > 0;
        let rows = Rows { rows, times_us: times_us.unwrap_or_default(), changed };
        Ok(Rewritten { file, rows, read, left_out })
    }

    fn sources(&self, history: &History) -> Result<Vec<Source>, MergeError> {
        let mut sources = Vec::with_capacity(self.inputs.len());
        for (at, input) in self.inputs.iter().enumerate() {
            let left_out = self.parting.and_then(|parting| parting.left_out.get(at)).cloned().unwrap_or_default();
            let source = Source::open(history.place().as_ref(), self.table, &input.file.path)?;
            sources.push(source.without(left_out));
        }
        Ok(sources)
    }

    fn changer(&self) -> Result<Changer<'_>, ArrowError> {
        Ok(match &self.change {
            Change::None => Changer::None,
            Change::Windows(window_s) => Changer::Windows(Box::new(Coarsener::new(self.table, *window_s)?)),
            Change::Without(node) => Changer::Without(node),
        })
    }

    fn begin(&self, history: &History) -> Result<Writing, HistoryError> {
        let windows = || self.inputs.iter().map(HourFile::window_s).collect::<BTreeSet<_>>();
        let window_s = match &self.change {
            Change::Windows(window_s) => *window_s,
            // Of the shortest windows in it: who wants longer ones has to look.
            Change::None | Change::Without(_) => windows().first().copied().unwrap_or(0),
        };
        let purpose = match self.parting.filter(|parting| parting.leaves_out()) {
            // Other rows are another file.
            Some(parting) => format!("{:?} without {:?}", self.change, parting.left_out),
            None => format!("{:?}", self.change),
        };
        let begun = history.with(self.table.name, |folder| folder.replacement(self.inputs, window_s, &purpose));
        let Some(mut replacement) = begun.transpose()? else {
            return Err(HistoryError::NoTable { table: self.table.name });
        };
        if let Some(parting) = self.parting.filter(|_| window_s > 0) {
            replacement.sum_of(&parting.kept);
        }
        Ok(Writing { table: self.table.name, replacement, rows: 0, times_us: None })
    }
}

impl Changer<'_> {
    fn pass(&mut self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        match self {
            Self::None => Ok(batch),
            Self::Windows(coarsener) => coarsener.push(&batch),
            Self::Without(node) => filter_record_batch(&batch, &others(&batch, node)),
        }
    }
}

/// Which rows are neither a node's nor about it.
fn others(batch: &RecordBatch, node: &str) -> BooleanArray {
    let columns: Vec<_> =
        ["node", "target_node"].iter().filter_map(|name| batch.column_by_name(name)?.as_string_opt::<i32>()).collect();
    (0..batch.num_rows()).map(|row| Some(columns.iter().all(|names| names.value(row) != node))).collect()
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
