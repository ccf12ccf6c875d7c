//! A collector over real TLS that keeps what it is sent and does as it is told.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use skep_wire::v1::uplink_server::{Uplink, UplinkServer};
use skep_wire::v1::{self, down, up};
use skep_wire::{chunk, envelope, tables};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::pki::Pki;

/// What the collector has and does. Outlives a single run of it, as a disk would.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// Stored once each, in order of arrival.
    pub(crate) stored: Vec<(String, u64, v1::Batch)>,
    /// Highest contiguous number by stream.
    pub(crate) durable: BTreeMap<String, u64>,
    /// Batches that came again.
    pub(crate) repeats: u64,
    /// Told to be missing.
    pub(crate) gaps: Vec<(String, u64, u64)>,
    pub(crate) hellos: Vec<v1::Hello>,
    pub(crate) heartbeats: Vec<v1::Heartbeat>,
    /// Sequence faults seen.
    pub(crate) faults: Vec<String>,
    /// Answer no hello while set.
    pub(crate) silent: bool,
    /// Acknowledge nothing while set.
    pub(crate) mute: bool,
    /// Forget to store: break the connection at the next batch.
    pub(crate) break_at_next: bool,
    /// Ask for a reset at the next batch.
    pub(crate) reset_at_next: bool,
    /// Ask for a reset at every batch.
    pub(crate) refusing: bool,
    /// In flight at most.
    pub(crate) window: u32,
    /// Agents that said they go to another collector.
    pub(crate) leaves: u64,
}

/// A running collector.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) shelf: Arc<Mutex<Shelf>>,
    pub(crate) port: u16,
    commands: broadcast::Sender<v1::SignedCommand>,
    /// Everything of it, connections included.
    runtime: Option<Runtime>,
}

