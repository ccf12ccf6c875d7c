//! The Delta log, as far as this writer needs it: reader version 1, writer version 2, JSON commits and checkpoints.
//!
//! A commit is one file `_delta_log/<version, 20 digits>.json`, one action a line. Its name must be free when it is made
//! ([`Place::put_new`](super::place::Place::put_new)), so of two writers that race for a version one wins and the other
//! reads what it missed and takes the next.
//!
//! Reading begins at the newest checkpoint that is whole; commits before it need not be there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::action::{Action, Add, MetaData, Protocol, Remove, Txn};
use super::checkpoint::{self, CheckpointError};
use super::folders::Folders;
use super::place::SharedPlace;

/// Writers of this version know every action this program does; a log that asks for more may hold others, which a
/// checkpoint of ours would leave out.
const KNOWN_WRITER_VERSION: i64 = 2;

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
    /// A checkpoint cannot be used, and the commits before it are gone.
    #[error("{} cannot be used: {source}", path.display())]
    Checkpoint {
        /// Which.
        path: PathBuf,
        /// Why.
        source: CheckpointError,
    },
    /// Somebody else changed what this commit depends on.
    #[error("another collector changed the files beside it meanwhile")]
    Moved,
    /// Somebody else took a file out that this commit was to take out.
    #[error("{file} is not live any more")]
    Conflict {
        /// Its path in the table.
        file: String,
    },
}

/// A table's log as it stands after the commits read so far.
#[derive(Debug, Clone)]
pub struct DeltaLog {
    place: SharedPlace,
    dir: PathBuf,
    /// Who commits, in the names of files that are not commits yet.
    writer: String,
    /// The next version that is not read.
    next: u64,
    /// The newest checkpoint this one knows of.
    checkpoint: Option<u64>,
    protocol: Option<Protocol>,
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
    /// Reads the log of the table in `folder` on the real disk; a folder without one is a new table. `writer` must be one
    /// process's own.
    ///
    /// # Errors
    /// [`DeltaError`]; nothing may be written to this table before somebody has looked.
    pub fn open(folder: &Path, writer: &str) -> Result<Self, DeltaError> {
        Self::open_at(&(Arc::new(Folders::default()) as SharedPlace), folder, writer)
    }

    /// As [`DeltaLog::open`], of a table in this place.
    ///
    /// # Errors
    /// As [`DeltaLog::open`].
    pub fn open_at(place: &SharedPlace, folder: &Path, writer: &str) -> Result<Self, DeltaError> {
        Self::new(place, folder.join("_delta_log"), writer).read_anew()
    }

    fn new(place: &SharedPlace, dir: PathBuf, writer: &str) -> Self {
        Self {
            place: Arc::clone(place),
            dir,
            writer: writer.to_owned(),
            next: 0,
            checkpoint: None,
            protocol: None,
            live: BTreeMap::new(),
            removed: BTreeMap::new(),
            txns: BTreeMap::new(),
            meta_data: None,
        }
    }

    /// The same log, read from its newest checkpoint on.
    fn read_anew(&self) -> Result<Self, DeltaError> {
        let mut listed = self.list()?;
        loop {
            match self.read_listed(&listed) {
                Err(error @ (DeltaError::Hole { .. } | DeltaError::Checkpoint { .. })) => {
                    // Another collector may have written a checkpoint and taken away what it makes unneeded.
                    let again = self.list()?;
                    if again == listed {
                        return Err(error);
                    }
                    listed = again;
                }
                read => return read,
            }
        }
    }

