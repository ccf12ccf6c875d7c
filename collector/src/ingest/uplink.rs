//! The gRPC service agents talk to.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use skep_runtime::shutdown::Shutdown;
use skep_wire::order;
use skep_wire::v1::uplink_server::Uplink;
use skep_wire::v1::{self, up};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::inbox::Inbox;
use super::peer::{self, Role};
use super::session::{Session, Shared};
use crate::respond::Ask;
use crate::response::OWN_NODE;
use crate::shares::Shares;

/// Messages down that may wait for a slow agent.
const DOWN_QUEUE: usize = 256;

/// Commands that may wait for a session.
const ORDER_QUEUE: usize = 64;

/// Calls of one agent that have no session yet; of those that have one, the newest goes on.
const MAX_GREETINGS: usize = 4;

/// How long an agent has to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Longest name of a stream, which is remembered for good; an agent's has half as many characters.
const MAX_STREAM_BYTES: usize = 64;

/// Longest hello; what a node says of itself is kept.
const MAX_HELLO_BYTES: usize = 64 << 10;

/// Most probes a hello may name, and most of what it may say is missing.
const MAX_NAMED: usize = 1_000;

/// The service. Channels and tasks of a call are made here: they live and die with it.
#[derive(Debug)]
pub struct UplinkService {
    shared: Arc<Shared>,
    greetings: Arc<Shares>,
    responder: mpsc::Sender<Ask>,
    shutdown: Shutdown,
}

impl UplinkService {
    /// Serves on these.
    pub fn new(shared: Arc<Shared>, responder: mpsc::Sender<Ask>, shutdown: Shutdown) -> Self {
        Self { shared, greetings: Arc::default(), responder, shutdown }
    }
}

#[tonic::async_trait]
impl Uplink for UplinkService {
    type UplinkStream = ReceiverStream<Result<v1::Down, Status>>;

    async fn uplink(&self, request: Request<Streaming<v1::Up>>) -> Result<Response<Self::UplinkStream>, Status> {
        let name = peer::peer(&request, Role::Agent).map_err(|error| Status::permission_denied(error.to_string()))?;
        if [OWN_NODE, order::CLUSTER].contains(&name.as_str()) {
            let what = format!("the name {name} is the collector's own; no agent may have it");
            tracing::error!("{what}");
            return Err(Status::permission_denied(what));
        }
        let Some(greeting) = self.greetings.take(&name, 1, |own, _| own < MAX_GREETINGS) else {
            return Err(Status::resource_exhausted(format!("{MAX_GREETINGS} calls of {name} are being greeted")));
        };
        let mut up = Inbox::open(request)?;
        let hello = hello(&mut up, name).await?;
        let (down, down_receiver) = mpsc::channel(DOWN_QUEUE);
        let (orders, order_receiver) = mpsc::channel(ORDER_QUEUE);
        let id = self.shared.registry.begin(&hello, orders, self.shared.clock.wall_us());
        let session = match Session::begin(Arc::clone(&self.shared), &hello, id, down).await {
            Ok(session) => session,
            Err(status) => {
                self.shared.registry.end(&hello.node, id);
                return Err(status);
            }
        };
        drop(greeting);
        tracing::info!(node = %hello.node, agent = %hello.agent_version, kernel = %hello.kernel_release, probes = hello.probes.len(), "node connected");
        let component = self.shutdown.component(format!("uplink of {}", hello.node));
        let (responder, stop) = (self.responder.clone(), self.shutdown.token());
        let registry = Arc::clone(&self.shared.registry);
        tokio::spawn(async move {
            let (node, id) = session.identity();
            // The responder is gone only while stopping.
            let elsewhere = session.was_elsewhere();
            let connected = Ask::Connected { node: node.clone(), boot: hello.boot, elsewhere };
            let _stopping = responder.send(connected).await.is_err();
            let left = session.run(up, order_receiver, stop).await;
            if registry.end(&node, id) {
                tracing::info!(%node, "node disconnected");
                let _stopping = responder.send(Ask::Disconnected { node, left }).await.is_err();
            }
            drop(component);
        });
        Ok(Response::new(ReceiverStream::new(down_receiver)))
    }
}

/// The first message of a call of the agent named so.
async fn hello(up: &mut Inbox, name: String) -> Result<v1::Hello, Status> {
    let first = timeout(HELLO_WITHIN, up.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded(format!("no hello came within {HELLO_WITHIN:?}")))??;
    let Some(v1::Up { message: Some(up::Message::Hello(hello)) }) = first else {
        return Err(Status::failed_precondition("the first message must be a hello"));
    };
    if hello.node != name {
        let what = format!("the certificate is of node {name}, the hello of node {}", hello.node);
        tracing::error!("{what}");
        return Err(Status::permission_denied(what));
    }
    if hello.stream.is_empty() || hello.stream.len() > MAX_STREAM_BYTES {
        let what = format!("the hello's stream has {} bytes; 1 to {MAX_STREAM_BYTES} are allowed", hello.stream.len());
        return Err(Status::invalid_argument(what));
    }
    let bytes = hello.encoded_len();
    if bytes > MAX_HELLO_BYTES {
        return Err(Status::invalid_argument(format!("the hello has {bytes} bytes, {MAX_HELLO_BYTES} are allowed")));
    }
    let named = hello.probes.len().max(hello.missing.len());
    if named > MAX_NAMED {
        return Err(Status::invalid_argument(format!("the hello names {named} probes, {MAX_NAMED} are allowed")));
    }
    Ok(hello)
}
