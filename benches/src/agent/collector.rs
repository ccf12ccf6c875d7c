//! A collector that acknowledges everything and keeps nothing, over real TLS.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use skep_wire::v1::uplink_server::{Uplink, UplinkServer};
use skep_wire::v1::{self, down, up};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::authority::Authority;

/// Batches in flight.
const WINDOW: u32 = 16;

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) batches: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// A running collector. Dropping this ends it.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) taken: Arc<Taken>,
    pub(crate) port: u16,
    folder: TempDir,
    _runtime: Runtime,
}

impl Collector {
    /// Starts one, with certificates for it and for an agent.
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let certified = Authority::new().and_then(|authority| authority.write(folder.path(), &["collector", "agent"]));
        certified.context("cannot make certificates")?;
        let read = |name: &str| fs::read(folder.path().join(name));
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("collector.pem")?, read("collector.key")?))
            .client_ca_root(Certificate::from_pem(read("ca.pem")?));
        let taken = Arc::new(Taken::default());
        let service = UplinkServer::new(Service { taken: Arc::clone(&taken) }).max_decoding_message_size(80 << 20);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let port = listener.local_addr()?.port();
        let server = Server::builder().tls_config(tls)?.add_service(service);
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { taken, port, folder, _runtime: runtime })
    }

    /// Where a certificate or key is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

struct Service {
    taken: Arc<Taken>,
}

type Answers = mpsc::Sender<Result<v1::Down, Status>>;

#[tonic::async_trait]
impl Uplink for Service {
    type UplinkStream = ReceiverStream<Result<v1::Down, Status>>;

    async fn uplink(&self, request: Request<Streaming<v1::Up>>) -> Result<Response<Self::UplinkStream>, Status> {
        let (answers, receiver) = mpsc::channel(64);
        tokio::spawn(serve(Arc::clone(&self.taken), request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

async fn serve(taken: Arc<Taken>, mut incoming: Streaming<v1::Up>, answers: Answers) {
    let mut durable = BTreeMap::new();
    while let Some(Ok(v1::Up { message: Some(message) })) = incoming.next().await {
        let Some(answer) = answer(&taken, &mut durable, message) else { continue };
        if answers.send(Ok(v1::Down { message: Some(answer) })).await.is_err() {
            return;
        }
    }
}

fn answer(taken: &Taken, durable: &mut BTreeMap<String, u64>, message: up::Message) -> Option<down::Message> {
    match message {
        up::Message::Hello(hello) => Some(down::Message::Welcome(v1::Welcome {
            durable_seq: durable.get(&hello.stream).copied().unwrap_or(0),
            collector_version: "bench".to_owned(),
            wire_revision: 1,
            window: WINDOW,
        })),
        up::Message::Batch(envelope) => {
            taken.batches.fetch_add(1, Ordering::Relaxed);
            taken.bytes.fetch_add(envelope.payload.len() as u64, Ordering::Relaxed);
            durable.insert(envelope.stream.clone(), envelope.seq);
            Some(down::Message::Ack(v1::Ack { stream: envelope.stream, durable_seq: envelope.seq }))
        }
        up::Message::Gap(gap) => {
            durable.insert(gap.stream, gap.to_seq);
            None
        }
        up::Message::Heartbeat(_) | up::Message::Leave(_) | up::Message::ProbeAnswer(_) => None,
    }
}
