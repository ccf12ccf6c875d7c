//! The one task that owns the desk: reports and the clock go in, notices go to the queue on disk.

use std::path::PathBuf;
use std::time::Duration;

use skep_alerts::deliver::Outbox;
use skep_alerts::desk::Desk;
use skep_alerts::report::{Notice, Report};
use skep_alerts::rule::key_prefix;
use skep_runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::alert::report;
use crate::folder::write_whole;

/// Reports that may wait for this task; who reports waits when it is full.
pub const QUEUE: usize = 1024;

/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(250);

/// What the task is told.
#[derive(Debug)]
pub enum Word {
    /// Something is wrong, or is over.
    Report(Report),
    /// A rule was asked.
    Standing {
        /// Which.
        rule: String,
        /// All that it found and that may stand: what it found before the last start and is not here is over.
        keys: Vec<String>,
    },
    /// The incidents that are not over, at a start: what else is told as one is over.
    Incidents {
        /// Their keys.
        keys: Vec<String>,
    },
}

/// The task's state.
#[derive(Debug)]
pub struct Alerting {
    /// Groups, holds back, repeats.
    pub desk: Desk,
    /// Where notices go.
    pub outbox: Outbox,
    /// What is reported.
    pub words: mpsc::Receiver<Word>,
    /// Where it is written down who was told of what.
    pub state: PathBuf,
    /// The clock.
    pub clock: Clock,
}

impl Alerting {
    /// Takes up what was told before this start. What does not read is let be, and told again where it stands.
    pub fn take_up(&mut self) {
        match std::fs::read(&self.state) {
            Ok(bytes) => {
                if let Err(error) = self.desk.take_up(&bytes) {
                    tracing::error!(file = %self.state.display(), %error, "who was told of what does not read");
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(file = %self.state.display(), %error, "who was told of what cannot be read");
            }
        }
    }

    /// Runs until nobody reports any more.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed = false;
        loop {
            tokio::select! {
                word = self.words.recv() => {
                    let now_us = self.clock.wall_us();
                    changed |= match word {
                        Some(Word::Report(report)) => {
                            self.desk.take(&report, now_us);
                            true
                        }
                        Some(Word::Incidents { keys }) => self.desk.settle(report::INCIDENTS, &keys, now_us),
                        Some(Word::Standing { rule, keys }) => self.desk.settle(&key_prefix(&rule), &keys, now_us),
                        None => break,
                    };
                }
                _ = tick.tick() => {
                    let notices = self.desk.tick(self.clock.wall_us());
                    changed |= !notices.is_empty();
                    if std::mem::take(&mut changed) {
                        self.keep(notices).await;
                    }
                }
            }
        }
        let notices = self.desk.tick(self.clock.wall_us());
        self.keep(notices).await;
    }

    /// Notices first: one that was told twice is better than one that never was.
    async fn keep(&mut self, notices: Vec<Notice>) {
        let dropped = self.desk.take_dropped();
        if dropped > 0 {
            tracing::error!(reports = dropped, "more is wrong than can be told; these reports are not");
        }
        let (outbox, path, state) = (self.outbox.clone(), self.state.clone(), self.desk.to_bytes());
        let kept = tokio::task::spawn_blocking(move || {
            if let Err(error) = outbox.push(&notices) {
                tracing::error!(error = %crate::error::chain(&error), "alerts are lost");
            }
            write_whole(&path, &state)
        });
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "who was told of what could not be written down"),
            Err(error) => tracing::warn!(%error, "who was told of what was not written down"),
        }
    }
}
