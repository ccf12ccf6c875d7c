//! All tables of one history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use skep_seglog::{Disk, SegmentId, Shared};
use skep_wire::tables::TABLES;

use super::folders::Folders;
use super::place::SharedPlace;
use super::table::{DataFile, HistoryError, TableHistory};

/// All tables' folders.
#[derive(Debug)]
pub struct History {
    place: SharedPlace,
    tables: BTreeMap<&'static str, Mutex<TableHistory>>,
}

impl History {
    /// Reads every table's log below `root`. `collector` names this collector's files and transactions.
    ///
    /// # Errors
    /// [`HistoryError::Delta`].
    pub fn open(root: &Path, collector: &str) -> Result<Self, HistoryError> {
        Self::open_on(Arc::new(Disk), root, collector)
    }

    /// As [`History::open`], on this disk.
    ///
    /// # Errors
    /// [`HistoryError::Delta`].
    pub fn open_on(disk: Shared, root: &Path, collector: &str) -> Result<Self, HistoryError> {
        let folders = Folders::new(disk, root.parent().unwrap_or(root));
        Self::open_at(Arc::new(folders), root, collector)
    }

    /// As [`History::open`], in this place.
    ///
    /// # Errors
    /// [`HistoryError::Delta`].
    pub fn open_at(place: SharedPlace, root: &Path, collector: &str) -> Result<Self, HistoryError> {
        let opened = of_each(place.is_remote(), TABLES, |&table| TableHistory::open(&place, root, table, collector));
        let tables = opened.into_iter().zip(TABLES).map(|(opened, table)| Ok((table.name, Mutex::new(opened?))));
        let tables = tables.collect::<Result<_, HistoryError>>()?;
        Ok(Self { place, tables })
    }

    /// Where the tables are.
    pub fn place(&self) -> &SharedPlace {
        &self.place
    }

    /// Makes the commits that were read durable, and removes files of this collector that a crash left: those that were
    /// not finished, and those no commit names whose rows are in `wal`, the segments there are. Returns how many.
    ///
    /// # Errors
    /// [`HistoryError::Tidy`], [`HistoryError::Delta`].
    pub fn tidy(&self, wal: &BTreeSet<SegmentId>) -> Result<usize, HistoryError> {
        let tidied = self.ask_each(|table| table.tidy(wal));
        Ok(tidied.into_iter().collect::<Result<Vec<usize>, _>>()?.into_iter().sum())
    }

    /// The newest WAL segment that a commit or a file of this collector names, so that no file is ever written over.
    ///
    /// # Errors
    /// [`HistoryError::Tidy`].
    pub fn newest(&self) -> Result<SegmentId, HistoryError> {
        let newest = self.ask_each(|table| table.newest()).into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(newest.into_iter().max().unwrap_or(SegmentId(0)))
    }

    /// Last WAL segment whose rows are in, by table.
    pub fn progress(&self) -> BTreeMap<&'static str, SegmentId> {
        self.with_each(TableHistory::progress)
    }

    /// Every collector that has a file.
    pub fn writers(&self) -> BTreeSet<String> {
        self.with_each(TableHistory::writers).into_values().flatten().collect()
    }

    /// Takes the files of these collectors for its own from now on.
    pub fn adopt(&self, gone: &BTreeSet<String>) {
        self.ask_each(|table| table.adopt(gone));
    }

    /// Live files by table.
    pub fn files(&self) -> BTreeMap<&'static str, Vec<DataFile>> {
        self.with_each(TableHistory::files)
    }

    /// Versions of the Delta log that were read, by table: the next commit's number.
    pub fn versions(&self) -> BTreeMap<&'static str, u64> {
        self.with_each(|table| table.log.version())
    }

    /// Runs `act` on one table's folder; `None` for a table that does not exist.
    pub fn with<T>(&self, table: &str, act: impl FnOnce(&mut TableHistory) -> T) -> Option<T> {
        let table = self.tables.get(table)?;
        Some(act(&mut table.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Runs `act` on every table's folder: one after the other, or side by side where each answer takes its time.
    pub(super) fn ask_each<T: Send>(&self, act: impl Fn(&mut TableHistory) -> T + Sync) -> Vec<T> {
        let tables: Vec<_> = self.tables.values().collect();
        of_each(self.place.is_remote(), &tables, |table| act(&mut table.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn with_each<T>(&self, act: impl Fn(&TableHistory) -> T) -> BTreeMap<&'static str, T> {
        let each = self.tables.iter();
        each.map(|(name, table)| (*name, act(&table.lock().unwrap_or_else(PoisonError::into_inner)))).collect()
    }
}

/// What `act` says of each item: one after the other, or `at_once`.
fn of_each<I: Sync, T: Send>(at_once: bool, items: &[I], act: impl Fn(&I) -> T + Sync) -> Vec<T> {
    if !at_once {
        return items.iter().map(act).collect();
    }
    std::thread::scope(|scope| {
        let act = &act;
        let running: Vec<_> = items.iter().map(|item| scope.spawn(move || act(item))).collect();
        let ended = running.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
