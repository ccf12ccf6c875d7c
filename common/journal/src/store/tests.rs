use std::path::PathBuf;

use skep_seglog::sim::SimDisk;
use skep_wire::v1;

use super::*;
use crate::record::{Standing, What};

fn dir() -> PathBuf {
    PathBuf::from("/journal")
}

fn standing(action: &str) -> Entry {
    let command = v1::Command { id: action.to_owned(), ..Default::default() };
    let standing = Standing { command: Some(command), previous: "-1 100000".to_owned(), ..Default::default() };
    Entry::of([What::Standing(standing)])
}

fn closed(action: &str) -> Entry {
    Entry::of([What::Closed(action.to_owned())])
}

fn open(disk: &SimDisk) -> Journal<SimDisk> {
    Journal::open(disk.clone(), &dir(), Now::default()).unwrap()
}

fn actions(journal: &Journal<SimDisk>) -> Vec<String> {
    journal.state().standing.keys().cloned().collect()
}

#[test]
fn what_was_written_is_there_after_a_crash() {
    let disk = SimDisk::default();
    let mut journal = open(&disk);
    journal.write(standing("a"), Now::default()).unwrap();
    journal.write(standing("b"), Now::default()).unwrap();
    journal.write(closed("a"), Now::default()).unwrap();
    disk.crash(|_| 0);
    assert_eq!(actions(&open(&disk)), ["b"]);
}

#[test]
fn a_torn_entry_is_no_entry_however_much_of_it_survived() {
    for kept in 0..200 {
        let disk = SimDisk::default();
        let mut journal = open(&disk);
        journal.write(standing("a"), Now::default()).unwrap();
        disk.fail_sync(true);
        assert!(journal.write(closed("a"), Now::default()).is_err(), "a step that is not on disk is not taken");
        assert_eq!(actions(&journal), ["a"]);
        disk.fail_sync(false);
        disk.crash(|_| kept);
        let again = actions(&open(&disk));
        assert!(again == ["a"] || again.is_empty(), "all of the step or nothing: {again:?}");
    }
}

#[test]
fn a_crash_while_it_is_rewritten_loses_nothing() {
    for free in 0..400 {
        let disk = SimDisk::default();
        let mut journal = open(&disk);
        for action in ["a", "b", "c"] {
            journal.write(standing(action), Now::default()).unwrap();
        }
        journal.write(closed("b"), Now::default()).unwrap();
        drop(journal);
        disk.set_free(Some(free));
        drop(Journal::open(disk.clone(), &dir(), Now::default()));
        disk.crash(|unsynced| unsynced / 2);
        disk.set_free(None);
        assert_eq!(actions(&open(&disk)), ["a", "c"], "{free} bytes free");
    }
}

#[test]
fn damage_in_the_middle_is_reported_and_the_rest_counts() {
    let disk = SimDisk::default();
    let mut journal = open(&disk);
    for action in ["a", "b", "c"] {
        journal.write(standing(action), Now::default()).unwrap();
    }
    let segment = journal.log.active().unwrap();
    let entry = journal.log.read(Position { segment, offset: 0 }).nth(2).unwrap().unwrap();
    disk.flip(&segment.path(&dir()), entry.position.offset as usize + 14);
    let again = open(&disk);
    assert_eq!(actions(&again), ["a", "c"]);
    assert_eq!(again.damage().len(), 1);
    assert_eq!(open(&disk).damage().len(), 1, "it stays where it is");
}

#[test]
fn it_does_not_grow_without_bound() {
    let disk = SimDisk::default();
    let mut journal = open(&disk);
    let long = "x".repeat(100_000);
    for _ in 0..200 {
        journal.write(standing(&long), Now::default()).unwrap();
        journal.write(closed(&long), Now::default()).unwrap();
        assert!(journal.log.bytes() <= REWRITE_BYTES + 400_000);
    }
    assert!(actions(&journal).is_empty());
}
