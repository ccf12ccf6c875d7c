use std::collections::BTreeMap;
use std::path::Path;

use skep_seglog::Options;
use skep_seglog::sim::SimDisk;
use skep_wire::chunk::Builder;
use skep_wire::envelope::{self, Origin};
use skep_wire::tables::LOSS;
use skep_wire::v1;
use tokio::sync::{Notify, broadcast};

use super::*;
use crate::ingest::arrival;
use crate::ingest::publish::Events;
use crate::wal::{Damage, Replayed, replay};

const DIR: &str = "/wal";

struct Bench {
    disk: SimDisk,
    store: Arc<Store>,
    writer: Writer<SimDisk>,
}

fn envelope(seq: u64) -> v1::Envelope {
    let mut builder = Builder::new(&LOSS);
    builder.int("time", 1).int("until", 2).text("probe", "tcp").text("reason", "none").end_row().unwrap();
    let batch = v1::Batch { sealed_us: 1, chunks: builder.finish().into_iter().collect(), deliveries: Vec::new() };
    let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq };
    envelope::seal(origin, &batch).unwrap()
}

fn key() -> StreamKey {
    StreamKey { node: "n".to_owned(), stream: "s".to_owned() }
}

fn arrival(seq: u64) -> (Arrival, oneshot::Receiver<Outcome>) {
    let envelope = envelope(seq);
    let checked = arrival::check(&envelope, 0).unwrap();
    let (reply, answer) = oneshot::channel();
    let arrival = Arrival {
        key: key(),
        seq,
        gap_from: seq,
        entry: record::encode_envelope(&envelope),
        rows: checked.rows,
        durable: checked.durable,
        room: None,
        slot: None,
        reply,
    };
    (arrival, answer)
}

fn found(disk: &SimDisk) -> (Log<SimDisk>, Replayed) {
    let options = Options { segment_bytes: u64::MAX, ..Options::default() };
    let (log, _) = Log::open(disk.clone(), Path::new(DIR), options).unwrap();
    let replayed = replay(&log, &BTreeMap::new(), |_| {}).unwrap();
    (log, replayed)
}

fn bench(disk: &SimDisk) -> Bench {
    let (log, replayed) = found(disk);
    let store = Arc::new(Store::new(1 << 20, BTreeMap::new()));
    let publisher =
        Publisher::new(Events::new(broadcast::channel(4).0), tokio::sync::mpsc::channel(1).0, Arc::new(Notify::new()));
    let limits = Limits { rows: 1000, log_bytes: 1 << 20 };
    let wal = Wal { log, offsets: replayed.offsets };
    let writer = Writer::new(wal, Arc::clone(&store), publisher, limits).unwrap();
    Bench { disk: disk.clone(), store, writer }
}

impl Bench {
    /// Stores batches as one group.
    fn store(&mut self, seqs: &[u64]) -> Result<Vec<Outcome>, LogError> {
        let (sender, mut commands) = mpsc::channel(64);
        let mut answers = Vec::new();
        let mut first = None;
        for &seq in seqs {
            let (arrival, answer) = arrival(seq);
            answers.push(answer);
            match first {
                None => first = Some(arrival),
                Some(_) => sender.try_send(Command::Store(Box::new(arrival))).unwrap(),
            }
        }
        self.writer.store_group(first.unwrap(), &mut commands)?;
        Ok(answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect())
    }

    fn rows(&self) -> usize {
        self.store.snapshot().tables["loss"].batches.iter().map(|batch| batch.num_rows()).sum()
    }
}

fn stored(durable_seq: u64) -> Outcome {
    Outcome::Stored { durable_seq }
}

#[test]
fn a_group_is_answered_in_order_and_stored_once() {
    let mut bench = bench(&SimDisk::default());
    let outcomes = bench.store(&[1, 2, 2, 4, 3]).unwrap();
    assert_eq!(
        outcomes,
        [stored(1), stored(2), Outcome::Repeat { durable_seq: 2 }, Outcome::Early { expected: 3 }, stored(3)]
    );
    assert_eq!(bench.rows(), 3);
}

#[test]
fn what_was_answered_survives_a_power_loss() {
    let disk = SimDisk::default();
    let mut first = bench(&disk);
    first.store(&[1, 2, 3]).unwrap();
    drop(first);
    disk.crash(|_| 0);
    let (_, replayed) = found(&disk);
    assert_eq!(replayed.memtables.iter().map(|m| m.rows).sum::<usize>(), 3);
    let mut again = bench(&disk);
    assert_eq!(again.store(&[3, 4]).unwrap(), [Outcome::Repeat { durable_seq: 3 }, stored(4)]);
}

#[test]
fn a_full_disk_refuses_and_what_was_stored_stays() {
    let mut bench = bench(&SimDisk::default());
    bench.store(&[1]).unwrap();
    bench.disk.set_free(Some(30));
    let outcomes = bench.store(&[2, 3]).unwrap();
    assert!(matches!(outcomes[0], Outcome::Refused { .. }), "{outcomes:?}");
    assert!(!matches!(outcomes[1], Outcome::Stored { .. }), "{outcomes:?}");
    assert_eq!(bench.rows(), 1);
    bench.disk.set_free(None);
    assert_eq!(bench.store(&[2, 3]).unwrap(), [stored(2), stored(3)]);
    assert_eq!(found(&bench.disk).1.batches, 3);
}

