use proptest::prelude::*;

use super::*;
use crate::sim::SimDisk;

fn dir() -> &'static Path {
    Path::new("/log")
}

fn open(disk: &SimDisk, segment_bytes: u64) -> (Log<SimDisk>, Option<Trim>) {
    Log::open(disk.clone(), dir(), Options { segment_bytes, ..Options::default() }).unwrap()
}

fn payloads<S: Storage + Clone>(log: &Log<S>) -> Vec<Vec<u8>> {
    log.read(Position::START).map(|entry| entry.unwrap().payload).collect()
}

/// Entries and faults in the order they come.
fn walk(log: &Log<SimDisk>) -> Vec<Result<Vec<u8>, crate::Fault>> {
    log.read(Position::START)
        .map(|read| match read {
            Ok(entry) => Ok(entry.payload),
            Err(ReadError::Damaged(fault)) => Err(fault),
            Err(error) => panic!("{error}"),
        })
        .collect()
}

fn three(disk: &SimDisk) -> Vec<Position> {
    let (mut log, _) = open(disk, 1 << 20);
    let at = [b"one".as_slice(), b"two", b"three"].map(|p| log.append(p).unwrap());
    log.sync().unwrap();
    at.to_vec()
}

#[test]
fn entries_come_back_in_order_across_segments_on_a_real_disk() {
    let temp = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 100, ..Options::default() };
    let (mut log, _) = Log::open(Disk, &temp.path().join("a/b"), options).unwrap();
    let expected: Vec<Vec<u8>> = (0..50u8).map(|i| vec![i; usize::from(i)]).collect();
    for payload in &expected {
        log.append(payload).unwrap();
    }
    log.sync().unwrap();
    assert!(log.segments().count() > 10);
    assert_eq!(payloads(&log), expected);
    drop(log);
    let (log, trim) = Log::open_read_only(Disk, &temp.path().join("a/b")).unwrap();
    assert_eq!(trim, None);
    assert_eq!(payloads(&log), expected);
}

#[test]
fn reading_begins_where_asked() {
    let disk = SimDisk::default();
    let at = three(&disk);
    let (log, _) = open(&disk, 1 << 20);
    let rest: Vec<_> = log.read(at[1]).map(|entry| entry.unwrap().payload).collect();
    assert_eq!(rest, [b"two".to_vec(), b"three".to_vec()]);
}

#[test]
fn appends_after_an_open_go_to_a_new_segment() {
    let disk = SimDisk::default();
    three(&disk);
    let (mut log, _) = open(&disk, 1 << 20);
    assert_eq!(log.append(b"four").unwrap().segment, SegmentId(2));
    assert_eq!(payloads(&log).len(), 4);
}

#[test]
fn a_number_is_not_used_again_when_the_caller_remembers_it() {
    let options = Options { first_segment: SegmentId(9), ..Options::default() };
    let (mut log, _) = Log::open(SimDisk::default(), dir(), options).unwrap();
    assert_eq!(log.append(b"x").unwrap().segment, SegmentId(9));
}

#[test]
fn a_torn_end_is_trimmed_at_every_length() {
    for cut in 0..FRAME_HEADER_BYTES as usize + 5 {
        let disk = SimDisk::default();
        let at = three(&disk);
        let path = at[2].segment.path(dir());
        disk.cut(&path, at[2].offset as usize + cut);
        let (log, trim) = open(&disk, 1 << 20);
        assert_eq!(payloads(&log), [b"one".to_vec(), b"two".to_vec()], "cut at {cut}");
        let expected = (cut > 0).then(|| Trim { path: path.clone(), position: at[2], bytes: cut as u64 });
        assert_eq!(trim, expected);
        assert_eq!(disk.size(&path), Some(at[2].offset as usize));
    }
}

#[test]
fn an_end_of_zeros_is_trimmed() {
    let disk = SimDisk::default();
    let at = three(&disk);
    disk.extend(&at[0].segment.path(dir()), &[0; 4096]);
    let (log, trim) = open(&disk, 1 << 20);
    assert_eq!(trim.unwrap().bytes, 4096);
    assert_eq!(payloads(&log).len(), 3);
}

