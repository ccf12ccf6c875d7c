use super::*;
use crate::history::action::Format;

fn add(path: &str) -> Action {
    let add = Add {
        path: path.to_owned(),
        partition_values: BTreeMap::from([("date".to_owned(), Some("2026-01-31".to_owned()))]),
        size: 7,
        modification_time: 1,
        data_change: true,
        stats: Some("{\"numRecords\":3}".to_owned()),
        tags: None,
    };
    Action { add: Some(add), ..Action::default() }
}

fn txn(app: &str, version: i64) -> Action {
    Action { txn: Some(Txn { app_id: app.to_owned(), version, last_updated: None }), ..Action::default() }
}

fn live(log: &DeltaLog) -> Vec<&str> {
    log.live.keys().map(String::as_str).collect()
}

#[test]
fn a_commit_is_read_back() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = DeltaLog::open(temp.path(), "w").unwrap();
    log.commit(&[add("a"), txn("me", 4)]).unwrap();
    log.commit(&[add("b"), txn("me", 5)]).unwrap();
    let again = DeltaLog::open(temp.path(), "w").unwrap();
    assert_eq!(live(&again), ["a", "b"]);
    assert_eq!((live(&again), &again.txns), (live(&log), &log.txns));
    assert_eq!(again.txns["me"], 5);
}

#[test]
fn of_two_writers_both_commits_are_in() {
    let temp = tempfile::tempdir().unwrap();
    let mut one = DeltaLog::open(temp.path(), "w").unwrap();
    let mut two = DeltaLog::open(temp.path(), "v").unwrap();
    one.commit(&[add("a"), txn("one", 1)]).unwrap();
    two.commit(&[add("b"), txn("two", 1)]).unwrap();
    assert_eq!(live(&two), ["a", "b"]);
    assert_eq!(one.refresh().unwrap(), 1);
    assert_eq!(live(&one), ["a", "b"]);
}

#[test]
fn many_writers_at_once_lose_nothing() {
    let temp = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let folder = temp.path();
            scope.spawn(move || {
                let mut log = DeltaLog::open(folder, &writer.to_string()).unwrap();
                for n in 0..10 {
                    log.commit(&[add(&format!("{writer}-{n}"))]).unwrap();
                }
            });
        }
    });
    assert_eq!(DeltaLog::open(temp.path(), "w").unwrap().live.len(), 40);
}

#[test]
fn removed_files_are_not_live_and_unknown_actions_are_let_be() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = DeltaLog::open(temp.path(), "w").unwrap();
    log.commit(&[add("a"), add("b")]).unwrap();
    let text = "{\"commitInfo\":{\"operation\":\"OPTIMIZE\"}}\n\
                {\"remove\":{\"path\":\"a\",\"dataChange\":false,\"deletionTimestamp\":5}}\n\
                {\"add\":{\"path\":\"c\",\"partitionValues\":{\"hour\":null},\"size\":1,\"modificationTime\":1,\"dataChange\":false,\"tags\":{}}}\n";
    std::fs::write(temp.path().join("_delta_log/00000000000000000001.json"), text).unwrap();
    log.refresh().unwrap();
    assert_eq!(live(&log), ["b", "c"]);
    assert!(log.removed.contains_key("a"));
}

#[test]
fn what_is_wrong_with_a_log_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("_delta_log");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("00000000000000000001.json"), "").unwrap();
    assert!(matches!(DeltaLog::open(temp.path(), "w"), Err(DeltaError::Hole { .. })));
    std::fs::write(folder.join("00000000000000000000.json"), "{}\nnonsense\n").unwrap();
    assert!(matches!(DeltaLog::open(temp.path(), "w"), Err(DeltaError::Malformed { line: 2, .. })));
    let newer = "{\"protocol\":{\"minReaderVersion\":3,\"minWriterVersion\":7}}";
    std::fs::write(folder.join("00000000000000000000.json"), newer).unwrap();
    assert!(matches!(DeltaLog::open(temp.path(), "w"), Err(DeltaError::Protocol { version: 3, .. })));
}

#[test]
fn a_name_left_between_link_and_remove_does_not_destroy_its_commit() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = DeltaLog::open(temp.path(), "w").unwrap();
    log.commit(&[add("a")]).unwrap();
    let dir = temp.path().join("_delta_log");
    std::fs::hard_link(dir.join("00000000000000000000.json"), dir.join(".commit-w.tmp")).unwrap();
    let mut again = DeltaLog::open(temp.path(), "w").unwrap();
    again.commit(&[add("b")]).unwrap();
    assert_eq!(live(&DeltaLog::open(temp.path(), "w").unwrap()), ["a", "b"]);
    assert!(!dir.join(".commit-w.tmp").exists());
}

fn remove(path: &str) -> Action {
    let remove = Remove { path: path.to_owned(), data_change: false, deletion_timestamp: Some(5) };
    Action { remove: Some(remove), ..Action::default() }
}

