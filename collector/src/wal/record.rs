//! What one entry of the WAL says: a byte that names the kind, then a protobuf message.
//!
//! | kind | message |
//! |---|---|
//! | 1 | `skep.v1.Envelope`, as it came |
//! | 2 | [`OffsetsRecord`]: the first two of every segment |
//!
//! A reader refuses kinds it does not know: the segment was written by a newer program.

use prost::Message;
use skep_wire::v1;
use thiserror::Error;

use super::offsets::{Offsets, StreamKey};

const ENVELOPE: u8 = 1;
const OFFSETS: u8 = 2;

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A batch.
    Envelope(v1::Envelope),
    /// How far every stream had come when the segment began.
    Offsets(Offsets),
}

/// Why an entry could not be read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// No bytes.
    #[error("empty entry")]
    Empty,
    /// Written by a newer program.
    #[error("entry of unknown kind {kind}")]
    UnknownKind {
        /// First byte.
        kind: u8,
    },
    /// The checksum holds, the content does not.
    #[error("entry of kind {kind} does not decode")]
    Malformed {
        /// First byte.
        kind: u8,
        /// Why.
        source: prost::DecodeError,
    },
}

/// How far every stream has come.
#[derive(Clone, PartialEq, Message)]
pub struct OffsetsRecord {
    /// One a stream.
    #[prost(message, repeated, tag = "1")]
    pub streams: Vec<OffsetRecord>,
}

/// How far one stream has come.
#[derive(Clone, PartialEq, Message)]
pub struct OffsetRecord {
    /// Node name.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Life of its spool.
    #[prost(string, tag = "2")]
    pub stream: String,
    /// Everything up to here is durable.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
}

/// Bytes of an envelope's entry.
pub fn encode_envelope(envelope: &v1::Envelope) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + envelope.encoded_len());
    bytes.push(ENVELOPE);
    bytes.extend_from_slice(&envelope.encode_to_vec());
    bytes
}

/// Bytes of a snapshot's entry.
pub fn encode_offsets(offsets: &Offsets) -> Vec<u8> {
    let streams = offsets
        .iter()
        .map(|(key, seq)| OffsetRecord { node: key.node.clone(), stream: key.stream.clone(), seq })
        .collect();
    let mut bytes = vec![OFFSETS];
    bytes.extend_from_slice(&OffsetsRecord { streams }.encode_to_vec());
    bytes
}

/// Reads an entry.
///
/// # Errors
/// [`RecordError`]; the segment is then not ours to interpret.
pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
    let (&kind, body) = bytes.split_first().ok_or(RecordError::Empty)?;
    let malformed = |source| RecordError::Malformed { kind, source };
    match kind {
        ENVELOPE => v1::Envelope::decode(body).map(Record::Envelope).map_err(malformed),
        OFFSETS => {
            let record = OffsetsRecord::decode(body).map_err(malformed)?;
            let pairs = record.streams.into_iter().map(|s| (StreamKey { node: s.node, stream: s.stream }, s.seq));
            Ok(Record::Offsets(pairs.collect()))
        }
        kind => Err(RecordError::UnknownKind { kind }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back() {
        let envelope = v1::Envelope { node: "n".to_owned(), seq: 3, payload: vec![1, 2], ..Default::default() };
        assert_eq!(decode(&encode_envelope(&envelope)).unwrap(), Record::Envelope(envelope));
        let key = StreamKey { node: "n".to_owned(), stream: "s".to_owned() };
        let offsets: Offsets = [(key, 9)].into_iter().collect();
        assert_eq!(decode(&encode_offsets(&offsets)).unwrap(), Record::Offsets(offsets));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        assert!(matches!(decode(&[]), Err(RecordError::Empty)));
        assert!(matches!(decode(&[9, 1]), Err(RecordError::UnknownKind { kind: 9 })));
        assert!(matches!(decode(&[1, 0xff]), Err(RecordError::Malformed { kind: 1, .. })));
    }
}
