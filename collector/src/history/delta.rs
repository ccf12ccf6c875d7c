//! The Delta log, as far as an appending writer needs it: reader version 1, writer version 2, JSON commits.
//!
//! A commit is one file `_delta_log/<version, 20 digits>.json`, one action a line. It is written under another name,
//! synced, and then linked to its name: `link` fails when the name is taken, so of two writers that race for a version
//! one wins and the other reads what it missed and takes the next.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::parquet_file::{create_dir_durably, sync_dir};

/// Why the log could not be read or written.
#[derive(Debug, Error)]
pub enum DeltaError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not an action.
    #[error("{} line {line} is not a Delta action", path.display())]
    Malformed {
        /// Which commit.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A commit between others is missing.
    #[error("{} is missing; the log goes on behind it", path.display())]
    Hole {
        /// The one missing.
        path: PathBuf,
    },
    /// A writer that asks more of its readers than this one can give.
    #[error("{} needs Delta reader version {version}, this program has 1", path.display())]
    Protocol {
        /// Which commit.
        path: PathBuf,
        /// What it asks for.
        version: i64,
    },
}

/// One line of a commit. Unknown actions read as none of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// What a reader and a writer must be able to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<MetaData>,
    /// A file becomes live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Add>,
    /// A file stops being live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Remove>,
    /// How far an application has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txn: Option<Txn>,
}

/// See [`Action::protocol`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// Ours is 1.
    pub min_reader_version: i64,
    /// Ours is 2.
    pub min_writer_version: i64,
}

/// See [`Action::meta_data`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaData {
    /// A UUID.
    pub id: String,
    /// Always Parquet.
    pub format: Format,
    /// The schema, as JSON in a string.
    pub schema_string: String,
    /// Columns that stand in the folders' names.
    pub partition_columns: Vec<String>,
    /// Table properties.
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
}

/// See [`MetaData::format`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Format {
    /// `parquet`.
    pub provider: String,
    /// None.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// See [`Action::add`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    /// Below the table's folder, percent-encoded.
    pub path: String,
    /// As in the path.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub size: i64,
    /// Milliseconds since the epoch.
    pub modification_time: i64,
    /// Whether it brings new rows (a compaction does not).
    pub data_change: bool,
    /// [`Stats`] as JSON in a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
}

/// What is known of a file's rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Rows.
    pub num_records: i64,
    /// Smallest value by column; ours hold `time` only.
    #[serde(default)]
    pub min_values: BTreeMap<String, serde_json::Value>,
    /// Largest value by column.
    #[serde(default)]
    pub max_values: BTreeMap<String, serde_json::Value>,
}

/// See [`Action::remove`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remove {
    /// As in [`Add::path`].
    pub path: String,
    /// Whether rows go (a compaction keeps them elsewhere).
    #[serde(default)]
    pub data_change: bool,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
}

/// See [`Action::txn`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    /// Which application; ours is the collector's id.
    pub app_id: String,
    /// How far; ours is the last WAL segment.
    pub version: i64,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

/// A table's log as it stands after the commits read so far.
#[derive(Debug, Clone, Default)]
pub struct DeltaLog {
    dir: PathBuf,
    /// Who commits, in the names of files that are not commits yet.
    writer: String,
    /// The next version that is not read.
    next: u64,
    /// Live files by path.
    pub live: BTreeMap<String, Add>,
    /// Files that were live once and are not now; they go when somebody vacuums.
    pub removed: BTreeMap<String, Remove>,
    /// How far every application has come.
    pub txns: BTreeMap<String, i64>,
    /// The table, once there is a first commit.
    pub meta_data: Option<MetaData>,
}

impl DeltaLog {
    /// Reads the log of the table in `folder`; a folder without one is a new table. `writer` must be one process's own.
    ///
    /// # Errors
    /// [`DeltaError`]; nothing may be written to this table before somebody has looked.
    pub fn open(folder: &Path, writer: &str) -> Result<Self, DeltaError> {
        let mut log = Self { dir: folder.join("_delta_log"), writer: writer.to_owned(), ..Self::default() };
        log.refresh()?;
        log.check_no_hole()?;
        Ok(log)
    }

