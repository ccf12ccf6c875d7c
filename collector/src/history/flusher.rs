//! When sealed segments become files: on time, when the buffer fills, on request, and at the end; and when that failed,
//! again and again until it works. What comes in meanwhile waits in the WAL, and once the buffer is full, at the agents.

use std::sync::Arc;
use std::time::Duration;

use skep_runtime::backoff::Backoff;
use skep_seglog::SegmentId;
use skep_wire::v1;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::flush::{Flushed, flush};
use super::tables::History;
use crate::buffer::Store;
use crate::wal::Command;

/// Who asks for a flush gets what it did, or why it failed, in one line.
pub type Request = oneshot::Sender<Result<v1::FlushReply, String>>;

/// Shortest time between two flushes that nobody asked for.
const REST: Duration = Duration::from_secs(1);

/// Time between two attempts when flushes fail.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_AT_MOST: Duration = Duration::from_secs(30);

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
        let mut trouble = Trouble::none();
        loop {
            let request = tokio::select! {
                _ = tick.tick() => None,
                () = trouble.next_attempt() => None,
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
            trouble.note(done.as_ref().err());
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
            return Err(crate::error::chain(&error));
        }
        let (reply, removed) = oneshot::channel();
        self.wal.send(Command::Remove(active, reply)).await.map_err(|_| stopping())?;
        removed.await.map_err(|_| stopping())?;
        Ok(v1::FlushReply { rows: rows as u64, files: files as u64 })
    }
}

/// Flushes that fail one after the other: told at the first and when one works again.
#[derive(Debug)]
struct Trouble {
    backoff: Backoff,
    since: Option<Instant>,
    failures: u64,
    again: Option<Instant>,
}

impl Trouble {
    fn none() -> Self {
        Self { backoff: Backoff::new(AGAIN_AFTER, AGAIN_AFTER_AT_MOST), since: None, failures: 0, again: None }
    }

    /// Returns when a flush is due because one failed; never while none does.
    async fn next_attempt(&self) {
        match self.again {
            Some(again) => tokio::time::sleep_until(again).await,
            None => std::future::pending().await,
        }
    }

    fn note(&mut self, failed: Option<&String>) {
        match failed {
            Some(reason) => {
                if self.since.is_none() {
                    tracing::error!(%reason, "rows cannot be written to Parquet for now; they are safe in the WAL, and tried again");
                } else {
                    tracing::debug!(%reason, failures = self.failures, "rows cannot be written to Parquet yet");
                }
                self.since = self.since.or_else(|| Some(Instant::now()));
                self.failures += 1;
                self.again = Some(Instant::now() + self.backoff.next_wait());
            }
            None => {
                if let Some(since) = self.since {
                    let seconds = since.elapsed().as_secs();
                    tracing::info!(
                        failures = self.failures,
                        seconds,
                        "rows are written to Parquet again; none is lost"
                    );
                }
                *self = Self::none();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flush_that_failed_is_due_again_later_and_later_until_one_works() {
        let mut trouble = Trouble::none();
        let mut waited = Vec::new();
        for _ in 0..8 {
            trouble.note(Some(&"no answer".to_owned()));
            let before = Instant::now();
            trouble.next_attempt().await;
            waited.push(before.elapsed());
        }
        assert!(waited[0] <= AGAIN_AFTER && waited[7] > AGAIN_AFTER_AT_MOST / 3, "{waited:?}");
        assert!(waited.iter().all(|wait| *wait <= AGAIN_AFTER_AT_MOST + Duration::from_millis(2)), "{waited:?}");
        assert_eq!(trouble.failures, 8);
        trouble.note(None);
        assert!(tokio::time::timeout(Duration::from_secs(9999), trouble.next_attempt()).await.is_err());
    }
}
