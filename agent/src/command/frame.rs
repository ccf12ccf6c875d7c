//! Messages on the executor's socket: a 4-byte little-endian length, then the encoded message.

use prost::Message;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest message: commands and receipts are a few hundred bytes.
pub const MAX_BYTES: u32 = 1 << 20;

/// Why a message did not come through. The connection is then of no further use.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The connection broke.
    #[error("the connection to the executor broke")]
    Io(#[source] std::io::Error),
    /// The peer closed it between two messages.
    #[error("the executor closed the connection")]
    Closed,
    /// A length above [`MAX_BYTES`].
    #[error("a message of {bytes} bytes, the limit is {MAX_BYTES}")]
    TooLarge {
        /// The length given.
        bytes: u32,
    },
    /// Not a message.
    #[error("a message that does not decode")]
    Decode(#[source] prost::DecodeError),
}

/// Reads one message. Not to be cancelled midway: what was read would be lost.
///
/// # Errors
/// [`FrameError`].
pub async fn read<M: Message + Default, R: AsyncRead + Unpin>(from: &mut R) -> Result<M, FrameError> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(FrameError::Closed),
        Err(error) => return Err(FrameError::Io(error)),
    }
    let bytes = u32::from_le_bytes(length);
    if bytes > MAX_BYTES {
        return Err(FrameError::TooLarge { bytes });
    }
    let mut message = vec![0; bytes as usize];
    from.read_exact(&mut message).await.map_err(FrameError::Io)?;
    M::decode(message.as_slice()).map_err(FrameError::Decode)
}

/// Writes one message.
///
/// # Errors
/// [`FrameError::Io`], [`FrameError::TooLarge`].
pub async fn write<M: Message, W: AsyncWrite + Unpin>(to: &mut W, message: &M) -> Result<(), FrameError> {
    let bytes = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
    if bytes > MAX_BYTES {
        return Err(FrameError::TooLarge { bytes });
    }
    let mut frame = bytes.to_le_bytes().to_vec();
    frame.extend_from_slice(&message.encode_to_vec());
    to.write_all(&frame).await.map_err(FrameError::Io)
}
