//! What a start finds in the log.

use std::collections::BTreeMap;

use skep_seglog::{Fault, Log, Position, ReadError, SegmentId, Storage};
use thiserror::Error;

use super::offsets::{Offsets, StreamKey};
use super::record::{self, Record, RecordError};
use crate::buffer::Memtable;
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
    /// A later segment knows of batches that are in none.
    #[error("segment {segment} knows of acknowledged batches of {streams} streams that are not in the log")]
    Missing {
        /// Which segment.
        segment: SegmentId,
        /// How many streams.
        streams: usize,
    },
}

impl Damage {
    /// The segment to keep a copy of, where there is one.
    pub fn segment(&self) -> Option<SegmentId> {
        match self {
            Self::Bytes(fault) => Some(fault.position.segment),
            Self::Entry { segment, .. } | Self::Batch { segment, .. } => Some(*segment),
            Self::Missing { .. } => None,
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
    let mut replayed = Replayed::default();
    let mut first = true;
    for read in log.read(Position::START) {
        let entry = match read {
            Ok(entry) => entry,
            Err(ReadError::Damaged(fault)) => {
                replayed.damage.push(Damage::Bytes(fault));
                continue;
            }
            Err(error) => return Err(ReplayError::Read(error)),
        };
        let segment = entry.position.segment;
        match record::decode(&entry.payload) {
            Ok(Record::Offsets(offsets)) => {
                let further = replayed.offsets.merge(&offsets);
                if further > 0 && !first {
                    replayed.damage.push(Damage::Missing { segment, streams: further });
                }
            }
            Ok(Record::Envelope(envelope)) => replayed.envelope(segment, &envelope, progress, &mut seen),
            Err(RecordError::UnknownKind { kind }) => return Err(ReplayError::Newer { segment, kind }),
            Err(source) => {
                replayed.damage.push(Damage::Entry { segment, offset: entry.position.offset, source });
            }
        }
        first = false;
    }
    Ok(replayed)
}

impl Replayed {
    fn envelope(
        &mut self,
        segment: SegmentId,
        envelope: &skep_wire::v1::Envelope,
        progress: &BTreeMap<&'static str, SegmentId>,
        seen: &mut impl FnMut(&Durable),
    ) {
        let key = StreamKey { node: envelope.node.clone(), stream: envelope.stream.clone() };
        self.offsets.advance(&key, envelope.seq);
        match arrival::check(envelope, 0) {
            Ok(checked) => {
                self.batches += 1;
                seen(&checked.durable);
                let rows: Vec<_> = checked
                    .rows
                    .into_iter()
                    .filter(|(table, _)| progress.get(table.name).is_none_or(|done| *done < segment))
                    .collect();
                if self.memtables.last().is_none_or(|last| last.segment != segment) {
                    self.memtables.push(Memtable::new(segment));
                }
                if let Some(memtable) = self.memtables.last_mut() {
                    memtable.insert(rows, None);
                }
            }
            Err(source) => {
                self.damage.push(Damage::Batch { node: envelope.node.clone(), seq: envelope.seq, segment, source })
            }
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
