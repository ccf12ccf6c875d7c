//! The collector's storage without its network: what `serve` does with batches, one step at a time and in one thread,
//! so that a seed repeats it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use skep_collector::buffer::Store;
use skep_collector::history::History;
use skep_collector::history::flush::flush;
use skep_collector::ingest::arrival;
use skep_collector::ingest::publish::{Events, Publisher};
use skep_collector::recover::{self, Places};
use skep_collector::wal::record::encode_envelope;
use skep_collector::wal::writer::Limits;
use skep_collector::wal::{Arrival, Command, Damage, Outcome, StreamKey, Wal, Writer};
use skep_seglog::sim::SimDisk;
use skep_wire::v1;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use super::keep;
use crate::batch::ROWS;

/// Commands that may wait.
const QUEUE: usize = 256;

/// Where everything lies.
pub(super) const DATA: &str = "/data";

/// Folder of the WAL.
pub(super) const WAL: &str = "/data/wal";

/// One life of a collector.
#[derive(Debug)]
pub(super) struct Collector {
    writer: Writer<SimDisk>,
    commands: mpsc::Sender<Command>,
    waiting: mpsc::Receiver<Command>,
    history: Arc<History>,
    pub(super) store: Arc<Store>,
    /// What of the WAL could not be read at start.
    pub(super) damage: Vec<Damage>,
}

/// The WAL's thread ended, and with it the process.
#[derive(Debug)]
pub(super) struct Ended(pub(super) anyhow::Error);

impl Collector {
    /// As a start of the process.
    pub(super) fn start(disk: &SimDisk) -> Result<Self> {
        let places = Places { wal: Path::new(WAL), history: Path::new("/data/history"), collector: "c0ffee" };
        let found = recover::open(disk.clone(), places, 1 << 30)?;
        let resumed = found.replay(|_| {})?;
        let events = Events::new(broadcast::channel(4).0);
        let publisher = Publisher::new(events, mpsc::channel(1).0, Arc::new(Notify::new()));
        let wal = Wal { log: found.log, offsets: resumed.offsets };
        let limits = Limits { rows: usize::MAX, log_bytes: u64::MAX };
        let writer = Writer::new(wal, Arc::clone(&found.store), publisher, limits)?;
        let (commands, waiting) = mpsc::channel(QUEUE);
        Ok(Self { writer, commands, waiting, history: found.history, store: found.store, damage: resumed.damage })
    }

    /// How far a stream has come: what a welcome says.
    pub(super) fn durable_seq(&mut self, key: &StreamKey) -> Result<u64, Ended> {
        self.ask(|reply| Command::Offset(key.clone(), reply))
    }

    /// Stores batches as one group; an answer each, as far as there are any when the collector ends.
    pub(super) fn store(&mut self, batches: Vec<Sent>) -> (Vec<Option<Outcome>>, Result<(), Ended>) {
        let mut answers = Vec::new();
        for sent in batches {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            let said = arrival(&sent, reply).map_err(Ended).and_then(|arrival| self.say(Command::Store(arrival)));
            if said.is_err() {
                return (Vec::new(), said);
            }
        }
        let served = self.writer.run_waiting(&mut self.waiting).map_err(|error| Ended(error.into()));
        (answers.into_iter().map(|mut answer| answer.try_recv().ok()).collect(), served)
    }

    /// Seals the segment being written; the answer is the one after it.
    pub(super) fn seal(&mut self) -> Result<skep_seglog::SegmentId, Ended> {
        self.ask(Command::Seal)
    }

    /// Writes what is sealed to Parquet. An error is for the next flush to make good.
    pub(super) fn flush(&self) -> Result<()> {
        flush(&self.store, &self.history).1.map_err(anyhow::Error::from)
    }

    /// Keeps the tables in order; see [`keep`]. Returns how many tables' files were merged.
    pub(super) fn keep(&self, disk: &SimDisk) -> Result<u64> {
        let mut merged = 0;
        for (table, _) in ROWS {
            merged += u64::from(keep::keep(table, &self.history, &self.store, disk)?);
        }
        Ok(merged)
    }

    /// Lets go of WAL segments.
    pub(super) fn remove(&mut self, before: skep_seglog::SegmentId) -> Result<(), Ended> {
        self.ask(|reply| Command::Remove(before, reply))
    }

    fn ask<T>(&mut self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Ended> {
        let (reply, mut answer) = oneshot::channel();
        self.say(command(reply))?;
        self.writer.run_waiting(&mut self.waiting).map_err(|error| Ended(error.into()))?;
        answer.try_recv().map_err(|_| Ended(anyhow!("the WAL's thread does not answer")))
    }

    fn say(&self, command: Command) -> Result<(), Ended> {
        self.commands.try_send(command).map_err(|_| Ended(anyhow!("the queue is full")))
    }
}

/// A batch on its way, as its session hands it over.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) envelope: v1::Envelope,
    /// The first number known to be gone before it.
    pub(super) gap_from: u64,
}

fn arrival(sent: &Sent, reply: oneshot::Sender<Outcome>) -> Result<Box<Arrival>> {
    let envelope = &sent.envelope;
    let checked = arrival::check(envelope, 0).context("a batch of ours")?;
    Ok(Box::new(Arrival {
        key: StreamKey { node: envelope.node.clone(), stream: envelope.stream.clone() },
        seq: envelope.seq,
        gap_from: sent.gap_from,
        entry: encode_envelope(envelope),
        rows: checked.rows,
        durable: checked.durable,
        room: None,
        slot: None,
        reply,
    }))
}
