use super::*;
use crate::history::{Folders, History};

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

#[test]
fn a_merged_file_no_commit_names_goes_if_all_it_was_made_of_is_live() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("cpu");
    lay(temp.path(), "c0ffee-1-1.parquet");
    let live = "date=2026-01-31/hour=07/c0ffee-1-1.parquet";
    let written = parquet_file::Written { bytes: 4, crc32c: 0 };
    let content = Content { written, rows: 1, first_us: 0, last_us: 0 };
    let add = add(live.to_owned(), Hour::of_path(live).unwrap(), &content);
    let mut log = DeltaLog::open(&folder, ME).unwrap();
    log.commit(&[Action { add: Some(add), ..Action::default() }]).unwrap();
    let merged = |name: &str, inputs: &[&str]| {
        let path = folder.join("date=2026-01-31/hour=07").join(name);
        let mut draft = parquet_file::Draft::new(&Folders::default(), &path, &skep_wire::tables::CPU).unwrap();
        draft.made_of(&inputs.iter().map(|&input| input.to_owned()).collect::<Vec<_>>());
        draft.finish().unwrap();
        path
    };
    let second_home = merged("c0ffee-1-2-m0123456789abcdef.parquet", &[live]);
    let only_home =
        merged("c0ffee-1-2-mfedcba9876543210.parquet", &[live, "date=2026-01-31/hour=07/c0ffee-2-2.parquet"]);
    let unfinished = lay(temp.path(), "c0ffee-1-2-m0000000000000000-60s.parquet.tmp");
    let history = History::open(temp.path(), ME).unwrap();
    assert_eq!(history.tidy(&BTreeSet::new()).unwrap(), 2);
    assert!(!second_home.exists() && !unfinished.exists() && only_home.exists());
    assert_eq!(history.files()["cpu"].len(), 1);
}
