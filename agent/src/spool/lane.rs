//! One stream of numbered batches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use skep_seglog::{Fault, Log, LogError, Options, Position, ReadError, SegmentId, Storage};

use super::record::{Record, Replaced};
use crate::probe::reading::Mark;

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Disk(Position),
    Memory(Vec<u8>),
}

/// A record of the index.
#[derive(Debug, Clone)]
struct Entry {
    slot: Slot,
    bytes: u64,
}

/// In place of a reserved number: after a restart nobody knows which numbers were used, so the stream is sent to its end
/// and not gone on with.
pub const ENDED: u64 = u64::MAX;

/// A stream: its batches, and how far they have come.
#[derive(Debug)]
pub struct Lane<S: Storage + Clone> {
    /// 32 hex digits.
    pub stream: String,
    /// Number of the next batch.
    pub next_seq: u64,
    /// Highest number handed out for sending, or possibly so before a restart.
    pub sent: u64,
    /// Highest number that may be sent before the state file is written again; [`ENDED`] once the disk may come to hold
    /// less of the stream than was sent.
    pub reserved: u64,
    /// Highest number that is synced, so that it may be sent.
    pub synced: u64,
    /// Reads in a row that the disk refused.
    pub refusals: u32,
    /// How far the probes were read according to the newest batch.
    pub mark: Option<Mark>,
    log: Option<Log<S>>,
    index: BTreeMap<u64, Entry>,
    /// Records of a segment that are still wanted.
    live: BTreeMap<SegmentId, BTreeSet<u64>>,
    memory_bytes: u64,
}

/// What was found when a lane was opened.
#[derive(Debug, Default)]
pub struct Recovery {
    /// What its records say they replaced.
    pub replaced: Vec<Replaced>,
    /// Highest receipt of the executor.
    pub receipt: Option<super::ReceiptMark>,
    /// Damage, with what was kept of each segment.
    pub damage: Vec<Damage>,
    /// Bytes of a torn end.
    pub trimmed_bytes: u64,
}

/// Why a record could not be read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// Damage, to be handed to [`Lane::set_aside`].
    Damaged(Fault),
    /// Its file is gone.
    Gone,
    /// The disk refused; it may do better later.
    Refused,
}

/// A segment with damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where the file is kept now; `None` when it could not be moved.
    pub kept: Option<PathBuf>,
    /// Where the damage was.
    pub fault: Fault,
}

impl<S: Storage + Clone> Lane<S> {
    /// A new stream in memory.
    pub fn in_memory(stream: String) -> Self {
        Self {
            stream,
            next_seq: 1,
            sent: 0,
            reserved: 0,
            synced: 0,
            refusals: 0,
            mark: None,
            log: None,
            index: BTreeMap::new(),
            live: BTreeMap::new(),
            memory_bytes: 0,
        }
    }

    /// Opens the stream in `dir`, or begins it. Cost: reads all of it.
    ///
    /// `reserved` is the state file's word on how far it may have been sent; `None` means anything may have been.
    ///
    /// # Errors
    /// [`LogError`]: the stream cannot be used now.
    pub fn open(
        storage: S,
        dir: &Path,
        stream: &str,
        segment_bytes: u64,
        reserved: Option<u64>,
    ) -> Result<(Self, Recovery), LogError> {
        let options = Options { segment_bytes, ..Options::default() };
        let (log, trim) = Log::open(storage, &dir.join(stream), options)?;
        let mut lane = Self::in_memory(stream.to_owned());
        let mut recovery = Recovery { trimmed_bytes: trim.map_or(0, |trim| trim.bytes), ..Recovery::default() };
        let mut faults = Vec::new();
        for entry in log.read(Position::START) {
            match entry {
                Ok(entry) => match Record::decode(&entry.payload) {
                    Some(record) => {
                        recovery.replaced.extend(record.replaced);
                        recovery.receipt = recovery.receipt.max(record.receipt);
                        lane.mark = Mark::further(lane.mark, record.mark);
                        let bytes = entry.payload.len() as u64;
                        lane.insert(record.envelope.seq, Slot::Disk(entry.position), bytes);
                    }
                    None => faults.push(not_a_record(&entry, dir)),
                },
                Err(ReadError::Damaged(fault)) => faults.push(fault),
                Err(error) => return Err(LogError::Read(error)),
            }
        }
        lane.log = Some(log);
        let last = lane.index.keys().next_back().copied().unwrap_or(0);
        lane.next_seq = last + 1;
        lane.synced = last;
        lane.reserved = reserved.unwrap_or(last);
        lane.sent = lane.reserved.min(last);
        recovery.damage = lane.set_aside(faults, &dir.join("quarantine").join(stream));
        Ok((lane, recovery))
    }