/// Sectors reach a disk in any order: what stands behind one that did not was synced as little.
#[test]
fn entries_behind_a_sector_that_was_never_written_go_with_it() {
    let disk = SimDisk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    let at: Vec<_> = [1, 2, 3].map(|byte| log.append(&[byte; 1000]).unwrap()).into();
    log.sync().unwrap();
    drop(log);
    let path = at[1].segment.path(dir());
    disk.open(&path, true).unwrap().write_all_at(&[0; 512], 1536).unwrap();
    assert!(at[1].offset < 1536 && at[2].offset >= 2048);
    let (log, trim) = open(&disk, 1 << 20);
    assert_eq!(trim.map(|trim| trim.position), Some(at[1]));
    assert_eq!(payloads(&log), [vec![1; 1000]]);
}

#[test]
fn a_file_without_its_header_is_taken_away() {
    for size in [0, 10, 23] {
        let disk = SimDisk::default();
        let at = three(&disk);
        disk.cut(&at[0].segment.path(dir()), size);
        let (mut log, trim) = open(&disk, 1 << 20);
        assert_eq!(trim.map(|t| t.position.offset), Some(0));
        assert_eq!(payloads(&log).len(), 0);
        log.append(b"again").unwrap();
        assert_eq!(payloads(&log), [b"again".to_vec()]);
    }
}

#[test]
fn reading_only_changes_nothing() {
    let disk = SimDisk::default();
    let at = three(&disk);
    let path = at[2].segment.path(dir());
    disk.cut(&path, at[2].offset as usize + 3);
    let (mut log, trim) = Log::open_read_only(disk.clone(), dir()).unwrap();
    assert_eq!(trim.unwrap().bytes, 3);
    assert_eq!(payloads(&log).len(), 2);
    assert_eq!(disk.size(&path), Some(at[2].offset as usize + 3));
    assert!(matches!(log.append(b"x"), Err(LogError::ReadOnly)));
}

#[test]
fn damage_in_the_middle_is_a_fault_and_what_follows_is_read() {
    let disk = SimDisk::default();
    let at = three(&disk);
    for offset in at[1].offset..at[2].offset {
        let path = at[1].segment.path(dir());
        disk.flip(&path, offset as usize);
        let (log, trim) = open(&disk, 1 << 20);
        assert_eq!(trim, None);
        let fault = crate::Fault {
            path: path.clone(),
            position: at[1],
            bytes: at[2].offset - at[1].offset,
            entries_follow: true,
        };
        assert_eq!(walk(&log), [Ok(b"one".to_vec()), Err(fault), Ok(b"three".to_vec())], "byte {offset}");
        disk.flip(&path, offset as usize);
    }
}

#[test]
fn a_broken_file_header_is_a_fault_and_the_entries_are_read() {
    let disk = SimDisk::default();
    let at = three(&disk);
    disk.flip(&at[0].segment.path(dir()), 3);
    let (log, _) = open(&disk, 1 << 20);
    let read = walk(&log);
    assert_eq!(read[0].as_ref().unwrap_err().bytes, FILE_HEADER_BYTES);
    assert_eq!(read.len(), 4);
}

#[test]
fn an_older_segment_that_was_cut_is_a_fault() {
    let disk = SimDisk::default();
    let at = three(&disk);
    let (mut log, _) = open(&disk, 1 << 20);
    log.append(b"four").unwrap();
    log.sync().unwrap();
    disk.cut(&at[2].segment.path(dir()), at[2].offset as usize + 5);
    let (log, trim) = open(&disk, 1 << 20);
    assert_eq!(trim, None);
    let read = walk(&log);
    assert!(!read[2].as_ref().unwrap_err().entries_follow);
    assert_eq!(read[3], Ok(b"four".to_vec()));
}

#[test]
fn a_later_format_is_refused_by_name() {
    let disk = SimDisk::default();
    disk.create_dir(dir()).unwrap();
    let mut file = disk.create(&SegmentId(1).path(dir())).unwrap();
    let mut header = format::encode_file_header(SegmentId(1));
    header[8] = 2;
    let crc = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&header, 0).unwrap();
    let refused = Log::open(disk, dir(), Options::default()).unwrap_err();
    assert!(matches!(refused, LogError::Read(ReadError::Version { version: 2, .. })));
}

