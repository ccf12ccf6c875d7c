//! All lanes together.

use std::path::PathBuf;

use skep_seglog::{LogError, Storage};
use skep_wire::chunk::ChunkError;
use skep_wire::envelope::{self, EnvelopeError, Origin};
use skep_wire::v1;
use thiserror::Error;

use super::correction::Correction;
use super::lane::{Damage, ENDED, Lane, Unread};
use super::record::{ReceiptMark, Record, Replaced, hex, is_stream};
use super::state::State;
use crate::ledger::{LossRow, SPOOL_CORRUPT};
use crate::probe::reading::Mark;

/// Numbers handed out for sending between two writes of the state file.
const RESERVE: u64 = 64;

/// Memory for batches while the disk refuses.
const MEMORY_BYTES: u64 = 8 << 20;

/// Reads the disk may refuse before what is there is given up: about half a minute of trying.
const REFUSALS: u32 = 100;

/// Smallest and largest segment. Small ones let a small spool evict in small steps.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (16 << 10)..=(8 << 20);

/// Reason of numbers the collector claims to have and this spool never gave out.
const STREAM_CONFLICT: &str = "stream_conflict";

/// How the spool is kept.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// Folder; made if need be.
    pub dir: PathBuf,
    /// Most bytes on disk. Corrections may exceed it by their own few hundred.
    pub max_bytes: u64,
    /// Node name, for the envelopes.
    pub node: String,
    /// Boot id, for the envelopes.
    pub boot: String,
}

impl SpoolOptions {
    fn segment_bytes(&self) -> u64 {
        (self.max_bytes / 16).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end())
    }
}

