//! Whatever is done to the files of a chain is found.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use skep_audit::book::{self, Book};
use skep_audit::{Entry, Fault, Record, Report};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn record(at: usize) -> Record {
    let facts = [("verb", "throttle".to_owned()), ("evidence", format!("cpu_cores=0.{at}"))];
    Record {
        time_us: at as i64,
        actor: "policy".to_owned(),
        step: ["pending", "sent", "applied"][at % 3].to_owned(),
        subject: format!("{at:032x}"),
        node: "web-1".to_owned(),
        detail: "it used 0.998 cores, and \"quoted\" words\n".to_owned(),
        facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

/// A chain of so many entries, three an append.
fn chain(folder: &Path, entries: usize) {
    let (mut book, wrong) = Book::open(folder, "c0ffee", key()).unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
    let records: Vec<Record> = (0..entries).map(record).collect();
    for records in records.chunks(3) {
        book.append(records.to_vec(), 5).unwrap();
    }
}

fn file(folder: &Path) -> PathBuf {
    book::files(folder).unwrap().remove(0).1
}

fn lines(folder: &Path) -> Vec<String> {
    fs::read_to_string(file(folder)).unwrap().lines().map(str::to_owned).collect()
}

fn put_lines(folder: &Path, lines: &[String]) {
    fs::write(file(folder), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

fn verified(folder: &Path) -> Report {
    book::verify(folder, [key().verifying_key()], None).unwrap()
}

#[test]
fn what_was_not_touched_verifies_over_reopening() {
    let temp = tempfile::tempdir().unwrap();
    let key_2 = SigningKey::from_bytes(&[8; 32]);
    chain(temp.path(), 7);
    let (mut book, wrong) = Book::open(temp.path(), "c0ffee", key_2.clone()).unwrap();
    assert!(wrong.is_empty());
    book.append(vec![record(7)], 6).unwrap();
    let keys = [key().verifying_key(), key_2.verifying_key()];
    let report = book::verify(temp.path(), keys, None).unwrap();
    assert_eq!((report.entries, report.last, report.faulty, report.behind_head), (8, 8, 0, 0), "{report:?}");
    let one_key = verified(temp.path());
    assert!(one_key.faults.contains(&Fault::Unsigned { number: 8, key: skep_audit::entry::key_id(&keys[1]) }));
    assert!(one_key.faults.iter().any(|fault| matches!(fault, Fault::NoHead { .. })));
}

#[test]
fn a_chain_without_head_or_files_is_none() {
    let temp = tempfile::tempdir().unwrap();
    chain(temp.path(), 4);
    let head = temp.path().join("head.json");
    let text = fs::read_to_string(&head).unwrap();
    fs::remove_file(&head).unwrap();
    assert!(matches!(verified(temp.path()).faults[..], [Fault::NoHead { .. }]));
    fs::write(&head, text).unwrap();
    fs::remove_file(file(temp.path())).unwrap();
    assert_eq!(verified(temp.path()).faults, [Fault::CutOff { last: 0, head: 4 }]);
}

#[test]
fn a_torn_line_is_cut_off_and_what_was_cut_off_by_others_stays_visible() {
    let temp = tempfile::tempdir().unwrap();
    chain(temp.path(), 4);
    let path = file(temp.path());
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], b"{\"chain\":\"c0f"].concat()).unwrap();
    assert_eq!(verified(temp.path()).faulty, 0, "nobody was told of a torn line");
    let (mut book, wrong) = Book::open(temp.path(), "c0ffee", key()).unwrap();
    assert!(wrong.is_empty());
    book.append(vec![record(9)], 6).unwrap();
    assert_eq!((verified(temp.path()).entries, verified(temp.path()).faulty), (5, 0));

    put_lines(temp.path(), &lines(temp.path())[..3]);
    let (mut book, wrong) = Book::open(temp.path(), "c0ffee", key()).unwrap();
    assert_eq!(wrong, ["the chain ended with entry 3, there were 5"]);
    book.append(vec![record(10)], 7).unwrap();
    assert_eq!(verified(temp.path()).faults, [Fault::Missing { from: 4, to: 5 }]);
}

#[test]
fn an_earlier_state_put_back_is_found_by_what_was_noted() {
    let temp = tempfile::tempdir().unwrap();
    chain(temp.path(), 4);
    let (path, head) = (file(temp.path()), temp.path().join("head.json"));
    let (then, then_head) = (fs::read(&path).unwrap(), fs::read(&head).unwrap());
    let (mut book, _) = Book::open(temp.path(), "c0ffee", key()).unwrap();
    book.append(vec![record(4)], 6).unwrap();
    let noted = verified(temp.path());
    fs::write(&path, then).unwrap();
    fs::write(&head, then_head).unwrap();
    assert_eq!(verified(temp.path()).faulty, 0, "both were genuine");
    let report = book::verify(temp.path(), [key().verifying_key()], Some((noted.last, &noted.hash))).unwrap();
    assert_eq!(report.faults, [Fault::NotAsNoted { number: 5 }]);
}

#[test]
fn an_entry_of_somebody_elses_key_is_not_of_the_chain() {
    let temp = tempfile::tempdir().unwrap();
    chain(temp.path(), 3);
    let last = Entry::parse(lines(temp.path()).last().unwrap()).unwrap();
    let forged = Entry::seal(record(3), "c0ffee", 4, &last.hash, &SigningKey::from_bytes(&[9; 32]));
    let mut all = lines(temp.path());
    all.push(forged.line().unwrap());
    put_lines(temp.path(), &all);
    assert_eq!(verified(temp.path()).faults, [Fault::Unsigned { number: 4, key: forged.key }]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_flipped_bit_is_found(entries in 1_usize..12, byte in any::<prop::sample::Index>(), bit in 0_u8..8, head in any::<bool>()) {
        let temp = tempfile::tempdir().unwrap();
        chain(temp.path(), entries);
        let path = if head { temp.path().join("head.json") } else { file(temp.path()) };
        let mut bytes = fs::read(&path).unwrap();
        let at = byte.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        prop_assert!(verified(temp.path()).faulty > 0, "bit {} of byte {}", bit, at);
    }

    #[test]
    fn any_dropped_row_is_found(entries in 1_usize..12, at in any::<prop::sample::Index>()) {
        let temp = tempfile::tempdir().unwrap();
        chain(temp.path(), entries);
        let mut all = lines(temp.path());
        all.remove(at.index(entries));
        put_lines(temp.path(), &all);
        prop_assert!(verified(temp.path()).faulty > 0);
    }

    #[test]
    fn any_two_swapped_rows_are_found(entries in 2_usize..12, one in any::<prop::sample::Index>(), two in any::<prop::sample::Index>()) {
        let (one, two) = (one.index(entries), two.index(entries));
        prop_assume!(one != two);
        let temp = tempfile::tempdir().unwrap();
        chain(temp.path(), entries);
        let mut all = lines(temp.path());
        all.swap(one, two);
        put_lines(temp.path(), &all);
        prop_assert!(verified(temp.path()).faulty > 0);
    }

    #[test]
    fn any_row_written_twice_is_found(entries in 1_usize..12, from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let temp = tempfile::tempdir().unwrap();
        chain(temp.path(), entries);
        let mut all = lines(temp.path());
        let again = all[from.index(entries)].clone();
        all.insert(to.index(entries + 1), again);
        put_lines(temp.path(), &all);
        prop_assert!(verified(temp.path()).faulty > 0);
    }

    #[test]
    fn any_cut_is_found(entries in 1_usize..12, at in any::<prop::sample::Index>()) {
        let temp = tempfile::tempdir().unwrap();
        chain(temp.path(), entries);
        let path = file(temp.path());
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..at.index(bytes.len())]).unwrap();
        prop_assert!(verified(temp.path()).faulty > 0);
    }

    #[test]
    fn a_value_changed_with_its_hash_is_found(entries in 1_usize..12, at in any::<prop::sample::Index>()) {
        let temp = tempfile::tempdir().unwrap();
        chain(temp.path(), entries);
        let mut all = lines(temp.path());
        let at = at.index(entries);
        let mut entry = Entry::parse(&all[at]).unwrap();
        entry.actor = "ann".to_owned();
        entry.hash = entry.digest().iter().map(|byte| format!("{byte:02x}")).collect();
        all[at] = entry.line().unwrap();
        put_lines(temp.path(), &all);
        prop_assert!(verified(temp.path()).faulty > 0);
    }
}
