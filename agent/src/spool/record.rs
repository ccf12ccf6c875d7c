//! One batch as it lies in a segment: 80 bytes, then the encoded `Envelope`. All numbers are little-endian.
//!
//! ```text
//!  0  magic "skeprec" and the version of this page, 8 bytes; other records are set aside as damage
//!  8  stream of the batches this one replaces, 16 bytes; zeros when it replaces none
//! 24  first of them, u64
//! 32  last of them, u64
//! 40  number of the executor's receipt in this batch, u64; 0 for none
//! 48  when the executor's journal was begun, or where it does not say the time of that receipt, i64 microseconds
//! 56  incarnation of the probes whose observations are in this batch and those before it, u64; 0 for none
//! 64  last of their epochs that is, u64
//! 72  place in their ring up to which their events are, u64
//! ```
//!
//! The mark is in the record, so that after a crash at any moment it says exactly what is stored. Version 1 had neither
//! magic nor mark and was in no release.

use prost::Message;
use skep_wire::v1;

use crate::probe::reading::Mark;

/// Bytes in front of the envelope.
pub const HEADER_BYTES: usize = 80;

/// What every record begins with.
const MAGIC: [u8; 8] = *b"skeprec\x02";

/// Batches that were evicted in favour of a correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Their stream, 32 hex digits.
    pub stream: String,
    /// First.
    pub from_seq: u64,
    /// Last, inclusive.
    pub to_seq: u64,
}

/// Which receipt of the executor a batch holds, in the order in which they are written: a journal begun anew counts from 1
/// again, and is begun later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceiptMark {
    /// When its journal was begun; where the executor does not say, when it was written.
    pub time_us: i64,
    /// Its number in the executor's journal.
    pub number: u64,
}

/// A record, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What it replaces.
    pub replaced: Option<Replaced>,
    /// What it holds of the executor's journal.
    pub receipt: Option<ReceiptMark>,
    /// How far the probes were read, with this batch and all before it.
    pub mark: Option<Mark>,
    /// The batch, numbered and compressed.
    pub envelope: v1::Envelope,
}

impl Record {
    /// A plain batch.
    pub fn plain(envelope: v1::Envelope) -> Self {
        Self { replaced: None, receipt: None, mark: None, envelope }
    }

    /// As it is written.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.envelope.encoded_len());
        let replaced = self.replaced.as_ref();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&replaced.and_then(|r| stream_bytes(&r.stream)).unwrap_or_default());
        bytes.extend_from_slice(&replaced.map_or(0, |r| r.from_seq).to_le_bytes());
        bytes.extend_from_slice(&replaced.map_or(0, |r| r.to_seq).to_le_bytes());
        bytes.extend_from_slice(&self.receipt.map_or(0, |mark| mark.number).to_le_bytes());
        bytes.extend_from_slice(&self.receipt.map_or(0, |mark| mark.time_us).to_le_bytes());
        bytes.extend_from_slice(&self.mark.map_or(0, |mark| mark.incarnation).to_le_bytes());
        bytes.extend_from_slice(&self.mark.map_or(0, |mark| mark.epoch).to_le_bytes());
        bytes.extend_from_slice(&self.mark.map_or(0, |mark| mark.position).to_le_bytes());
        bytes.extend_from_slice(&self.envelope.encode_to_vec());
        bytes
    }

    /// The inverse; `None` for bytes that are no record although their checksum holds.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, envelope) = bytes.split_at_checked(HEADER_BYTES)?;
        let header = header.strip_prefix(&MAGIC)?;
        let number = |at: usize| Some(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?));
        let (from_seq, to_seq, receipt, time) = (number(16)?, number(24)?, number(32)?, number(40)?);
        let replaced = (to_seq != 0).then(|| Replaced { stream: hex(&header[..16]), from_seq, to_seq });
        let receipt = (receipt != 0).then_some(ReceiptMark { time_us: time.cast_signed(), number: receipt });
        let mark = Mark { incarnation: number(48)?, epoch: number(56)?, position: number(64)? };
        let mark = (mark.incarnation != 0).then_some(mark);
        Some(Self { replaced, receipt, mark, envelope: v1::Envelope::decode(envelope).ok()? })
    }
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `text` can be a stream's name.
pub fn is_stream(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn stream_bytes(stream: &str) -> Option<[u8; 16]> {
    if !is_stream(stream) {
        return None;
    }
    let mut bytes = [0; 16];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(stream.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_as_they_were_written() {
        let envelope = v1::Envelope { node: "n".to_owned(), seq: 9, payload: vec![1, 2, 3], ..Default::default() };
        let stream = "00112233445566778899aabbccddeeff".to_owned();
        let full = Record {
            replaced: Some(Replaced { stream, from_seq: 3, to_seq: 8 }),
            receipt: Some(ReceiptMark { time_us: 17, number: 2 }),
            mark: Some(Mark { incarnation: 5, epoch: 6, position: 7 }),
            envelope: envelope.clone(),
        };
        assert_eq!(Record::decode(&full.encode()), Some(full));
        let plain = Record::plain(envelope);
        assert_eq!(Record::decode(&plain.encode()), Some(plain));
        assert_eq!(Record::decode(&plain_bytes()[..79]), None);
    }

    fn plain_bytes() -> Vec<u8> {
        Record::plain(v1::Envelope::default()).encode()
    }

    #[test]
    fn a_record_of_the_version_before_is_none() {
        let mut old = vec![0; 48];
        old.extend_from_slice(&v1::Envelope { seq: 9, payload: vec![0; 99], ..Default::default() }.encode_to_vec());
        assert_eq!(Record::decode(&old), None);
        let mut newer = plain_bytes();
        newer[7] += 1;
        assert_eq!(Record::decode(&newer), None);
    }
}
