use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, ObjectMeta, PutMultipartOptions, PutOptions, PutResult, Result,
};
use skep_seglog::SegmentId;

use super::*;
use crate::buffer::sample;
use crate::history::action::{Action, Txn};
use crate::history::delta::DeltaLog;
use crate::history::{History, SharedPlace};

/// A store in memory that misbehaves when told to.
#[derive(Debug, Default)]
struct Faulty {
    store: InMemory,
    /// So many commits are refused before anything is done.
    refuse_commits: AtomicUsize,
    /// So many commits are made, and then no answer comes.
    lose_answers: AtomicUsize,
    /// So many commits are answered with an error and made when [`Faulty::deliver`] is called.
    delay: AtomicUsize,
    delayed: Mutex<Vec<(Key, PutPayload)>>,
    /// So many commits are made twice, as when a client tries again on its own.
    repeat: AtomicUsize,
}

impl Faulty {
    fn deliver(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (key, payload) in std::mem::take(&mut *self.delayed.lock().unwrap()) {
            runtime.block_on(self.store.put_opts(&key, payload, PutMode::Create.into())).unwrap();
        }
    }
}

fn take(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a faulty store")
    }
}

#[tonic::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let no_answer = || Error::Generic { store: "faulty", source: "no answer".into() };
        if options.mode == PutMode::Create {
            if take(&self.refuse_commits) {
                return Err(no_answer());
            }
            if take(&self.delay) {
                self.delayed.lock().unwrap().push((key.clone(), payload));
                return Err(no_answer());
            }
            if take(&self.lose_answers) {
                self.store.put_opts(key, payload, options).await?;
                return Err(no_answer());
            }
            if take(&self.repeat) {
                self.store.put_opts(key, payload.clone(), options.clone()).await?;
            }
        }
        self.store.put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(&self, key: &Key, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        self.store.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

const ROOT: &str = "s3://bucket/history";

fn place(store: &Arc<Faulty>) -> SharedPlace {
    Arc::new(Bucket::new(Arc::clone(store) as Arc<dyn ObjectStore>, "s3://bucket", &std::env::temp_dir()).unwrap())
}

fn history(store: &Arc<Faulty>, collector: &str) -> History {
    History::open_at(place(store), Path::new(ROOT), collector).unwrap()
}

fn txn(app: &str, version: i64) -> Action {
    Action { txn: Some(Txn { app_id: app.to_owned(), version, last_updated: None }), ..Action::default() }
}

fn append(history: &History, segment: u64) -> Result<(usize, usize), crate::history::HistoryError> {
    history.with("cpu", |table| table.append(SegmentId(segment), &[sample::cpu("s", 1..=3)])).unwrap()
}

#[test]
fn many_writers_at_once_lose_no_commit() {
    let store = Arc::new(Faulty::default());
    let table = PathBuf::from(ROOT).join("cpu");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (store, table) = (&store, &table);
            scope.spawn(move || {
                let mut log = DeltaLog::open_at(&place(store), table, &writer.to_string()).unwrap();
                for n in 1..=10 {
                    log.commit(&[txn(&format!("{writer}-{n}"), n)]).unwrap();
                }
            });
        }
    });
    let log = DeltaLog::open_at(&place(&store), &table, "w").unwrap();
    assert_eq!((log.version(), log.txns.len()), (40, 40));
}

#[test]
fn a_commit_that_was_made_twice_is_made_once() {
    let store = Arc::new(Faulty { repeat: AtomicUsize::new(1), ..Faulty::default() });
    let mut log = DeltaLog::open_at(&place(&store), &PathBuf::from(ROOT).join("cpu"), "w").unwrap();
    log.commit(&[txn("a", 1)]).unwrap();
    assert_eq!(log.version(), 1);
}

