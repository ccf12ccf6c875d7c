//! Messages on the executor's socket: a 4-byte little-endian length, then the encoded message.

use std::io;

use prost::Message;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest message; a command is some hundred bytes, a status lists action ids.
pub const MAX_BYTES: u32 = 1 << 20;

/// Why no message could be read or written.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The other side or the system ended it.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The length is beyond [`MAX_BYTES`].
    #[error("a message of {bytes} bytes, the limit is {MAX_BYTES}")]
    TooLarge {
        /// As stated.
        bytes: u32,
    },
    /// Not a message of the expected kind.
    #[error("a message that cannot be understood")]
    NotAMessage(#[source] prost::DecodeError),
}

/// Reads one message; `None` at a clean end. Not to be cancelled midway: what was read would be lost.
///
/// # Errors
/// [`FrameError`]; the connection is of no further use.
pub async fn read<M: Message + Default>(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<M>, FrameError> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(FrameError::Io(error)),
    }
    let bytes = u32::from_le_bytes(length);
    if bytes > MAX_BYTES {
        return Err(FrameError::TooLarge { bytes });
    }
    let mut message = vec![0; bytes as usize];
    from.read_exact(&mut message).await.map_err(FrameError::Io)?;
    M::decode(message.as_slice()).map(Some).map_err(FrameError::NotAMessage)
}

/// Writes one message.
///
/// # Errors
/// [`FrameError`]; the connection is of no further use.
pub async fn write(to: &mut (impl AsyncWrite + Unpin), message: &impl Message) -> Result<(), FrameError> {
    let body = message.encode_to_vec();
    let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if bytes > MAX_BYTES {
        return Err(FrameError::TooLarge { bytes });
    }
    to.write_all(&[&bytes.to_le_bytes(), body.as_slice()].concat()).await.map_err(FrameError::Io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[tokio::test]
    async fn messages_come_back_and_an_end_is_an_end() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let sent = v1::ReceiptAck { durable_number: 9 };
        write(&mut near, &sent).await.unwrap();
        drop(near);
        assert_eq!(read::<v1::ReceiptAck>(&mut far).await.unwrap(), Some(sent));
        assert_eq!(read::<v1::ReceiptAck>(&mut far).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_too_large_or_torn_is_refused() {
        let mut huge: &[u8] = &u32::MAX.to_le_bytes();
        assert!(matches!(read::<v1::ReceiptAck>(&mut huge).await, Err(FrameError::TooLarge { .. })));
        let mut torn: &[u8] = &[5, 0, 0, 0, 1, 2];
        assert!(matches!(read::<v1::ReceiptAck>(&mut torn).await, Err(FrameError::Io(_))));
        let mut nonsense: &[u8] = &[2, 0, 0, 0, 0xff, 0xff];
        assert!(matches!(read::<v1::ReceiptAck>(&mut nonsense).await, Err(FrameError::NotAMessage(_))));
    }
}
