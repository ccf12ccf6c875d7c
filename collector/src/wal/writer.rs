//! The one thread that appends, syncs and acknowledges.
//!
//! It takes what is waiting (up to [`GROUP_BYTES`]), appends it, syncs once, puts the rows into the buffer and only then
//! answers. An append that fails (full disk) refuses that batch and leaves the log as it was; a sync that fails ends the
//! thread, and with it the process: what the disk holds is then known only after a new start.

use std::sync::Arc;

use skep_seglog::{Disk, Log, LogError, SegmentId, Storage};
use tokio::sync::{mpsc, oneshot};

use super::offsets::{Offsets, StreamKey, Verdict};
use super::record;
use crate::buffer::Room;
use crate::buffer::Store;
use crate::buffer::memtable::Rows;
use crate::ingest::Durable;
use crate::ingest::publish::{Publisher, Slot};

/// Most bytes appended before a sync: keeps one group's latency bounded.
const GROUP_BYTES: usize = 8 << 20;

/// Most entries in one group.
const GROUP_ENTRIES: usize = 512;

/// A checked batch on its way into the log.
#[derive(Debug)]
pub struct Arrival {
    /// Whose.
    pub key: StreamKey,
    /// Its number.
    pub seq: u64,
    /// The first number known to be gone before it; equals `seq` where none is.
    pub gap_from: u64,
    /// The log's entry: [`record::encode_envelope`].
    pub entry: Vec<u8>,
    /// What the buffer gets.
    pub rows: Vec<Rows>,
    /// What listeners get.
    pub durable: Arc<Durable>,
    /// Memory for `rows`.
    pub room: Option<Room>,
    /// A place in the responder's queue; `None` for what it does not look at.
    pub slot: Option<Slot>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Outcome>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Durable now.
    Stored {
        /// Everything up to here is durable.
        durable_seq: u64,
    },
    /// Durable since before.
    Repeat {
        /// Everything up to here is durable.
        durable_seq: u64,
    },
    /// Batches before it are missing.
    Early {
        /// The one expected.
        expected: u64,
    },
    /// Not stored; try again later.
    Refused {
        /// One line.
        reason: String,
    },
}

/// What the thread is asked.
#[derive(Debug)]
pub enum Command {
    /// Store a batch.
    Store(Box<Arrival>),
    /// How far a stream has come.
    Offset(StreamKey, oneshot::Sender<u64>),
    /// Seal the segment being written, if it holds a batch, so that it can be flushed. The answer is the segment that
    /// is being written then: every one before it is sealed.
    Seal(oneshot::Sender<SegmentId>),
    /// Everything in the segments before this one is in Parquet. The answer comes when they are removed, or stay for now.
    Remove(SegmentId, oneshot::Sender<()>),
}

/// When a segment is due for flushing before its time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows in memory.
    pub rows: usize,
    /// Bytes in the log.
    pub log_bytes: u64,
}

/// An opened log with what its segments said.
#[derive(Debug)]
pub struct Wal<S: Storage + Clone = Disk> {
    /// The log.
    pub log: Log<S>,
    /// How far every stream has come.
    pub offsets: Offsets,
}

/// The thread's state.
#[derive(Debug)]
pub struct Writer<S: Storage + Clone = Disk> {
    log: Log<S>,
    offsets: Offsets,
    store: Arc<Store>,
    publisher: Publisher,
    limits: Limits,
    /// Batches since the last seal.
    entries: usize,
    /// The disk refused the last append; said once, not for every batch.
    refusing: bool,
}

impl<S: Storage + Clone> Writer<S> {
    /// Takes over `wal` and makes sure that a segment with a snapshot is there.
    ///
    /// # Errors
    /// The log cannot be written; nothing may be acknowledged.
    pub fn new(wal: Wal<S>, store: Arc<Store>, publisher: Publisher, limits: Limits) -> Result<Self, LogError> {
        let Wal { log, offsets } = wal;
        let mut writer = Self { log, offsets, store, publisher, limits, entries: 0, refusing: false };
        writer.begin_segment()?;
        writer.log.sync()?;
        Ok(writer)
    }