    /// Whether it must not be gone on with after a restart.
    pub fn is_ended(&self) -> bool {
        self.reserved == ENDED
    }

    /// Whether it holds batches, and the first of them may not be sent yet.
    pub fn is_held_up(&self) -> bool {
        self.index.keys().next().is_some_and(|first| *first > self.synced)
    }

    /// Whether its records are in memory only.
    pub fn is_in_memory(&self) -> bool {
        self.log.is_none()
    }

    /// Batches held.
    pub fn len(&self) -> u64 {
        self.index.len() as u64
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes on disk, or in memory.
    pub fn bytes(&self) -> u64 {
        self.log.as_ref().map_or(self.memory_bytes, Log::bytes)
    }

    /// Queues a record under the next number. It may be sent after [`Lane::sync`].
    ///
    /// # Errors
    /// [`LogError`]: nothing was queued.
    pub fn append(&mut self, record: &Record) -> Result<(), LogError> {
        let bytes = record.encode();
        let length = bytes.len() as u64;
        let slot = match &mut self.log {
            Some(log) => Slot::Disk(log.append(&bytes)?),
            None => Slot::Memory(bytes),
        };
        self.insert(self.next_seq, slot, length);
        self.next_seq += 1;
        self.mark = Mark::further(self.mark, record.mark);
        Ok(())
    }

    /// Makes everything appended durable, and sendable.
    ///
    /// # Errors
    /// [`LogError::Poisoned`]: the lane takes no more; what it has can still be read, and sent after
    /// [`Lane::sync_in_vain`].
    pub fn sync(&mut self) -> Result<(), LogError> {
        if let Some(log) = &mut self.log {
            log.sync()?;
        }
        self.synced = self.next_seq - 1;
        Ok(())
    }

    /// A sync failed, and the state file says that the stream is [`ENDED`]: what was written is still there to be read and
    /// sent, and should a crash of the host take it, its numbers are not used again.
    pub fn sync_in_vain(&mut self) {
        self.synced = self.next_seq - 1;
    }

    /// The first number that is held after `seq` and may be sent.
    pub fn next_after(&self, seq: u64) -> Option<u64> {
        let next = self.index.range(seq + 1..).next().map(|(seq, _)| *seq)?;
        (next <= self.synced).then_some(next)
    }

    /// Size of a record.
    pub fn record_bytes(&self, seq: u64) -> u64 {
        self.index.get(&seq).map_or(0, |entry| entry.bytes)
    }

    /// Reads a record back; `None` for a number that is not held.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn read(&self, seq: u64) -> Result<Option<Record>, Unread> {
        let Some(entry) = self.index.get(&seq) else { return Ok(None) };
        let position = match &entry.slot {
            Slot::Memory(bytes) => return Ok(Record::decode(bytes)),
            Slot::Disk(position) => *position,
        };
        let Some(log) = &self.log else { return Ok(None) };
        match log.read(position).next() {
            Some(Ok(entry)) => match Record::decode(&entry.payload) {
                Some(record) if entry.position == position && record.envelope.seq == seq => Ok(Some(record)),
                _ => Err(Unread::Damaged(not_a_record(&entry, Path::new("")))),
            },
            Some(Err(ReadError::Damaged(fault))) => Err(Unread::Damaged(fault)),
            Some(Err(ReadError::Io { source, .. })) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Unread::Refused)
            }
            Some(Err(_)) | None => Err(Unread::Gone),
        }
    }

    /// Lets go of everything in the segment that holds `seq`: it cannot be read. Returns the numbers.
    pub fn give_up(&mut self, seq: u64) -> Vec<u64> {
        let Some(Slot::Disk(position)) = self.index.get(&seq).map(|entry| &entry.slot) else { return Vec::new() };
        let seqs: Vec<u64> = self.live.remove(&position.segment).into_iter().flatten().collect();
        for seq in &seqs {
            self.index.remove(seq);
        }
        seqs
    }

    /// Everything up to `durable` is stored: lets go of it, and of the segments that hold nothing else.
    pub fn acknowledge(&mut self, durable: u64) {
        let kept = self.index.split_off(&(durable + 1));
        let gone = std::mem::replace(&mut self.index, kept);
        for (seq, entry) in gone {
            self.forget(seq, &entry);
        }
        self.remove_empty_segments();
    }

    /// Lets go of single numbers: what a record that was written before a crash had replaced already.
    pub fn forget_range(&mut self, from_seq: u64, to_seq: u64) {
        let seqs: Vec<u64> = self.index.range(from_seq..=to_seq).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            if let Some(entry) = self.index.remove(&seq) {
                self.forget(seq, &entry);
            }
        }
        self.remove_empty_segments();
    }

    /// The oldest numbers that can be evicted together: of one segment, or a sixteenth of memory. None of them may have
    /// been sent, and the newest batch stays, for its number is the stream's memory.
    ///
    /// No other number that is held lies between the first and the last of them: a rescue puts old numbers beside new
    /// ones, and the range from one to the other would speak for batches of other segments.
    pub fn evictable(&self) -> Vec<u64> {
        let last = self.next_seq - 1;
        let free = |seq: &u64| *seq > self.sent && *seq != last;
        if self.is_in_memory() {
            return self.evictable_memory(free);
        }
        let segments = self.live.values().filter(|seqs| !seqs.is_empty() && seqs.iter().all(free));
        let Some(oldest) = segments.min_by_key(|seqs| seqs.first().copied()) else { return Vec::new() };
        let Some(first) = oldest.first() else { return Vec::new() };
        let held = self.index.range(first..).map(|(seq, _)| *seq);
        oldest.iter().copied().zip(held).take_while(|(seq, held)| seq == held).map(|(seq, _)| seq).collect()
    }

    fn evictable_memory(&self, free: impl Fn(&u64) -> bool) -> Vec<u64> {
        let step = self.memory_bytes / 16;
        let mut bytes = 0;
        let mut seqs = Vec::new();
        for (seq, entry) in self.index.iter().filter(|(seq, _)| free(seq)) {
            seqs.push(*seq);
            bytes += entry.bytes;
            if bytes >= step {
                break;
            }
        }
        seqs
    }

    /// Moves everything from memory into `dir`.
    ///
    /// # Errors
    /// [`LogError`]: the disk still refuses; the lane is as it was.
    pub fn move_to_disk(&mut self, storage: S, dir: &Path, segment_bytes: u64) -> Result<(), LogError> {
        let options = Options { segment_bytes, ..Options::default() };
        let path = dir.join(&self.stream);
        let (mut log, _) = Log::open(storage, &path, options)?;
        // What an earlier try left behind is in memory still.
        let stale: Vec<SegmentId> = log.segments().map(|segment| segment.id).collect();
        stale.into_iter().try_for_each(|segment| log.remove(segment))?;
        let mut moved = Vec::new();
        for (seq, entry) in &self.index {
            if let Slot::Memory(bytes) = &entry.slot {
                moved.push((*seq, log.append(bytes)?, entry.bytes));
            }
        }
        log.sync()?;
        self.log = Some(log);
        self.memory_bytes = 0;
        for (seq, position, bytes) in moved {
            self.insert(seq, Slot::Disk(position), bytes);
        }
        Ok(())
    }

    /// Rescues what is whole in damaged segments and moves their files into `quarantine`.
    pub fn set_aside(&mut self, faults: Vec<Fault>, quarantine: &Path) -> Vec<Damage> {
        let segments: BTreeSet<SegmentId> = faults.iter().map(|fault| fault.position.segment).collect();
        let kept: BTreeMap<SegmentId, Option<PathBuf>> =
            segments.into_iter().map(|segment| (segment, self.rescue(segment, quarantine).ok())).collect();
        let kept = |fault: &Fault| kept.get(&fault.position.segment).cloned().flatten();
        faults.into_iter().map(|fault| Damage { kept: kept(&fault), fault }).collect()
    }

    fn rescue(&mut self, segment: SegmentId, quarantine: &Path) -> Result<PathBuf, LogError> {
        let Some(log) = &mut self.log else { return Err(LogError::NoSuchSegment { segment }) };
        log.seal()?;
        let wanted = self.live.get(&segment).cloned().unwrap_or_default();
        let mut moved = Vec::new();
        let start = Position { segment, offset: 0 };
        let mut whole = Vec::new();
        for entry in log.read(start) {
            match entry {
                Ok(entry) if entry.position.segment == segment => whole.push(entry),
                Ok(_) => break,
                Err(_) => {}
            }
        }
        for entry in whole {
            let Some(seq) = Record::decode(&entry.payload).map(|record| record.envelope.seq) else { continue };
            if wanted.contains(&seq) {
                moved.push((seq, log.append(&entry.payload)?, entry.payload.len() as u64));
            }
        }
        log.sync()?;
        let kept = log.quarantine(segment, quarantine)?;
        let lost: Vec<u64> = wanted.into_iter().filter(|seq| moved.iter().all(|(found, ..)| found != seq)).collect();
        for (seq, position, bytes) in moved {
            self.insert(seq, Slot::Disk(position), bytes);
        }
        for seq in lost {
            self.index.remove(&seq);
        }
        self.live.remove(&segment);
        Ok(kept)
    }

    fn insert(&mut self, seq: u64, slot: Slot, bytes: u64) {
        match &slot {
            Slot::Disk(position) => {
                self.live.entry(position.segment).or_default().insert(seq);
            }
            Slot::Memory(_) => self.memory_bytes += bytes,
        }
        let before = self.index.insert(seq, Entry { slot: slot.clone(), bytes });
        if let Some(Entry { slot: Slot::Disk(old), .. }) = before
            && !matches!(&slot, Slot::Disk(new) if new.segment == old.segment)
            && let Some(seqs) = self.live.get_mut(&old.segment)
        {
            seqs.remove(&seq);
        }
    }

    fn forget(&mut self, seq: u64, entry: &Entry) {
        match &entry.slot {
            Slot::Disk(position) => {
                if let Some(seqs) = self.live.get_mut(&position.segment) {
                    seqs.remove(&seq);
                }
            }
            Slot::Memory(_) => self.memory_bytes = self.memory_bytes.saturating_sub(entry.bytes),
        }
    }

    /// Removes segments that hold nothing wanted, but the newest one: its numbers tell the next start where to go on.
    fn remove_empty_segments(&mut self) {
        let Some(log) = &mut self.log else { return };
        let newest = self.live.keys().next_back().copied();
        let empty: Vec<SegmentId> =
            self.live.iter().filter(|(id, seqs)| seqs.is_empty() && Some(**id) != newest).map(|(id, _)| *id).collect();
        for segment in empty {
            match log.remove(segment) {
                Ok(()) | Err(LogError::NoSuchSegment { .. }) => {
                    self.live.remove(&segment);
                }
                // It is tried again at the next acknowledgement.
                Err(error) => {
                    tracing::debug!(error = %crate::error::chain(&error), "a spool segment stays");
                }
            }
        }
    }

    /// Removes every segment: the stream is over.
    pub fn retire(mut self) {
        if let Some(log) = &mut self.log {
            let segments: Vec<SegmentId> = log.segments().map(|segment| segment.id).collect();
            for segment in segments {
                if let Err(error) = log.remove(segment) {
                    tracing::debug!(error = %crate::error::chain(&error), "a spool segment stays");
                }
            }
        }
    }
}

fn not_a_record(entry: &skep_seglog::Entry, dir: &Path) -> Fault {
    Fault {
        path: entry.position.segment.path(dir),
        position: entry.position,
        bytes: entry.end.offset - entry.position.offset,
        entries_follow: true,
    }
}
