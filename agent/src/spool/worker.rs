//! The thread that owns the spool, and what it is asked.

use std::time::Duration;

use skep_runtime::clock::Clock;
use skep_seglog::Storage;
use skep_wire::v1;
use tokio::sync::{mpsc, oneshot, watch};

use super::record::ReceiptMark;
use super::store::Store;
use crate::probe::reading::Mark;

/// Requests that may wait. Senders wait when it is full.
pub const QUEUE: usize = 64;

/// Pause between two tries to bring batches from memory to disk.
const RETRY: Duration = Duration::from_secs(30);

/// A batch to keep.
#[derive(Debug)]
pub struct Append {
    /// Rows, and what they claim.
    pub batch: v1::Batch,
    /// See [`Sealed::watched_until_us`](crate::aggregate::Sealed::watched_until_us).
    pub watched_until_us: Option<i64>,
    /// The executor's receipt it holds.
    pub receipt: Option<ReceiptMark>,
    /// How far the probes were read, with this batch.
    pub mark: Option<Mark>,
    /// Told when the batch is durable (or in memory, while the disk refuses).
    pub done: Option<oneshot::Sender<()>>,
}

/// What the spool is asked.
#[derive(Debug)]
pub enum Request {
    /// Keep a batch.
    Append(Append),
    /// Everything of the stream up to here is stored at the collector.
    Acknowledge {
        /// Stream.
        stream: String,
        /// Up to here.
        durable_seq: u64,
        /// Whether that can be; see [`Store::acknowledge`]. `None` for callers who cannot do anything about it.
        done: Option<oneshot::Sender<bool>>,
    },
    /// Tell when everything asked before is done.
    Settle {
        /// Told then.
        done: oneshot::Sender<()>,
    },
    /// Batches to send.
    Read {
        /// Stream.
        stream: String,
        /// The ones after this number.
        after: u64,
        /// At most so many.
        count: usize,
        /// At most so many bytes past the first.
        bytes: u64,
        /// The answer, in order.
        reply: oneshot::Sender<Vec<v1::Envelope>>,
    },
}

/// What others may know without asking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpoolState {
    /// The stream to send from.
    pub stream: String,
    /// Its highest number that may be sent.
    pub ready: u64,
    /// Batches held, all streams.
    pub batches: u64,
    /// Bytes held, all streams.
    pub bytes: u64,
    /// The newest receipt of the executor that is in a batch.
    pub receipt: Option<ReceiptMark>,
    /// How far the probes were read according to the batches that are safe.
    pub mark: Option<Mark>,
}

impl SpoolState {
    /// As the store stands.
    pub fn of<S: Storage + Clone>(store: &Store<S>) -> Self {
        let stream = store.stream_to_send().unwrap_or_default().to_owned();
        Self {
            ready: store.ready(&stream),
            stream,
            batches: store.batches(),
            bytes: store.bytes(),
            receipt: store.receipt(),
            mark: store.mark(),
        }
    }
}

/// Serves requests until every sender is gone.
///
/// Cost: one `fdatasync` for all the batches that wait together.
pub fn run<S: Storage + Clone>(
    mut store: Store<S>,
    mut requests: mpsc::Receiver<Request>,
    state: &watch::Sender<SpoolState>,
    clock: &Clock,
) {
    let retry_ns = u64::try_from(RETRY.as_nanos()).unwrap_or(u64::MAX);
    let mut tried_ns = clock.boot_ns();
    let mut waiting = Vec::with_capacity(QUEUE);
    while let Some(first) = requests.blocking_recv() {
        waiting.push(first);
        while let Ok(next) = requests.try_recv() {
            waiting.push(next);
            if waiting.len() == QUEUE {
                break;
            }
        }
        let mut done = Vec::new();
        let mut watched = None;
        for request in waiting.drain(..) {
            match request {
                Request::Append(append) => {
                    if let Err(error) = store.append(append.batch, append.receipt, append.mark) {
                        tracing::error!(error = %crate::error::chain(&error), "a batch is lost");
                    }
                    watched = watched.max(append.watched_until_us);
                    done.extend(append.done);
                }
                Request::Acknowledge { stream, durable_seq, done } => {
                    let agrees = store.acknowledge(&stream, durable_seq, clock.wall_us()).unwrap_or_else(|error| {
                        tracing::error!(error = %crate::error::chain(&error), "cannot begin a new stream");
                        true
                    });
                    reply(done, agrees);
                }
                Request::Settle { done: settled } => done.push(settled),
                Request::Read { stream, after, count, bytes, reply: to } => {
                    reply(Some(to), store.read(&stream, after, count, bytes, clock.wall_us()));
                }
            }
        }
        if store.is_in_memory() && clock.boot_ns().saturating_sub(tried_ns) >= retry_ns {
            tried_ns = clock.boot_ns();
            store.retry_disk();
        }
        store.sync();
        if let Some(until_us) = watched {
            store.set_watched(until_us);
        }
        state.send_if_modified(|state| {
            let fresh = SpoolState::of(&store);
            let changed = *state != fresh;
            *state = fresh;
            changed
        });
        for done in done {
            reply(Some(done), ());
        }
    }
    store.close();
}

/// Whoever asked may have gone away meanwhile, and then needs no answer.
fn reply<T>(to: Option<oneshot::Sender<T>>, value: T) {
    if let Some(to) = to {
        drop(to.send(value));
    }
}