#[test]
fn a_failed_sync_ends_the_writer_and_answers_nothing() {
    let mut bench = bench(&SimDisk::default());
    bench.store(&[1]).unwrap();
    bench.disk.fail_sync(true);
    assert!(matches!(bench.store(&[2]), Err(LogError::Poisoned { .. })));
    assert_eq!(bench.rows(), 1);
}

#[test]
fn offsets_outlive_the_segments_they_were_counted_in() {
    let disk = SimDisk::default();
    let mut first = bench(&disk);
    first.store(&[1, 2]).unwrap();
    let active = first.writer.seal().unwrap();
    first.store(&[3]).unwrap();
    first.writer.remove(active).unwrap();
    assert_eq!(first.writer.log.segments().count(), 1);
    assert_eq!(first.rows(), 3);
    drop(first);
    disk.crash(|_| 0);
    let (_, replayed) = found(&disk);
    assert_eq!(replayed.batches, 1);
    assert_eq!(replayed.offsets.last(&key()), 3);
    assert!(replayed.damage.is_empty());
}

#[test]
fn the_last_snapshot_is_never_removed() {
    let disk = SimDisk::default();
    let mut bench = bench(&disk);
    bench.store(&[1]).unwrap();
    bench.writer.seal().unwrap();
    bench.writer.remove(SegmentId(u64::MAX)).unwrap();
    drop(bench);
    disk.crash(|_| 0);
    assert_eq!(found(&disk).1.offsets.last(&key()), 1);
}

#[test]
fn rows_of_tables_that_are_in_parquet_are_not_read_again() {
    let disk = SimDisk::default();
    let mut first = bench(&disk);
    first.store(&[1]).unwrap();
    let sealed = first.writer.log.active().unwrap();
    first.writer.seal().unwrap();
    first.store(&[2, 3]).unwrap();
    drop(first);
    let (log, _) = found(&disk);
    let progress = BTreeMap::from([("loss", sealed)]);
    let replayed = replay(&log, &progress, |_| {}).unwrap();
    assert_eq!(replayed.batches, 3);
    assert_eq!(replayed.memtables.iter().map(|m| m.rows).sum::<usize>(), 2);
}

#[test]
fn damage_is_said_and_what_follows_is_kept() {
    let disk = SimDisk::default();
    let mut first = bench(&disk);
    first.store(&[1, 2, 3]).unwrap();
    let path = first.writer.log.active().unwrap().path(Path::new(DIR));
    let places: Vec<_> =
        first.writer.log.read(skep_seglog::Position::START).map(|entry| entry.unwrap().position.offset).collect();
    drop(first);
    // Two snapshots, then the batches.
    disk.flip(&path, places[3] as usize + 20);
    let (_, replayed) = found(&disk);
    assert_eq!(replayed.batches, 2);
    let said: Vec<_> = replayed.damage.iter().map(ToString::to_string).collect();
    assert!(matches!(replayed.damage[..], [Damage::Bytes(_), Damage::Gone { from: 2, to: 2, .. }]), "{said:?}");
    assert_eq!(said[1], "batches 2 to 2 of stream s of node n were acknowledged and cannot be read");
    assert_eq!(replayed.offsets.last(&key()), 3);
}

#[test]
fn what_the_next_segment_knows_of_and_nobody_can_read_is_named() {
    let disk = SimDisk::default();
    let mut first = bench(&disk);
    first.store(&[1, 2]).unwrap();
    let path = first.writer.log.active().unwrap().path(Path::new(DIR));
    first.writer.seal().unwrap();
    first.store(&[3]).unwrap();
    drop(first);
    disk.flip(&path, disk.size(&path).unwrap() - 1);
    let (log, replayed) = found(&disk);
    assert!(matches!(replayed.damage[..], [Damage::Bytes(_), Damage::Gone { from: 2, to: 2, .. }]));
    // Of a segment that is in Parquet nothing is lost.
    let progress = BTreeMap::from([("cpu", SegmentId(2))]);
    let replayed = replay(&log, &progress, |_| {}).unwrap();
    assert!(matches!(replayed.damage[..], [Damage::Bytes(_)]), "{:?}", replayed.damage);
}

#[test]
fn a_gap_the_agent_declared_is_no_damage() {
    let disk = SimDisk::default();
    let mut first = bench(&disk);
    first.store(&[1]).unwrap();
    let (mut later, _answer) = arrival(5);
    later.gap_from = 2;
    first.writer.store_group(later, &mut mpsc::channel(1).1).unwrap();
    drop(first);
    let (_, replayed) = found(&disk);
    assert!(replayed.damage.is_empty(), "{:?}", replayed.damage);
    assert_eq!(replayed.offsets.last(&key()), 5);
}

#[test]
fn one_damaged_place_does_not_make_the_offsets_unknown() {
    let disk = SimDisk::default();
    let mut first = bench(&disk);
    first.store(&[1, 2]).unwrap();
    let active = first.writer.seal().unwrap();
    first.writer.remove(active).unwrap();
    drop(first);
    let path = active.path(Path::new(DIR));
    for offset in 0..disk.size(&path).unwrap() {
        disk.flip(&path, offset);
        let log = Log::open_read_only(disk.clone(), Path::new(DIR)).unwrap().0;
        let replayed = replay(&log, &BTreeMap::new(), |_| {}).unwrap();
        assert_eq!(replayed.offsets.last(&key()), 2, "byte {offset}");
        assert!(!replayed.damage.iter().any(|damage| matches!(damage, Damage::Gone { .. })));
        disk.flip(&path, offset);
    }
}
