//! The gRPC service operators talk to.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use skep_wire::v1::console_server::Console;
use skep_wire::v1::{self};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::events::{Filter, KINDS};
use crate::buffer::Store;
use crate::history::flusher;
use crate::ingest::peer::{self, Role};
use crate::ingest::publish::{Events, Published};
use crate::ingest::registry::Registry;
use crate::missing::Missing;
use crate::query::ipc::Pieces;
use crate::query::{Answer, Engine, QueryError};
use crate::respond::Ask;

/// Pieces of an answer that wait for its reader.
const PIECES_AHEAD: usize = 4;

/// A reply's stream.
type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Debug)]
pub struct ConsoleService {
    /// What queries read.
    pub store: Arc<Store>,
    /// Answers statements.
    pub engine: Arc<Engine>,
    /// Files found missing.
    pub missing: Arc<Missing>,
    /// Durable batches.
    pub events: Events,
    /// The responder's task.
    pub responder: mpsc::Sender<Ask>,
    /// The flusher's task.
    pub flush: mpsc::Sender<flusher::Request>,
    /// Nodes.
    pub registry: Arc<Registry>,
    /// Ends streams that would not end by themselves.
    pub stop: skep_runtime::shutdown::Token,
}

#[tonic::async_trait]
impl Console for ConsoleService {
    type QueryStream = Replies<v1::QueryReply>;
    type EventsStream = Replies<v1::EventsReply>;

    async fn query(&self, request: Request<v1::QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        operator(&request)?;
        let v1::QueryRequest { sql, timeout_s } = request.into_inner();
        let timeout = (timeout_s > 0).then(|| Duration::from_secs(u64::from(timeout_s)));
        let answer = self.engine.ask(self.store.snapshot(), &sql, timeout).await;
        let answer = answer.map_err(|error| error.status())?;
        let pieces = Pieces::new(&answer.schema()).map_err(|error| Status::internal(error.to_string()))?;
        let reply = Reply { answer, pieces, missing: Arc::clone(&self.missing), ended: false };
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let sending = tokio::spawn(reply.send(sender));
        let end = stream::once(sending).filter_map(|ended| {
            let ended = ended.unwrap_or_else(|broken| Err(Status::internal(broken.to_string())));
            std::future::ready(ended.err().map(Err))
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok).chain(end))))
    }

    async fn events(&self, request: Request<v1::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        operator(&request)?;
        let filter = Filter::parse(request.into_inner().kinds).map_err(|kind| {
            Status::invalid_argument(format!("there is no kind {kind}; there are {}", KINDS.join(", ")))
        })?;
        let (events, seen) = self.events.subscribe();
        let listener = Listener { events, filter, seen, stop: self.stop.clone() };
        let replies = stream::unfold(listener, |mut listener| async move {
            let replies = listener.next().await?;
            Some((stream::iter(replies.into_iter().map(Ok)), listener))
        });
        Ok(Response::new(Box::pin(replies.flatten())))
    }

    async fn act(&self, request: Request<v1::ActRequest>) -> Result<Response<v1::ActReply>, Status> {
        let name = operator(&request)?;
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Operator { request: request.into_inner(), name, reply };
        self.responder.send(ask).await.map_err(|_| stopping())?;
        let answer = answer.await.map_err(|_| stopping())?;
        answer.map(Response::new).map_err(|refusal| Status::failed_precondition(refusal.to_string()))
    }

    async fn flush(&self, request: Request<v1::FlushRequest>) -> Result<Response<v1::FlushReply>, Status> {
        operator(&request)?;
        let (reply, answer) = oneshot::channel();
        self.flush.send(reply).await.map_err(|_| stopping())?;
        let answer = answer.await.map_err(|_| stopping())?;
        answer.map(Response::new).map_err(Status::aborted)
    }

    async fn nodes(&self, request: Request<v1::NodesRequest>) -> Result<Response<v1::NodesReply>, Status> {
        operator(&request)?;
        Ok(Response::new(v1::NodesReply { nodes: self.registry.nodes() }))
    }
}

fn operator<T>(request: &Request<T>) -> Result<String, Status> {
    peer::peer(request, Role::Operator).map_err(|error| Status::permission_denied(error.to_string()))
}

fn stopping() -> Status {
    Status::unavailable("the collector is stopping")
}

/// An answer on its way out.
struct Reply {
    answer: Answer,
    pieces: Pieces,
    missing: Arc<Missing>,
    ended: bool,
}

impl Reply {
    /// Sends all pieces. Ends when the reader has gone, and at the statement's deadline also when it only does not read:
    /// others wait for its turn.
    async fn send(mut self, reader: mpsc::Sender<v1::QueryReply>) -> Result<(), Status> {
        loop {
            let pieces = tokio::select! {
                pieces = self.next() => pieces?,
                () = reader.closed() => return Ok(()),
            };
            let Some(pieces) = pieces else { return Ok(()) };
            for arrow_ipc in pieces {
                match tokio::time::timeout_at(self.answer.deadline(), reader.send(v1::QueryReply { arrow_ipc })).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => return Err(self.answer.too_late().status()),
                }
            }
        }
    }

    /// The next pieces; `None` after the last. Files that could not be read end the stream with a status, after all the
    /// rows there are.
    async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, Status> {
        let internal = |error: arrow::error::ArrowError| Status::internal(error.to_string());
        if self.ended {
            let files = self.answer.unreadable();
            if files.is_empty() {
                return Ok(None);
            }
            self.missing.report(&files);
            return Err(QueryError::Incomplete { files }.status());
        }
        loop {
            match self.answer.next().await.map_err(|error| error.status())? {
                Some(batch) => self.pieces.write(&batch).map_err(internal)?,
                None => {
                    self.pieces.finish().map_err(internal)?;
                    self.ended = true;
                }
            }
            let pieces = self.pieces.take();
            if !pieces.is_empty() {
                return Ok(Some(pieces));
            }
        }
    }
}

/// One listener for events.
struct Listener {
    events: broadcast::Receiver<Published>,
    filter: Filter,
    /// Events published up to and with the last batch seen.
    seen: u64,
    stop: skep_runtime::shutdown::Token,
}

impl Listener {
    /// The wanted events of the next batch that has any; `None` when the collector stops.
    async fn next(&mut self) -> Option<Vec<v1::EventsReply>> {
        let mut missed = 0;
        loop {
            let received = tokio::select! {
                received = self.events.recv() => received,
                () = self.stop.stopped() => return None,
            };
            let published = match received {
                Ok(published) => published,
                // How many events that was shows in the next batch's count.
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            missed += published.events_before.saturating_sub(self.seen);
            self.seen = published.events_before + published.events;
            let node = published.node.to_string();
            let chosen = published.chunks.iter().filter_map(|chunk| self.filter.apply(chunk));
            let mut replies: Vec<_> =
                chosen.map(|chunk| v1::EventsReply { node: node.clone(), chunk: Some(chunk), missed: 0 }).collect();
            if let Some(first) = replies.first_mut() {
                first.missed = missed;
                return Some(replies);
            }
        }
    }
}
