use super::*;

fn add(path: &str) -> Action {
    let add = Add {
        path: path.to_owned(),
        partition_values: BTreeMap::from([("date".to_owned(), Some("2026-01-31".to_owned()))]),
        size: 7,
        modification_time: 1,
        data_change: true,
        stats: Some("{\"numRecords\":3}".to_owned()),
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
