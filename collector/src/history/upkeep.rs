//! Files that take the place of others, and files that go.
//!
//! Whatever is replaced or expired first leaves the log, in one commit; the file itself stays for a time of grace, for
//! readers that have its name already. Only files this collector wrote are touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use skep_seglog::{SegmentId, Shared, Storage};

use super::action::{Action, Remove};
use super::delta::DeltaError;
use super::parquet_file::{Draft, WriteError, Written};
use super::path::{FileName, Hour, Merged};
use super::table::{Content, DataFile, HistoryError, TableHistory, add, data_file, now_ms};

/// How long the log remembers a file of another writer that is not live any more; their own vacuums take as long.
const FOREIGN_REMOVED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// A live file this collector wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFile {
    /// Below the table's folder, as the log has it.
    pub path: String,
    /// What its name says.
    pub name: FileName,
    /// The hour its rows are of.
    pub hour: Hour,
    /// What the log says of it.
    pub file: DataFile,
}

impl OwnFile {
    /// Length its windows were brought to, in seconds; 0 for rows as they came.
    pub fn window_s(&self) -> u32 {
        self.name.merged.as_ref().map_or(0, |merged| merged.window_s)
    }
}

/// A file that is to take the place of others, while it is written.
#[derive(Debug)]
pub struct Replacement {
    hour: Hour,
    path: String,
    inputs: Vec<String>,
    draft: Draft,
}

/// A file that is there to take the place of others.
#[derive(Debug)]
pub struct Finished {
    hour: Hour,
    path: String,
    inputs: Vec<String>,
    written: Written,
}

/// What the rows written to a [`Replacement`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// How many.
    pub rows: u64,
    /// Smallest and largest `time`, microseconds since the epoch.
    pub times_us: (i64, i64),
    /// Whether they are others than those of the files replaced.
    pub changed: bool,
}

/// What one vacuum did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files removed.
    pub files: usize,
    /// Files that wait only for a statement that reads them.
    pub read: usize,
}

impl Replacement {
    /// Adds rows; see [`Draft::write`].
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write(&mut self, rows: &arrow::array::RecordBatch) -> Result<(), WriteError> {
        self.draft.write(rows)
    }

    /// Makes the file durable; it is not live yet.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn finish(self) -> Result<Finished, WriteError> {
        let Self { hour, path, inputs, draft } = self;
        Ok(Finished { hour, path, inputs, written: draft.finish()? })
    }
}

impl TableHistory {
    /// Live files of this collector, oldest hour first, as the log stands now.
    ///
    /// # Errors
    /// [`HistoryError::Delta`].
    pub fn own_files(&mut self) -> Result<Vec<OwnFile>, HistoryError> {
        self.log.refresh().map_err(|source| HistoryError::Delta { table: self.table.name, source })?;
        let own = |path: &String, add| {
            let name = FileName::parse(path.rsplit('/').next()?)?;
            let hour = Hour::of_path(path)?;
            let file = data_file(&self.folder, add);
            (name.collector == self.collector).then(|| OwnFile { path: path.clone(), name, hour, file })
        };
        // Their paths sort as their hours do.
        Ok(self.log.live.iter().filter_map(|(path, add)| own(path, add)).collect())
    }

    /// Begins the file that is to take the place of `inputs`, all of one hour, with windows of `window_s` seconds (0: as
    /// they are). The same inputs for the same `purpose` make the same name.
    ///
    /// # Errors
    /// [`HistoryError::Write`].
    pub fn replacement(&self, inputs: &[OwnFile], window_s: u32, purpose: &str) -> Result<Replacement, HistoryError> {
        let hour = inputs.first().map_or(Hour::of(0), |input| input.hour);
        let name = FileName {
            collector: self.collector.clone(),
            first: inputs.iter().map(|input| input.name.first).min().unwrap_or(SegmentId(0)),
            last: inputs.iter().map(|input| input.name.last).max().unwrap_or(SegmentId(0)),
            merged: Some(Merged { digest: digest(inputs, purpose), window_s }),
        };
        let path = name.build(hour);
        let write = |source| HistoryError::Write { table: self.table.name, source };
        let mut draft = Draft::new(&self.folders, &self.folder.join(&path), self.table).map_err(write)?;
        let inputs: Vec<String> = inputs.iter().map(|input| input.path.clone()).collect();
        draft.made_of(&inputs);
        Ok(Replacement { hour, path, inputs, draft })
    }

