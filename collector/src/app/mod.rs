//! The wiring: every long-lived channel, task and thread of the collector is made here.
//!
//! ```text
//! accept -> sessions --Command--> wal thread --rows--> store <-- queries
//!              ^                   |  |  `--Published--> event listeners
//!              |                   |  `--Observed--> respond --Command--> wal thread
//!              `--orders-----------+------------------'
//! respond --Down--> cluster --Command--> skep_kubernetes --Word--> cluster --Ask--> respond
//! respond, rules --Report--> alerting --Notice--> queue on disk --> courier --> channels
//! flusher --Seal/Remove--> wal thread          flusher --files--> history <--files-- keeper's thread
//!                                              refresher <--others' files-- history
//! ```
//!
//! Stop: no new connections; sessions answer what is with the WAL and end; the responder finishes; the last segment is
//! sealed, everything becomes Parquet, and what is in Parquet leaves the WAL; its thread ends, and the folder is let go.
//! A task that ends before stops the collector, with an error.

mod alarm;

mod connection;

mod keep;

mod listen;

mod remember;

mod start;

mod tasks;

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use skep_runtime::clock::Clock;
use skep_runtime::shutdown::{Shutdown, SignalError};
use skep_seglog::LogError;
use skep_wire::v1::console_server::ConsoleServer;
use skep_wire::v1::uplink_server::UplinkServer;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::service::LayerExt;
use tonic::transport::Server;

use self::tasks::Tasks;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::console::ConsoleService;
use crate::flight::{self, FlightSql};
use crate::folder::{Announced, Folder};
use crate::history::flusher::Flusher;
use crate::history::refresher::Refresher;
use crate::ingest::gate::{self, Gate};
use crate::ingest::inbox::MESSAGE_BYTES;
use crate::ingest::opener::Opener;
use crate::ingest::pace::Pace;
use crate::ingest::publish::{Events, Publisher};
use crate::ingest::registry::Registry;
use crate::ingest::session::Shared;
use crate::ingest::uplink::UplinkService;
use crate::maintain::Keeper;
use crate::missing::Missing;
use crate::respond::{Ask, OwnStream, Respond};
use crate::response::OWN_NODE;
use crate::wal::writer::Limits;
use crate::wal::{Command, StreamKey, Wal, Writer};

pub use start::{StartError, Started};

/// Commands that may wait for the WAL's thread.
const WAL_QUEUE: usize = 1024;

/// Batches between the wire and the responder; sessions wait for a place. A busy host's batch is a few MiB decoded.
const RESPONDER_QUEUE: usize = 128;

/// Requests to the responder that may wait.
const ASK_QUEUE: usize = 64;

/// Batches an event listener may fall behind before it misses some.
const EVENT_QUEUE: usize = 1024;

/// Flushes that may be asked for at once.
const FLUSH_QUEUE: usize = 16;

/// Room for the large messages of all agents that come in: the largest there is, or several smaller ones.
const ROOM_BYTES: usize = MESSAGE_BYTES;

/// What a peer may send ahead of being read, in one call and in all of a connection: as many of it wait in memory as there
/// are agents.
const CALL_AHEAD_BYTES: u32 = 256 << 10;
const PEER_AHEAD_BYTES: u32 = 512 << 10;

/// A peer that does not answer for this long, twice, is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How long sessions and the responder have to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long peers have to close their connections.
const HANG_UP_WITHIN: Duration = Duration::from_secs(1);

/// How long the keeper's thread has to come to an end; it leaves nothing half done whenever it goes.
const KEEPER_WITHIN: Duration = Duration::from_secs(5);

/// How long the first flush waits for the ledger to have what this start found.
const LEDGER_WITHIN: Duration = Duration::from_secs(10);