    /// The log of which there are these commits and checkpoints.
    fn read_listed(&self, (commits, checkpoints): &(BTreeSet<u64>, BTreeSet<u64>)) -> Result<Self, DeltaError> {
        let mut log = Self::new(&self.place, self.dir.clone(), &self.writer);
        let mut broken = None;
        for &version in checkpoints.iter().rev() {
            let path = checkpoint::path(&log.dir, version);
            match checkpoint::read(log.place.as_ref(), &path) {
                Ok(actions) => {
                    actions.into_iter().try_for_each(|action| log.apply(action, &path))?;
                    (log.next, log.checkpoint) = (version + 1, Some(version));
                    break;
                }
                Err(source) => {
                    tracing::error!(file = %path.display(), error = %crate::error::chain(&source),
                        "a checkpoint cannot be read; trying what came before it");
                    broken = broken.or(Some((version, DeltaError::Checkpoint { path, source })));
                }
            }
        }
        log.refresh()?;
        match broken {
            Some((version, error)) if version >= log.next => Err(error),
            _ if commits.last().is_some_and(|&last| last >= log.next) => {
                Err(DeltaError::Hole { path: log.commit_path(log.next) })
            }
            _ => Ok(log),
        }
    }

    /// How many versions were read: the next commit's number.
    pub fn version(&self) -> u64 {
        self.next
    }

