//! Files that are missing or broken.
//!
//! A file the log calls live may be gone or cut: somebody deleted it, a disk went bad. A statement is then answered from
//! the rest, and says so. On a disk every file is looked at before each statement that reads it; its footer only when the
//! file is new or has changed. In an object store that would take longer than many a statement: there files are looked at
//! when a statement broke, and a store that does not answer leaves out what is in it for a while.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaDataReader;

use super::alike::Alike;
use super::histogram::search::search;
use crate::history::{DataFile, Place, SharedPlace};

/// Most verdicts remembered; a history of that many files is due for compaction.
const MAX_REMEMBERED: usize = 100_000;

const MISSING: &str = "the file is missing";

/// How long a verdict on a file in an object store holds.
const FAR_FAULT_FOR: Duration = Duration::from_secs(10);

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
    /// Whether the file itself is at fault, and not the way to it.
    pub lost: bool,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// Remembers which files were whole.
#[derive(Debug)]
pub struct Verifier {
    place: SharedPlace,
    known: Mutex<HashMap<PathBuf, Seen>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    modified: Option<SystemTime>,
    fault: Option<Fault>,
    /// What all its rows have, where its footer was looked at.
    alike: Alike,
    /// When it has to be looked at again, whether it changed or not.
    until: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    reason: String,
    lost: bool,
}

impl Fault {
    fn lost(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), lost: true }
    }
}

impl Verifier {
    /// Of files in this place.
    pub fn new(place: SharedPlace) -> Self {
        Self { place, known: Mutex::default() }
    }

    /// Splits `files` of `table` into those that can be read and those that cannot. Blocks on the file system.
    pub fn split(&self, table: &'static str, files: Vec<DataFile>) -> (Vec<DataFile>, Vec<Unreadable>) {
        let mut unreadable = Vec::new();
        let mut good = Vec::with_capacity(files.len());
        for file in files {
            let fault = if self.place.is_remote() { self.far_fault(&file.path) } else { self.fault(table, &file) };
            match fault {
                None => good.push(file),
                Some(Fault { reason, lost }) => {
                    unreadable.push(Unreadable { table, path: file.path, rows: file.rows, reason, lost });
                }
            }
        }
        (good, unreadable)
    }

    /// What all rows of a file have, where it was looked at.
    pub fn alike(&self, path: &Path) -> Alike {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(path).map(|seen| seen.alike.clone()).unwrap_or_default()
    }

    /// Looks for what broke a statement while it read `files`, and remembers it. Returns how many files are at fault.
    /// Blocks, and reads files on a disk whole: every page, whatever their footers say.
    pub fn search(&self, files: &[(&'static str, DataFile)]) -> usize {
        if self.place.is_remote() {
            return self.search_far(files);
        }
        let mut broken = 0;
        for (_, file) in files {
            let Some(reason) = page_fault(&file.path) else { continue };
            broken += 1;
            tracing::error!(file = %file.path.display(), %reason, "a file of history is damaged");
            let Ok(meta) = std::fs::metadata(&file.path) else { continue };
            let (bytes, modified) = (meta.len(), meta.modified().ok());
            let (fault, alike) = (Some(Fault::lost(reason)), Alike::default());
            self.remember(&file.path, Seen { bytes, modified, fault, alike, until: None });
        }
        broken
    }

    fn search_far(&self, files: &[(&'static str, DataFile)]) -> usize {
        let (mut broken, mut no_answer) = (0, None);
        for (_, file) in files {
            // One request without an answer says enough of the others.
            let about = if no_answer.is_none() { Some(self.place.about(&file.path)) } else { None };
            let fault = match about {
                Some(Ok(Some(about))) if about.bytes == file.bytes => continue,
                Some(Ok(Some(about))) => Fault::lost(format!("{} bytes, {} were written", about.bytes, file.bytes)),
                // Another collector may have replaced it, and it is not live any more as soon as that is seen here.
                Some(Ok(None)) => Fault { reason: MISSING.to_owned(), lost: self.was_missing(&file.path) },
                Some(Err(error)) => no_answer.insert(no_answer_of(&error)).clone(),
                None => no_answer.clone().unwrap_or_else(|| Fault::lost("it was not looked at")),
            };
            broken += 1;
            let until = Some(Instant::now() + FAR_FAULT_FOR);
            let (fault, alike) = (Some(fault), Alike::default());
            self.remember(&file.path, Seen { bytes: file.bytes, modified: None, fault, alike, until });
        }
        broken
    }

    /// Whether it was missing when it was looked at before.
    fn was_missing(&self, path: &Path) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(path).is_some_and(|seen| seen.fault.as_ref().is_some_and(|fault| fault.reason == MISSING))
    }

    fn far_fault(&self, path: &Path) -> Option<Fault> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = known.get(path)?;
        seen.fault.clone().filter(|_| seen.until.is_some_and(|until| Instant::now() < until))
    }

    fn fault(&self, table: &str, file: &DataFile) -> Option<Fault> {
        let meta = match std::fs::metadata(&file.path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Some(Fault::lost(MISSING));
            }
            Err(error) => return Some(Fault::lost(error.to_string())),
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
        let (alike, fault) = match alike(self.place.as_ref(), table, file, bytes) {
            Ok(alike) => (alike, None),
            Err(reason) => (Alike::default(), Some(Fault::lost(reason))),
        };
        self.remember(&file.path, Seen { bytes, modified, fault: fault.clone(), alike, until: None });
        fault
    }

    fn remember(&self, path: &Path, seen: Seen) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(path.to_owned(), seen);
    }
}

fn no_answer_of(error: &std::io::Error) -> Fault {
    Fault { reason: format!("the object store does not answer: {}", crate::error::chain(error)), lost: false }
}

/// What breaks when the whole file is read, as the engine does it and, of histograms, as we do.
fn page_fault(path: &Path) -> Option<String> {
    let read = || -> Result<(), String> {
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        let again = file.try_clone().map_err(|error| error.to_string())?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
        for batch in builder.build().map_err(|error| error.to_string())? {
            batch.map_err(|error| error.to_string())?;
        }
        search(&again).map_err(|error| error.to_string())
    };
    // Decoders have been known to panic on bytes no encoder writes.
    std::panic::catch_unwind(read).unwrap_or_else(|_| Err("its pages do not decode".to_owned())).err()
}

/// What all rows of the file have, or what is wrong with its footer.
fn alike(place: &dyn Place, table: &str, file: &DataFile, bytes: u64) -> Result<Alike, String> {
    if file.bytes > 0 && bytes != file.bytes {
        return Err(format!("{bytes} bytes, {} were written", file.bytes));
    }
    let opened = place.open(&file.path, None).map_err(|error| error.to_string())?;
    let footer = ParquetMetaDataReader::new().parse_and_finish(&opened).map_err(|error| error.to_string())?;
    let rows = u64::try_from(footer.file_metadata().num_rows()).ok();
    if file.rows.is_some() && rows != file.rows {
        return Err("its rows are not those written".to_owned());
    }
    Ok(Alike::of(table, &footer))
}