#[test]
fn a_full_disk_refuses_and_later_goes_on() {
    let disk = SimDisk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    log.append(b"kept").unwrap();
    disk.set_free(Some(20));
    let refused = log.append(&[7; 100]).unwrap_err();
    assert!(refused.is_full(), "{refused}");
    disk.set_free(None);
    log.append(b"ok").unwrap();
    log.sync().unwrap();
    assert_eq!(payloads(&log), [b"kept".to_vec(), b"ok".to_vec()]);
    let (log, trim) = open(&disk, 1 << 20);
    assert_eq!(trim, None);
    assert_eq!(payloads(&log).len(), 2);
}

#[test]
fn a_full_disk_at_the_start_of_a_segment_leaves_no_file() {
    let disk = SimDisk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    disk.set_free(Some(5));
    assert!(log.append(b"x").unwrap_err().is_full());
    disk.set_free(None);
    assert_eq!(log.append(b"x").unwrap().segment, SegmentId(1));
}

#[test]
fn a_failed_sync_poisons_the_log() {
    let disk = SimDisk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    log.append(b"kept").unwrap();
    log.sync().unwrap();
    log.append(b"at risk").unwrap();
    disk.fail_sync(true);
    assert!(matches!(log.sync(), Err(LogError::Poisoned { source: Some(_), .. })));
    disk.fail_sync(false);
    assert!(matches!(log.sync(), Err(LogError::Poisoned { source: None, .. })));
    assert!(matches!(log.append(b"x"), Err(LogError::Poisoned { .. })));
    disk.crash(|_| 0);
    assert_eq!(payloads(&open(&disk, 1 << 20).0), [b"kept".to_vec()]);
}

#[test]
fn what_a_killed_writer_had_not_synced_is_durable_once_it_was_read() {
    let disk = SimDisk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    log.append(b"never synced").unwrap();
    drop(log);
    // A start reads it, and whoever asks is told that it is there.
    let (log, _) = open(&disk, 1 << 20);
    assert_eq!(payloads(&log), [b"never synced".to_vec()]);
    disk.crash(|_| 0);
    assert_eq!(payloads(&open(&disk, 1 << 20).0), [b"never synced".to_vec()]);
}

#[test]
fn what_a_failed_sync_dropped_is_written_anew_at_the_next_open() {
    let disk = SimDisk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    log.append(b"at risk").unwrap();
    disk.fail_next_sync(true);
    assert!(log.sync().is_err());
    drop(log);
    assert_eq!(payloads(&open(&disk, 1 << 20).0), [b"at risk".to_vec()]);
    disk.crash(|_| 0);
    assert_eq!(payloads(&open(&disk, 1 << 20).0), [b"at risk".to_vec()]);
}

#[test]
fn a_bit_that_rots_on_its_way_is_a_fault_and_not_an_entry() {
    let disk = SimDisk::default();
    three(&disk);
    let (log, _) = open(&disk, 1 << 20);
    let whole = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()];
    let mut faults = 0;
    for every in 2..20 {
        disk.rot_reads(every);
        for read in walk(&log) {
            match read {
                Ok(payload) => assert!(whole.contains(&payload), "{payload:?}"),
                Err(_) => faults += 1,
            }
        }
    }
    assert!(faults > 0);
    disk.rot_reads(0);
    assert_eq!(payloads(&log), whole);
}

#[test]
fn power_that_goes_at_any_operation_takes_nothing_that_was_synced() {
    for operations in 1..40 {
        for (done, seed) in [(false, 1u64), (true, 2), (true, 3)] {
            let disk = SimDisk::default();
            disk.cut_after(operations, done);
            let mut synced = 0;
            let mut fill = || -> Result<(), LogError> {
                let (mut log, _) =
                    Log::open(disk.clone(), dir(), Options { segment_bytes: 100, ..Options::default() })?;
                for payload in [b"one".as_slice(), b"two", b"three", b"four"] {
                    log.append(payload)?;
                    log.sync()?;
                    synced += 1;
                }
                Ok(())
            };
            let went = fill().is_err();
            let mut state = seed;
            disk.power_on(&mut |n| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % n
            });
            let kept = payloads(&open(&disk, 100).0);
            assert!(
                kept.len() >= synced,
                "{went}: {synced} were synced, {kept:?} are there, power cut at {operations}"
            );
        }
    }
}

