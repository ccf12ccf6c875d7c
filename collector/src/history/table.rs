//! One table's folder: what is live, and how a segment's rows get there exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use skep_seglog::SegmentId;
use skep_wire::tables::Table;
use thiserror::Error;

use super::action::{Action, Add, CHECKSUM, Format, MetaData, Protocol, Stats, Txn};
use super::delta::{DeltaError, DeltaLog};
use super::delta_schema::{PARTITION_COLUMNS, covers, schema_string};
use super::parquet_file::{self, Columns, WriteError, Written};
use super::partition::{Partition, partition};
use super::path::{FileName, Hour};
use super::place::SharedPlace;

/// No request is on its way for so long.
const ON_ITS_WAY: Duration = Duration::from_secs(3600);

/// A live Parquet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size by the Delta log, in bytes.
    pub bytes: u64,
    /// Its rows by the Delta log; `None` where the writer did not say.
    pub rows: Option<u64>,
    /// Smallest and largest `time` in it, microseconds since the epoch, where the writer said.
    pub times_us: Option<(i64, i64)>,
    /// CRC-32C of the whole file, where the writer said.
    pub crc32c: Option<u32>,
}

/// Why history could not be read or written.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The Delta log.
    #[error("table {table}: {source}")]
    Delta {
        /// Which table.
        table: &'static str,
        /// Why.
        source: DeltaError,
    },
    /// A Parquet file.
    #[error("table {table}: {source}")]
    Write {
        /// Which table.
        table: &'static str,
        /// Why.
        source: WriteError,
    },
    /// Rows do not sort or split.
    #[error("table {table}: rows cannot be arranged")]
    Arrange {
        /// Which table.
        table: &'static str,
        /// Why.
        source: arrow::error::ArrowError,
    },
    /// There is no such table.
    #[error("there is no table {table}")]
    NoTable {
        /// Which.
        table: &'static str,
    },
    /// The folder cannot be searched for files left by a crash.
    #[error("cannot tidy {}", path.display())]
    Tidy {
        /// Which folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// One table's folder.
#[derive(Debug)]
pub struct TableHistory {
    pub(super) table: &'static Table,
    pub(super) place: SharedPlace,
    pub(super) folder: PathBuf,
    pub(super) collector: String,
    /// Collectors that are gone, whose files this one keeps in order.
    pub(super) gone: BTreeSet<String>,
    pub(super) log: DeltaLog,
}

impl TableHistory {
    pub(super) fn open(
        place: &SharedPlace,
        root: &Path,
        table: &'static Table,
        collector: &str,
    ) -> Result<Self, HistoryError> {
        let folder = root.join(table.name);
        let log = DeltaLog::open_at(place, &folder, collector)
            .map_err(|source| HistoryError::Delta { table: table.name, source })?;
        Ok(Self {
            table,
            place: Arc::clone(place),
            folder,
            collector: collector.to_owned(),
            gone: BTreeSet::new(),
            log,
        })
    }

    /// Last WAL segment whose rows are in.
    pub fn progress(&self) -> SegmentId {
        let version = self.log.txns.get(&self.collector).copied().unwrap_or(0);
        SegmentId(u64::try_from(version).unwrap_or(0))
    }

    /// Every collector that has a file, live or not.
    pub(super) fn writers(&self) -> BTreeSet<String> {
        let paths = self.log.live.keys().chain(self.log.removed.keys());
        paths.filter_map(|path| FileName::parse(path.rsplit('/').next()?)).map(|name| name.collector).collect()
    }

    /// Reads what others committed since. Returns how many commits there were.
    ///
    /// # Errors
    /// [`HistoryError::Delta`].
    pub fn refresh(&mut self) -> Result<u64, HistoryError> {
        self.log.refresh().map_err(|source| HistoryError::Delta { table: self.table.name, source })
    }

    /// Live files as the log stands.
    pub fn files(&self) -> Vec<DataFile> {
        self.log.live.values().map(|add| data_file(&self.folder, add)).collect()
    }

    /// Writes the rows of `segment` and commits them, unless they are in already. Returns (rows, files) written.
    ///
    /// # Errors
    /// [`HistoryError`]; call again later with the same rows.
    pub fn append(&mut self, segment: SegmentId, batches: &[RecordBatch]) -> Result<(usize, usize), HistoryError> {
        let table = self.table.name;
        let delta = |source| HistoryError::Delta { table, source };
        self.log.refresh().map_err(delta)?;
        if self.progress() >= segment {
            // A commit that was made and not synced is no reason to let the WAL's segment go.
            self.log.make_durable().map_err(delta)?;
            return Ok((0, 0));
        }
        let parts = partition(self.table, batches).map_err(|source| HistoryError::Arrange { table, source })?;
        let mut files = Vec::with_capacity(parts.len() + 1);
        let mut rows = 0;
        for part in &parts {
            rows += part.rows();
            let add = self.write(segment, part).map_err(|source| HistoryError::Write { table, source })?;
            files.push(Action { add: Some(add), ..Action::default() });
        }
        files.push(Action {
            txn: Some(Txn {
                app_id: self.collector.clone(),
                version: i64::try_from(segment.0).unwrap_or(i64::MAX),
                last_updated: Some(now_ms()),
            }),
            ..Action::default()
        });
        self.commit_files(&files).map_err(delta)?;
        Ok((rows, parts.len()))
    }

    /// Commits new files, and before them what the log does not say yet of the table.
    fn commit_files(&mut self, files: &[Action]) -> Result<(), DeltaError> {
        loop {
            let known = self.log.meta_data.clone();
            let table = self.table_actions();
            let is_told = table.is_empty();
            match self.log.commit_if(&[table.as_slice(), files].concat(), |log| is_told || log.meta_data == known) {
                // Another collector said it first.
                Err(DeltaError::Moved) => {}
                committed => return committed,
            }
        }
    }

    /// What a first commit has to say, and any commit after the table got new columns.
    fn table_actions(&self) -> Vec<Action> {
        let schema_string = schema_string(self.table);
        let known = self.log.meta_data.as_ref();
        // One with more columns is a newer collector's.
        if known.is_some_and(|known| covers(&known.schema_string, &schema_string)) {
            return Vec::new();
        }
        let mut actions = Vec::new();
        if known.is_none() {
            let protocol = Protocol { min_reader_version: 1, min_writer_version: 2 };
            actions.push(Action { protocol: Some(protocol), ..Action::default() });
        }
        let meta_data = MetaData {
            id: known.map_or_else(|| table_id(self.table.name, &self.collector), |known| known.id.clone()),
            format: Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
            schema_string,
            partition_columns: PARTITION_COLUMNS.map(str::to_owned).to_vec(),
            configuration: known.map(|known| known.configuration.clone()).unwrap_or_default(),
            created_time: known.map_or_else(|| Some(now_ms()), |known| known.created_time),
        };
        actions.push(Action { meta_data: Some(meta_data), ..Action::default() });
        actions
    }

    fn write(&self, segment: SegmentId, part: &Partition<'_>) -> Result<Add, WriteError> {
        let name = FileName { collector: self.collector.clone(), first: segment, last: segment, merged: None };
        let path = name.build(part.hour);
        let written = parquet_file::write(self.place.as_ref(), &self.folder.join(&path), self.table, part)?;
        let rows = part.rows() as u64;
        Ok(add(path, part.hour, &Content { written, rows, first_us: part.first_us, last_us: part.last_us }))
    }

    pub(super) fn tidy(&self, wal: &BTreeSet<SegmentId>) -> Result<usize, HistoryError> {
        self.log.make_durable().map_err(|source| HistoryError::Delta { table: self.table.name, source })?;
        let mut gone = 0;
        for path in self.list_hours()? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (whole, finished) = name.strip_suffix(".tmp").map_or((name, true), |whole| (whole, false));
            let Some(file) = FileName::parse(whole).filter(|file| file.collector == self.collector) else { continue };
            let relative = path.strip_prefix(&self.folder).ok().and_then(|path| path.to_str()).unwrap_or_default();
            if self.log.live.contains_key(relative) || self.log.removed.contains_key(relative) {
                continue;
            }
            let elsewhere = if file.merged.is_some() { self.has_inputs(&path) } else { self.is_in(wal, &file) };
            if finished && !elsewhere {
                tracing::error!(file = %path.display(), "no commit names this file and its rows are nowhere else; it is kept, and not read");
                continue;
            }
            if self.may_be_committed_yet(&path)? {
                continue;
            }
            self.place.remove(&path).map_err(|source| HistoryError::Tidy { path: path.clone(), source })?;
            tracing::info!(file = %path.display(), "removed a file no commit names; its rows are elsewhere");
            gone += 1;
        }
        Ok(gone)
    }

    pub(super) fn newest(&self) -> Result<SegmentId, HistoryError> {
        let paths = self.list_hours()?;
        let names = paths.iter().filter_map(|path| FileName::parse(path.file_name()?.to_str()?));
        let ours = names.filter(|file| file.collector == self.collector).map(|file| file.last);
        Ok(ours.max().unwrap_or(SegmentId(0)).max(self.progress()))
    }

    /// Whether a commit that names this file may still be on its way to a place far away, from a process that is gone. The
    /// file is harmless until then: the same rows get the same name again.
    fn may_be_committed_yet(&self, path: &Path) -> Result<bool, HistoryError> {
        if !self.place.is_remote() {
            return Ok(false);
        }
        let tidy = |source| HistoryError::Tidy { path: path.to_owned(), source };
        let modified = self.place.about(path).map_err(tidy)?.and_then(|about| about.modified);
        let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        Ok(age.is_none_or(|age| age < ON_ITS_WAY))
    }

    fn list_hours(&self) -> Result<Vec<PathBuf>, HistoryError> {
        self.place.list_hours(&self.folder).map_err(|(path, source)| HistoryError::Tidy { path, source })
    }

    /// Whether everything a merged file was made of is live.
    fn has_inputs(&self, path: &Path) -> bool {
        parquet_file::inputs(self.place.as_ref(), path)
            .is_some_and(|inputs| inputs.iter().all(|input| self.log.live.contains_key(input)))
    }

    /// Whether a file's rows are still to come from the WAL: all of its segments are there, and none is committed.
    fn is_in(&self, wal: &BTreeSet<SegmentId>, file: &FileName) -> bool {
        let segments =
            usize::try_from(file.last.0.saturating_sub(file.first.0)).map_or(usize::MAX, |n| n.saturating_add(1));
        file.first > self.progress() && file.first <= file.last && wal.range(file.first..=file.last).count() == segments
    }
}

