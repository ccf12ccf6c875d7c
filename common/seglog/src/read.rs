//! Entries out of segments.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::format::{self, FILE_HEADER_BYTES, FRAME_HEADER_BYTES, Position, SegmentId};
use crate::storage::{SegmentFile, Storage};

/// How much is read at once while searching for the next whole frame: 1 MiB.
const SEARCH_BYTES: usize = 1 << 20;

/// One whole entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins.
    pub position: Position,
    /// Where the next one begins, in the same segment.
    pub end: Position,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// Bytes that are no whole entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// Where the damage begins.
    pub position: Position,
    /// How far it reaches: to the next whole entry, or to the end of the file.
    pub bytes: u64,
    /// Whether whole entries follow in the same segment.
    pub entries_follow: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes at {} are damaged", self.path.display(), self.bytes, self.position.offset)
    }
}

/// Why an entry could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Damage. The reader may be asked for more: it goes on behind it. Count what is lost and keep the file.
    #[error("{0}")]
    Damaged(Fault),
    /// A segment of a later format; a newer program wrote it.
    #[error("{} has format version {version}, this program reads {}", path.display(), format::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The operating system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Entries of a list of segments in order, with damage as values between them.
///
/// After [`ReadError::Damaged`] it goes on; after any other error it goes on with the next segment.
#[derive(Debug)]
pub struct Reader<S: Storage> {
    storage: S,
    dir: PathBuf,
    /// Segments still to be opened, in reverse, with the size up to which they hold entries.
    ahead: Vec<(SegmentId, u64)>,
    from: Position,
    current: Option<Scan>,
}

impl<S: Storage> Reader<S> {
    /// Reads `segments` (ascending, with the bytes that count of each) from `from` on.
    pub(crate) fn new(storage: S, dir: &Path, segments: &[(SegmentId, u64)], from: Position) -> Self {
        let ahead = segments.iter().copied().filter(|(id, _)| *id >= from.segment).rev().collect();
        Self { storage, dir: dir.to_owned(), ahead, from, current: None }
    }

    fn open_next(&mut self) -> Option<Result<(), ReadError>> {
        let (segment, size) = self.ahead.pop()?;
        let path = segment.path(&self.dir);
        let opened = self.storage.open(&path, false);
        Some(match opened {
            Ok(file) => {
                let start = if segment == self.from.segment { self.from.offset } else { 0 };
                self.current = Some(Scan { file, path, segment, size, offset: start });
                Ok(())
            }
            Err(source) => Err(ReadError::Io { path, source }),
        })
    }
}

impl<S: Storage> Iterator for Reader<S> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(scan) = &mut self.current {
                match scan.next() {
                    Ok(Some(entry)) => return Some(Ok(entry)),
                    Ok(None) => self.current = None,
                    Err(error) => {
                        if !matches!(error, ReadError::Damaged(_)) {
                            self.current = None;
                        }
                        return Some(Err(error));
                    }
                }
            }
            match self.open_next()? {
                Ok(()) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// One segment, front to back.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) file: Box<dyn SegmentFile>,
    pub(crate) path: PathBuf,
    pub(crate) segment: SegmentId,
    /// Bytes of the file that count.
    pub(crate) size: u64,
    /// Next frame; 0 before the file header was looked at.
    pub(crate) offset: u64,
}

impl Scan {
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        if self.offset < FILE_HEADER_BYTES {
            self.check_file_header()?;
        }
        if self.offset >= self.size {
            return Ok(None);
        }
        match self.entry_at(self.offset)? {
            Some(entry) => {
                self.offset = entry.end.offset;
                Ok(Some(entry))
            }
            None => Err(self.pass_damage(self.offset)?),
        }
    }

    fn check_file_header(&mut self) -> Result<(), ReadError> {
        let mut header = [0; FILE_HEADER_BYTES as usize];
        let read = self.read(&mut header, 0)?;
        match format::decode_file_header(&header[..read], self.segment) {
            Some(format::VERSION) => {
                self.offset = FILE_HEADER_BYTES;
                Ok(())
            }
            Some(version) => Err(ReadError::Version { path: self.path.clone(), version }),
            None => Err(self.pass_damage(0)?),
        }
    }

    /// The whole entry that begins at `offset`.
    fn entry_at(&self, offset: u64) -> Result<Option<Entry>, ReadError> {
        let position = Position { segment: self.segment, offset };
        let mut header = [0; FRAME_HEADER_BYTES as usize];
        let read = self.read(&mut header, offset)?;
        let Some(frame) = format::decode_frame_header(position, &header[..read]) else { return Ok(None) };
        let end = offset + FRAME_HEADER_BYTES + u64::from(frame.payload_bytes);
        if end > self.size {
            return Ok(None);
        }
        let mut payload = vec![0; frame.payload_bytes as usize];
        let read = self.read(&mut payload, offset + FRAME_HEADER_BYTES)?;
        if read < payload.len() || crc32c::crc32c(&payload) != frame.payload_crc {
            return Ok(None);
        }
        Ok(Some(Entry { position, end: Position { segment: self.segment, offset: end }, payload }))
    }

    /// Steps behind the damage at `from` and returns it as an error. A first entry may stand right behind a broken
    /// file header, so the search begins there.
    fn pass_damage(&mut self, from: u64) -> Result<ReadError, ReadError> {
        let search = if from == 0 { FILE_HEADER_BYTES } else { from + 1 };
        let next = self.find_entry(search)?;
        let end = next.unwrap_or(self.size);
        self.offset = end.max(FILE_HEADER_BYTES);
        Ok(ReadError::Damaged(Fault {
            path: self.path.clone(),
            position: Position { segment: self.segment, offset: from },
            bytes: end.saturating_sub(from),
            entries_follow: next.is_some(),
        }))
    }

    /// Offset of the first whole entry at or behind `from`. Cost: reads the rest of the file if there is none.
    fn find_entry(&self, from: u64) -> Result<Option<u64>, ReadError> {
        let mut start = from;
        let mut buffer = vec![0; SEARCH_BYTES];
        while start + FRAME_HEADER_BYTES <= self.size {
            let read = self.read(&mut buffer, start)?;
            let headers = buffer[..read].windows(FRAME_HEADER_BYTES as usize);
            let tried = headers.len() as u64;
            for (i, header) in headers.enumerate() {
                let offset = start + i as u64;
                let position = Position { segment: self.segment, offset };
                if format::decode_frame_header(position, header).is_some() && self.entry_at(offset)?.is_some() {
                    return Ok(Some(offset));
                }
            }
            if tried == 0 {
                break;
            }
            start += tried;
        }
        Ok(None)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        let within = self.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let read = self.file.read_at(&mut buffer[..within], offset);
        read.map_err(|source| ReadError::Io { path: self.path.clone(), source })
    }
}
