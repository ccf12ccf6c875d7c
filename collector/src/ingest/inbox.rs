//! What an agent sends, message by message.

use skep_wire::envelope::MAX_PAYLOAD_BYTES;
use skep_wire::v1;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstDecoder;

use super::gate::Gated;

/// Largest message: a batch that compresses not at all, and some room.
pub const MESSAGE_BYTES: usize = (MAX_PAYLOAD_BYTES as usize) + (1 << 20);

/// Messages of one call.
#[derive(Debug)]
pub struct Inbox {
    up: Streaming<v1::Up>,
    call: Gated,
}

impl Inbox {
    /// Messages of a call that came through the gate.
    ///
    /// # Errors
    /// It did not.
    pub fn open(request: Request<Streaming<v1::Up>>) -> Result<Self, Status> {
        let call = request.extensions().get::<Gated>().cloned();
        let call = call.ok_or_else(|| Status::internal("the call did not come through the gate"))?;
        Ok(Self { up: request.into_inner(), call })
    }

    /// The next message; `None` when the agent ended the call. May be dropped and asked for again.
    ///
    /// # Errors
    /// The call broke, or what came is no message.
    pub async fn message(&mut self) -> Result<Option<v1::Up>, Status> {
        let message = self.up.message().await?;
        if self.call.holds_room() {
            // gRPC keeps memory for the largest message it met for as long as it reads; nothing of the next one came yet.
            let decoder = ProstDecoder::default();
            self.up = Streaming::new_request(decoder, self.call.clone(), None, Some(MESSAGE_BYTES));
        }
        Ok(message)
    }

    /// The bytes of a message that did not come while others waited.
    pub fn given_up(&self) -> Option<usize> {
        self.call.given_up()
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};
    use futures::StreamExt;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use prost::Message;
    use skep_wire::v1::up;
    use tonic::body::Body;

    use super::super::gate::Gate;
    use super::*;

    #[tokio::test]
    async fn messages_come_whole_and_in_order_whatever_their_size() {
        let batch = |seq: u64, bytes| {
            let envelope = v1::Envelope { seq, payload: vec![seq as u8; bytes], ..v1::Envelope::default() };
            v1::Up { message: Some(up::Message::Batch(envelope)) }
        };
        let sizes = [10, 300_000, 400_000, 0, 1 << 20, 20];
        let sent: Vec<_> = (1..).zip(sizes).map(|(seq, bytes)| batch(seq, bytes)).collect();
        let mut bytes = Vec::new();
        for message in &sent {
            bytes.put_u8(0);
            bytes.put_u32(message.encoded_len() as u32);
            message.encode(&mut bytes).unwrap();
        }
        let pieces: Vec<_> = bytes.chunks(100_000).map(Bytes::copy_from_slice).collect();
        let body = StreamBody::new(futures::stream::iter(pieces).map(|piece| Ok::<_, Status>(Frame::data(piece))));
        let call = Gate::new(2 << 20).pass(Body::new(body));
        let up = Streaming::new_request(ProstDecoder::default(), call.clone(), None, Some(MESSAGE_BYTES));
        let mut request = Request::new(up);
        assert!(Inbox::open(Request::new(Streaming::new_empty(ProstDecoder::default(), Body::empty()))).is_err());
        request.extensions_mut().insert(call);
        let mut inbox = Inbox::open(request).unwrap();
        for message in sent {
            assert!(inbox.message().await.unwrap() == Some(message));
        }
        assert_eq!(inbox.message().await.unwrap(), None);
    }
}