    /// Reads commits made since. Returns how many there were.
    ///
    /// # Errors
    /// As [`DeltaLog::open`].
    pub fn refresh(&mut self) -> Result<u64, DeltaError> {
        let before = self.next;
        loop {
            let path = self.commit_path(self.next);
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.next - before),
                Err(source) => return Err(DeltaError::Io { action: "read", path, source }),
            };
            for (line, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
                let action = serde_json::from_str(text).map_err(|source| DeltaError::Malformed {
                    path: path.clone(),
                    line: line + 1,
                    source,
                })?;
                self.apply(action, &path)?;
            }
            self.next += 1;
        }
    }

    /// Appends a commit; on return its files are live and durable.
    ///
    /// # Errors
    /// [`DeltaError`]; the commit is then not in the log, except when only the last sync of the folder failed: reading
    /// the log anew tells.
    pub fn commit(&mut self, actions: &[Action]) -> Result<(), DeltaError> {
        create_dir_durably(&self.dir).map_err(|source| io_error("create", &self.dir, source))?;
        let mut text = String::new();
        for action in actions {
            let line = serde_json::to_string(action).map_err(|source| DeltaError::Malformed {
                path: self.commit_path(self.next),
                line: 0,
                source,
            })?;
            text.push_str(&line);
            text.push('\n');
        }
        let temporary = self.dir.join(format!(".commit-{}.tmp", self.writer));
        write_synced(&temporary, text.as_bytes()).map_err(|source| io_error("write", &temporary, source))?;
        let linked = loop {
            let path = self.commit_path(self.next);
            match std::fs::hard_link(&temporary, &path) {
                Ok(()) => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if let Err(error) = self.refresh() {
                        break Err(error);
                    }
                }
                Err(source) => break Err(io_error("create", &path, source)),
            }
        };
        // The link is what counts; the next commit removes a leftover name before it writes under it.
        let _left_behind = std::fs::remove_file(&temporary).is_err();
        linked?;
        sync_dir(&self.dir).map_err(|source| io_error("sync", &self.dir, source))?;
        self.refresh().map(|_| ())
    }

    /// Makes the commits read so far durable, whoever made them: a writer that died may not have come to it.
    ///
    /// # Errors
    /// [`DeltaError::Io`]; what the log says may be gone after a power loss.
    pub fn make_durable(&self) -> Result<(), DeltaError> {
        match sync_dir(&self.dir) {
            Err(error) if self.next == 0 && error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(|source| io_error("sync", &self.dir, source)),
        }
    }

    fn apply(&mut self, action: Action, path: &Path) -> Result<(), DeltaError> {
        if let Some(protocol) = action.protocol
            && protocol.min_reader_version > 1
        {
            return Err(DeltaError::Protocol { path: path.to_owned(), version: protocol.min_reader_version });
        }
        if let Some(meta_data) = action.meta_data {
            self.meta_data = Some(meta_data);
        }
        if let Some(remove) = action.remove {
            self.live.remove(&remove.path);
            self.removed.insert(remove.path.clone(), remove);
        }
        if let Some(add) = action.add {
            self.removed.remove(&add.path);
            self.live.insert(add.path.clone(), add);
        }
        if let Some(txn) = action.txn {
            self.txns.insert(txn.app_id, txn.version);
        }
        Ok(())
    }

    fn check_no_hole(&self) -> Result<(), DeltaError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(io_error("list", &self.dir, source)),
        };
        for entry in entries {
            let name = entry.map_err(|source| io_error("list", &self.dir, source))?.file_name();
            let version = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|v| v.parse::<u64>().ok());
            if version.is_some_and(|version| version >= self.next) {
                return Err(DeltaError::Hole { path: self.commit_path(self.next) });
            }
        }
        Ok(())
    }

    fn commit_path(&self, version: u64) -> PathBuf {
        self.dir.join(format!("{version:020}.json"))
    }
}

/// Writes a new file. A name left over by a crash may be a second one of a commit, so it goes before anything is written.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> DeltaError {
    DeltaError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
