//! The thread that keeps the history in order: one, and a patient one, so that it takes no more than a part of a core.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use skep_runtime::clock::Clock;
use skep_wire::tables::{TABLES, Table};
use thiserror::Error;
use tokio::runtime::Runtime;

use super::merge::{self, MergeError, Source};
use super::{Settings, plan};
use crate::buffer::Store;
use crate::history::path::Hour;
use crate::history::upkeep::{OwnFile, Rows};
use crate::history::{History, HistoryError};

/// How willing the thread is to wait for others, from 0 to 19.
const NICENESS: i32 = 10;

/// How long an hour is let be that could not be put in order.
const AGAIN_AFTER_US: i64 = 3600 * 1_000_000;

/// Why something could not be put in order. Nothing is lost by it.
#[derive(Debug, Error)]
pub enum KeepError {
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The rows.
    #[error("table {table}, {hour}: {source}")]
    Merge {
        /// Which table.
        table: &'static str,
        /// Which hour.
        hour: Hour,
        /// Why.
        source: MergeError,
    },
    /// The collector stops.
    #[error("the collector stops")]
    Stopping,
}

/// What the thread works on.
#[derive(Debug)]
pub struct Keeper {
    /// What it keeps in order.
    pub history: Arc<History>,
    /// Who has to know which files are live.
    pub store: Arc<Store>,
    /// How.
    pub settings: Settings,
    /// Time.
    pub clock: Clock,
}

/// The thread's state.
#[derive(Debug)]
struct Work<'a> {
    keeper: Keeper,
    /// Drives streams that never wait.
    runtime: Runtime,
    stop: &'a Receiver<()>,
    /// Hours that failed, and when.
    failed_us: HashMap<(&'static str, Hour), i64>,
}

impl Keeper {
    /// Works until the other end of `stop` is gone.
    ///
    /// # Errors
    /// There is no runtime for the thread.
    pub fn run(self, stop: &Receiver<()>) -> std::io::Result<()> {
        // On Linux this is the thread's own; threads it starts inherit it.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!(%error, "the keeper works at the others' priority");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let interval = self.settings.interval;
        let mut work = Work { keeper: self, runtime, stop, failed_us: HashMap::new() };
        while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            work.round();
        }
        Ok(())
    }
}

impl Work<'_> {
    /// Does everything that is due. A table that cannot be kept is said and does not hold up the others.
    fn round(&mut self) {
        for table in TABLES {
            match self.keep(table) {
                Ok(()) => {}
                Err(KeepError::Stopping) => return,
                Err(error) => {
                    let reason = crate::error::chain(&error);
                    tracing::error!(%reason, "a table cannot be put in order for now; nothing is lost");
                }
            }
        }
    }

    fn keep(&mut self, table: &'static Table) -> Result<(), KeepError> {
        self.merge_hours(table)?;
        self.vacuum(table)?;
        let Settings { checkpoint_commits, log_age, .. } = self.keeper.settings;
        let kept = self.keeper.history.with(table.name, |folder| folder.keep_log(checkpoint_commits, log_age));
        Ok(kept.transpose()?.unwrap_or(()))
    }

    /// Makes one file of the files of each closed hour. An hour that fails does not hold up the others.
    fn merge_hours(&mut self, table: &'static Table) -> Result<(), KeepError> {
        loop {
            let now_us = self.keeper.clock.wall_us();
            let closed_us = now_us.saturating_sub(micros(self.keeper.settings.closed_after));
            self.failed_us.retain(|_, failed_us| now_us.saturating_sub(*failed_us) < AGAIN_AFTER_US);
            let files = self.keeper.history.with(table.name, |folder| folder.own_files()).transpose()?;
            let files = files.unwrap_or_default();
            let leave = |hour| self.failed_us.contains_key(&(table.name, hour));
            let Some(inputs) = plan::next_merge(&files, closed_us, leave) else { return Ok(()) };
            let Some(hour) = inputs.first().map(|input| input.hour) else { return Ok(()) };
            match self.merge(table, &inputs) {
                Ok(()) => {}
                Err(KeepError::Stopping) => return Err(KeepError::Stopping),
                Err(error) => {
                    let reason = crate::error::chain(&error);
                    tracing::error!(%reason, "an hour's files stay as they are for now; nothing is lost");
                    self.failed_us.insert((table.name, hour), now_us);
                }
            }
        }
    }

    fn merge(&self, table: &'static Table, inputs: &[OwnFile]) -> Result<(), KeepError> {
        let hour = inputs.first().map_or(Hour::of(0), |input| input.hour);
        let failed = |source| KeepError::Merge { table: table.name, hour, source };
        let sources = inputs.iter().map(|input| Source::open(table, &input.file.path));
        let sources = sources.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let expected = sources.iter().map(|source| source.rows).sum::<u64>();
        let history = &self.keeper.history;
        let Some(replacement) = history.with(table.name, |folder| folder.replacement(inputs, 0, "merge")) else {
            return Ok(());
        };
        let mut replacement = replacement?;
        let mut stream = merge::merged(table, sources).map_err(failed)?;
        let write = |source| HistoryError::Write { table: table.name, source };
        let (mut found, mut times) = (0, None);
        while let Some(batch) = merge::next(&self.runtime, &mut stream).map_err(failed)? {
            self.go_on()?;
            found += batch.num_rows() as u64;
            times = merge::widen(times, &batch);
            replacement.write(&batch).map_err(write)?;
        }
        if found != expected {
            return Err(failed(MergeError::Rows { expected, found }));
        }
        let rows = Rows { rows: found, times_us: times.unwrap_or_default(), changed: false };
        let finished = replacement.finish().map_err(write)?;
        let bytes = self.refile(table, |folder| folder.replace(finished, rows))?;
        tracing::debug!(table = table.name, %hour, files = inputs.len(), rows = found, bytes, "merged an hour's files");
        Ok(())
    }

    /// Changes which files are live, for queries too.
    fn refile<T>(
        &self,
        table: &'static Table,
        change: impl FnOnce(&mut crate::history::TableHistory) -> Result<T, HistoryError>,
    ) -> Result<Option<T>, HistoryError> {
        let changed = self.keeper.history.with(table.name, |folder| {
            let changed = change(folder)?;
            // Under the folder's lock, as a flush does it.
            self.keeper.store.refiled(table.name, folder.files());
            Ok(changed)
        });
        changed.transpose()
    }

    fn vacuum(&self, table: &'static Table) -> Result<(), HistoryError> {
        let grace = self.keeper.settings.grace;
        let is_read = |path: &std::path::Path| self.keeper.store.is_read(path);
        let done = self.keeper.history.with(table.name, |folder| folder.vacuum(grace, is_read)).transpose()?;
        if let Some(done) = done.filter(|done| done.files > 0 || done.read > 0) {
            tracing::debug!(table = table.name, files = done.files, read = done.read, "removed files nobody needs");
        }
        Ok(())
    }

    /// Asked now and then by what takes long.
    fn go_on(&self) -> Result<(), KeepError> {
        match self.stop.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            _ => Err(KeepError::Stopping),
        }
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
