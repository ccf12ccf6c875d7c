//! What a start finds in the log.
//!
//! Numbers that are missing behind damage are batches that were acknowledged and cannot be read: they are named. Numbers
//! that are missing without any damage are those an agent said it had dropped.

use std::collections::BTreeMap;

use skep_seglog::{Fault, Log, Position, ReadError, SegmentId, Storage};
use thiserror::Error;

use super::offsets::{Offsets, StreamKey};
use super::record::{self, Record, RecordError};
use crate::buffer::Memtable;
use crate::buffer::memtable::Rows;
use crate::ingest::Durable;
use crate::ingest::arrival::{self, Refused};

/// What the log held.
#[derive(Debug, Default)]
pub struct Replayed {
    /// How far every stream has come.
    pub offsets: Offsets,
    /// Rows that are not in Parquet, a memtable a segment, oldest first.
    pub memtables: Vec<Memtable>,
    /// Batches read.
    pub batches: usize,
    /// What could not be read; rows that were acknowledged may be in it.
    pub damage: Vec<Damage>,
}

/// A part of the log that could not be read.
#[derive(Debug, Error)]
pub enum Damage {
    /// Bytes that are no entry.
    #[error("{0}")]
    Bytes(Fault),
    /// An entry that does not decode.
    #[error("segment {segment} at {offset}: {source}")]
    Entry {
        /// Which segment.
        segment: SegmentId,
        /// Where in it.
        offset: u64,
        /// Why.
        source: RecordError,
    },
    /// A batch that passed its checks when it came and does not now.
    #[error("batch {seq} of node {node}: {source}")]
    Batch {
        /// Whose.
        node: String,
        /// Which.
        seq: u64,
        /// Where.
        segment: SegmentId,
        /// Why.
        source: Refused,
    },
    /// Batches that were acknowledged and are not in the log.
    #[error("batches {from} to {to} of stream {} of node {} were acknowledged and cannot be read", key.stream, key.node)]
    Gone {
        /// Whose.
        key: StreamKey,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
}

impl Damage {
    /// The segment to keep a copy of, where there is one.
    pub fn segment(&self) -> Option<SegmentId> {
        match self {
            Self::Bytes(fault) => Some(fault.position.segment),
            Self::Entry { segment, .. } | Self::Batch { segment, .. } => Some(*segment),
            Self::Gone { .. } => None,
        }
    }
}

/// Reads the whole log. Rows of tables whose `progress` reaches their segment are in Parquet and are not kept.
///
/// `seen` is called with every batch, in order.
///
/// # Errors
/// The log cannot be read, or a newer program wrote it: do not go on.
pub fn replay<S: Storage + Clone>(
    log: &Log<S>,
    progress: &BTreeMap<&'static str, SegmentId>,
    mut seen: impl FnMut(&Durable),
) -> Result<Replayed, ReplayError> {
    let mut walk = Walk::new(progress);
    for read in log.read(Position::START) {
        let entry = match read {
            Ok(entry) => entry,
            Err(ReadError::Damaged(fault)) => {
                walk.damaged(fault.position.segment, Damage::Bytes(fault));
                continue;
            }
            Err(error) => return Err(ReplayError::Read(error)),
        };
        let segment = entry.position.segment;
        match record::decode(&entry.payload) {
            Ok(Record::Offsets(offsets)) => walk.snapshot(segment, &offsets),
            Ok(Record::Envelope(envelope)) => walk.envelope(segment, &envelope, &mut seen),
            Err(RecordError::UnknownKind { kind }) => return Err(ReplayError::Newer { segment, kind }),
            Err(source) => {
                walk.damaged(segment, Damage::Entry { segment, offset: entry.position.offset, source });
            }
        }
    }
    Ok(walk.replayed)
}

/// The way through the log.
#[derive(Debug)]
struct Walk<'a> {
    replayed: Replayed,
    progress: &'a BTreeMap<&'static str, SegmentId>,
    /// Everything in the segments before this one is in Parquet, whatever can be read of them now: a flush takes one
    /// segment after the other.
    whole_before: SegmentId,
    /// Whether it was said how far the streams had come where the log begins.
    began: bool,
    /// Damaged places so far, and the segment of the last.
    faults: (usize, SegmentId),
    /// How many there were when a stream was last heard of.
    heard: BTreeMap<StreamKey, usize>,
}