/// Why a batch could not be taken.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// The rows do not fit their table: a fault of this program.
    #[error("cannot build a correction")]
    Rows(#[from] ChunkError),
    /// The batch cannot be compressed or is too large.
    #[error("cannot seal a batch")]
    Seal(#[from] EnvelopeError),
    /// No random bytes for a stream's name.
    #[error("cannot get random bytes for a stream id: {cause}")]
    Random {
        /// Why.
        cause: getrandom::Error,
    },
}

/// A spool just opened.
#[derive(Debug)]
pub struct Opened<S: Storage + Clone> {
    /// The spool.
    pub store: Store<S>,
    /// Up to when the host was watched by the run before, wall clock in microseconds.
    pub watched_until_us: Option<i64>,
    /// How far the run before read the probes, according to the batches it wrote.
    pub mark: Option<Mark>,
}

/// The spool. It does no waiting and has one owner.
#[derive(Debug)]
pub struct Store<S: Storage + Clone> {
    storage: S,
    options: SpoolOptions,
    state: State,
    /// Oldest first; the last one takes new batches.
    lanes: Vec<Lane<S>>,
    /// For the next batch.
    correction: Correction,
    /// What the log was last told about the disk.
    trouble: Option<String>,
    /// The last lane takes no more although it is on disk: its log failed.
    closed: bool,
    /// The state file could not be written when it should have been.
    unsaved: bool,
    /// How far the probes were read according to the newest batch. Every record holds it, so that whichever is kept for
    /// its number's sake knows it.
    appended: Option<Mark>,
    /// How far according to the batches that are safe.
    safe: Option<Mark>,
}

impl<S: Storage + Clone> Store<S> {
    /// Opens the spool. A disk that refuses is no error: the spool then begins in memory and says so.
    ///
    /// # Errors
    /// [`SpoolError::Random`].
    pub fn open(storage: S, options: SpoolOptions, now_us: i64) -> Result<Opened<S>, SpoolError> {
        let known = State::load(&storage, &options.dir);
        let state = known.clone().unwrap_or_default();
        let watched_until_us = state.watched_until_us;
        let mut store = Self {
            storage,
            options,
            state,
            lanes: Vec::new(),
            correction: Correction::default(),
            trouble: None,
            closed: false,
            unsaved: false,
            appended: None,
            safe: None,
        };
        let finished = store.open_streams(known.is_some(), now_us);
        let mark = store.state.mark;
        (store.appended, store.safe) = (mark, mark);
        if store.lanes.last().is_none_or(Lane::is_ended) {
            store.begin_stream()?;
        }
        store.save_state();
        // Not before the state file holds what only they did.
        finished.into_iter().for_each(|lane| store.retire(lane));
        Ok(Opened { store, watched_until_us, mark })
    }

    /// Returns the lanes that are finished.
    fn open_streams(&mut self, state_known: bool, now_us: i64) -> Vec<Lane<S>> {
        let listed = std::mem::take(&mut self.state.streams);
        let mut names: Vec<(String, Option<u64>)> = Vec::new();
        for name in self.storage.list(&self.options.dir).unwrap_or_default() {
            if is_stream(&name) && listed.iter().all(|(listed, _)| *listed != name) {
                names.push((name, None));
            }
        }
        let found_unlisted = !names.is_empty();
        names.extend(listed.into_iter().map(|(name, sent)| (name, Some(sent))));
        if found_unlisted && state_known {
            tracing::warn!("the spool has streams its state file does not list; they are sent too");
        }
        let (mut replaced, mut finished) = (Vec::new(), Vec::new());
        for (name, reserved) in names {
            let segment_bytes = self.options.segment_bytes();
            match Lane::open(self.storage.clone(), &self.options.dir, &name, segment_bytes, reserved) {
                Ok((lane, recovery)) => {
                    if recovery.trimmed_bytes > 0 {
                        tracing::warn!(stream = %name, bytes = recovery.trimmed_bytes, "cut a torn end off the spool");
                    }
                    self.state.receipt = self.state.receipt.max(recovery.receipt);
                    self.state.mark = Mark::further(self.state.mark, lane.mark);
                    replaced.extend(recovery.replaced);
                    self.note_damage(recovery.damage, now_us);
                    // A stream keeps its newest batch for its number's sake. One without any was finished, or never
                    // used: where its numbers stand is not known here, so it is not gone on with.
                    if lane.is_empty() { finished.push(lane) } else { self.lanes.push(lane) }
                }
                Err(error) => self.complain(&error),
            }
        }
        for Replaced { stream, from_seq, to_seq } in replaced {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.stream == stream) {
                lane.forget_range(from_seq, to_seq);
            }
        }
        self.retire_finished();
        finished
    }

    fn begin_stream(&mut self) -> Result<(), SpoolError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|cause| SpoolError::Random { cause })?;
        let stream = hex(&id);
        let opened =
            Lane::open(self.storage.clone(), &self.options.dir, &stream, self.options.segment_bytes(), Some(0));
        match opened {
            Ok((lane, _)) => self.lanes.push(lane),
            Err(error) => {
                self.complain(&error);
                self.lanes.push(Lane::in_memory(stream));
            }
        }
        self.closed = false;
        self.save_state();
        Ok(())
    }

    /// Queues a batch. It is durable, and may be sent, after the next [`Store::sync`].
    ///
    /// # Errors
    /// [`SpoolError`]: the batch is not taken; its deliveries are in the ledger of the next one.
    pub fn append(
        &mut self,
        batch: v1::Batch,
        receipt: Option<ReceiptMark>,
        mark: Option<Mark>,
    ) -> Result<(), SpoolError> {
        self.flush_correction(batch.sealed_us, None)?;
        self.appended = Mark::further(self.appended, mark);
        match self.append_record(&batch, receipt, None) {
            Ok(bytes) => self.make_room(bytes, batch.sealed_us),
            Err(error) => {
                self.correction.evict(batch);
                Err(error)
            }
        }
    }

    /// What is to be told and has no batch of its own to come with.
    fn flush_correction(&mut self, now_us: i64, replaced: Option<Replaced>) -> Result<(), SpoolError> {
        let batches = std::mem::take(&mut self.correction).into_batches()?;
        let last = batches.len().saturating_sub(1);
        for (i, chunks) in batches.into_iter().enumerate() {
            let batch = v1::Batch { sealed_us: now_us, chunks, deliveries: Vec::new() };
            // Only the last speaks for the removal, so that a crash before it leaves everything as it was.
            let replaced = if i == last { replaced.clone() } else { None };
            self.append_record(&batch, None, replaced)?;
        }
        Ok(())
    }

    fn append_record(
        &mut self,
        batch: &v1::Batch,
        receipt: Option<ReceiptMark>,
        replaced: Option<Replaced>,
    ) -> Result<u64, SpoolError> {
        self.settle_lane()?;
        loop {
            let Some(lane) = self.lanes.last_mut() else {
                self.begin_stream()?;
                continue;
            };
            let origin = Origin {
                node: self.options.node.clone(),
                boot: self.options.boot.clone(),
                stream: lane.stream.clone(),
                seq: lane.next_seq,
            };
            let envelope = envelope::seal(origin, batch)?;
            let record = Record { replaced: replaced.clone(), receipt, mark: self.appended, envelope };
            match lane.append(&record) {
                Ok(()) => {
                    self.state.receipt = self.state.receipt.max(receipt);
                    return Ok(lane.record_bytes(lane.next_seq - 1));
                }
                Err(error) => {
                    // A lane in memory never fails, so this ends after one more turn.
                    self.complain(&error);
                    self.begin_memory_stream()?;
                }
            }
        }
    }

    fn begin_memory_stream(&mut self) -> Result<(), SpoolError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|cause| SpoolError::Random { cause })?;
        self.lanes.push(Lane::in_memory(hex(&id)));
        self.closed = false;
        Ok(())
    }

    /// A lane whose log failed is followed by another one.
    fn settle_lane(&mut self) -> Result<(), SpoolError> {
        if self.closed { self.begin_memory_stream() } else { Ok(()) }
    }

    /// Makes everything appended durable; called once for many appends.
    pub fn sync(&mut self) {
        let mut failed = Vec::new();
        for at in 0..self.lanes.len() {
            let result = self.lanes[at].sync();
            if result.is_ok() && !self.lanes[at].is_in_memory() {
                self.state.mark = Mark::further(self.state.mark, self.lanes[at].mark);
            }
            if let Err(error) = result {
                self.complain(&error);
                self.closed |= at + 1 == self.lanes.len();
                self.unsaved |= !self.lanes[at].is_ended();
                self.lanes[at].reserved = ENDED;
                failed.push(at);
            }
        }
        if self.unsaved {
            self.save_state();
        }
        if !self.unsaved {
            failed.into_iter().for_each(|at| self.lanes[at].sync_in_vain());
        }
        // What is in memory cannot be made safer by waiting, and what could not be taken is in the ledger.
        self.safe = self.appended;
    }

    /// Everything up to `until_us` is watched and sealed. While batches are in memory this is not written down: should
    /// they be lost, the time since the last one on disk counts as not watched.
    pub fn set_watched(&mut self, until_us: i64) {
        if self.lanes.iter().any(|lane| lane.is_in_memory() && !lane.is_empty()) {
            return;
        }
        self.state.watched_until_us = Some(until_us);
        self.save_state();
    }

    /// The process ends: a last try to bring batches to disk, and a word about those that stay in memory.
    pub fn close(mut self) {
        if self.lanes.iter().any(Lane::is_in_memory) {
            self.retry_disk();
        }
        self.sync();
        let lost: u64 = self.lanes.iter().filter(|lane| lane.is_in_memory()).map(Lane::len).sum();
        if lost > 0 {
            tracing::error!(
                batches = lost,
                "batches that were in memory only are lost; the time they span will count as not watched"
            );
        }
    }

    /// The newest receipt of the executor that is in a batch.
    pub fn receipt(&self) -> Option<ReceiptMark> {
        self.state.receipt
    }

    /// How far the probes were read according to the batches that are safe: synced, or in memory while the disk refuses,
    /// which the log has said.
    pub fn mark(&self) -> Option<Mark> {
        self.safe
    }

    /// The stream to send from now: the oldest with batches, else the one that takes new ones. One that is held up lets
    /// the next one go first.
    pub fn stream_to_send(&self) -> Option<&str> {
        let waiting = self.lanes.iter().find(|lane| !lane.is_empty() && !lane.is_held_up());
        waiting.or(self.lanes.last()).map(|lane| lane.stream.as_str())
    }

    /// Highest number of the stream that is ready to be sent.
    pub fn ready(&self, stream: &str) -> u64 {
        self.lane(stream).map_or(0, |lane| lane.synced)
    }

    /// Batches of `stream` after `seq` in order, at most `count` of them and, past the first, at most `bytes`.
    ///
    /// A hole in the numbers means that what was there is gone, and the ledger says what it was.
    pub fn read(&mut self, stream: &str, mut seq: u64, count: usize, bytes: u64, now_us: i64) -> Vec<v1::Envelope> {
        let mut found = Vec::new();
        let mut size = 0;
        let Some(at) = self.lanes.iter().position(|lane| lane.stream == stream) else { return found };
        while found.len() < count {
            let Some(next) = self.lanes[at].next_after(seq) else { break };
            size += self.lanes[at].record_bytes(next);
            if !found.is_empty() && size > bytes {
                break;
            }
            match self.lanes[at].read(next) {
                Ok(Some(record)) => {
                    self.lanes[at].refusals = 0;
                    found.push(record.envelope);
                }
                Ok(None) => break,
                Err(unread) => {
                    if self.pass_over(at, next, unread, now_us) {
                        continue;
                    }
                    break;
                }
            }
            seq = next;
        }
        if let Some(last) = found.last().map(|envelope| envelope.seq) {
            self.note_sent(at, last);
        }
        found
    }

    /// A record cannot be read. Returns whether it is out of the way now.
    fn pass_over(&mut self, at: usize, seq: u64, unread: Unread, now_us: i64) -> bool {
        let lane = &mut self.lanes[at];
        if let Unread::Damaged(fault) = unread {
            let quarantine = self.options.dir.join("quarantine").join(&lane.stream);
            let damage = lane.set_aside(vec![fault], &quarantine);
            if damage.iter().any(|damage| damage.kept.is_none()) {
                lane.forget_range(seq, seq);
            }
            self.note_damage(damage, now_us);
            return true;
        }
        lane.refusals += 1;
        if unread == Unread::Refused && lane.refusals < REFUSALS {
            return false;
        }
        lane.refusals = 0;
        let lost = lane.give_up(seq);
        let (first, last) = (lost.first().copied().unwrap_or(seq), lost.last().copied().unwrap_or(seq));
        let detail = format!("batches {first} to {last} of stream {}: their file cannot be read", lane.stream);
        tracing::error!("{detail}");
        self.correction.note(LossRow::uncounted((now_us, now_us), SPOOL_CORRUPT, detail));
        true
    }

    fn note_sent(&mut self, at: usize, seq: u64) {
        let lane = &mut self.lanes[at];
        lane.sent = lane.sent.max(seq);
        if seq > lane.reserved {
            lane.reserved = seq + RESERVE;
            self.save_state();
        }
    }

    /// The collector has everything of `stream` up to `durable`.
    ///
    /// Returns false when it claims more than was ever given out: the stream's numbers are then in someone else's use,
    /// and a new stream has begun.
    ///
    /// # Errors
    /// [`SpoolError::Random`].
    pub fn acknowledge(&mut self, stream: &str, durable: u64, now_us: i64) -> Result<bool, SpoolError> {
        let Some(at) = self.lanes.iter().position(|lane| lane.stream == stream) else { return Ok(true) };
        let lane = &mut self.lanes[at];
        let last = lane.next_seq - 1;
        lane.acknowledge(durable);
        // Of a stream that ended with a crash the collector may well have what this host has lost.
        let conflict = durable > last && !lane.is_ended();
        if conflict {
            let detail = format!("the collector has {durable} batches of stream {stream}, this host made {last}");
            tracing::error!("{detail}; a new stream begins");
            self.correction.note(LossRow::uncounted((now_us, now_us), STREAM_CONFLICT, detail));
            if at + 1 == self.lanes.len() {
                self.begin_stream()?;
            }
        }
        self.retire_finished();
        Ok(!conflict)
    }

    /// Tries to bring batches in memory to disk again.
    pub fn retry_disk(&mut self) {
        // Written first: the stream's name, so that no batch lies in a folder that nobody looks into, and that it has
        // ended, for a move that fails or is cut short leaves only its beginning on disk.
        if !self.save_state() {
            return;
        }
        let segment_bytes = self.options.segment_bytes();
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_in_memory()) {
            match lane.move_to_disk(self.storage.clone(), &self.options.dir, segment_bytes) {
                Ok(()) => {
                    tracing::info!(batches = lane.len(), "the spool is on disk again");
                    self.state.mark = Mark::further(self.state.mark, lane.mark);
                    self.trouble = None;
                }
                Err(error) => tracing::debug!(error = %crate::error::chain(&error), "the spool stays in memory"),
            }
        }
        // Those that have moved are gone on with.
        self.save_state();
    }

    /// Whether new batches go to memory.
    pub fn is_in_memory(&self) -> bool {
        self.lanes.last().is_some_and(Lane::is_in_memory)
    }

    /// Batches held.
    pub fn batches(&self) -> u64 {
        self.lanes.iter().map(Lane::len).sum()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.lanes.iter().map(Lane::bytes).sum()
    }

    /// Evicts until the bounds hold again. `added` bytes have just been appended.
    fn make_room(&mut self, added: u64, now_us: i64) -> Result<(), SpoolError> {
        let mut tries = 1 + added / self.options.segment_bytes() + self.lanes.len() as u64 * 64;
        while tries > 0 && self.is_over() {
            tries -= 1;
            if !self.evict_oldest(now_us)? {
                break;
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let held = |memory: bool| -> u64 {
            self.lanes.iter().filter(|lane| lane.is_in_memory() == memory).map(Lane::bytes).sum()
        };
        held(false) > self.options.max_bytes || held(true) > MEMORY_BYTES.min(self.options.max_bytes)
    }

    fn evict_oldest(&mut self, now_us: i64) -> Result<bool, SpoolError> {
        let memory_over = {
            let held: u64 = self.lanes.iter().filter(|lane| lane.is_in_memory()).map(Lane::bytes).sum();
            held > MEMORY_BYTES.min(self.options.max_bytes)
        };
        let candidate = self.lanes.iter().enumerate().find_map(|(at, lane)| {
            let seqs = lane.evictable();
            (lane.is_in_memory() == memory_over && !seqs.is_empty()).then_some((at, seqs))
        });
        let Some((at, seqs)) = candidate else { return Ok(false) };
        let (Some(first), Some(last)) = (seqs.first().copied(), seqs.last().copied()) else { return Ok(false) };
        for seq in &seqs {
            match self.lanes[at].read(*seq).map(|record| record.map(|record| envelope::open(&record.envelope))) {
                Ok(Some(Ok(batch))) => self.correction.evict(batch),
                _ => {
                    let detail = format!("batch {seq} could not be read when it was evicted");
                    self.correction.note(LossRow::uncounted((now_us, now_us), SPOOL_CORRUPT, detail));
                }
            }
        }
        let stream = self.lanes[at].stream.clone();
        tracing::warn!(%stream, from = first, to = last, "the spool is full: dropped its oldest batches");
        self.flush_correction(now_us, Some(Replaced { stream, from_seq: first, to_seq: last }))?;
        self.sync();
        self.lanes[at].forget_range(first, last);
        Ok(true)
    }

    fn note_damage(&mut self, damage: Vec<Damage>, now_us: i64) {
        for Damage { kept, fault } in damage {
            let place =
                kept.map_or_else(|| "it stays in place".to_owned(), |path| format!("kept as {}", path.display()));
            tracing::error!("{fault}; {place}");
            self.correction.note(LossRow::uncounted((now_us, now_us), SPOOL_CORRUPT, format!("{fault}; {place}")));
        }
    }

    fn retire_finished(&mut self) {
        let Some(last) = self.lanes.len().checked_sub(1) else { return };
        let (mut kept, mut finished) = (Vec::with_capacity(self.lanes.len()), Vec::new());
        for (at, lane) in std::mem::take(&mut self.lanes).into_iter().enumerate() {
            if at == last || !lane.is_empty() { kept.push(lane) } else { finished.push(lane) }
        }
        self.lanes = kept;
        if !finished.is_empty() {
            // The one after may be in memory: then only they know how far the probes were read.
            self.save_state();
        }
        finished.into_iter().for_each(|lane| self.retire(lane));
    }

    fn retire(&self, lane: Lane<S>) {
        let folder = self.options.dir.join(&lane.stream);
        lane.retire();
        // Only the empty folder of a finished stream is left; if it stays, the next start finds it empty.
        if let Err(error) = self.storage.remove_dir(&folder) {
            tracing::debug!(%error, folder = %folder.display(), "an empty spool folder stays");
        }
    }

    /// Returns whether it worked. Where it did not, the file is older than the truth, which opening allows for.
    fn save_state(&mut self) -> bool {
        // Of a stream in memory the disk holds less than was sent.
        let reserved = |lane: &Lane<S>| if lane.is_in_memory() { ENDED } else { lane.reserved };
        self.state.streams = self.lanes.iter().map(|lane| (lane.stream.clone(), reserved(lane))).collect();
        let saved = self.state.save(&self.storage, &self.options.dir);
        if let Err(error) = &saved {
            tracing::debug!(%error, "cannot write the spool's state file");
        }
        self.unsaved = saved.is_err();
        saved.is_ok()
    }

    fn lane(&self, stream: &str) -> Option<&Lane<S>> {
        self.lanes.iter().find(|lane| lane.stream == stream)
    }

    /// One line for a new trouble, none for the same again.
    fn complain(&mut self, error: &LogError) {
        let line = crate::error::chain(error);
        if self.trouble.as_ref() != Some(&line) {
            let what = if error.is_full() { "the disk is full" } else { "the disk refuses" };
            let kept =
                format!("batches are kept in memory, at most {} MiB, and are lost with the agent", MEMORY_BYTES >> 20);
            tracing::error!("{what}: {line}; {kept}");
            self.trouble = Some(line);
        }
    }
}

#[cfg(test)]
#[path = "tests/store.rs"]
mod tests;
