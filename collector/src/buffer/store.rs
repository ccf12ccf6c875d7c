//! All memtables and all files, changed together, so that a query sees every row once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arrow::array::RecordBatch;
use skep_seglog::SegmentId;
use skep_wire::tables::TABLES;

use super::join::{Batches, joined};
use super::memtable::{Memtable, Rows};
use super::room::{Budget, Room};
use crate::history::DataFile;

/// What queries read: unflushed rows and the live files of every table.
///
/// One lock, held for moments only; nothing is read or written under it.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Inner {
    /// Of the segment being written; `None` before its first row.
    active: Option<Memtable>,
    /// Sealed, not yet wholly in Parquet, oldest first. A table's rows leave as its files come.
    frozen: Vec<Memtable>,
    files: BTreeMap<&'static str, Arc<Vec<DataFile>>>,
    /// Lists of files that were live before and that somebody still reads by.
    before: Vec<Weak<Vec<DataFile>>>,
}

/// One table at one moment.
#[derive(Debug, Clone, Default)]
pub struct TableSnapshot {
    /// Unflushed rows.
    pub batches: Vec<RecordBatch>,
    /// Live files.
    pub files: Arc<Vec<DataFile>>,
}

/// All tables at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// By name; every table is there.
    pub tables: BTreeMap<&'static str, TableSnapshot>,
}

impl Store {
    /// An empty buffer of at most `budget_bytes` over the files given.
    pub fn new(budget_bytes: usize, files: BTreeMap<&'static str, Vec<DataFile>>) -> Self {
        let mut all: BTreeMap<_, _> = TABLES.iter().map(|table| (table.name, Arc::default())).collect();
        for (table, files) in files {
            all.insert(table, Arc::new(files));
        }
        let inner = Inner { active: None, frozen: Vec::new(), files: all, before: Vec::new() };
        Self { inner: Mutex::new(inner), budget: Budget::new(budget_bytes) }
    }

    /// Waits until rows of this size fit and `node` may have the room; `None` for rows of the collector's own.
    ///
    /// `None` when the store is closing.
    pub async fn room(&self, node: Option<&str>, bytes: usize) -> Option<Room> {
        self.budget.take(node, bytes).await
    }

    /// The same if it need not wait.
    pub fn room_now(&self, node: &str, bytes: usize) -> Option<Room> {
        self.budget.take_now(node, bytes)
    }

    /// Whether more than half of the budget is taken.
    pub fn is_half_full(&self) -> bool {
        self.budget.is_half_full()
    }

    /// Lets nobody wait for room any more.
    pub fn close(&self) {
        self.budget.close();
    }

    /// Adds durable rows of `segment`, the one being written; returns how many rows of it there are now.
    pub fn insert(&self, segment: SegmentId, rows: Vec<Rows>, room: Option<Room>) -> usize {
        let tables: Vec<_> = rows.iter().map(|(table, _)| table.name).collect();
        let count = {
            let mut inner = self.lock();
            let active = inner.active.get_or_insert_with(|| Memtable::new(segment));
            active.insert(rows, room);
            active.rows
        };
        tables.into_iter().for_each(|table| self.join(table));
        count
    }

    /// Makes a table's newest batches one, if there are many small ones. Only who inserts changes them, so that they are the
    /// same before and after.
    fn join(&self, table: &'static str) {
        let Some(small) = self.lock().active(table).and_then(|batches| batches.due()) else { return };
        let joined = joined(table, &small);
        if let Some(batches) = self.lock().active(table) {
            batches.put(joined);
        }
    }

    /// The segment being written was sealed.
    pub fn freeze(&self) {
        let mut inner = self.lock();
        if let Some(sealed) = inner.active.take().filter(|sealed| sealed.rows > 0) {
            inner.frozen.push(sealed);
        }
    }

    /// Adds a segment found at start.
    pub fn recovered(&self, memtable: Memtable) {
        if memtable.rows > 0 {
            self.lock().frozen.push(memtable);
        }
    }