    /// Serves commands until their senders are gone.
    ///
    /// # Errors
    /// A sync failed. Nothing more may be acknowledged by this process.
    pub fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), LogError> {
        while let Some(first) = commands.blocking_recv() {
            self.serve_all(first, &mut commands)?;
        }
        self.log.sync().map(|_| ())
    }

    /// Serves the commands that are waiting, and does not wait for more.
    ///
    /// # Errors
    /// As [`Writer::run`]; the writer is then of no further use.
    pub fn run_waiting(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<(), LogError> {
        while let Ok(first) = commands.try_recv() {
            self.serve_all(first, commands)?;
        }
        Ok(())
    }

    fn serve_all(&mut self, first: Command, commands: &mut mpsc::Receiver<Command>) -> Result<(), LogError> {
        let mut next = Some(first);
        while let Some(command) = next.take() {
            next = self.serve(command, commands)?;
        }
        Ok(())
    }

    /// Stores `first` and what else is waiting; returns the command that ended the group.
    fn store_group(
        &mut self,
        first: Arrival,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<Option<Command>, LogError> {
        let mut bytes = first.entry.len();
        let mut group = vec![first];
        let mut ended_by = None;
        while bytes < GROUP_BYTES && group.len() < GROUP_ENTRIES {
            match commands.try_recv() {
                Ok(Command::Store(arrival)) => {
                    bytes += arrival.entry.len();
                    group.push(*arrival);
                }
                Ok(other) => {
                    ended_by = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let mut answers = Vec::with_capacity(group.len());
        for arrival in group {
            let answer = self.append(&arrival)?;
            answers.push((arrival, answer));
        }
        self.log.sync()?;
        for (arrival, answer) in answers {
            self.settle(arrival, answer);
        }
        Ok(ended_by)
    }

    /// Appends a batch if it is due. The answer may be given only after the next sync.
    fn append(&mut self, arrival: &Arrival) -> Result<Outcome, LogError> {
        let durable_seq = self.offsets.last(&arrival.key);
        match self.offsets.judge(&arrival.key, arrival.seq, arrival.gap_from) {
            Verdict::Repeat => Ok(Outcome::Repeat { durable_seq }),
            Verdict::Early { expected } => Ok(Outcome::Early { expected }),
            Verdict::Store => match self.begin_segment().and_then(|()| self.log.append(&arrival.entry)) {
                Ok(_) => {
                    if std::mem::take(&mut self.refusing) {
                        tracing::info!("the WAL can be written again");
                    }
                    self.offsets.advance(&arrival.key, arrival.seq);
                    Ok(Outcome::Stored { durable_seq: arrival.seq })
                }
                Err(LogError::Poisoned { path, source }) => Err(LogError::Poisoned { path, source }),
                Err(error) => {
                    let reason = crate::error::chain(&error);
                    if !std::mem::replace(&mut self.refusing, true) {
                        tracing::error!(%reason, "nothing can be stored, and nothing is acknowledged; agents keep their data");
                    }
                    Ok(Outcome::Refused { reason })
                }
            },
        }
    }

    /// After the sync: rows to the buffer, the batch to its listeners, the answer to its sender.
    fn settle(&mut self, arrival: Arrival, outcome: Outcome) {
        let Arrival { rows, durable, room, slot, reply, .. } = arrival;
        if matches!(outcome, Outcome::Stored { .. }) {
            let segment = self.log.active().unwrap_or(self.log.next_segment());
            let rows = self.store.insert(segment, rows, room);
            self.entries += 1;
            self.publisher.publish(durable, slot);
            let log_bytes = self.active_bytes();
            if rows >= self.limits.rows || log_bytes >= self.limits.log_bytes || self.store.is_half_full() {
                self.publisher.flush_is_due();
            }
        }
        // A session that is gone learns of it when it comes back.
        let _gone = reply.send(outcome).is_err();
    }

    /// Does what is asked; returns the command that is next, if one was taken from the queue.
    fn serve(&mut self, command: Command, commands: &mut mpsc::Receiver<Command>) -> Result<Option<Command>, LogError> {
        // Whoever asked and does not wait for the answer is gone.
        match command {
            Command::Store(arrival) => return self.store_group(*arrival, commands),
            Command::Offset(key, reply) => {
                let _gone = reply.send(self.offsets.last(&key)).is_err();
            }
            Command::Seal(reply) => {
                let sealed = self.seal()?;
                let _gone = reply.send(sealed).is_err();
            }
            Command::Remove(before, reply) => {
                self.remove(before)?;
                let _gone = reply.send(()).is_err();
            }
        }
        Ok(None)
    }

    fn seal(&mut self) -> Result<SegmentId, LogError> {
        if self.entries > 0 {
            self.log.seal()?;
            self.entries = 0;
            self.store.freeze();
            match self.begin_segment().and_then(|()| self.log.sync()) {
                Ok(_) => {}
                Err(error @ LogError::Poisoned { .. }) => return Err(error),
                Err(error) => tracing::warn!(error = %crate::error::chain(&error), "no new WAL segment for now"),
            }
        }
        Ok(self.log.active().unwrap_or(self.log.next_segment()))
    }

    /// Removes flushed segments, but never the last snapshot.
    fn remove(&mut self, before: SegmentId) -> Result<(), LogError> {
        match self.begin_segment().and_then(|()| self.log.sync()) {
            Ok(_) => {}
            Err(error @ LogError::Poisoned { .. }) => return Err(error),
            Err(_) => return Ok(()),
        }
        let active = self.log.active();
        let done: Vec<_> =
            self.log.segments().map(|info| info.id).filter(|id| *id < before && Some(*id) != active).collect();
        for id in done {
            if let Err(error) = self.log.remove(id) {
                tracing::warn!(segment = %id, error = %crate::error::chain(&error), "flushed segment stays for now");
            }
        }
        Ok(())
    }

    /// Begins a segment with its snapshot unless one is being written. The snapshot is there twice: when the segments
    /// before it are gone, nothing else tells what was stored, and one damaged place must not make that unknown.
    fn begin_segment(&mut self) -> Result<(), LogError> {
        if self.log.active().is_some() {
            return Ok(());
        }
        let snapshot = record::encode_offsets(&self.offsets);
        match self.log.append(&snapshot).and_then(|_| self.log.append(&snapshot)) {
            Ok(_) => Ok(()),
            Err(error) => {
                // A segment that does not begin with a snapshot must not be: begin anew next time.
                if let Some(id) = self.log.active() {
                    self.log.remove(id)?;
                }
                Err(error)
            }
        }
    }

    fn active_bytes(&self) -> u64 {
        let active = self.log.active();
        self.log.segments().find(|info| Some(info.id) == active).map_or(0, |info| info.bytes)
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
