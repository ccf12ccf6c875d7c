//! Seals a batch into an envelope and opens it again.
//!
//! The payload is compressed once, by the agent, and never re-encoded before it is durable. The reader allocates at most
//! what the envelope states, and the statement is bounded by [`MAX_PAYLOAD_BYTES`]; what is in it is decoded only if that
//! is bounded, too.

use std::cell::RefCell;

use prost::Message;
use thiserror::Error;
use zstd::bulk::Decompressor;

use crate::{unfolded, v1};

/// Largest decoded payload a reader accepts: 64 MiB, some hundred times a busy host's window.
pub const MAX_PAYLOAD_BYTES: u32 = 64 << 20;

/// What a payload may unfold to in memory, for each of its bytes: rows of agents unfold to some ten.
const UNFOLDS_TIMES: usize = 32;

/// And besides: names and vectors of a small batch.
const UNFOLDS_BESIDES_BYTES: usize = 1 << 20;

/// And at the very most: more than all that an agent can hold of a window.
const MAX_UNFOLDED_BYTES: usize = 256 << 20;

/// Most probes a batch may claim something for.
const MAX_DELIVERIES: usize = 1_000;

/// Zstd level of payloads: higher ones cost the node several times the CPU for a few per cent.
const ZSTD_LEVEL: i32 = 1;

/// Why an envelope could not be sealed or opened.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// Decoded size above [`MAX_PAYLOAD_BYTES`].
    #[error("payload of {bytes} bytes, the limit is {MAX_PAYLOAD_BYTES}")]
    TooLarge {
        /// Size stated or found.
        bytes: usize,
    },
    /// A codec of a later wire revision.
    #[error("payload codec {codec} is unknown")]
    UnknownCodec {
        /// Its number.
        codec: i32,
    },
    /// The payload does not decompress to the stated size.
    #[error("payload does not decompress")]
    Compression(#[source] std::io::Error),
    /// Far more in memory than it seems.
    #[error("payload of {bytes} bytes would take up to {unfolded_bytes} in memory; {most_bytes} are the most")]
    Unfolds {
        /// Size of the payload.
        bytes: usize,
        /// What it would take.
        unfolded_bytes: usize,
        /// What it may take.
        most_bytes: usize,
    },
    /// More probes than there are.
    #[error("the batch claims something for {count} probes; {MAX_DELIVERIES} are the most")]
    TooManyDeliveries {
        /// How many.
        count: usize,
    },
    /// The payload is not a batch.
    #[error("payload is not a batch")]
    NotABatch(#[source] prost::DecodeError),
}

/// Whose batch it is and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Node name.
    pub node: String,
    /// Kernel boot id.
    pub boot: String,
    /// Life of the spool.
    pub stream: String,
    /// From 1 within the stream.
    pub seq: u64,
}

/// Encodes and compresses `batch`.
///
/// # Errors
/// [`EnvelopeError::TooLarge`]: split the batch. [`EnvelopeError::Compression`]: out of memory.
pub fn seal(origin: Origin, batch: &v1::Batch) -> Result<v1::Envelope, EnvelopeError> {
    let plain = batch.encode_to_vec();
    let payload_bytes = u32::try_from(plain.len()).unwrap_or(u32::MAX);
    if payload_bytes > MAX_PAYLOAD_BYTES {
        return Err(EnvelopeError::TooLarge { bytes: plain.len() });
    }
    let payload = zstd::bulk::compress(&plain, ZSTD_LEVEL).map_err(EnvelopeError::Compression)?;
    let Origin { node, boot, stream, seq } = origin;
    Ok(v1::Envelope { node, boot, stream, seq, codec: v1::Codec::Zstd.into(), payload, payload_bytes })
}

/// Decompresses and decodes the batch. The chunks are not checked yet: see [`crate::chunk::check`].
///
/// # Errors
/// Any of [`EnvelopeError`]; the envelope is then to be refused or quarantined whole.
pub fn open(envelope: &v1::Envelope) -> Result<v1::Batch, EnvelopeError> {
    if envelope.codec != i32::from(v1::Codec::Zstd) {
        return Err(EnvelopeError::UnknownCodec { codec: envelope.codec });
    }
    if envelope.payload_bytes > MAX_PAYLOAD_BYTES {
        return Err(EnvelopeError::TooLarge { bytes: envelope.payload_bytes as usize });
    }
    let plain = decompress(&envelope.payload, envelope.payload_bytes as usize).map_err(EnvelopeError::Compression)?;
    let unfolded_bytes = unfolded::bytes(&plain);
    let most_bytes = MAX_UNFOLDED_BYTES.min(UNFOLDS_BESIDES_BYTES + plain.len() * UNFOLDS_TIMES);
    if unfolded_bytes > most_bytes {
        return Err(EnvelopeError::Unfolds { bytes: plain.len(), unfolded_bytes, most_bytes });
    }
    let batch = v1::Batch::decode(plain.as_slice()).map_err(EnvelopeError::NotABatch)?;
    match batch.deliveries.len() {
        ..=MAX_DELIVERIES => Ok(batch),
        count => Err(EnvelopeError::TooManyDeliveries { count }),
    }
}

/// With what the thread used last time: setting it up takes longer than to decompress a small batch.
fn decompress(payload: &[u8], most_bytes: usize) -> std::io::Result<Vec<u8>> {
    thread_local! {
        static CONTEXT: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(Decompressor::new()?),
        };
        context.decompress(payload, most_bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 }
    }

    #[test]
    fn a_sealed_batch_opens_as_it_was() {
        let batch = v1::Batch {
            sealed_us: 5,
            chunks: Vec::new(),
            deliveries: vec![v1::Delivery { probe: "tcp".to_owned(), delivered: 3 }],
        };
        assert_eq!(open(&seal(origin(), &batch).unwrap()).unwrap(), batch);
    }

    #[test]
    fn a_payload_larger_than_stated_is_refused() {
        let batch = v1::Batch {
            sealed_us: 5,
            chunks: Vec::new(),
            deliveries: vec![v1::Delivery { probe: "p".repeat(1000), delivered: 3 }],
        };
        let mut envelope = seal(origin(), &batch).unwrap();
        envelope.payload_bytes = 10;
        assert!(matches!(open(&envelope), Err(EnvelopeError::Compression(_))));
        envelope.payload_bytes = u32::MAX;
        assert!(matches!(open(&envelope), Err(EnvelopeError::TooLarge { .. })));
    }

    #[test]
    fn bytes_that_are_no_batch_are_refused() {
        let mut envelope = seal(origin(), &v1::Batch::default()).unwrap();
        envelope.payload = zstd::bulk::compress(&[0xff; 20], 1).unwrap();
        envelope.payload_bytes = 20;
        assert!(matches!(open(&envelope), Err(EnvelopeError::NotABatch(_))));
    }

    #[test]
    fn what_unfolds_to_far_more_than_it_is_is_not_decoded() {
        let claims = |count| v1::Batch { deliveries: vec![v1::Delivery::default(); count], ..v1::Batch::default() };
        assert_eq!(open(&seal(origin(), &claims(1_000)).unwrap()).unwrap().deliveries.len(), 1_000);
        let refused = open(&seal(origin(), &claims(1_001)).unwrap()).unwrap_err();
        assert!(matches!(refused, EnvelopeError::TooManyDeliveries { count: 1_001 }));
        let refused = open(&seal(origin(), &claims(1 << 20)).unwrap()).unwrap_err().to_string();
        assert_eq!(refused, "payload of 2097152 bytes would take up to 134217728 in memory; 68157440 are the most");
    }
}
