//! When sealed segments become files: on time, when the buffer fills, on request, and at the end.

use std::sync::Arc;
use std::time::Duration;

use skep_seglog::SegmentId;
use skep_wire::v1;
use tokio::sync::{Notify, mpsc, oneshot};

use super::flush::{Flushed, flush};
use super::table::History;
use crate::buffer::Store;
use crate::wal::Command;

/// Who asks for a flush gets what it did, or why it failed, in one line.
pub type Request = oneshot::Sender<Result<v1::FlushReply, String>>;

/// Shortest time between two flushes that nobody asked for.
const REST: Duration = Duration::from_secs(1);

/// The flusher's state.
#[derive(Debug)]
pub struct Flusher {
    /// To the WAL's thread.
    pub wal: mpsc::Sender<Command>,
    /// What is to be written.
    pub store: Arc<Store>,
    /// Where to.
    pub history: Arc<History>,
    /// Longest time between two flushes.
    pub interval: Duration,
}

impl Flusher {
    /// Flushes until `requests` is closed.
    pub async fn run(&self, due: Arc<Notify>, mut requests: mpsc::Receiver<Request>) {
        let mut tick = tokio::time::interval(self.interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let request = tokio::select! {
                _ = tick.tick() => None,
                () = due.notified() => {
                    tokio::time::sleep(REST).await;
                    None
                }
                request = requests.recv() => match request {
                    Some(request) => Some(request),
                    None => return,
                },
            };
            let done = self.flush().await;
            if let Some(request) = request {
                // Whoever asked and went away reads the files.
                let _gone = request.send(done).is_err();
            }
        }
    }

    /// Writes everything in memory to Parquet; returns when it is there and its WAL segments are gone.
    ///
    /// # Errors
    /// One line. Nothing is lost: the rows are in the WAL and stay in memory, and the next flush tries again.
    pub async fn flush(&self) -> Result<v1::FlushReply, String> {
        let stopping = || "the collector is stopping".to_owned();
        let (reply, answer) = oneshot::channel();
        self.wal.send(Command::Seal(reply)).await.map_err(|_| stopping())?;
        let active: SegmentId = answer.await.map_err(|_| stopping())?;
        let (store, history) = (Arc::clone(&self.store), Arc::clone(&self.history));
        let task = tokio::task::spawn_blocking(move || flush(&store, &history)).await;
        let (Flushed { rows, files }, result) = task.map_err(|error| error.to_string())?;
        if files > 0 {
            tracing::debug!(rows, files, "flushed");
        }
        if let Err(error) = result {
            let reason = crate::error::chain(&error);
            tracing::error!(%reason, "rows cannot be written to Parquet for now; they are safe in the WAL");
            return Err(reason);
        }
        let (reply, removed) = oneshot::channel();
        self.wal.send(Command::Remove(active, reply)).await.map_err(|_| stopping())?;
        removed.await.map_err(|_| stopping())?;
        Ok(v1::FlushReply { rows: rows as u64, files: files as u64 })
    }
}