/// Why the collector ended other than by request.
#[derive(Debug, Error)]
pub enum AppError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The Flight SQL service cannot describe itself.
    #[error("cannot offer Flight SQL")]
    Flight(#[from] arrow_flight::error::FlightError),
    /// The WAL cannot be written; nothing was acknowledged that is not in it.
    #[error("the WAL failed, and with it the collector")]
    Wal(#[source] LogError),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// Nobody can be told anything.
    #[error("alerts cannot be told")]
    Alerts(#[from] skep_alerts::deliver::OpenError),
    /// The listener broke.
    #[error("the listener failed")]
    Serve(#[source] tonic::transport::Error),
    /// A task that runs as long as the collector did not.
    #[error("the {task} ended, and with it the collector: {reason}")]
    Task {
        /// Which.
        task: &'static str,
        /// One line.
        reason: String,
    },
    /// No signal handlers.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// At the end, rows could not be written to Parquet. They are in the WAL.
    #[error("rows stay in the WAL: {reason}")]
    LastFlush {
        /// One line.
        reason: String,
    },
}

/// Runs the collector until a signal comes or it cannot go on.
///
/// # Errors
/// [`AppError`].
pub async fn serve(config: Config) -> Result<(), AppError> {
    listen::allow_many();
    let address = config.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| AppError::Bind { address, source })?;
    let address = listener.local_addr().map_err(|source| AppError::Bind { address, source })?;
    let (clock, wall) = (Clock::system(), Clock::system());
    let limits = crate::query::engine::Limits {
        memory_bytes: config.query_bytes,
        memory_each_bytes: config.query_each_bytes,
        at_once: config.query_at_once,
        timeout: config.query_timeout,
        partitions: processors(),
    };
    let started = start::start(&config, limits, &clock).await?;
    let running = wire(started, &config, Wiring { listener, clock, wall })?;
    let announced = running.folder.announce(address).map_err(StartError::from)?;
    tracing::info!("listening on {address}");
    running.until_stopped(announced).await
}

/// What [`wire`] needs besides the state at start.
struct Wiring {
    listener: TcpListener,
    /// Never set: what is decided and told is timed by it.
    clock: Clock,
    /// Follows the host's.
    wall: Clock,
}

/// A collector with everything started.
struct Running {
    folder: Folder,
    shutdown: Shutdown,
    tasks: Tasks,
    /// Ends the responder once no session is left.
    finish: Arc<Notify>,
    flusher: Arc<Flusher>,
    /// Ends the keeper's thread when dropped.
    stop_keeper: std::sync::mpsc::Sender<()>,
    /// Whether anybody is told of findings.
    told: bool,
}

/// Makes the channels, the WAL's thread and the tasks.
fn wire(started: Started, config: &Config, wiring: Wiring) -> Result<Running, AppError> {
    let Started { folder, signs, engine, identity, tls, history, store, log, offsets, audit, responder, told, ledger } =
        started;
    let Wiring { listener, clock, wall } = wiring;
    let shutdown = Shutdown::new();
    let (wal, wal_commands) = mpsc::channel(WAL_QUEUE);
    let (observed, batches) = mpsc::channel(RESPONDER_QUEUE);
    let (asks, ask_receiver) = mpsc::channel(ASK_QUEUE);
    let (flush, flush_requests) = mpsc::channel(FLUSH_QUEUE);
    let events = Events::new(broadcast::channel(EVENT_QUEUE).0);
    let due = Arc::new(Notify::new());
    let registry = Arc::new(Registry::default());

    let own_key = StreamKey { node: OWN_NODE.to_owned(), stream: identity.stream };
    let own_last = offsets.last(&own_key);
    let limits = Limits { rows: config.flush_rows, log_bytes: config.flush_wal_bytes };
    let publisher = Publisher::new(events.clone(), observed, Arc::clone(&due));
    let writer = Writer::new(Wal { log, offsets }, Arc::clone(&store), publisher, limits).map_err(AppError::Wal)?;
    let wal_ended = spawn_writer(writer, wal_commands)?;

    let interval = signs.is_some().then_some(config.history_refresh);
    let keeper = Keeper {
        history: Arc::clone(&history),
        store: Arc::clone(&store),
        settings: config.maintain.clone(),
        clock: wall.clone(),
        ledger: asks.clone(),
        batches: Arc::clone(engine.batches()),
        collector: identity.collector.clone(),
        signs,
    };
    let (stop_keeper, keeper_ended) = keep::spawn(keeper)?;
    let flusher =
        Arc::new(Flusher { wal: wal.clone(), store: Arc::clone(&store), history, interval: config.flush_interval });
    let refresher = Refresher { history: Arc::clone(&flusher.history), store: Arc::clone(&store), interval };
    let refreshing = tokio::spawn(refresher.run());
    // Damaged segments of the WAL go with the first flush: the ledger hears of them before.
    let (entered, is_entered) = oneshot::channel();
    let first = ledger.map(|rows| (rows, entered));
    let flushing = tokio::spawn({
        let flusher = Arc::clone(&flusher);
        async move {
            let _late = tokio::time::timeout(LEDGER_WITHIN, is_entered).await.is_err();
            flusher.run(due, flush_requests).await
        }
    });
    let own =
        OwnStream { key: own_key, last: own_last, wal: wal.clone(), store: Arc::clone(&store), clock: clock.clone() };
    let (reports, alerting) = alarm::start(&config.alerts, &folder, (&engine, &store), &clock, &shutdown)?;
    let respond = Respond {
        responder,
        own,
        wall: wall.clone(),
        audit,
        registry: Arc::clone(&registry),
        learned: (folder.learned(), folder.habits()),
        under_way: folder.under_way(),
        reports,
        first,
    };
    let finish = Arc::new(Notify::new());
    let responding = tokio::spawn(respond.run(batches, ask_receiver, Arc::clone(&finish)));
    let shared = Shared {
        wal,
        store: Arc::clone(&store),
        slots: Arc::new(Semaphore::new(RESPONDER_QUEUE)),
        registry: Arc::clone(&registry),
        quarantine: folder.quarantine(),
        clock: wall.clone(),
        window: config.window,
        large: Arc::new(Semaphore::new(1)),
        opener: Opener::start().map_err(AppError::Thread)?,
        pace: Pace::new(config.pace_bytes_s as f64 * processors() as f64),
        asks: asks.clone(),
    };
    spawn_watchers(config, Cluster::of(&config.kubernetes, &folder, &wall, (&registry, &asks)), &asks);
    let uplink = UplinkService::new(Arc::new(shared), asks.clone(), shutdown.clone());
    let missing = Arc::new(Missing::new(told, asks.clone(), wall));
    let stop = shutdown.token();
    let flight = FlightSql::new(Arc::clone(&store), Arc::clone(&engine), Arc::clone(&missing))?;
    let console = ConsoleService { store, engine, missing, events, responder: asks, flush, registry, stop };
    let serving = spawn_server(listener, tls, (uplink, console, flight), &shutdown);
    let tasks = Tasks { wal_ended, serving, responding, alerting, flushing, refreshing, keeper_ended };
    Ok(Running { folder, shutdown, tasks, finish, flusher, stop_keeper, told: !config.alerts.channels.is_empty() })
}

/// Starts what looks after the rules' folder and a cluster, where there are any.
fn spawn_watchers(config: &Config, cluster: Cluster, asks: &mpsc::Sender<Ask>) {
    if let Some(folder) = config.rules.clone() {
        tokio::spawn(crate::rules::watch(folder, asks.clone()));
    }
    tokio::spawn(cluster.run());
}

/// How many processors this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// Starts the WAL's thread; the receiver gets how it ended.
fn spawn_writer(
    writer: Writer,
    commands: mpsc::Receiver<Command>,
) -> Result<oneshot::Receiver<Result<(), LogError>>, AppError> {
    let (ended, wal_ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("wal".to_owned());
    thread
        .spawn(move || {
            // The receiver is gone only when the process is about to be.
            let _gone = ended.send(writer.run(commands)).is_err();
        })
        .map_err(AppError::Thread)?;
    Ok(wal_ended)
}

fn spawn_server(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    (uplink, console, flight): (UplinkService, ConsoleService, FlightSql),
    shutdown: &Shutdown,
) -> JoinHandle<Result<(), tonic::transport::Error>> {
    let mut stop = shutdown.token();
    let uplink = UplinkServer::new(uplink).max_decoding_message_size(MESSAGE_BYTES);
    let connections = listen::accept(listener, tls.into(), shutdown.token());
    let server = Server::builder()
        .initial_stream_window_size(CALL_AHEAD_BYTES)
        .initial_connection_window_size(PEER_AHEAD_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(gate::layer(Gate::new(ROOM_BYTES)).named_layer(uplink))
        .add_service(ConsoleServer::new(console).max_encoding_message_size(MESSAGE_BYTES))
        .add_service(flight::endpoint::server(flight))
        .serve_with_incoming_shutdown(connections, async move { stop.stopped().await });
    tokio::spawn(server)
}

impl Running {
    async fn until_stopped(self, announced: Announced) -> Result<(), AppError> {
        let Self { folder, shutdown, mut tasks, finish, flusher, stop_keeper, told } = self;
        let failed = tokio::select! {
            signal = shutdown.on_signal() => signal.err().map(AppError::from),
            ended = tasks.first_end() => Some(ended),
        };
        shutdown.begin();
        drop(announced);
        drop(stop_keeper);
        if let Some(error @ AppError::Wal(_)) = failed {
            // Nothing more can be stored, and nothing more may be said to be.
            return Err(error);
        }
        if let Some(error) = &failed {
            tracing::error!("stopping: {}", crate::error::chain(error));
        }
        // Sessions say their last acknowledgements; they are what may still store something.
        if let Err(late) = shutdown.drain(STOP_WITHIN).await {
            tracing::warn!("{late}");
        }
        finish.notify_one();
        let Tasks { wal_ended, serving, responding, alerting, flushing, refreshing, keeper_ended } = tasks;
        if tasks::wait(responding, STOP_WITHIN).await.is_none() {
            tracing::warn!("the responder did not end as it should");
        }
        // Where nobody hears of anything there is nothing to wait for.
        let last_words = if told { STOP_WITHIN } else { Duration::ZERO };
        let _unwritten = tasks::wait(alerting, last_words).await.is_none();
        // Connections that stay open now carry nothing but answers to statements.
        let served = tasks::wait(serving, HANG_UP_WITHIN).await;
        flushing.abort();
        refreshing.abort();
        // A flush that was under way goes on in its thread; the history's locks put this one behind it.
        let flushed = flusher.flush().await.map_err(|reason| AppError::LastFlush { reason })?;
        // The WAL's thread ends when nobody can ask it for anything: after the last connection, which may stay open.
        drop(flusher);
        if let Ok(Ok(Err(error))) = tokio::time::timeout(HANG_UP_WITHIN, wal_ended).await {
            return Err(AppError::Wal(error));
        }
        if tokio::time::timeout(KEEPER_WITHIN, keeper_ended).await.is_err() {
            tracing::info!("the history was being put in order; the next start goes on with it");
        }
        tracing::info!(rows = flushed.rows, files = flushed.files, "stopped");
        drop(folder);
        match (failed, served) {
            (Some(error), _) => Err(error),
            (None, Some(Err(error))) => Err(AppError::Serve(error)),
            _ => Ok(()),
        }
    }
}
