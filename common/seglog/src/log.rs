//! Append, sync, seal, remove.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::format::{self, FILE_HEADER_BYTES, FRAME_HEADER_BYTES, MAX_ENTRY_BYTES, Position, SegmentId};
use crate::read::{Entry, ReadError, Reader, Scan};
use crate::storage::{Disk, SegmentFile, Storage};

/// How a log behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A segment that would grow past this many bytes is sealed and a new one begun. One entry may be larger.
    pub segment_bytes: u64,
    /// The next new segment has at least this number. For callers that remember numbers of segments long removed.
    pub first_segment: SegmentId,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, first_segment: SegmentId(1) }
    }
}

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// So many zeros in a row are none of an entry's own: entries are compressed.
const LEAST_ZEROS: usize = 32;

/// A torn end that was cut off the newest segment: it was never synced, so nobody was told it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trim {
    /// The file.
    pub path: PathBuf,
    /// Where it was cut; 0 means that the file went altogether.
    pub position: Position,
    /// How many bytes went.
    pub bytes: u64,
}

/// One segment as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub id: SegmentId,
    /// Its size in bytes, header included.
    pub bytes: u64,
}

/// Why the log could not do what was asked.
#[derive(Debug, Error)]
pub enum LogError {
    /// The operating system refused. The log is as it was before the call.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A sync failed, now or before, or a half-written entry could not be taken back. What was appended since the last
    /// good sync may or may not be on disk; only opening the log anew tells.
    #[error("cannot sync {}: the log takes nothing more until it is opened again", path.display())]
    Poisoned {
        /// On which file.
        path: PathBuf,
        /// Why, when it happened just now.
        source: Option<io::Error>,
    },
    /// Larger than [`MAX_ENTRY_BYTES`].
    #[error("entry of {bytes} bytes, the limit is {MAX_ENTRY_BYTES}")]
    EntryTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No such segment.
    #[error("there is no segment {segment}")]
    NoSuchSegment {
        /// The one asked for.
        segment: SegmentId,
    },
    /// The log was opened for reading only.
    #[error("the log is open for reading only")]
    ReadOnly,
    /// The newest segment could not be examined.
    #[error("cannot examine the newest segment")]
    Read(#[source] ReadError),
}

impl LogError {
    /// Whether the disk (or the quota) is full: the caller may free space and try again.
    pub fn is_full(&self) -> bool {
        let source = match self {
            Self::Io { source, .. } => Some(source),
            Self::Poisoned { source, .. } => source.as_ref(),
            _ => None,
        };
        source.is_some_and(is_full)
    }
}

/// A folder of segments with one writer. The caller sees to it that there is only one.
///
/// [`Log::append`] only queues: an entry is durable when a later [`Log::sync`] or [`Log::seal`] returned.
#[derive(Debug)]
pub struct Log<S: Storage + Clone = Disk> {
    storage: S,
    dir: PathBuf,
    options: Options,
    /// Every segment with the bytes of it that count, the one being written included.
    segments: BTreeMap<SegmentId, u64>,
    next: SegmentId,
    active: Option<Active>,
    writable: bool,
    poisoned: bool,
}

#[derive(Debug)]
struct Active {
    id: SegmentId,
    path: PathBuf,
    file: Box<dyn SegmentFile>,
    /// Where the next frame goes.
    end: u64,
    dirty: bool,
}

impl<S: Storage + Clone> Log<S> {
    /// Opens the log in `dir` for appending, making the folder if need be, and trims a torn end.
    ///
    /// Cost: reads the newest segment whole; the others are not looked at before they are read.
    ///
    /// # Errors
    /// [`LogError::Io`], and [`LogError::Read`] when the newest segment cannot be read or is of a later format.
    pub fn open(storage: S, dir: &Path, options: Options) -> Result<(Self, Option<Trim>), LogError> {
        // A folder that is there may have been made by a process that died before it came to the sync.
        let made = storage.create_dir(dir).and_then(|()| storage.sync_dir(dir.parent().unwrap_or(Path::new(""))));
        made.map_err(|source| io_error("create", dir, source))?;
        let mut log = Self::list(storage, dir, options, true)?;
        let trim = log.settle_newest()?;
        Ok((log, trim))
    }

    /// Opens the log in `dir` for reading only: nothing is changed, a torn end is passed over and returned.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_read_only(storage: S, dir: &Path) -> Result<(Self, Option<Trim>), LogError> {
        let mut log = Self::list(storage, dir, Options::default(), false)?;
        let trim = log.settle_newest()?;
        Ok((log, trim))
    }

    fn list(storage: S, dir: &Path, options: Options, writable: bool) -> Result<Self, LogError> {
        let names = storage.list(dir).map_err(|source| io_error("list", dir, source))?;
        let mut segments = BTreeMap::new();
        for id in names.iter().filter_map(|name| SegmentId::parse(name)) {
            let path = id.path(dir);
            let size = storage.open(&path, false).and_then(|file| file.size());
            segments.insert(id, size.map_err(|source| io_error("open", &path, source))?);
        }
        let next = segments.keys().next_back().map_or(SegmentId(1), |id| id.next()).max(options.first_segment);
        Ok(Self { storage, dir: dir.to_owned(), options, segments, next, active: None, writable, poisoned: false })
    }

