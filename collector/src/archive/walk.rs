//! What the parts of a data folder say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use skep_seglog::{Disk, Log, SegmentId};
use skep_wire::tables::TABLES;

use super::{ArchiveError, backup};
use crate::folder::Folder;
use crate::history::delta::DeltaLog;
use crate::history::location::Opened;
use crate::history::{DataFile, table};
use crate::wal;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Which file.
    pub file: PathBuf,
    /// One line.
    pub what: String,
}

/// One table's log.
#[derive(Debug, Clone)]
pub struct TableLog {
    /// Its name.
    pub table: &'static str,
    /// Versions in its log.
    pub version: u64,
    /// Live files.
    pub files: Vec<DataFile>,
    /// Files somebody may still read that are not live.
    pub removed: Vec<PathBuf>,
    /// Last segment in it, of the collector of this folder.
    pub progress: SegmentId,
}

/// Where the tables of a data folder are.
///
/// # Errors
/// [`ArchiveError::Folder`], [`ArchiveError::Location`].
pub fn history(folder: &Folder) -> Result<Opened, ArchiveError> {
    Ok(folder.location()?.open(&std::env::temp_dir())?)
}

/// Every table that has a log; one whose log does not read is a fault.
///
/// # Errors
/// [`ArchiveError::Folder`].
pub fn tables(folder: &Folder, history: &Opened, faults: &mut Vec<Fault>) -> Result<Vec<TableLog>, ArchiveError> {
    let collector = folder.identity()?.map(|identity| identity.collector).unwrap_or_default();
    let mut found = Vec::new();
    for table in TABLES {
        let root = history.root.join(table.name);
        match DeltaLog::open_at(&history.place, &root, &collector) {
            Ok(log) if log.version() == 0 => {}
            Ok(log) => found.push(TableLog {
                table: table.name,
                version: log.version(),
                files: log.live.values().map(|add| table::data_file(&root, add)).collect(),
                removed: log.removed.keys().map(|path| root.join(path)).collect(),
                progress: SegmentId(log.txns.get(&collector).map_or(0, |version| version.unsigned_abs())),
            }),
            Err(error) => {
                let what = format!("the Delta log cannot be read: {}", crate::error::chain(&error));
                faults.push(Fault { file: root.join("_delta_log"), what });
            }
        }
    }
    Ok(found)
}

/// The WAL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WalSummary {
    /// Segments, oldest first.
    pub segments: Vec<Segment>,
    /// Batches in them.
    pub batches: u64,
    /// Rows that are in the WAL only.
    pub rows: u64,
    /// Bytes at the end that were never acknowledged; a start cuts them off.
    pub torn_bytes: u64,
    /// How far each stream has come.
    pub streams: Vec<Stream>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Its number.
    pub segment: u64,
    /// Its size.
    pub bytes: u64,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// Whose.
    pub node: String,
    /// Life of its spool.
    pub stream: String,
    /// Last durable batch.
    pub durable_seq: u64,
}

/// Reads the WAL, every checksum of it.
pub fn wal(folder: &Folder, tables: &[TableLog], faults: &mut Vec<Fault>) -> WalSummary {
    let dir = folder.wal();
    let mut fault = |file: &Path, what: String| faults.push(Fault { file: file.to_owned(), what });
    let (log, trim) = match Log::open_read_only(Disk, &dir) {
        Ok(opened) => opened,
        Err(error) => {
            fault(&dir, crate::error::chain(&error));
            return WalSummary::default();
        }
    };
    let mut summary = WalSummary {
        segments: log.segments().map(|info| Segment { segment: info.id.0, bytes: info.bytes }).collect(),
        torn_bytes: trim.map_or(0, |trim| trim.bytes),
        ..WalSummary::default()
    };
    let progress: BTreeMap<&'static str, SegmentId> =
        tables.iter().map(|table| (table.table, table.progress)).collect();
    match wal::replay(&log, &progress, |_| {}) {
        Ok(replayed) => {
            summary.batches = replayed.batches as u64;
            summary.rows = replayed.memtables.iter().map(|memtable| memtable.rows as u64).sum();
            let stream = |(key, durable_seq): (&wal::StreamKey, u64)| Stream {
                node: key.node.clone(),
                stream: key.stream.clone(),
                durable_seq,
            };
            summary.streams = replayed.offsets.iter().map(stream).collect();
            for damage in &replayed.damage {
                let file = damage.segment().map_or_else(|| dir.clone(), |id| id.path(&dir));
                fault(&file, crate::error::chain(damage));
            }
        }
        Err(error) => fault(&dir, crate::error::chain(&error)),
    }
    summary
}

/// What could not be used and is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Quarantine {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The quarantine.
///
/// # Errors
/// [`ArchiveError::Io`].
pub fn quarantine(folder: &Folder) -> Result<Quarantine, ArchiveError> {
    let files = backup::files_below(&folder.quarantine())?;
    let bytes = files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|about| about.len()).sum();
    Ok(Quarantine { files: files.len() as u64, bytes })
}