/// A table's first commit.
fn table() -> [Action; 2] {
    let protocol = Protocol { min_reader_version: 1, min_writer_version: 2 };
    let meta_data = MetaData {
        id: "id".to_owned(),
        format: Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
        schema_string: "{}".to_owned(),
        partition_columns: vec!["date".to_owned(), "hour".to_owned()],
        configuration: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        created_time: None,
    };
    [
        Action { protocol: Some(protocol), ..Action::default() },
        Action { meta_data: Some(meta_data), ..Action::default() },
    ]
}

fn commits(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("_delta_log")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Four commits, the last two after a checkpoint that made the first two unneeded.
fn with_checkpoint(folder: &Path) -> DeltaLog {
    let mut log = DeltaLog::open(folder, "w").unwrap();
    log.commit(&table()).unwrap();
    log.commit(&[add("a"), add("b"), txn("me", 4)]).unwrap();
    log.commit(&[remove("a"), add("c")]).unwrap();
    assert_eq!(log.commits_since_checkpoint(), 3);
    assert_eq!(log.write_checkpoint().unwrap(), Some(2));
    assert_eq!(log.clean(Duration::from_secs(3600)).unwrap(), 0);
    assert_eq!(log.clean(Duration::ZERO).unwrap(), 2);
    log.commit(&[add("d"), txn("me", 5)]).unwrap();
    assert_eq!(log.commits_since_checkpoint(), 1);
    log
}

#[test]
fn a_checkpoint_stands_for_the_commits_before_it() {
    let temp = tempfile::tempdir().unwrap();
    let log = with_checkpoint(temp.path());
    let names = commits(temp.path());
    let left = ["00000000000000000002.checkpoint.parquet", "00000000000000000002.json", "00000000000000000003.json"];
    assert_eq!(names, [&left[..], &["_last_checkpoint"]].concat());
    let again = DeltaLog::open(temp.path(), "w").unwrap();
    assert_eq!((live(&again), &again.txns, &again.removed), (live(&log), &log.txns, &log.removed));
    assert_eq!((live(&again), again.txns["me"]), (vec!["b", "c", "d"], 5));
    assert_eq!((&again.live, &again.meta_data, &again.protocol), (&log.live, &log.meta_data, &log.protocol));
    assert_eq!((again.next, again.commits_since_checkpoint()), (4, 1));
}

#[test]
fn a_broken_checkpoint_is_no_loss_while_the_commits_are_there() {
    let temp = tempfile::tempdir().unwrap();
    let log = with_checkpoint(temp.path());
    let newer = temp.path().join("_delta_log/00000000000000000003.checkpoint.parquet");
    std::fs::write(&newer, b"PAR1 not really").unwrap();
    assert_eq!(live(&DeltaLog::open(temp.path(), "w").unwrap()), live(&log));
    std::fs::remove_file(newer).unwrap();
    std::fs::write(temp.path().join("_delta_log/00000000000000000002.checkpoint.parquet"), b"").unwrap();
    assert!(matches!(DeltaLog::open(temp.path(), "w"), Err(DeltaError::Checkpoint { .. })));
    std::fs::remove_file(temp.path().join("_delta_log/00000000000000000002.checkpoint.parquet")).unwrap();
    assert!(matches!(DeltaLog::open(temp.path(), "w"), Err(DeltaError::Hole { .. })));
}

#[test]
fn a_writer_that_slept_while_commits_were_cleaned_does_not_take_an_old_number() {
    let temp = tempfile::tempdir().unwrap();
    let mut sleeper = DeltaLog::open(temp.path(), "s").unwrap();
    sleeper.commit(&table()).unwrap();
    let mut log = DeltaLog::open(temp.path(), "w").unwrap();
    for name in ["a", "b", "c"] {
        log.commit(&[add(name)]).unwrap();
    }
    log.write_checkpoint().unwrap();
    assert_eq!(log.clean(Duration::ZERO).unwrap(), 3);
    sleeper.commit(&[add("d")]).unwrap();
    assert_eq!(live(&sleeper), ["a", "b", "c", "d"]);
    assert_eq!(live(&DeltaLog::open(temp.path(), "w").unwrap()), ["a", "b", "c", "d"]);
}

#[test]
fn a_file_somebody_else_took_out_cannot_be_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let mut one = DeltaLog::open(temp.path(), "w").unwrap();
    one.commit(&[add("a"), add("b")]).unwrap();
    let mut two = DeltaLog::open(temp.path(), "v").unwrap();
    one.commit(&[remove("a"), add("c")]).unwrap();
    assert!(matches!(two.commit(&[remove("a"), add("d")]), Err(DeltaError::Conflict { .. })));
    two.refresh().unwrap();
    assert_eq!(live(&two), ["b", "c"]);
}

#[test]
fn a_log_that_holds_more_than_this_program_knows_gets_no_checkpoint() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = DeltaLog::open(temp.path(), "w").unwrap();
    let protocol = Protocol { min_reader_version: 1, min_writer_version: 7 };
    log.commit(&[Action { protocol: Some(protocol), ..Action::default() }]).unwrap();
    assert_eq!(log.write_checkpoint().unwrap(), None);
}