    /// Finds the end of the newest segment, cuts off what a crash left behind it, and makes the rest durable, since from
    /// here on it counts as such.
    fn settle_newest(&mut self) -> Result<Option<Trim>, LogError> {
        let Some((&id, &size)) = self.segments.iter().next_back() else { return Ok(None) };
        let path = id.path(&self.dir);
        let file = self.storage.open(&path, self.writable).map_err(|source| io_error("open", &path, source))?;
        let mut scan = Scan { file, path: path.clone(), segment: id, size, offset: 0 };
        let torn = loop {
            match scan.next() {
                Ok(Some(entry)) if self.writable => {
                    let again = write_again(&mut *scan.file, &entry);
                    again.map_err(|source| io_error("write again", &path, source))?;
                }
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(ReadError::Damaged(fault)) => {
                    let (offset, bytes) = (fault.position.offset, fault.bytes);
                    let torn = !fault.entries_follow
                        || never_written(&*scan.file, offset, bytes)
                            .map_err(|source| io_error("read", &path, source))?;
                    if torn {
                        break Some(offset);
                    }
                }
                Err(error) => return Err(LogError::Read(error)),
            }
        };
        let trim = torn.map(|cut| Trim {
            path: path.clone(),
            position: Position { segment: id, offset: cut },
            bytes: size - cut,
        });
        let end = torn.unwrap_or(size);
        if end < FILE_HEADER_BYTES {
            self.segments.remove(&id);
            self.next = id.max(self.options.first_segment);
        } else {
            self.segments.insert(id, end);
        }
        if self.writable {
            if end < FILE_HEADER_BYTES {
                self.storage.remove(&path).map_err(|source| io_error("remove", &path, source))?;
            } else {
                let cut_off = if torn.is_some() { scan.file.truncate(end) } else { Ok(()) };
                cut_off.and_then(|()| scan.file.sync()).map_err(|source| io_error("trim", &path, source))?;
            }
            self.sync_dir()?;
        }
        Ok(trim)
    }

