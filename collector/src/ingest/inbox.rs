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
    use prost::Message;
    use skep_wire::v1::up;
    use tonic::body::Body;

    use super::super::gate::Gate;
    use super::super::gate::tests::{call, framed};
    use super::*;

    #[tokio::test]
    async fn messages_come_whole_and_in_order_whatever_their_size() {
        let batch = |seq: u64, bytes| {
            let envelope = v1::Envelope { seq, payload: vec![seq as u8; bytes], ..v1::Envelope::default() };
            v1::Up { message: Some(up::Message::Batch(envelope)) }
        };
        let sizes = [10, 300_000, 400_000, 0, 1 << 20, 20];
        let sent: Vec<_> = (1..).zip(sizes).map(|(seq, bytes)| batch(seq, bytes)).collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|message| framed(&message.encode_to_vec())).collect();
        let (sender, call) = call(&Gate::new(2 << 20));
        for piece in bytes.chunks(100_000) {
            sender.try_send(piece.to_vec()).unwrap();
        }
        drop(sender);
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
