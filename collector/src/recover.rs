//! What a start finds on disk: the tables, the WAL, and what of the WAL is not in the tables yet.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use skep_seglog::{Log, LogError, Options, SegmentId, Storage, Trim};
use thiserror::Error;

use crate::buffer::Store;
use crate::history::{Folders, History, HistoryError, SharedPlace};
use crate::ingest::Durable;
use crate::wal::{self, Damage, Offsets, replay::ReplayError};

/// Why a start cannot go on.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// The tables.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The WAL.
    #[error("cannot open the WAL")]
    Wal(#[from] LogError),
    /// The WAL's content.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Where things are, and whose they are.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Folder of the WAL's segments.
    pub wal: &'a Path,
    /// What the tables' paths begin with.
    pub history: &'a Path,
    /// Name of the collector in files and transactions.
    pub collector: &'a str,
}

/// Tables and WAL, opened.
#[derive(Debug)]
pub struct Found<S: Storage + Clone> {
    /// The tables' folders.
    pub history: Arc<History>,
    /// Live files, and after [`Found::replay`] the rows that are in the WAL only.
    pub store: Arc<Store>,
    /// The WAL.
    pub log: Log<S>,
    /// A torn end of the WAL that went; it was never acknowledged.
    pub trim: Option<Trim>,
    /// Last segment in Parquet, by table.
    progress: BTreeMap<&'static str, SegmentId>,
}

/// What was replayed; the rows are in the store.
#[derive(Debug)]
pub struct Resumed {
    /// How far every stream has come.
    pub offsets: Offsets,
    /// Batches read.
    pub batches: usize,
    /// Rows that are in the WAL only.
    pub rows: usize,
    /// What could not be read.
    pub damage: Vec<Damage>,
}

/// Opens everything for writing, and removes what a crash left of unfinished work. WAL and tables are on one disk.
///
/// # Errors
/// [`RecoverError`]; nothing may be acknowledged.
pub fn open<S>(disk: S, places: Places<'_>, buffer_bytes: usize) -> Result<Found<S>, RecoverError>
where
    S: Storage + Clone + 'static,
{
    let folders = Folders::new(Arc::new(disk.clone()), places.history.parent().unwrap_or(places.history));
    open_at(disk, Arc::new(folders), places, buffer_bytes)
}

/// As [`open`], with the tables in this place.
///
/// # Errors
/// As [`open`].
pub fn open_at<S>(
    disk: S,
    tables: SharedPlace,
    places: Places<'_>,
    buffer_bytes: usize,
) -> Result<Found<S>, RecoverError>
where
    S: Storage + Clone + 'static,
{
    let history = History::open_at(tables, places.history, places.collector)?;
    let progress = history.progress();
    // Segments are sealed by us, never by size.
    let options = Options { segment_bytes: u64::MAX, first_segment: history.newest()?.next() };
    let (log, trim) = Log::open(disk, places.wal, options)?;
    history.tidy(&log.segments().map(|info| info.id).collect())?;
    let store = Arc::new(Store::new(buffer_bytes, history.files()));
    Ok(Found { history: Arc::new(history), store, log, trim, progress })
}

impl<S: Storage + Clone> Found<S> {
    /// Reads the WAL: rows that are not in Parquet go into the store. `seen` is called with every batch, in order.
    ///
    /// # Errors
    /// [`RecoverError::Replay`].
    pub fn replay(&self, seen: impl FnMut(&Durable)) -> Result<Resumed, RecoverError> {
        let replayed = wal::replay(&self.log, &self.progress, seen)?;
        let rows = replayed.memtables.iter().map(|memtable| memtable.rows).sum();
        for memtable in replayed.memtables {
            self.store.recovered(memtable);
        }
        Ok(Resumed { offsets: replayed.offsets, batches: replayed.batches, rows, damage: replayed.damage })
    }
}