    /// Queues an entry and says where it stands. It is durable after the next [`Log::sync`].
    ///
    /// A full segment is sealed first, which syncs it.
    ///
    /// # Errors
    /// [`LogError::Io`]: nothing was appended ([`LogError::is_full`]: free space and try again).
    /// [`LogError::Poisoned`]: open the log anew. [`LogError::EntryTooLarge`], [`LogError::ReadOnly`].
    pub fn append(&mut self, payload: &[u8]) -> Result<Position, LogError> {
        self.check_writable()?;
        if payload.len() > MAX_ENTRY_BYTES {
            return Err(LogError::EntryTooLarge { bytes: payload.len() });
        }
        let frame_bytes = FRAME_HEADER_BYTES + payload.len() as u64;
        let full = self.active.as_ref().is_some_and(|active| {
            active.end > FILE_HEADER_BYTES && active.end + frame_bytes > self.options.segment_bytes
        });
        if full {
            self.seal()?;
        }
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.create_segment()?,
        };
        let position = Position { segment: active.id, offset: active.end };
        let written = active.file.write_all_at(&format::encode_frame(position, payload), active.end);
        let result = match written {
            Ok(()) => {
                active.end += frame_bytes;
                active.dirty = true;
                self.segments.insert(active.id, active.end);
                Ok(position)
            }
            Err(source) => {
                // A part of the frame may be there; a shorter one written over it later would leave its end behind.
                self.poisoned = active.file.truncate(active.end).is_err();
                Err(io_error("append to", &active.path, source))
            }
        };
        self.active = Some(active);
        result
    }

    fn create_segment(&mut self) -> Result<Active, LogError> {
        let id = self.next;
        let path = id.path(&self.dir);
        let mut file = self.storage.create(&path).map_err(|source| io_error("create", &path, source))?;
        if let Err(source) = file.write_all_at(&format::encode_file_header(id), 0) {
            drop(file);
            self.poisoned = self.storage.remove(&path).is_err();
            return Err(io_error("create", &path, source));
        }
        self.next = id.next();
        self.segments.insert(id, FILE_HEADER_BYTES);
        // The name must be durable before any entry in it is called durable; a failure here is one of `sync`.
        if let Err(LogError::Io { source, .. }) = self.sync_dir() {
            self.poisoned = true;
            return Err(LogError::Poisoned { path, source: Some(source) });
        }
        Ok(Active { id, path, file, end: FILE_HEADER_BYTES, dirty: true })
    }

    /// Makes every appended entry durable; returns the position behind the last one.
    ///
    /// # Errors
    /// [`LogError::Poisoned`]: the log is of no further use, see there. [`LogError::ReadOnly`].
    pub fn sync(&mut self) -> Result<Position, LogError> {
        self.check_writable()?;
        let Some(active) = &mut self.active else { return Ok(Position { segment: self.next, offset: 0 }) };
        if active.dirty {
            if let Err(source) = active.file.sync() {
                self.poisoned = true;
                return Err(LogError::Poisoned { path: active.path.clone(), source: Some(source) });
            }
            active.dirty = false;
        }
        Ok(Position { segment: active.id, offset: active.end })
    }

    /// Syncs and closes the segment being written; the next entry begins a new one. Returns the segment closed, or
    /// `None` when nothing was appended since the last seal.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn seal(&mut self) -> Result<Option<SegmentId>, LogError> {
        self.sync()?;
        Ok(self.active.take().map(|active| active.id))
    }

    /// Reads entries from `from` on, up to what has been appended by now.
    pub fn read(&self, from: Position) -> Reader<S> {
        let segments: Vec<_> = self.segments.iter().map(|(id, size)| (*id, *size)).collect();
        Reader::new(self.storage.clone(), &self.dir, &segments, from)
    }

    /// Every segment, oldest first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = SegmentInfo> + '_ {
        self.segments.iter().map(|(id, bytes)| SegmentInfo { id: *id, bytes: *bytes })
    }

    /// Number of the segment being written, if there is one.
    pub fn active(&self) -> Option<SegmentId> {
        self.active.as_ref().map(|active| active.id)
    }

    /// Number the next new segment will have.
    pub fn next_segment(&self) -> SegmentId {
        self.next
    }

    /// Size of all segments in bytes.
    pub fn bytes(&self) -> u64 {
        self.segments.values().sum()
    }

    /// Removes a whole segment. The one being written is closed without a sync: its entries are not wanted any more.
    ///
    /// # Errors
    /// [`LogError::NoSuchSegment`], [`LogError::Io`], [`LogError::ReadOnly`].
    pub fn remove(&mut self, id: SegmentId) -> Result<(), LogError> {
        let path = self.give_up(id)?;
        self.storage.remove(&path).map_err(|source| io_error("remove", &path, source))?;
        self.segments.remove(&id);
        self.sync_dir()
    }

    /// Moves a damaged segment into the folder `to` (made if need be, same file system) and returns its new path.
    ///
    /// # Errors
    /// As [`Log::remove`].
    pub fn quarantine(&mut self, id: SegmentId, to: &Path) -> Result<PathBuf, LogError> {
        let path = self.give_up(id)?;
        let target = id.path(to);
        self.storage.create_dir(to).map_err(|source| io_error("create", to, source))?;
        self.storage.rename(&path, &target).map_err(|source| io_error("move", &path, source))?;
        self.segments.remove(&id);
        self.storage.sync_dir(to).map_err(|source| io_error("sync", to, source))?;
        self.sync_dir()?;
        Ok(target)
    }

    fn give_up(&mut self, id: SegmentId) -> Result<PathBuf, LogError> {
        if !self.writable {
            return Err(LogError::ReadOnly);
        }
        if !self.segments.contains_key(&id) {
            return Err(LogError::NoSuchSegment { segment: id });
        }
        if self.active() == Some(id) {
            self.active = None;
        }
        Ok(id.path(&self.dir))
    }

    fn check_writable(&self) -> Result<(), LogError> {
        match (self.writable, self.poisoned) {
            (false, _) => Err(LogError::ReadOnly),
            (true, true) => {
                let path = self.active.as_ref().map_or_else(|| self.dir.clone(), |active| active.path.clone());
                Err(LogError::Poisoned { path, source: None })
            }
            (true, false) => Ok(()),
        }
    }

    fn sync_dir(&self) -> Result<(), LogError> {
        self.storage.sync_dir(&self.dir).map_err(|source| io_error("sync", &self.dir, source))
    }
}

/// Writes an entry over itself. Its writer may have ended with a sync that failed, and after that the system takes the
/// bytes for written: only what is written anew goes to the device. The file's header went with an earlier sync, or the
/// entries are found without it.
fn write_again(file: &mut dyn SegmentFile, entry: &Entry) -> io::Result<()> {
    match file.write_all_at(&format::encode_frame(entry.position, &entry.payload), entry.position.offset) {
        // A full disk that wants room even for this must not keep a program from starting.
        Err(error) if is_full(&error) => Ok(()),
        written => written,
    }
}

/// Whether a sector of these bytes was never written. Sectors reach a disk in any order, so after a power cut whole entries
/// may stand behind one that is not; then none of them was synced, and nobody was told that they are durable.
fn never_written(file: &dyn SegmentFile, from: u64, bytes: u64) -> io::Result<bool> {
    let mut sector = [0; SECTOR_BYTES as usize];
    let (mut at, end) = (from, from + bytes);
    while at < end {
        let next = (at - at % SECTOR_BYTES + SECTOR_BYTES).min(end);
        let part = &mut sector[..(next - at) as usize];
        let read = file.read_at(part, at)?;
        if read >= LEAST_ZEROS && part[..read].iter().all(|byte| *byte == 0) {
            return Ok(true);
        }
        at = next;
    }
    Ok(false)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> LogError {
    LogError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
