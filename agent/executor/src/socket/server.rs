//! Listens, checks who connects, passes requests in and receipts out.
//!
//! Every connection first gets all receipts that nobody acknowledged, then each new one. A connection that does not
//! take them is only slow for itself.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_wire::frame::{self, FrameError};
use skep_wire::v1::{self, executor_reply::Reply, executor_request::Request};
use thiserror::Error;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Connections at a time: the agent's, and a few people's.
const MAX_CONNECTIONS: usize = 16;

/// Why the socket cannot be listened on.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another process listens there.
    #[error("another executor listens on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is something else at this path.
    #[error("{} exists and is no socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a connection asks of the engine.
#[derive(Debug)]
pub enum Ask {
    /// Carry out.
    Execute(v1::SignedCommand),
    /// Forget receipts up to here.
    Acknowledge(u64),
    /// Say what stands.
    Status(oneshot::Sender<v1::Status>),
}

/// The listening socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    allowed_uids: Vec<u32>,
}

impl Server {
    /// Listens on `path`, mode 0660. A socket left behind by a process that is gone is replaced.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: &Path, allowed_uids: Vec<u32>) -> Result<Self, SocketError> {
        let failed = |action| move |source| SocketError::Io { action, path: path.to_owned(), source };
        if let Ok(meta) = fs::symlink_metadata(path) {
            if !meta.file_type().is_socket() {
                return Err(SocketError::NotASocket { path: path.to_owned() });
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(SocketError::InUse { path: path.to_owned() });
            }
            fs::remove_file(path).map_err(failed("remove"))?;
        }
        let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed("set the mode of"))?;
        Ok(Self { listener, path: path.to_owned(), allowed_uids })
    }

    /// Accepts connections until the task is dropped.
    pub async fn run(&self, asks: mpsc::Sender<Ask>, receipts: watch::Receiver<Arc<Vec<v1::Receipt>>>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let (stream, uid) = match self.listener.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(credentials) => (stream, credentials.uid()),
                    Err(_) => continue,
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            if uid != 0 && !self.allowed_uids.contains(&uid) {
                tracing::warn!(uid, "a connection was refused: this user may not use the socket");
                continue;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!("a connection was refused: there are {MAX_CONNECTIONS} already");
                continue;
            };
            let (asks, receipts) = (asks.clone(), receipts.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(stream, asks, receipts).await {
                    tracing::debug!(%error, "a connection ended");
                }
                drop(place);
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Another executor cannot have taken its place: it would have found this one listening.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket's file could not be removed");
        }
    }
}

async fn serve(
    stream: UnixStream,
    asks: mpsc::Sender<Ask>,
    receipts: watch::Receiver<Arc<Vec<v1::Receipt>>>,
) -> Result<(), FrameError> {
    let (from, to) = stream.into_split();
    let (replies, statuses) = mpsc::channel(1);
    tokio::select! {
        ended = requests(from, asks, replies) => ended,
        ended = answers(to, receipts, statuses) => ended,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    asks: mpsc::Sender<Ask>,
    replies: mpsc::Sender<v1::Status>,
) -> Result<(), FrameError> {
    while let Some(request) = frame::read::<v1::ExecutorRequest>(&mut from).await? {
        let (answer, status) = oneshot::channel();
        let (ask, wants_status) = match request.request {
            Some(Request::Execute(signed)) => (Ask::Execute(signed), false),
            Some(Request::ReceiptAck(ack)) => (Ask::Acknowledge(ack.durable_number), false),
            Some(Request::Status(_)) => (Ask::Status(answer), true),
            // Of a later version; its sender goes without an answer.
            None => continue,
        };
        if asks.send(ask).await.is_err() {
            return Ok(());
        }
        if wants_status
            && let Ok(status) = status.await
            && replies.send(status).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

async fn answers(
    mut to: OwnedWriteHalf,
    mut receipts: watch::Receiver<Arc<Vec<v1::Receipt>>>,
    mut statuses: mpsc::Receiver<v1::Status>,
) -> Result<(), FrameError> {
    let mut sent_up_to = 0;
    loop {
        let waiting = Arc::clone(&receipts.borrow_and_update());
        for receipt in waiting.iter().filter(|receipt| receipt.number > sent_up_to) {
            let reply = v1::ExecutorReply { reply: Some(Reply::Receipt(receipt.clone())) };
            frame::write(&mut to, &reply).await?;
        }
        sent_up_to = waiting.last().map_or(sent_up_to, |receipt| receipt.number.max(sent_up_to));
        tokio::select! {
            changed = receipts.changed() => if changed.is_err() { return Ok(()) },
            status = statuses.recv() => match status {
                Some(status) => {
                    let reply = v1::ExecutorReply { reply: Some(Reply::Status(status)) };
                    frame::write(&mut to, &reply).await?;
                }
                None => return Ok(()),
            },
        }
    }
}
