//! Entries on disk.

use std::path::Path;

use prost::Message;
use skep_seglog::{Disk, Fault, Log, LogError, Options, Position, ReadError, SegmentId, Storage};
use skep_wire::v1;
use thiserror::Error;

use super::record::{Entry, What};
use super::state::{Now, State, UnknownChange};

/// The journal is rewritten when it has grown past this: some ten thousand steps.
const REWRITE_BYTES: u64 = 4 << 20;

/// Why the journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk refused.
    #[error("cannot keep the journal")]
    Log(#[from] LogError),
    /// It cannot be read.
    #[error("cannot read the journal")]
    Read(#[source] ReadError),
    /// An entry is no entry.
    #[error("entry at {position:?} of the journal cannot be understood")]
    NotAnEntry {
        /// Where.
        position: Position,
        /// Why.
        source: prost::DecodeError,
    },
    /// A later version wrote it.
    #[error(transparent)]
    Version(#[from] UnknownChange),
}

/// The journal, and what it says.
#[derive(Debug)]
pub struct Journal<S: Storage + Clone = Disk> {
    log: Log<S>,
    state: State,
    damage: Vec<Fault>,
}

impl<S: Storage + Clone> Journal<S> {
    /// Opens the journal in `dir` and rewrites it as one snapshot.
    ///
    /// Damaged stretches are passed over and reported by [`Journal::damage`]: what the rest says must still be undone.
    ///
    /// # Errors
    /// [`JournalError`]; nothing on the host may then be changed.
    pub fn open(storage: S, dir: &Path, now: Now) -> Result<Self, JournalError> {
        let (log, trim) = Log::open(storage, dir, Options { segment_bytes: u64::MAX, first_segment: SegmentId(1) })?;
        if let Some(trim) = trim {
            tracing::warn!(bytes = trim.bytes, file = %trim.path.display(), "a torn end of the journal was cut off");
        }
        let mut journal = Self { log, state: State::default(), damage: Vec::new() };
        for entry in journal.log.read(Position { segment: SegmentId(0), offset: 0 }) {
            match entry {
                Ok(entry) => {
                    let decoded = Entry::decode(entry.payload.as_slice());
                    let position = entry.position;
                    journal.state.apply(decoded.map_err(|source| JournalError::NotAnEntry { position, source })?)?;
                }
                Err(ReadError::Damaged(fault)) => journal.damage.push(fault),
                Err(error) => return Err(JournalError::Read(error)),
            }
        }
        if journal.state.journal_us == 0 {
            journal.state.journal_us = now.wall_us.max(1);
            // Else it is in the snapshot.
            if !journal.damage.is_empty() {
                let begun = Entry { journal_us: journal.state.journal_us, ..Entry::default() };
                journal.write(begun, now)?;
            }
        }
        journal.shrink(now)?;
        Ok(journal)
    }

    /// What all entries say.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Damaged stretches found at the start; while there are any the journal is only added to, so that they can be
    /// looked at.
    pub fn damage(&self) -> &[Fault] {
        &self.damage
    }

    /// Writes changes and receipts as one step, the receipts with the numbers that are next; it is on disk when this returns.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn record(&mut self, mut changes: Vec<What>, receipts: Vec<v1::Receipt>, now: Now) -> Result<(), JournalError> {
        let (last, journal_us) = (self.state.last_receipt, self.state.journal_us);
        for (number, receipt) in (last + 1..).zip(receipts) {
            changes.push(What::Receipt(v1::Receipt { number, journal_us, ..receipt }));
        }
        self.write(Entry::of(changes), now)
    }

    /// Writes one step; it is on disk when this returns.
    ///
    /// # Errors
    /// [`JournalError::Log`]: the step must not be taken, or is to be taken back.
    pub fn write(&mut self, entry: Entry, now: Now) -> Result<(), JournalError> {
        self.log.append(&entry.encode_to_vec())?;
        self.log.sync()?;
        self.state.apply(entry)?;
        if self.log.bytes() > REWRITE_BYTES {
            self.shrink(now)?;
        }
        Ok(())
    }

    /// Rewrites the journal where that can be done; a full disk only means that it stays as long as it is.
    fn shrink(&mut self, now: Now) -> Result<(), JournalError> {
        if !self.damage.is_empty() {
            return Ok(());
        }
        match self.rewrite(now) {
            Err(JournalError::Log(error @ LogError::Io { .. })) => {
                tracing::warn!(%error, "the journal cannot be rewritten; it grows");
                Ok(())
            }
            other => other,
        }
    }

    /// The snapshot is durable in a segment of its own before the older ones go; a crash between leaves both, and the
    /// snapshot begins by clearing what they say.
    fn rewrite(&mut self, now: Now) -> Result<(), JournalError> {
        self.log.seal()?;
        let older: Vec<SegmentId> = self.log.segments().map(|segment| segment.id).collect();
        let snapshot = self.state.snapshot(now);
        self.log.append(&snapshot.encode_to_vec())?;
        self.log.sync()?;
        for segment in older {
            self.log.remove(segment)?;
        }
        let mut state = State::default();
        state.apply(snapshot)?;
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