impl Collector {
    /// Starts on `port` (0 for a free one) with the certificate of `cn`.
    pub(crate) async fn start(pki: &Pki, cn: &str, port: u16, shelf: Arc<Mutex<Shelf>>) -> Self {
        let listener = bind(port).await;
        let port = listener.local_addr().unwrap().port();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(pki.read(&format!("{cn}.pem")), pki.read(&format!("{cn}.key"))))
            .client_ca_root(Certificate::from_pem(pki.read("ca.pem")));
        let (commands, _) = broadcast::channel(16);
        let service = UplinkServer::new(Service { shelf: Arc::clone(&shelf), commands: commands.clone() })
            .max_decoding_message_size(80 << 20);
        let server = Server::builder().tls_config(tls).unwrap().add_service(service);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("the stub serves");
        });
        Self { shelf, port, commands, runtime: Some(runtime) }
    }

    /// Drops every connection at once, as kill -9 does. Returns the port, to start again on.
    pub(crate) async fn kill(mut self) -> u16 {
        self.end();
        self.port
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Sends a command to whoever is connected.
    pub(crate) fn command(&self, command: v1::SignedCommand) {
        self.commands.send(command).expect("an agent is connected");
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

async fn bind(port: u16) -> std::net::TcpListener {
    let deadline = std::time::Instant::now() + super::PATIENCE;
    loop {
        match std::net::TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => {
                listener.set_nonblocking(true).unwrap();
                return listener;
            }
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

impl Shelf {
    /// Rows of a table over all stored batches, as one value each.
    pub(crate) fn rows<T>(&self, table: &str, read: impl Fn(&chunk::Row<'_>) -> T) -> Vec<T> {
        let chunks = self.stored.iter().flat_map(|(_, _, batch)| &batch.chunks).filter(|chunk| chunk.table == table);
        chunks.flat_map(|chunk| chunk::rows(chunk).map(|row| read(&row)).collect::<Vec<_>>()).collect()
    }

    /// Attempted, delivered and lost of a probe, summed.
    pub(crate) fn ledger(&self, probe: &str) -> (i64, i64, i64) {
        let rows = self.rows("loss", |row| {
            let counts = (row.int("attempted"), row.int("delivered"), row.int("lost"));
            (row.text("probe") == Some(probe)).then_some(counts)
        });
        rows.into_iter().flatten().fold((0, 0, 0), |sum, (attempted, delivered, lost)| {
            (sum.0 + attempted.unwrap_or(0), sum.1 + delivered.unwrap_or(0), sum.2 + lost.unwrap_or(0))
        })
    }

    fn take(&mut self, envelope: v1::Envelope) {
        let durable = self.durable.entry(envelope.stream.clone()).or_default();
        if envelope.seq <= *durable {
            self.repeats += 1;
            return;
        }
        if envelope.seq != *durable + 1 {
            self.faults.push(format!("{} after {durable} without a gap", envelope.seq));
        }
        *durable = envelope.seq;
        let batch = envelope::open(&envelope).expect("a batch");
        for chunk in &batch.chunks {
            chunk::check(chunk, tables::find(&chunk.table).expect("a known table")).expect("a valid chunk");
        }
        self.stored.push((envelope.stream, envelope.seq, batch));
    }
}

struct Service {
    shelf: Arc<Mutex<Shelf>>,
    commands: broadcast::Sender<v1::SignedCommand>,
}

#[tonic::async_trait]
impl Uplink for Service {
    type UplinkStream = Pin<Box<dyn Stream<Item = Result<v1::Down, Status>> + Send>>;

    async fn uplink(&self, request: Request<Streaming<v1::Up>>) -> Result<Response<Self::UplinkStream>, Status> {
        let (answers, receiver) = mpsc::channel(64);
        let incoming = request.into_inner();
        tokio::spawn(serve(Arc::clone(&self.shelf), self.commands.subscribe(), incoming, answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

type Answers = mpsc::Sender<Result<v1::Down, Status>>;

async fn serve(
    shelf: Arc<Mutex<Shelf>>,
    mut commands: broadcast::Receiver<v1::SignedCommand>,
    mut incoming: Streaming<v1::Up>,
    answers: Answers,
) {
    loop {
        tokio::select! {
            message = incoming.next() => {
                let Some(Ok(v1::Up { message: Some(message) })) = message else { return };
                let Ok(answer) = answer(&shelf, message) else { return };
                for message in answer {
                    if answers.send(Ok(v1::Down { message: Some(message) })).await.is_err() {
                        return;
                    }
                }
            }
            Ok(command) = commands.recv() => {
                let message = Some(down::Message::Command(command));
                if answers.send(Ok(v1::Down { message })).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// `Err` breaks the connection.
fn answer(shelf: &Mutex<Shelf>, message: up::Message) -> Result<Vec<down::Message>, ()> {
    let mut shelf = shelf.lock().unwrap();
    Ok(match message {
        up::Message::Hello(hello) => {
            let durable_seq = shelf.durable.get(&hello.stream).copied().unwrap_or(0);
            let window = shelf.window;
            shelf.hellos.push(hello);
            if shelf.silent {
                return Ok(Vec::new());
            }
            vec![down::Message::Welcome(v1::Welcome {
                durable_seq,
                collector_version: "stub".to_owned(),
                wire_revision: 1,
                window,
            })]
        }
        up::Message::Batch(envelope) => {
            if std::mem::take(&mut shelf.break_at_next) {
                return Err(());
            }
            if std::mem::take(&mut shelf.reset_at_next) || shelf.refusing {
                return Ok(vec![down::Message::Reset(v1::Reset { reason: "test".to_owned() })]);
            }
            let stream = envelope.stream.clone();
            shelf.take(envelope);
            let durable_seq = shelf.durable[&stream];
            if shelf.mute { Vec::new() } else { vec![down::Message::Ack(v1::Ack { stream, durable_seq })] }
        }
        up::Message::Gap(gap) => {
            let durable = shelf.durable.entry(gap.stream.clone()).or_default();
            let fits = gap.from_seq == *durable + 1;
            *durable = gap.to_seq;
            if !fits {
                shelf.faults.push(format!("gap {}..{} does not fit", gap.from_seq, gap.to_seq));
            }
            shelf.gaps.push((gap.stream, gap.from_seq, gap.to_seq));
            Vec::new()
        }
        up::Message::Leave(_) => {
            shelf.leaves += 1;
            Vec::new()
        }
        up::Message::ProbeAnswer(_) => Vec::new(),
        up::Message::Heartbeat(heartbeat) => {
            shelf.heartbeats.push(heartbeat);
            Vec::new()
        }
    })
}
