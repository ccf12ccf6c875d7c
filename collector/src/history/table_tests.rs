use super::*;

const ME: &str = "c0ffee";

fn lay(root: &Path, name: &str) -> PathBuf {
    let folder = root.join("cpu/date=2026-01-31/hour=07");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), b"rows").unwrap();
    folder.join(name)
}

#[test]
fn files_without_commits_stay_unless_the_wal_has_their_rows() {
    let temp = tempfile::tempdir().unwrap();
    let in_wal = lay(temp.path(), "c0ffee-7-7.parquet");
    let unfinished = lay(temp.path(), "c0ffee-3-3.parquet.tmp");
    let log_was_deleted = lay(temp.path(), "c0ffee-3-3.parquet");
    let half_in_wal = lay(temp.path(), "c0ffee-6-7.parquet");
    let of_another = lay(temp.path(), "decade-7-7.parquet");
    let history = History::open(temp.path(), ME).unwrap();
    assert_eq!(history.tidy(&BTreeSet::from([SegmentId(7), SegmentId(8)])).unwrap(), 2);
    assert!(!in_wal.exists() && !unfinished.exists());
    assert!(log_was_deleted.exists() && half_in_wal.exists() && of_another.exists());
    assert_eq!(history.newest().unwrap(), SegmentId(7));
}

#[test]
fn a_file_of_a_committed_segment_is_not_taken_for_one_that_is_to_come() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = DeltaLog::open(&temp.path().join("cpu"), ME).unwrap();
    let txn = Txn { app_id: ME.to_owned(), version: 7, last_updated: None };
    log.commit(&[Action { txn: Some(txn), ..Action::default() }]).unwrap();
    let strange = lay(temp.path(), "c0ffee-7-7.parquet");
    let history = History::open(temp.path(), ME).unwrap();
    assert_eq!(history.tidy(&BTreeSet::from([SegmentId(7)])).unwrap(), 0);
    assert!(strange.exists());
}
