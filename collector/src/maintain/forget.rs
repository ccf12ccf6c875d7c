//! Everything of one node goes from a data folder nobody runs on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;
use skep_seglog::{Disk, Log, LogError};
use skep_wire::tables::{TABLES, Table};
use thiserror::Error;

use super::rewrite::{Change, Job, RewriteError, Rewritten};
use super::twice::Parting;
use crate::detect::series::gallery::Gallery;
use crate::folder::{Folder, FolderError, write_whole};
use crate::history::batches::KnownBatches;
use crate::history::location::LocationError;
use crate::history::upkeep::HourFile;
use crate::history::{History, HistoryError, Place};
use crate::response::OWN_NODE;
use crate::wal::{self, replay::ReplayError};

/// Columns that name a node.
const NAMES: [&str; 2] = ["node", "target_node"];

/// Why a node's rows stay, all or some of them. What has gone is gone; ask again for the rest.
#[derive(Debug, Error)]
pub enum ForgetError {
    /// The folder itself, or a collector runs on it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Where its history is.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// Its history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Its files.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// Its WAL.
    #[error("cannot read the WAL")]
    Wal(#[from] LogError),
    /// Its WAL's content.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Rows are where this does not reach.
    #[error("{rows} rows are still in the WAL only; start the collector, stop it with SIGTERM, and ask again")]
    Unflushed {
        /// How many, of all nodes.
        rows: usize,
    },
    /// A file cannot be searched.
    #[error("cannot search {}: {reason}", path.display())]
    Search {
        /// Which.
        path: PathBuf,
        /// One line.
        reason: String,
    },
    /// Not a node.
    #[error("{OWN_NODE} is the collector itself, not a node")]
    Own,
    /// No thread's runtime.
    #[error("cannot start")]
    Start(#[source] std::io::Error),
}

/// What was learned of the node's series goes too. A file that does not read goes whole: all are learned anew.
fn forget_series(path: &Path, node: &str) -> Result<(), ForgetError> {
    let io = |action| move |source| FolderError::Io { action, path: path.to_owned(), source };
    let learned = match std::fs::read(path) {
        Ok(learned) => learned,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io("read")(source).into()),
    };
    let mut gallery = Gallery::default();
    if gallery.take_up(&learned).is_err() {
        return Ok(std::fs::remove_file(path).map_err(io("remove"))?);
    }
    gallery.forget(node);
    Ok(write_whole(path, &gallery.to_bytes()).map_err(io("write"))?)
}

/// What is usual is learned anew for all: the file does not tell whose is what.
fn forget_habits(path: &Path) -> Result<(), FolderError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(FolderError::Io { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// Whose rows.
    pub node: String,
    /// Rows that are gone.
    pub rows: u64,
    /// Files that were written anew without them.
    pub files_rewritten: usize,
    /// Files of which nothing was left.
    pub files_removed: usize,
    /// Live files other collectors wrote, which only they may change.
    pub files_of_others: usize,
    /// Files in the folder's quarantine, which are as they came and were not searched.
    pub quarantined: usize,
}

/// Removes every row of `node`, and every row about it, from the files of `data`.
///
/// # Errors
/// [`ForgetError`].
pub fn forget_node(data: &Path, node: &str) -> Result<Forgotten, ForgetError> {
    if node == OWN_NODE {
        return Err(ForgetError::Own);
    }
    if !data.is_dir() {
        return Err(FolderError::Absent { path: data.to_owned() }.into());
    }
    let folder = Folder::open_exclusive(data)?;
    let Some(identity) = folder.identity()? else { return Err(FolderError::Empty { path: data.to_owned() }.into()) };
    let opened = folder.location()?.open(&std::env::temp_dir())?;
    let history = History::open_at(Arc::clone(&opened.place), &opened.root, &identity.collector)?;
    let (log, _torn) = Log::open_read_only(Disk, &folder.wal())?;
    let replayed = wal::replay(&log, &history.progress(), |_| {})?;
    let rows = replayed.memtables.iter().map(|memtable| memtable.rows).sum();
    if rows > 0 {
        return Err(ForgetError::Unflushed { rows });
    }
    history.tidy(&log.segments().map(|info| info.id).collect())?;
    let known = KnownBatches::new(Arc::clone(&opened.place));
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(ForgetError::Start)?;
    let mut done = Forgotten { node: node.to_owned(), ..Forgotten::default() };
    for table in TABLES {
        let Some(files) = history.with(table.name, |folder| folder.own_files()) else { continue };
        let files = files?;
        done.files_of_others += history.with(table.name, |folder| folder.files().len()).unwrap_or(0) - files.len();
        for file in files {
            if names(opened.place.as_ref(), &file.file.path, node)? {
                without((&history, &known), &runtime, table, &file, &mut done)?;
            }
        }
        // Those replaced now, and those replaced before that still wait for their readers.
        history.with(table.name, |folder| folder.vacuum(Duration::ZERO, |_| false)).transpose()?;
    }
    forget_series(&folder.learned(), node)?;
    forget_habits(&folder.habits())?;
    done.quarantined = std::fs::read_dir(folder.quarantine()).map_or(0, Iterator::count);
    Ok(done)
}

fn without(
    (history, known): (&History, &KnownBatches),
    runtime: &tokio::runtime::Runtime,
    table: &'static Table,
    file: &HourFile,
    done: &mut Forgotten,
) -> Result<(), ForgetError> {
    let inputs = std::slice::from_ref(file);
    let parting =
        Parting::alone(known, inputs).map_err(|source| RewriteError::Batches { table: table.name, source })?;
    let job = Job { table, inputs, change: Change::Without(done.node.clone()), parting: Some(&parting) };
    let Rewritten { file, rows, read, .. } = job.run(history, runtime, || true)?;
    let count = if file.is_some() { &mut done.files_rewritten } else { &mut done.files_removed };
    *count += 1;
    let replaced = history.with(table.name, |folder| match file {
        Some(file) => folder.replace(file, rows, &parting.guard).map(drop),
        None => folder.remove(inputs, &parting.guard),
    });
    replaced.transpose()?;
    done.rows += read - rows.rows;
    Ok(())
}

/// Whether a file has a row of the node, or about it.
fn names(place: &dyn Place, path: &Path, node: &str) -> Result<bool, ForgetError> {
    let search = || -> Result<bool, Box<dyn std::error::Error>> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(place.open(path, None)?)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), NAMES);
        for batch in builder.with_projection(mask).build()? {
            let batch = batch?;
            let mut columns = batch.columns().iter().filter_map(|column| column.as_string_opt::<i32>());
            if columns.any(|names| names.iter().flatten().any(|name| name == node)) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    search().map_err(|error| ForgetError::Search { path: path.to_owned(), reason: error.to_string() })
}