pub(crate) fn data_file(folder: &Path, add: &Add) -> DataFile {
    let stats: Option<Stats> = add.stats.as_deref().and_then(|stats| serde_json::from_str(stats).ok());
    let time = |values: &BTreeMap<String, serde_json::Value>| -> Option<i64> {
        let text = values.get("time")?.as_str()?;
        text.parse::<jiff::Timestamp>().ok().map(|time| time.as_microsecond())
    };
    // Other writers cut the largest time down to milliseconds.
    let times_us =
        stats.as_ref().and_then(|stats| Some((time(&stats.min_values)?, time(&stats.max_values)?.saturating_add(999))));
    DataFile {
        path: folder.join(percent_decode(&add.path)),
        bytes: u64::try_from(add.size).unwrap_or(0),
        rows: stats.and_then(|stats| u64::try_from(stats.num_records).ok()),
        times_us,
        crc32c: add.checksum(),
    }
}

/// Delta percent-encodes paths; bytes that do not decode stay as they are.
fn percent_decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.filter(|_| first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| path.to_owned())
}

/// What a new file holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) written: Written,
    pub(super) rows: u64,
    /// Smallest `time`, microseconds since the epoch.
    pub(super) first_us: i64,
    /// Largest.
    pub(super) last_us: i64,
}

/// The action that makes a new file live.
pub(super) fn add(path: String, hour: Hour, content: &Content) -> Add {
    let time = |us: i64| BTreeMap::from([("time".to_owned(), iso(us).into())]);
    let stats = Stats {
        num_records: i64::try_from(content.rows).unwrap_or(i64::MAX),
        min_values: time(content.first_us),
        max_values: time(content.last_us),
    };
    Add {
        path,
        partition_values: BTreeMap::from([
            ("date".to_owned(), Some(hour.date())),
            ("hour".to_owned(), Some(hour.hour().to_string())),
        ]),
        size: i64::try_from(content.written.bytes).unwrap_or(i64::MAX),
        modification_time: now_ms(),
        data_change: true,
        stats: serde_json::to_string(&stats).ok(),
        tags: Some(BTreeMap::from([(CHECKSUM.to_owned(), Some(format!("{:08x}", content.written.crc32c)))])),
    }
}

fn iso(us: i64) -> String {
    let time = jiff::Timestamp::from_microsecond(us).unwrap_or(if us < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// A UUID that two collectors that race for a table's first commit do not share.
fn table_id(table: &str, collector: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new().chain_update(table).chain_update([0]).chain_update(collector).finalize();
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
