//! Asks a running executor for its status.

use std::io;
use std::path::{Path, PathBuf};

use skep_wire::frame::{self, FrameError};
use skep_wire::v1::{self, executor_reply::Reply, executor_request::Request};
use thiserror::Error;
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens, or this user may not connect.
    #[error("cannot reach an executor at {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke.
    #[error("the executor gave no status")]
    Frame(#[from] FrameError),
    /// It hung up: this user may not ask.
    #[error("the executor hung up without an answer: only root and the users in its configuration may ask")]
    HungUp,
}

/// Asks for the status.
///
/// # Errors
/// [`AskError`].
pub async fn status(path: &Path) -> Result<v1::Status, AskError> {
    let stream = UnixStream::connect(path).await;
    let mut stream = stream.map_err(|source| AskError::Connect { path: path.to_owned(), source })?;
    let request = v1::ExecutorRequest { request: Some(Request::Status(v1::StatusRequest {})) };
    frame::write(&mut stream, &request).await?;
    while let Some(reply) = frame::read::<v1::ExecutorReply>(&mut stream).await? {
        if let Some(Reply::Status(status)) = reply.reply {
            return Ok(status);
        }
    }
    Err(AskError::HungUp)
}
