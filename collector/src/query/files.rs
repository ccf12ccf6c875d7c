//! Files that are missing or broken.
//!
//! A file the log calls live may be gone or cut: somebody deleted it, a disk went bad. A statement is then answered from
//! the rest, and says so. Every file is looked at before each statement that reads it; its footer only when the file is
//! new or has changed.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaDataReader;

use crate::history::DataFile;

/// Most verdicts remembered; a history of that many files is due for compaction.
const MAX_REMEMBERED: usize = 100_000;

/// A live file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its table.
    pub table: &'static str,
    /// Where it should be.
    pub path: PathBuf,
    /// Rows it held, where its writer said.
    pub rows: Option<u64>,
    /// One line.
    pub reason: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// Remembers which files were whole.
#[derive(Debug, Default)]
pub struct Verifier {
    known: Mutex<HashMap<PathBuf, Seen>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    modified: Option<SystemTime>,
    fault: Option<String>,
}

impl Verifier {
    /// Splits `files` of `table` into those that can be read and those that cannot. Blocks on the file system.
    pub fn split(&self, table: &'static str, files: Vec<DataFile>) -> (Vec<DataFile>, Vec<Unreadable>) {
        let mut unreadable = Vec::new();
        let mut good = Vec::with_capacity(files.len());
        for file in files {
            match self.fault(&file) {
                None => good.push(file),
                Some(reason) => unreadable.push(Unreadable { table, path: file.path, rows: file.rows, reason }),
            }
        }
        (good, unreadable)
    }

    /// Reads every page of `files` and remembers those that break, whatever their footer says. Returns how many did.
    /// Blocks, and reads the files whole: for when a statement broke while it read them.
    pub fn search(&self, files: &[(&'static str, DataFile)]) -> usize {
        let mut broken = 0;
        for (_, file) in files {
            let Some(reason) = page_fault(&file.path) else { continue };
            broken += 1;
            tracing::error!(file = %file.path.display(), %reason, "a file of history is damaged");
            let Ok(meta) = std::fs::metadata(&file.path) else { continue };
            let seen = Seen { bytes: meta.len(), modified: meta.modified().ok(), fault: Some(reason) };
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(file.path.clone(), seen);
        }
        broken
    }

    fn fault(&self, file: &DataFile) -> Option<String> {
        let meta = match std::fs::metadata(&file.path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Some("the file is missing".to_owned());
            }
            Err(error) => return Some(error.to_string()),
        };
        let (bytes, modified) = (meta.len(), meta.modified().ok());
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(seen) = known.get(&file.path)
                && seen.bytes == bytes
                && seen.modified == modified
            {
                return seen.fault.clone();
            }
        }
        let fault = footer_fault(file, bytes);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(file.path.clone(), Seen { bytes, modified, fault: fault.clone() });
        fault
    }
}

/// What breaks when the whole file is read.
fn page_fault(path: &Path) -> Option<String> {
    let read = || -> Result<(), String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
        for batch in builder.build().map_err(|error| error.to_string())? {
            batch.map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    // Decoders have been known to panic on bytes no encoder writes.
    std::panic::catch_unwind(read).unwrap_or_else(|_| Err("its pages do not decode".to_owned())).err()
}

fn footer_fault(file: &DataFile, bytes: u64) -> Option<String> {
    if file.bytes > 0 && bytes != file.bytes {
        return Some(format!("{bytes} bytes, {} were written", file.bytes));
    }
    let opened = File::open(&file.path).map_err(|error| error.to_string());
    let footer = opened
        .and_then(|opened| ParquetMetaDataReader::new().parse_and_finish(&opened).map_err(|error| error.to_string()));
    match footer {
        Ok(footer) => {
            let rows = u64::try_from(footer.file_metadata().num_rows()).ok();
            (file.rows.is_some() && rows != file.rows).then(|| "its rows are not those written".to_owned())
        }
        Err(reason) => Some(reason),
    }
}