    /// Reads commits made since. Returns how many there were.
    ///
    /// # Errors
    /// As [`DeltaLog::open`].
    pub fn refresh(&mut self) -> Result<u64, DeltaError> {
        let before = self.next;
        loop {
            let path = self.commit_path(self.next);
            let read = self.place.read(&path);
            let read = read.and_then(|bytes| String::from_utf8(bytes.into()).map_err(io::Error::other));
            let text = match read {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.was_left_behind()? {
                        *self = self.read_anew()?;
                    }
                    return Ok(self.next.saturating_sub(before));
                }
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
    /// [`DeltaError::Conflict`] when a file it removes is not live: look again at what is. Any other [`DeltaError`]; the
    /// commit is then not in the log, except when only the last sync of the folder failed: reading
    /// the log anew tells.
    pub fn commit(&mut self, actions: &[Action]) -> Result<(), DeltaError> {
        self.commit_if(actions, |_| true)
    }

    /// As [`DeltaLog::commit`], if `holds` of the log as it stands before.
    ///
    /// # Errors
    /// [`DeltaError::Moved`] when it does not hold: look again. Otherwise as [`DeltaLog::commit`].
    pub fn commit_if(&mut self, actions: &[Action], holds: impl Fn(&Self) -> bool) -> Result<(), DeltaError> {
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
        loop {
            if self.was_left_behind()? {
                self.refresh()?;
            }
            if let Some(file) = self.first_not_live(actions) {
                return Err(DeltaError::Conflict { file });
            }
            if !holds(self) {
                return Err(DeltaError::Moved);
            }
            let path = self.commit_path(self.next);
            match self.place.put_new(&path, text.as_bytes(), &self.writer) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => drop(self.refresh()?),
                Err(source) => return Err(io_error("create", &path, source)),
            }
        }
        self.place.settle(&self.dir).map_err(|source| io_error("sync", &self.dir, source))?;
        self.refresh().map(|_| ())
    }

    /// Makes the commits read so far durable, whoever made them: a writer that died may not have come to it.
    ///
    /// # Errors
    /// [`DeltaError::Io`]; what the log says may be gone after a power loss.
    pub fn make_durable(&self) -> Result<(), DeltaError> {
        match self.place.settle(&self.dir) {
            Err(error) if self.next == 0 && error.kind() == io::ErrorKind::NotFound => Ok(()),
            settled => settled.map_err(|source| io_error("sync", &self.dir, source)),
        }
    }

    fn apply(&mut self, action: Action, path: &Path) -> Result<(), DeltaError> {
        if let Some(protocol) = action.protocol {
            if protocol.min_reader_version > 1 {
                return Err(DeltaError::Protocol { path: path.to_owned(), version: protocol.min_reader_version });
            }
            self.protocol = Some(protocol);
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

    /// Whether others cleaned away commits that were not read yet: the next version is then not free, it is gone.
    fn was_left_behind(&self) -> Result<bool, DeltaError> {
        if self.next == 0 || self.checkpoint == Some(self.next - 1) {
            return Ok(false);
        }
        let path = self.commit_path(self.next - 1);
        let about = self.place.about(&path).map_err(|source| io_error("examine", &path, source))?;
        Ok(about.is_none())
    }

    fn first_not_live(&self, actions: &[Action]) -> Option<String> {
        let mut removed = actions.iter().filter_map(|action| action.remove.as_ref());
        removed.find(|remove| !self.live.contains_key(&remove.path)).map(|remove| remove.path.clone())
    }

    /// Commits since the newest checkpoint.
    pub fn commits_since_checkpoint(&self) -> u64 {
        self.checkpoint.map_or(self.next, |version| self.next.saturating_sub(version + 1))
    }

    /// Writes a checkpoint of what was read. Returns its version; `None` where there is nothing to write, or more in the
    /// log than this program knows.
    ///
    /// # Errors
    /// [`DeltaError::Checkpoint`]; the log is as good without it.
    pub fn write_checkpoint(&mut self) -> Result<Option<u64>, DeltaError> {
        let known = self.protocol.as_ref().is_some_and(|protocol| protocol.min_writer_version <= KNOWN_WRITER_VERSION);
        let Some(version) = self.next.checked_sub(1).filter(|_| known) else { return Ok(None) };
        checkpoint::write(self.place.as_ref(), &self.dir, &self.writer, version, &self.state())
            .map_err(|source| DeltaError::Checkpoint { path: checkpoint::path(&self.dir, version), source })?;
        self.checkpoint = Some(version);
        Ok(Some(version))
    }

    /// Removes commits and checkpoints that a checkpoint of at least this age makes unneeded. Returns how many.
    ///
    /// # Errors
    /// [`DeltaError::Io`]; what is left goes the next time.
    pub fn clean(&self, age: Duration) -> Result<usize, DeltaError> {
        let (commits, checkpoints) = self.list()?;
        let is_old = |version: &&u64| {
            let about = self.place.about(&checkpoint::path(&self.dir, **version)).ok().flatten();
            let made = about.and_then(|about| about.modified).unwrap_or_else(SystemTime::now);
            SystemTime::now().duration_since(made).is_ok_and(|since| since >= age)
        };
        let Some(&from) = checkpoints.iter().rev().find(is_old) else { return Ok(0) };
        let commits = commits.range(..from).map(|&version| self.commit_path(version));
        let checkpoints = checkpoints.range(..from).map(|&version| checkpoint::path(&self.dir, version));
        let mut gone = 0;
        // Oldest first, so that what is left has no hole.
        for path in commits.chain(checkpoints) {
            match self.place.remove(&path) {
                // Another collector does the same.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                removed => removed.map_err(|source| io_error("remove", &path, source))?,
            }
            gone += 1;
        }
        Ok(gone)
    }

    /// All that is true now, as actions.
    fn state(&self) -> Vec<Action> {
        let protocol =
            self.protocol.iter().map(|protocol| Action { protocol: Some(protocol.clone()), ..Action::default() });
        let meta = self.meta_data.iter().map(|meta| Action { meta_data: Some(meta.clone()), ..Action::default() });
        let txns = self.txns.iter().map(|(app, &version)| {
            let txn = Txn { app_id: app.clone(), version, last_updated: None };
            Action { txn: Some(txn), ..Action::default() }
        });
        let adds = self.live.values().map(|add| Action { add: Some(add.clone()), ..Action::default() });
        let removes = self.removed.values().map(|remove| Action { remove: Some(remove.clone()), ..Action::default() });
        protocol.chain(meta).chain(txns).chain(adds).chain(removes).collect()
    }

    /// Versions of the commits and of the checkpoints there are.
    fn list(&self) -> Result<(BTreeSet<u64>, BTreeSet<u64>), DeltaError> {
        let mut found = (BTreeSet::new(), BTreeSet::new());
        for name in &self.place.list(&self.dir).map_err(|source| io_error("list", &self.dir, source))? {
            found.0.extend(name.strip_suffix(".json").and_then(|version| version.parse::<u64>().ok()));
            found.1.extend(checkpoint::parse_name(name));
        }
        Ok(found)
    }

    fn commit_path(&self, version: u64) -> PathBuf {
        self.dir.join(format!("{version:020}.json"))
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> DeltaError {
    DeltaError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
