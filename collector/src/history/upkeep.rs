//! Files that take the place of others, and files that go.
//!
//! Whatever is replaced or expired first leaves the log, in one commit; the file itself stays for a time of grace, for
//! readers that have its name already. Only files are touched that this collector wrote, or one that is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use skep_seglog::SegmentId;

use super::action::{Action, Add, Remove};
use super::batches::Batches;
use super::delta::{DeltaError, DeltaLog};
use super::parquet_file::{Draft, WriteError, Written};
use super::path::{FileName, Hour, Merged};
use super::place::Place;
use super::table::{Content, DataFile, HistoryError, TableHistory, add, data_file, now_ms};

/// How long the log remembers a file of another writer that is not live any more; their own vacuums take as long.
const FOREIGN_REMOVED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// A live file that a collector wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourFile {
    /// Below the table's folder, as the log has it.
    pub path: String,
    /// What its name says.
    pub name: FileName,
    /// The hour its rows are of.
    pub hour: Hour,
    /// What the log says of it.
    pub file: DataFile,
}

impl HourFile {
    /// Length its windows were brought to, in seconds; 0 for rows as they came.
    pub fn window_s(&self) -> u32 {
        self.name.merged.as_ref().map_or(0, |merged| merged.window_s)
    }

    /// Whether its rows are sums over several batches.
    pub fn is_summed(&self) -> bool {
        self.window_s() > 0
    }
}

/// What has to be true of an hour when files of it are replaced, where others write to it too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// These are live: something was left out because they have it.
    pub relied_on: BTreeSet<String>,
    /// Of sums that are to come in: the hour, and its files with sums that were looked at. There are no others.
    pub sums: Option<(Hour, BTreeSet<String>)>,
}

