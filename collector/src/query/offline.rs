//! A data folder nobody runs on: its files and, read-only, its WAL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_seglog::{Disk, Log, LogError};
use thiserror::Error;

use crate::buffer::{Snapshot, Store};
use crate::folder::{Folder, FolderError};
use crate::history::location::{LocationError, Opened};
use crate::history::{History, HistoryError};
use crate::wal::{self, replay::ReplayError};

/// Why a folder cannot be read.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// The folder itself, or a collector runs on it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Where its history is.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// Its history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Its WAL.
    #[error("cannot open the WAL in {}", dir.display())]
    Wal {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: LogError,
    },
    /// Its WAL's content.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// What is stored in a folder.
#[derive(Debug)]
pub struct Found {
    /// All of it.
    pub snapshot: Snapshot,
    /// Where the history is.
    pub history: Opened,
    /// Whose the rows are that are in the WAL only.
    pub collector: String,
    /// Keeps collectors (not other readers) away.
    pub folder: Folder,
}

/// Everything stored in `data`, as a start of the collector would find it. Changes nothing.
///
/// # Errors
/// [`OfflineError`].
pub fn open(data: &Path) -> Result<Found, OfflineError> {
    let folder = Folder::open_shared(data)?;
    let collector = folder.identity()?.map(|identity| identity.collector).unwrap_or_default();
    let opened = folder.location()?.open(&std::env::temp_dir())?;
    let history = History::open_at(Arc::clone(&opened.place), &opened.root, &collector)?;
    let dir = folder.wal();
    let (log, trim) = Log::open_read_only(Disk, &dir).map_err(|source| OfflineError::Wal { dir, source })?;
    if let Some(trim) = trim {
        tracing::info!(file = %trim.path.display(), bytes = trim.bytes, "the WAL has a torn end that was never acknowledged");
    }
    let replayed = wal::replay(&log, &history.progress(), |_| {})?;
    for damage in &replayed.damage {
        tracing::warn!("the WAL is damaged: {damage}");
    }
    let store = Store::new(usize::MAX, history.files());
    for memtable in replayed.memtables {
        store.recovered(memtable);
    }
    Ok(Found { snapshot: store.snapshot(), history: opened, collector, folder })
}