impl<'a> Walk<'a> {
    fn new(progress: &'a BTreeMap<&'static str, SegmentId>) -> Self {
        Self {
            replayed: Replayed::default(),
            progress,
            whole_before: progress.values().copied().max().unwrap_or(SegmentId(0)),
            began: false,
            faults: (0, SegmentId(0)),
            heard: BTreeMap::new(),
        }
    }

    fn damaged(&mut self, segment: SegmentId, damage: Damage) {
        self.faults = (self.faults.0 + 1, segment);
        self.replayed.damage.push(damage);
    }

    /// What a segment begins with. It may know of batches that were in the segments before it and cannot be read.
    fn snapshot(&mut self, segment: SegmentId, offsets: &Offsets) {
        for (key, seq) in offsets.iter() {
            let last = self.replayed.offsets.last(key);
            if seq > last && (self.began || last > 0) {
                let before = SegmentId(segment.0.saturating_sub(1));
                self.gone(before, key, last + 1, seq);
            }
            self.heard.insert(key.clone(), self.faults.0);
        }
        self.replayed.offsets.merge(offsets);
        self.began = true;
    }

    fn envelope(&mut self, segment: SegmentId, envelope: &skep_wire::v1::Envelope, seen: &mut impl FnMut(&Durable)) {
        let key = StreamKey { node: envelope.node.clone(), stream: envelope.stream.clone() };
        let last = self.replayed.offsets.last(&key);
        let damage_between = self.heard.get(&key).copied().unwrap_or(0) < self.faults.0;
        if envelope.seq > last + 1 && damage_between && (self.began || last > 0) {
            self.gone(self.faults.1, &key, last + 1, envelope.seq - 1);
        }
        self.heard.insert(key.clone(), self.faults.0);
        self.replayed.offsets.advance(&key, envelope.seq);
        match arrival::check(envelope, 0) {
            Ok(checked) => {
                self.replayed.batches += 1;
                seen(&checked.durable);
                self.replayed.keep(segment, checked.rows, self.progress);
            }
            Err(source) => {
                let (node, seq) = (key.node, envelope.seq);
                self.replayed.damage.push(Damage::Batch { node, seq, segment, source });
            }
        }
    }

    /// These batches were in `segment` or before it.
    fn gone(&mut self, segment: SegmentId, key: &StreamKey, from: u64, to: u64) {
        if segment >= self.whole_before {
            self.replayed.damage.push(Damage::Gone { key: key.clone(), from, to });
        }
    }
}

impl Replayed {
    /// The rows of one batch, but for those that are in Parquet.
    fn keep(&mut self, segment: SegmentId, rows: Vec<Rows>, progress: &BTreeMap<&'static str, SegmentId>) {
        let is_new = |table: &str| progress.get(table).is_none_or(|done| *done < segment);
        let rows = rows.into_iter().filter(|(table, _)| is_new(table.name)).collect();
        if self.memtables.last().is_none_or(|last| last.segment != segment) {
            self.memtables.push(Memtable::new(segment));
        }
        if let Some(memtable) = self.memtables.last_mut() {
            memtable.insert(rows, None);
            memtable.join();
        }
    }
}

/// Why the log could not be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("the WAL cannot be read")]
    Read(#[source] ReadError),
    /// A newer program wrote it.
    #[error("WAL segment {segment} holds entries of kind {kind}: a newer collector wrote it")]
    Newer {
        /// Which segment.
        segment: SegmentId,
        /// Which kind.
        kind: u8,
    },
}