impl Guard {
    fn holds(&self, log: &DeltaLog) -> bool {
        let is_known = |sums: &BTreeSet<String>, hour: Hour| {
            let prefix = format!("{}/", hour.folders());
            let of_hour = log.live.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
            let mut names = of_hour.filter_map(|(path, _)| Some((path, FileName::parse(path.rsplit('/').next()?)?)));
            names.all(|(path, name)| name.merged.is_none_or(|merged| merged.window_s == 0) || sums.contains(path))
        };
        self.relied_on.iter().all(|path| log.live.contains_key(path))
            && self.sums.as_ref().is_none_or(|(hour, sums)| is_known(sums, *hour))
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

    /// See [`Draft::sum_of`].
    pub fn sum_of(&mut self, batches: &Batches) {
        self.draft.sum_of(batches);
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
    /// Live files of this collector and of those that are gone, oldest hour first, as the log stands now.
    ///
    /// # Errors
    /// [`HistoryError::Delta`].
    pub fn own_files(&mut self) -> Result<Vec<HourFile>, HistoryError> {
        self.log.refresh().map_err(|source| HistoryError::Delta { table: self.table.name, source })?;
        let files = self.log.live.iter().filter_map(|(path, add)| hour_file(&self.folder, path, add));
        // Their paths sort as their hours do.
        Ok(files.filter(|file| self.may_change(&file.name)).collect())
    }

    /// Live files in the hour of `inputs`, but for those among them.
    pub fn others_of_hour(&self, inputs: &[HourFile]) -> Vec<HourFile> {
        let Some(hour) = inputs.first().map(|input| input.hour) else { return Vec::new() };
        let prefix = format!("{}/", hour.folders());
        let of_hour = self.log.live.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let others = of_hour.filter(|(path, _)| inputs.iter().all(|input| input.path != **path));
        others.filter_map(|(path, add)| hour_file(&self.folder, path, add)).collect()
    }

    /// Takes the files of these collectors for its own from now on.
    pub fn adopt(&mut self, gone: &BTreeSet<String>) {
        self.gone.clone_from(gone);
    }

    fn may_change(&self, name: &FileName) -> bool {
        name.collector == self.collector || self.gone.contains(&name.collector)
    }

    /// Begins the file that is to take the place of `inputs`, all of one hour, with windows of `window_s` seconds (0: as
    /// they are). The same inputs for the same `purpose` make the same name.
    ///
    /// # Errors
    /// [`HistoryError::Write`].
    pub fn replacement(&self, inputs: &[HourFile], window_s: u32, purpose: &str) -> Result<Replacement, HistoryError> {
        let hour = inputs.first().map_or(Hour::of(0), |input| input.hour);
        // Others' segments say nothing of this collector's WAL.
        let segments = || inputs.iter().map(|input| &input.name).filter(|name| name.collector == self.collector);
        let name = FileName {
            collector: self.collector.clone(),
            first: segments().map(|name| name.first).min().unwrap_or(SegmentId(0)),
            last: segments().map(|name| name.last).max().unwrap_or(SegmentId(0)),
            merged: Some(Merged { digest: digest(inputs, purpose), window_s }),
        };
        let path = name.build(hour);
        let write = |source| HistoryError::Write { table: self.table.name, source };
        let mut draft = Draft::new(self.place.as_ref(), &self.folder.join(&path), self.table).map_err(write)?;
        let inputs: Vec<String> = inputs.iter().map(|input| input.path.clone()).collect();
        draft.made_of(&inputs);
        Ok(Replacement { hour, path, inputs, draft })
    }

    /// Puts a replacement in the place of what it replaces, in one commit. Returns its size in bytes.
    ///
    /// # Errors
    /// [`HistoryError::Delta`]; nothing has changed then but for a file no commit names.
    pub fn replace(&mut self, finished: Finished, rows: Rows, guard: &Guard) -> Result<u64, HistoryError> {
        let Finished { hour, path, inputs, written } = finished;
        let table = self.table.name;
        let (first_us, last_us) = rows.times_us;
        let file = self.folder.join(&path);
        let add_path = path.clone();
        let mut add = add(path, hour, &Content { written, rows: rows.rows, first_us, last_us });
        add.data_change = rows.changed;
        let mut actions = removes(&inputs, rows.changed);
        actions.push(Action { add: Some(add), ..Action::default() });
        let committed = self.commit_guarded(&actions, guard);
        if let Err(DeltaError::Conflict { .. } | DeltaError::Moved) = &committed
            && !self.log.live.contains_key(&add_path)
        {
            // Certainly not live, unlike after an error of the file system. It would be if this very commit was taken for
            // failed the last time, and came through after all.
            remove_file(self.place.as_ref(), file)?;
        }
        committed.map(|()| written.bytes).map_err(|source| HistoryError::Delta { table, source })
    }

    /// Takes files out of the table, in one commit.
    ///
    /// # Errors
    /// [`HistoryError::Delta`]; nothing has changed then.
    pub fn remove(&mut self, files: &[HourFile], guard: &Guard) -> Result<(), HistoryError> {
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let committed = self.commit_guarded(&removes(&paths, true), guard);
        committed.map_err(|source| HistoryError::Delta { table: self.table.name, source })
    }

    fn commit_guarded(&mut self, actions: &[Action], guard: &Guard) -> Result<(), DeltaError> {
        self.log.commit_if(actions, |log| guard.holds(log))
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
            name.is_some_and(|name| self.may_change(&name))
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
            done.files += usize::from(remove_file(self.place.as_ref(), path)?);
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

fn hour_file(folder: &Path, path: &str, add: &Add) -> Option<HourFile> {
    let name = FileName::parse(path.rsplit('/').next()?)?;
    let (hour, file) = (Hour::of_path(path)?, data_file(folder, add));
    Some(HourFile { path: path.to_owned(), name, hour, file })
}

/// Whether there was a file.
fn remove_file(place: &dyn Place, path: PathBuf) -> Result<bool, HistoryError> {
    match place.remove(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(HistoryError::Tidy { path, source }),
    }
}

fn removes(paths: &[String], data_change: bool) -> Vec<Action> {
    let remove = |path: &String| Remove { path: path.clone(), data_change, deletion_timestamp: Some(now_ms()) };
    paths.iter().map(|path| Action { remove: Some(remove(path)), ..Action::default() }).collect()
}

fn digest(inputs: &[HourFile], purpose: &str) -> String {
    let mut digest = Sha256::new().chain_update(purpose);
    let mut paths: Vec<&str> = inputs.iter().map(|input| input.path.as_str()).collect();
    paths.sort_unstable();
    for path in paths {
        digest.update([0]);
        digest.update(path);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