    /// Puts a replacement in the place of what it replaces, in one commit. Returns its size in bytes.
    ///
    /// # Errors
    /// [`HistoryError::Delta`]; nothing has changed then but for a file no commit names.
    pub fn replace(&mut self, finished: Finished, rows: Rows) -> Result<u64, HistoryError> {
        let Finished { hour, path, inputs, written } = finished;
        let table = self.table.name;
        let (first_us, last_us) = rows.times_us;
        let file = self.folder.join(&path);
        let mut add = add(path, hour, &Content { written, rows: rows.rows, first_us, last_us });
        add.data_change = rows.changed;
        let mut actions = removes(&inputs, rows.changed);
        actions.push(Action { add: Some(add), ..Action::default() });
        let committed = self.log.commit(&actions);
        if let Err(DeltaError::Conflict { .. }) = &committed {
            // Certainly not live, unlike after an error of the file system.
            remove_file(self.folders.disk(), file)?;
        }
        committed.map(|()| written.bytes).map_err(|source| HistoryError::Delta { table, source })
    }

    /// Takes files out of the table, in one commit.
    ///
    /// # Errors
    /// [`HistoryError::Delta`]; nothing has changed then.
    pub fn remove(&mut self, files: &[OwnFile]) -> Result<(), HistoryError> {
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let removes = removes(&paths, true);
        self.log.commit(&removes).map_err(|source| HistoryError::Delta { table: self.table.name, source })
    }

    /// Removes files of this collector that have not been live for `grace` and that nobody reads by `is_read`.
    ///
    /// # Errors
    /// [`HistoryError::Tidy`]; what is left goes the next time.
    pub fn vacuum(&mut self, grace: Duration, is_read: impl Fn(&Path) -> bool) -> Result<Vacuumed, HistoryError> {
        let now_ms = now_ms();
        let older = |remove: &Remove, age: Duration| {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            remove.deletion_timestamp.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= age_ms)
        };
        let is_own = |path: &str| {
            let name = path.rsplit('/').next().and_then(FileName::parse);
            name.is_some_and(|name| name.collector == self.collector)
        };
        let (own, foreign): (Vec<_>, Vec<_>) = self.log.removed.iter().partition(|(path, _)| is_own(path));
        let mut forgotten: Vec<String> = foreign
            .iter()
            .filter(|(_, remove)| older(remove, FOREIGN_REMOVED_FOR))
            .map(|(path, _)| (*path).clone())
            .collect();
        let mut done = Vacuumed::default();
        let due: Vec<&String> =
            own.into_iter().filter(|(_, remove)| older(remove, grace)).map(|(path, _)| path).collect();
        if !due.is_empty() {
            // What a power loss could bring back to life must not lose its files.
            self.log.make_durable().map_err(|source| HistoryError::Delta { table: self.table.name, source })?;
        }
        for relative in due {
            let path = self.folder.join(relative);
            if is_read(&path) {
                done.read += 1;
                continue;
            }
            done.files += usize::from(remove_file(self.folders.disk(), path)?);
            forgotten.push(relative.clone());
        }
        forgotten.iter().for_each(|path| drop(self.log.removed.remove(path)));
        Ok(done)
    }

    /// Writes a checkpoint if there were `commits` of them since the last, and removes what is older than one of `age`.
    ///
    /// # Errors
    /// [`HistoryError::Delta`]; the table is as good without.
    pub fn keep_log(&mut self, commits: u64, age: Duration) -> Result<(), HistoryError> {
        let table = self.table.name;
        let delta = |source| HistoryError::Delta { table, source };
        self.log.refresh().map_err(delta)?;
        if self.log.commits_since_checkpoint() < commits {
            return Ok(());
        }
        if let Some(version) = self.log.write_checkpoint().map_err(delta)? {
            let gone = self.log.clean(age).map_err(delta)?;
            tracing::debug!(table, version, gone, "wrote a checkpoint of the log");
        }
        Ok(())
    }
}

/// Whether there was a file.
fn remove_file(disk: &Shared, path: PathBuf) -> Result<bool, HistoryError> {
    match disk.remove(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(HistoryError::Tidy { path, source }),
    }
}

fn removes(paths: &[String], data_change: bool) -> Vec<Action> {
    let remove = |path: &String| Remove { path: path.clone(), data_change, deletion_timestamp: Some(now_ms()) };
    paths.iter().map(|path| Action { remove: Some(remove(path)), ..Action::default() }).collect()
}

fn digest(inputs: &[OwnFile], purpose: &str) -> String {
    let mut digest = Sha256::new().chain_update(purpose);
    let mut paths: Vec<&str> = inputs.iter().map(|input| input.path.as_str()).collect();
    paths.sort_unstable();
    for path in paths {
        digest.update([0]);
        digest.update(path);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
