//! Hello to welcome: a connection becomes a session, or it does not.

use std::time::Duration;

use skep_wire::v1::uplink_client::UplinkClient;
use skep_wire::v1::{self, down, up};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Channel;

use super::session::SessionEnd;

/// Messages on their way into the connection.
pub(super) const OUTGOING: usize = 8;

/// How long the collector may take to answer a hello.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// In flight where the collector does not say.
const DEFAULT_WINDOW: usize = 16;

/// Most batches in flight whatever the collector says: they cannot be evicted while they are.
const MAX_WINDOW: usize = 64;

/// Largest message either way: the largest payload and its envelope.
const MAX_MESSAGE_BYTES: usize = (skep_wire::envelope::MAX_PAYLOAD_BYTES as usize) + (1 << 20);

/// Both ways of a connection, and the collector's first word.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) outgoing: mpsc::Sender<v1::Up>,
    pub(super) incoming: Streaming<v1::Down>,
    pub(super) welcome: v1::Welcome,
}

/// Says hello and waits for the welcome.
///
/// # Errors
/// Why there is no session.
pub(super) async fn greet(channel: Channel, hello: v1::Hello) -> Result<Greeted, SessionEnd> {
    let mut client = UplinkClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (outgoing, receiver) = mpsc::channel(OUTGOING);
    if outgoing.send(v1::Up { message: Some(up::Message::Hello(hello)) }).await.is_err() {
        return Err(SessionEnd::Closed);
    }
    let call = client.uplink(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let mut incoming = match timeout(WELCOME_TIMEOUT, call).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(SessionEnd::Status(Box::new(status))),
        Err(_) => return Err(SessionEnd::Silent),
    };
    match timeout(WELCOME_TIMEOUT, incoming.message()).await {
        Ok(Ok(Some(v1::Down { message: Some(down::Message::Welcome(welcome)) }))) => {
            Ok(Greeted { outgoing, incoming, welcome })
        }
        Ok(Ok(Some(v1::Down { message: Some(down::Message::Reset(reset)) }))) => {
            Err(SessionEnd::Reset { reason: reset.reason })
        }
        Ok(Ok(_)) => Err(SessionEnd::Closed),
        Ok(Err(status)) => Err(SessionEnd::Status(Box::new(status))),
        Err(_) => Err(SessionEnd::Silent),
    }
}

/// Batches that may be in flight, of what the collector says.
pub(super) fn window(said: u32) -> usize {
    match usize::try_from(said) {
        Ok(0) | Err(_) => DEFAULT_WINDOW,
        Ok(said) => said.min(MAX_WINDOW),
    }
}
