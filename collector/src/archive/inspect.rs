//! What there is in a data folder, without reading its rows.

use std::path::Path;

use serde::Serialize;

use super::ArchiveError;
use super::walk::{self, Fault, Quarantine, TableLog, WalSummary};
use crate::folder::Folder;

/// What there is.
#[derive(Debug, Clone, Serialize)]
pub struct Inspected {
    /// Name of the collector in files and transactions; absent where nobody ever stored.
    pub collector: Option<String>,
    /// Tables with a log.
    pub tables: Vec<TableSummary>,
    /// The WAL.
    pub wal: WalSummary,
    /// What could not be used and is kept.
    pub quarantine: Quarantine,
    /// Logs and segments that do not read.
    pub faults: Vec<Fault>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableSummary {
    /// Its name.
    pub table: &'static str,
    /// Versions in its log.
    pub version: u64,
    /// Live files.
    pub files: u64,
    /// Their rows, by the log.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Earliest `time`, UTC; absent without files that say.
    pub from: Option<String>,
    /// Latest.
    pub to: Option<String>,
    /// Last WAL segment in it.
    pub wal_segment: u64,
}

/// Describes `data`, on which no collector may run.
///
/// # Errors
/// [`ArchiveError`].
pub fn inspect(data: &Path) -> Result<Inspected, ArchiveError> {
    let folder = Folder::open_shared(data)?;
    let mut faults = Vec::new();
    let logs = walk::tables(&folder, &walk::history(&folder)?, &mut faults)?;
    let wal = walk::wal(&folder, &logs, &mut faults);
    Ok(Inspected {
        collector: folder.identity()?.map(|identity| identity.collector),
        tables: logs.iter().map(summary).collect(),
        wal,
        quarantine: walk::quarantine(&folder)?,
        faults,
    })
}

fn summary(log: &TableLog) -> TableSummary {
    let times = || log.files.iter().filter_map(|file| file.times_us);
    let utc = |us: i64| jiff::Timestamp::from_microsecond(us).ok().map(|time| time.to_string());
    TableSummary {
        table: log.table,
        version: log.version,
        files: log.files.len() as u64,
        rows: log.files.iter().filter_map(|file| file.rows).sum(),
        bytes: log.files.iter().map(|file| file.bytes).sum(),
        from: times().map(|(first, _)| first).min().and_then(utc),
        to: times().map(|(_, last)| last).max().and_then(utc),
        wal_segment: log.progress.0,
    }
}
