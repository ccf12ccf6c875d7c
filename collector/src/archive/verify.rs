//! Every byte of a data folder is looked at: the WAL's checksums, the Delta logs, each Parquet file's size, checksum,
//! footer, pages and rows.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;
use skep_wire::tables::TABLES;

use super::walk::{self, Fault, Quarantine, TableLog, WalSummary};
use super::{ArchiveError, backup, io_error};
use crate::folder::Folder;
use crate::history::location::Opened;
use crate::history::{DataFile, Place};

/// How much of a file is read at once for its checksum: 1 MiB.
const CHUNK_BYTES: usize = 1 << 20;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// Whether there is no fault.
    pub ok: bool,
    /// What is not as it should be.
    pub faults: Vec<Fault>,
    /// Tables with a log.
    pub tables: Vec<VerifiedTable>,
    /// The WAL.
    pub wal: WalSummary,
    /// What could not be used and is kept.
    pub quarantine: Quarantine,
    /// Parquet files no log names: left by a crash, removed by the next start if their rows are in the WAL.
    pub unreferenced: Vec<PathBuf>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedTable {
    /// Its name.
    pub table: &'static str,
    /// Versions in its log.
    pub version: u64,
    /// Live files.
    pub files: u64,
    /// Rows that were read from them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files whose writer left no checksum: damage that still decodes is not found in these.
    pub without_checksum: u64,
}

/// Looks at everything in `data`, on which no collector may run: take a backup and verify that.
///
/// # Errors
/// [`ArchiveError`]; what is wrong with the data is no error but a [`Fault`].
pub fn verify(data: &Path) -> Result<Verified, ArchiveError> {
    let folder = Folder::open_shared(data)?;
    let mut faults = Vec::new();
    let history = walk::history(&folder)?;
    let logs = walk::tables(&folder, &history, &mut faults)?;
    let wal = walk::wal(&folder, &logs, &mut faults);
    let tables = logs.iter().map(|log| table(history.place.as_ref(), log, &mut faults)).collect();
    let unreferenced = unreferenced(&history, &logs)?;
    let quarantine = walk::quarantine(&folder)?;
    Ok(Verified { ok: faults.is_empty(), faults, tables, wal, quarantine, unreferenced })
}

fn table(place: &dyn Place, log: &TableLog, faults: &mut Vec<Fault>) -> VerifiedTable {
    let mut verified = VerifiedTable {
        table: log.table,
        version: log.version,
        files: log.files.len() as u64,
        rows: 0,
        bytes: 0,
        without_checksum: 0,
    };
    for file in &log.files {
        verified.bytes += file.bytes;
        verified.without_checksum += u64::from(file.crc32c.is_none());
        match check(place, file) {
            Ok(rows) => verified.rows += rows,
            Err(what) => faults.push(Fault { file: file.path.clone(), what }),
        }
    }
    verified
}

/// The rows of a file in which everything is right; what is wrong, in one line.
fn check(place: &dyn Place, file: &DataFile) -> Result<u64, String> {
    let mut whole = place.fetch(&file.path).map_err(|error| error.to_string())?;
    let (bytes, crc32c) = checksum(&mut whole).map_err(|error| error.to_string())?;
    if bytes != file.bytes {
        return Err(format!("{bytes} bytes, its log says {}", file.bytes));
    }
    if let Some(expected) = file.crc32c.filter(|expected| *expected != crc32c) {
        return Err(format!("its checksum is {crc32c:08x}, its log says {expected:08x}"));
    }
    let rows = decode(whole)?;
    match file.rows {
        Some(expected) if expected != rows => Err(format!("{rows} rows, its log says {expected}")),
        _ => Ok(rows),
    }
}

fn checksum(file: &mut File) -> std::io::Result<(u64, u32)> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((bytes, crc));
        }
        bytes += read as u64;
        crc = crc32c::crc32c_append(crc, &chunk[..read]);
    }
}

/// Decodes every page; returns the rows.
fn decode(file: File) -> Result<u64, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
    let in_footer = builder.metadata().file_metadata().num_rows().unsigned_abs();
    let mut rows = 0;
    for batch in builder.build().map_err(|error| error.to_string())? {
        rows += batch.map_err(|error| error.to_string())?.num_rows() as u64;
    }
    if rows == in_footer { Ok(rows) } else { Err(format!("{rows} rows in its pages, {in_footer} by its footer")) }
}

fn unreferenced(history: &Opened, logs: &[TableLog]) -> Result<Vec<PathBuf>, ArchiveError> {
    let live = logs.iter().flat_map(|log| log.files.iter().map(|file| &file.path).chain(&log.removed));
    let known: BTreeSet<&PathBuf> = live.collect();
    let mut files = if history.place.is_remote() {
        let hours = TABLES.iter().map(|table| history.place.list_hours(&history.root.join(table.name)));
        let hours = hours.collect::<Result<Vec<_>, _>>().map_err(|(path, error)| io_error("list", &path)(error))?;
        hours.into_iter().flatten().collect()
    } else {
        backup::files_below(&history.root)?
    };
    let is_log = |path: &Path| path.parent().is_some_and(|parent| parent.ends_with("_delta_log"));
    files.retain(|path| path.extension().is_some_and(|e| e == "parquet") && !is_log(path) && !known.contains(path));
    Ok(files)
}
