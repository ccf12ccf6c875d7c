//! The bytes of a segment.
//!
//! A log is a folder of files `00000000000000000001.seg`, numbered upwards. All numbers are little-endian. The checksum
//! is CRC-32C (Castagnoli, reflected, as in iSCSI).
//!
//! ```text
//! file header, 24 bytes            frame
//!  0  magic "skepseg\n"             0  payload length, u32
//!  8  format version, u32           4  CRC-32C of the payload, u32
//! 12  segment number, u64           8  CRC-32C of: segment number u64, frame offset u64, bytes 0..8 of the frame
//! 20  CRC-32C of bytes 0..20       12  payload
//! ```
//!
//! A frame's header is bound to its segment and place, so that a header found by searching is one that was written
//! there, and stale bytes of another file never pass for an entry.
//!
//! What a crash can leave: in the newest segment, behind the last sync, any part of the unsynced frames: a short frame, a
//! hole of zeros, a whole frame, no file header at all. What recovery may trim: the end of the newest segment from the
//! first broken frame on, if no whole frame follows it. Whatever else does not check is damage: it is reported as a
//! [`crate::Fault`] with place and size, stays where it is, and reading goes on at the next whole frame.

use std::fmt;
use std::path::{Path, PathBuf};

/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"skepseg\n";

/// Version of the layout on this page. A reader refuses any other.
pub const VERSION: u32 = 1;

/// Size of the file header in bytes.
pub const FILE_HEADER_BYTES: u64 = 24;

/// Size of a frame's header in bytes.
pub const FRAME_HEADER_BYTES: u64 = 12;

/// Largest payload of one entry: 128 MiB, twice what the largest batch may be.
pub const MAX_ENTRY_BYTES: usize = 128 << 20;

/// Number of a segment, from 1; never used twice in the life of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// The file of this segment in `dir`.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:020}.seg", self.0))
    }

    /// The inverse of [`SegmentId::path`] for a file's name; `None` for files that are not segments.
    pub fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".seg")?;
        let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
        if all_digits { digits.parse().ok().map(Self) } else { None }
    }

    /// The one after.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a frame begins. Ordered as the entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Segment.
    pub segment: SegmentId,
    /// Bytes from the start of its file.
    pub offset: u64,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self { segment: SegmentId(0), offset: 0 };
}

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) payload_bytes: u32,
    pub(crate) payload_crc: u32,
}

pub(crate) fn encode_file_header(segment: SegmentId) -> [u8; FILE_HEADER_BYTES as usize] {
    let mut header = [0; FILE_HEADER_BYTES as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&segment.0.to_le_bytes());
    let crc = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The version of a whole file header, or `None` when it is not one of this segment.
pub(crate) fn decode_file_header(header: &[u8], segment: SegmentId) -> Option<u32> {
    let version = u32_at(header, 8)?;
    let mut expected = encode_file_header(segment);
    expected[8..12].copy_from_slice(&version.to_le_bytes());
    let crc = crc32c::crc32c(&expected[..20]);
    expected[20..].copy_from_slice(&crc.to_le_bytes());
    (header == expected).then_some(version)
}

/// Frame with its header, ready to be written at `at`. The payload must be within [`MAX_ENTRY_BYTES`].
pub(crate) fn encode_frame(at: Position, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES as usize + payload.len());
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let crc = header_crc(at, &frame);
    frame.extend_from_slice(&crc.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The header found at `at`, if it is one written there.
pub(crate) fn decode_frame_header(at: Position, header: &[u8]) -> Option<FrameHeader> {
    let payload_bytes = u32_at(header, 0)?;
    let payload_crc = u32_at(header, 4)?;
    let whole = u32_at(header, 8)? == header_crc(at, &header[..8]) && payload_bytes as usize <= MAX_ENTRY_BYTES;
    whole.then_some(FrameHeader { payload_bytes, payload_crc })
}

fn header_crc(at: Position, first_eight: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&at.segment.0.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &at.offset.to_le_bytes());
    crc32c::crc32c_append(crc, first_eight)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_path_parses_back() {
        let id = SegmentId(42);
        let path = id.path(Path::new("/x"));
        assert_eq!(path, Path::new("/x/00000000000000000042.seg"));
        assert_eq!(path.file_name().and_then(|n| n.to_str()).and_then(SegmentId::parse), Some(id));
        for name in ["42.seg", "00000000000000000042", "0000000000000000004x.seg", "lock"] {
            assert_eq!(SegmentId::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_frame_header_holds_only_where_it_was_written() {
        let at = Position { segment: SegmentId(3), offset: 24 };
        let frame = encode_frame(at, b"payload");
        let header = decode_frame_header(at, &frame[..12]).unwrap();
        assert_eq!(header.payload_bytes, 7);
        assert_eq!(decode_frame_header(Position { offset: 25, ..at }, &frame[..12]), None);
        assert_eq!(decode_frame_header(Position { segment: SegmentId(4), ..at }, &frame[..12]), None);
        assert_eq!(decode_frame_header(at, &[0; 12]), None);
    }

    #[test]
    fn the_bytes_of_version_1_do_not_change() {
        let header = encode_file_header(SegmentId(1));
        assert_eq!(header[..20], *b"skepseg\n\x01\0\0\0\x01\0\0\0\0\0\0\0");
        assert_eq!(u32_at(&header, 20), Some(0xbb83_ced6));
        assert_eq!(decode_file_header(&header, SegmentId(1)), Some(1));
        assert_eq!(decode_file_header(&header, SegmentId(2)), None);
    }
}
