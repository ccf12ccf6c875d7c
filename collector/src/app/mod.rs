//! The wiring: every long-lived channel, task and thread of the collector is made here.
//!
//! ```text
//! accept -> sessions --Command--> wal thread --rows--> store <-- queries
//!              ^                   |  |  `--Published--> event listeners
//!              |                   |  `--Observed--> respond --Command--> wal thread
//!              `--orders-----------+------------------'
//! flusher --Seal/Remove--> wal thread          flusher --files--> history
//! ```
//!
//! Stop: no new connections; sessions answer what is with the WAL and end; the responder finishes; the last segment is
//! sealed and everything becomes Parquet.

mod listen;

mod start;

use std::sync::Arc;
use std::time::Duration;

use skep_runtime::clock::Clock;
use skep_runtime::shutdown::{Shutdown, SignalError};
use skep_seglog::LogError;
use skep_wire::v1::console_server::ConsoleServer;
use skep_wire::v1::uplink_server::UplinkServer;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot};
use tonic::transport::Server;

use crate::config::Config;
use crate::console::ConsoleService;
use crate::history::flusher::Flusher;
use crate::ingest::publish::Publisher;
use crate::ingest::registry::Registry;
use crate::ingest::session::Shared;
use crate::ingest::uplink::UplinkService;
use crate::missing::Missing;
use crate::query::{Engine, QueryError};
use crate::respond::{OwnStream, Respond};
use crate::response::OWN_NODE;
use crate::wal::writer::Limits;
use crate::wal::{StreamKey, Wal, Writer};

pub use start::{StartError, Started};

/// Commands that may wait for the WAL's thread.
const WAL_QUEUE: usize = 1024;

/// Batches the responder may have before it; sessions wait for a place.
const RESPONDER_QUEUE: usize = 512;

/// Requests to the responder that may wait.
const ASK_QUEUE: usize = 64;

/// Batches an event listener may fall behind before it misses some.
const EVENT_QUEUE: usize = 1024;

/// Flushes that may be asked for at once.
const FLUSH_QUEUE: usize = 16;

/// Largest message from an agent: a batch that compresses not at all, and some room.
const MESSAGE_BYTES: usize = (skep_wire::envelope::MAX_PAYLOAD_BYTES as usize) + (1 << 20);

/// How long sessions and statements have to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

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
    /// The query engine did not start.
    #[error(transparent)]
    Engine(#[from] QueryError),
    /// The WAL cannot be written; nothing was acknowledged that is not in it.
    #[error("the WAL failed, and with it the collector")]
    Wal(#[source] LogError),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The listener broke.
    #[error("the listener failed")]
    Serve(#[source] tonic::transport::Error),
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
    let address = config.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| AppError::Bind { address, source })?;
    let address = listener.local_addr().map_err(|source| AppError::Bind { address, source })?;
    let clock = Clock::system();
    let engine = Arc::new(Engine::new(crate::query::engine::Limits {
        memory_bytes: config.query_bytes,
        timeout: config.query_timeout,
        partitions: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
    })?);
    let started = start::start(&config, &engine, &clock).await?;
    let Started { folder, identity, tls, history, store, log, offsets, responder, told, ledger } = started;

    let shutdown = Shutdown::new();
    let (wal, wal_commands) = mpsc::channel(WAL_QUEUE);
    let (observed, batches) = mpsc::channel(RESPONDER_QUEUE);
    let (asks, ask_receiver) = mpsc::channel(ASK_QUEUE);
    let (flush, flush_requests) = mpsc::channel(FLUSH_QUEUE);
    let (events, _) = broadcast::channel(EVENT_QUEUE);
    let due = Arc::new(Notify::new());
    let registry = Arc::new(Registry::default());

    let own_key = StreamKey { node: OWN_NODE.to_owned(), stream: identity.stream.clone() };
    let own_last = offsets.last(&own_key);
    let limits = Limits { rows: config.flush_rows, log_bytes: config.flush_wal_bytes };
    let publisher = Publisher::new(events.clone(), observed, Arc::clone(&due));
    let writer = Writer::new(Wal { log, offsets }, Arc::clone(&store), publisher, limits).map_err(AppError::Wal)?;
    let (failed, wal_ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("wal".to_owned())
        .spawn(move || {
            // The receiver is gone only when the process is about to be.
            let _gone = failed.send(writer.run(wal_commands)).is_err();
        })
        .map_err(AppError::Thread)?;

    let flusher =
        Arc::new(Flusher { wal: wal.clone(), store: Arc::clone(&store), history, interval: config.flush_interval });
    let flushing = tokio::spawn({
        let flusher = Arc::clone(&flusher);
        async move { flusher.run(due, flush_requests).await }
    });
    let respond = Respond {
        responder,
        own: OwnStream {
            key: own_key,
            last: own_last,
            wal: wal.clone(),
            store: Arc::clone(&store),
            clock: clock.clone(),
        },
        registry: Arc::clone(&registry),
    };
    let responding = tokio::spawn(respond.run(batches, ask_receiver));
    if let Some(rows) = ledger {
        // The queue is new and empty.
        let _full = asks.try_send(crate::respond::Ask::Record(vec![rows])).is_err();
    }

    let uplink = UplinkService::new(
        Arc::new(Shared {
            wal: wal.clone(),
            store: Arc::clone(&store),
            slots: Arc::new(Semaphore::new(RESPONDER_QUEUE)),
            registry: Arc::clone(&registry),
            quarantine: folder.quarantine(),
            clock: clock.clone(),
            window: config.window,
        }),
        asks.clone(),
        shutdown.clone(),
    );
    let console = ConsoleService {
        store: Arc::clone(&store),
        engine,
        missing: Arc::new(Missing::new(told, asks.clone(), clock)),
        events,
        responder: asks,
        flush,
        registry,
        stop: shutdown.token(),
    };
    let mut stop = shutdown.token();
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .add_service(UplinkServer::new(uplink).max_decoding_message_size(MESSAGE_BYTES))
        .add_service(ConsoleServer::new(console).max_encoding_message_size(MESSAGE_BYTES))
        .serve_with_incoming_shutdown(listen::accept(listener, tls.into(), shutdown.token()), async move {
            stop.stopped().await;
        });
    let serving = tokio::spawn(server);
    let announced = folder.announce(address).map_err(StartError::from)?;
    tracing::info!("listening on {address}");

    let ended = tokio::select! {
        signal = shutdown.on_signal() => signal.map_err(AppError::from),
        failure = wal_ended => Err(AppError::Wal(match failure {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => LogError::ReadOnly,
        })),
    };
    shutdown.begin();
    drop(announced);
    if let Err(error @ AppError::Wal(_)) = ended {
        return Err(error);
    }
    match tokio::time::timeout(STOP_WITHIN, serving).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => return Err(AppError::Serve(error)),
        Ok(Err(_)) | Err(_) => tracing::warn!("connections did not end in time"),
    }
    if let Err(late) = shutdown.drain(STOP_WITHIN).await {
        tracing::warn!("{late}");
    }
    if tokio::time::timeout(STOP_WITHIN, responding).await.is_err() {
        tracing::warn!("the responder did not end in time");
    }
    flushing.abort();
    let flushed = flusher.flush().await.map_err(|reason| AppError::LastFlush { reason })?;
    tracing::info!(rows = flushed.rows, files = flushed.files, "stopped");
    ended
}