#[test]
fn a_file_whose_commit_did_not_come_about_is_written_again_and_its_rows_are_stored_once() {
    let store = Arc::new(Faulty { refuse_commits: AtomicUsize::new(1), ..Faulty::default() });
    append(&history(&store, "c0ffee"), 3).unwrap_err();

    let again = history(&store, "c0ffee");
    assert_eq!(again.newest().unwrap(), SegmentId(3), "the file is there");
    assert!(again.files()["cpu"].is_empty(), "and not live");
    // The commit may be on its way still.
    assert_eq!(again.tidy(&BTreeSet::from([SegmentId(3)])).unwrap(), 0);
    assert_eq!(append(&again, 3).unwrap(), (3, 1));
    assert_eq!(append(&again, 3).unwrap(), (0, 0));

    let later = history(&store, "c0ffee");
    assert_eq!(later.tidy(&BTreeSet::from([SegmentId(3)])).unwrap(), 0);
    assert_eq!(append(&later, 3).unwrap(), (0, 0), "its log says so");
    assert_eq!(later.files()["cpu"].len(), 1);
    assert_eq!(place(&store).list_hours(&Path::new(ROOT).join("cpu")).unwrap().len(), 1);
}

#[test]
fn a_commit_that_comes_after_the_next_start_names_rows_that_are_there() {
    let store = Arc::new(Faulty { delay: AtomicUsize::new(1), ..Faulty::default() });
    append(&history(&store, "c0ffee"), 3).unwrap_err();
    let again = history(&store, "c0ffee");
    again.tidy(&BTreeSet::from([SegmentId(3)])).unwrap();
    store.deliver();
    assert_eq!(append(&again, 3).unwrap(), (0, 0), "it came through");
    let files = again.files();
    let place = place(&store);
    assert_eq!(place.about(&files["cpu"][0].path).unwrap().unwrap().bytes, files["cpu"][0].bytes);
}

#[test]
fn a_commit_whose_answer_was_lost_is_found_the_next_time() {
    let store = Arc::new(Faulty { lose_answers: AtomicUsize::new(1), ..Faulty::default() });
    let history = history(&store, "c0ffee");
    append(&history, 3).unwrap_err();
    assert_eq!(append(&history, 3).unwrap(), (0, 0));
    assert_eq!(history.files()["cpu"].len(), 1);
}

#[test]
fn another_collectors_files_are_seen_and_left_alone() {
    let store = Arc::new(Faulty::default());
    let (one, other) = (history(&store, "aa"), history(&store, "bb"));
    append(&one, 1).unwrap();
    append(&other, 1).unwrap();
    assert_eq!(one.files()["cpu"].len(), 1);
    assert_eq!(one.with("cpu", |table| table.refresh().unwrap()), Some(1));
    assert_eq!(one.files()["cpu"].len(), 2);
    assert_eq!(one.with("cpu", |table| table.own_files().unwrap().len()), Some(1));
    assert_eq!(one.tidy(&BTreeSet::from([SegmentId(1)])).unwrap(), 0);
}

#[test]
fn a_large_file_is_sent_in_parts_and_an_unfinished_one_is_not_there() {
    let store = Arc::new(Faulty::default());
    let place = place(&store);
    let path = Path::new(ROOT).join("large");
    let bytes: Vec<u8> = (0..PART_BYTES * 2 + 5).map(|n| (n % 251) as u8).collect();
    for finish in [false, true] {
        let mut file = place.begin(&path).unwrap();
        bytes.chunks(1 << 20).try_for_each(|chunk| file.write_all(chunk)).unwrap();
        if finish {
            file.finish().unwrap();
        } else {
            drop(file);
            assert_eq!(place.about(&path).unwrap(), None);
        }
    }
    assert_eq!(place.about(&path).unwrap().unwrap().bytes, bytes.len() as u64);
    let mut fetched = Vec::new();
    std::io::Read::read_to_end(&mut place.fetch(&path).unwrap(), &mut fetched).unwrap();
    assert!(fetched == bytes && place.read(&path).unwrap() == bytes);
    assert!(place.read(Path::new("/elsewhere")).is_err());
}
