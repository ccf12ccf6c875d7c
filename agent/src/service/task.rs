//! Gathers outcomes for a batch.
//!
//! A failure is not kept waiting; what is well may share a batch, and a sync of the disk, with what comes within a second.

use std::time::Duration;

use skep_checks::outcome::Outcome;
use skep_runtime::clock::Clock;
use skep_wire::v1;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::rows;
use crate::aggregate::gauges::Gauge;
use crate::spool::{Append, Request};

/// Outcomes that may wait for this task. Checks are late when it is full.
pub const QUEUE: usize = 64;

/// Gauges, of one outcome each, that may wait for the window's end. When it is full they are in `checks` only.
pub const GAUGES: usize = 1024;

/// How long what is well waits for company.
const COMPANY: Duration = Duration::from_secs(1);

/// Outcomes of one batch.
const MOST: usize = 256;

/// Brings outcomes to the spool.
#[derive(Debug)]
pub struct Services {
    /// From the checks.
    pub outcomes: mpsc::Receiver<Outcome>,
    /// Rows go here.
    pub spool: mpsc::Sender<Request>,
    /// Figures go here.
    pub gauges: mpsc::Sender<Vec<Gauge>>,
    /// The clock.
    pub clock: Clock,
}

impl Services {
    /// Runs until the checks have ended.
    pub async fn run(mut self) {
        while let Some(first) = self.outcomes.recv().await {
            let mut together = vec![first];
            let deadline = Instant::now() + COMPANY;
            while together.len() < MOST && together.last().is_some_and(|outcome| outcome.error.is_none()) {
                match timeout_at(deadline, self.outcomes.recv()).await {
                    Ok(Some(next)) => together.push(next),
                    Ok(None) | Err(_) => break,
                }
            }
            if self.send(&together).await.is_err() {
                return;
            }
        }
    }

    async fn send(&self, outcomes: &[Outcome]) -> Result<(), mpsc::error::SendError<Request>> {
        for outcome in outcomes {
            if self.gauges.try_send(rows::gauges(outcome)).is_err() {
                tracing::debug!(check = %outcome.check.name, "no room for its gauges in this window");
            }
        }
        let chunk = match rows::chunk(outcomes) {
            Ok(chunk) => chunk,
            Err(error) => {
                tracing::error!(%error, "rows of checks were refused");
                return Ok(());
            }
        };
        let sealed_us = self.clock.wall_us();
        let batch = v1::Batch { sealed_us, chunks: chunk.into_iter().collect(), deliveries: Vec::new() };
        let append = Append { batch, watched_until_us: None, receipt: None, mark: None, done: None };
        self.spool.send(Request::Append(append)).await
    }
}