    /// The oldest sealed segment that is not wholly in Parquet, with what is left of it.
    pub fn oldest_frozen(&self) -> Option<(SegmentId, BTreeMap<&'static str, Vec<RecordBatch>>)> {
        let inner = self.lock();
        let oldest = inner.frozen.first()?;
        let of_table = |(name, batches): (&&'static str, &Batches)| (*name, batches.all().to_vec());
        Some((oldest.segment, oldest.tables.iter().map(of_table).collect()))
    }

    /// The rows `table` has in `segment` are now in Parquet; `files` are all live files of the table.
    pub fn committed(&self, segment: SegmentId, table: &'static str, files: Vec<DataFile>) {
        let mut inner = self.lock();
        if let Some(memtable) = inner.frozen.iter_mut().find(|memtable| memtable.segment == segment) {
            memtable.tables.remove(table);
        }
        inner.refile(table, files);
    }

    /// `files` are now all live files of the table, and hold the rows it had in files before and those of the segments up to
    /// `through`: a commit whose answer was lost is seen here first.
    pub fn refiled(&self, table: &'static str, files: Vec<DataFile>, through: SegmentId) {
        let mut inner = self.lock();
        for memtable in inner.frozen.iter_mut().filter(|memtable| memtable.segment <= through) {
            memtable.tables.remove(table);
        }
        inner.refile(table, files);
    }

    /// Whether a statement that began when this file was live still runs.
    pub fn is_read(&self, path: &Path) -> bool {
        let lists: Vec<_> = self.lock().before.iter().filter_map(Weak::upgrade).collect();
        lists.iter().any(|files| files.iter().any(|file| file.path == path))
    }

    /// Every table of `segment` is in Parquet: its memory is given back.
    pub fn release(&self, segment: SegmentId) {
        let gone: Vec<_> = self.lock().frozen.extract_if(.., |memtable| memtable.segment == segment).collect();
        drop(gone);
        self.budget.tell();
    }

    /// Every table as it stands, in one moment.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        let tables = inner.files.iter().map(|(name, files)| {
            let memtables = inner.frozen.iter().chain(&inner.active);
            let batches = memtables.filter_map(|memtable| memtable.tables.get(name));
            let batches = batches.flat_map(Batches::all).cloned().collect();
            (*name, TableSnapshot { batches, files: Arc::clone(files) })
        });
        Snapshot { tables: tables.collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What `table` has in the segment being written.
    fn active(&mut self, table: &str) -> Option<&mut Batches> {
        self.active.as_mut()?.tables.get_mut(table)
    }

    fn refile(&mut self, table: &'static str, files: Vec<DataFile>) {
        self.before.retain(|list| list.strong_count() > 0);
        if let Some(before) = self.files.insert(table, Arc::new(files)) {
            self.before.push(Arc::downgrade(&before));
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use skep_wire::tables::CPU;

    use super::*;
    use crate::buffer::sample;

    fn file(path: &str) -> DataFile {
        DataFile { path: path.into(), bytes: 1, rows: None, times_us: None, crc32c: None }
    }

    #[test]
    fn many_small_batches_are_few_and_every_row_is_there_once() {
        let store = Store::new(1 << 20, BTreeMap::new());
        for seq in 1..=1000 {
            let inserted = store.insert(SegmentId(1), vec![(&CPU, sample::cpu("s", seq..=seq))], None);
            assert_eq!(inserted as i64, seq);
        }
        let found = || store.snapshot().tables["cpu"].batches.clone();
        assert!(found().len() < 200, "{}", found().len());
        let seqs: Vec<i64> =
            found().iter().flat_map(|rows| rows["seq"].as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(seqs, (1..=1000).collect::<Vec<_>>());
        store.freeze();
        assert_eq!(store.oldest_frozen().map(|(_, tables)| tables["cpu"].clone()), Some(found()));
    }

    #[test]
    fn a_replaced_file_is_read_as_long_as_somebody_has_its_list() {
        let store = Store::new(1 << 20, BTreeMap::from([("cpu", vec![file("a"), file("b")])]));
        let is_read = |path: &str| store.is_read(Path::new(path));
        let reader = store.snapshot();
        assert!(!is_read("a"), "it is live, and nobody asks");
        store.refiled("cpu", vec![file("ab")], SegmentId(0));
        assert!(is_read("a") && is_read("b") && !is_read("ab"));
        let later = store.snapshot();
        store.refiled("cpu", vec![file("abc")], SegmentId(0));
        drop(reader);
        assert!(!is_read("a") && is_read("ab"));
        drop(later);
        assert!(!is_read("ab"));
    }
}