#[test]
fn segments_are_removed_whole_and_moved_whole() {
    let disk = SimDisk::default();
    let (mut log, _) = open(&disk, 1 << 20);
    for payload in [b"one", b"two", b"six"] {
        log.append(payload).unwrap();
        log.seal().unwrap();
    }
    log.remove(SegmentId(1)).unwrap();
    let moved = log.quarantine(SegmentId(3), Path::new("/bad")).unwrap();
    assert_eq!(moved, SegmentId(3).path(Path::new("/bad")));
    assert_eq!(payloads(&log), [b"two".to_vec()]);
    assert!(matches!(log.remove(SegmentId(1)), Err(LogError::NoSuchSegment { .. })));
    assert_eq!(log.append(b"x").unwrap().segment, SegmentId(4));
}

#[test]
fn sealing_nothing_makes_no_file() {
    let (mut log, _) = open(&SimDisk::default(), 1 << 20);
    assert_eq!(log.seal().unwrap(), None);
    log.append(b"x").unwrap();
    assert_eq!(log.seal().unwrap(), Some(SegmentId(1)));
    assert_eq!(log.seal().unwrap(), None);
}

#[test]
fn an_entry_larger_than_a_segment_gets_its_own() {
    let (mut log, _) = open(&SimDisk::default(), 64);
    for _ in 0..3 {
        log.append(&[1; 500]).unwrap();
    }
    assert_eq!(log.segments().count(), 3);
    assert!(matches!(log.append(&vec![0; MAX_ENTRY_BYTES + 1]), Err(LogError::EntryTooLarge { .. })));
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Sync,
    Seal,
    RemoveOldest,
    Fill(u64),
    /// Power loss that keeps this share (of 255) of what was not synced.
    Crash(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Step::Append),
        4 => Just(Step::Sync),
        1 => Just(Step::Seal),
        1 => Just(Step::RemoveOldest),
        1 => (0u64..60).prop_map(Step::Fill),
        2 => any::<u8>().prop_map(Step::Crash),
    ]
}

proptest! {
    /// Against a list: after any crash the log holds everything synced, then a prefix of what was not, in order.
    #[test]
    fn nothing_synced_is_lost_and_nothing_is_out_of_order(steps in prop::collection::vec(step(), 1..120)) {
        let disk = SimDisk::default();
        let (mut log, _) = open(&disk, 200);
        let mut model: Vec<(SegmentId, Vec<u8>)> = Vec::new();
        let mut synced = 0;
        for step in steps {
            match step {
                Step::Append(payload) => {
                    let before = log.segments().count();
                    let position = log.append(&payload).unwrap();
                    if log.segments().count() > before {
                        synced = model.len();
                    }
                    model.push((position.segment, payload));
                }
                Step::Fill(free) => {
                    disk.set_free(Some(free));
                    let payload = vec![9; 40];
                    let before = log.segments().count();
                    match log.append(&payload) {
                        Ok(position) => {
                            if log.segments().count() > before {
                                synced = model.len();
                            }
                            model.push((position.segment, payload));
                        }
                        Err(error) => prop_assert!(error.is_full(), "{}", error),
                    }
                    disk.set_free(None);
                }
                Step::Sync => {
                    log.sync().unwrap();
                    synced = model.len();
                }
                Step::Seal => {
                    log.seal().unwrap();
                    synced = model.len();
                }
                Step::RemoveOldest => {
                    let oldest = log.segments().next().map(|info| info.id);
                    if let Some(id) = oldest {
                        log.remove(id).unwrap();
                        let gone = model.iter().take_while(|(segment, _)| *segment == id).count();
                        model.drain(..gone);
                        synced = synced.saturating_sub(gone);
                    }
                }
                Step::Crash(share) => {
                    drop(log);
                    disk.crash(|unsynced| unsynced * usize::from(share) / 255);
                    log = open(&disk, 200).0;
                    let kept = payloads(&log).len();
                    prop_assert!(kept >= synced && kept <= model.len(), "{} of {}..{}", kept, synced, model.len());
                    model.truncate(kept);
                    synced = kept;
                }
            }
            let expected: Vec<_> = model.iter().map(|(_, payload)| payload.clone()).collect();
            prop_assert_eq!(payloads(&log), expected);
        }
    }
}
