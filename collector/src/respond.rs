//! The one task that owns the [`Responder`]: batches, operators and the clock go in; rows go to the WAL, steps to the audit
//! chain, then commands to the nodes.
//!
//! It is also the only writer of the collector's own stream, so its numbers are contiguous.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skep_alerts::report::Report;
use skep_audit::{Book, BookError, Record};
use skep_rules::load::Loaded;
use skep_runtime::clock::Clock;
use skep_wire::envelope::{self, Origin};
use skep_wire::v1::{self, down};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::alert::task::Word;
use crate::buffer::Store;
use crate::decide::Refusal;
use crate::folder::write_whole;
use crate::ingest::arrival;
use crate::ingest::publish::Observed;
use crate::ingest::registry::Registry;
use crate::response::{Outgoing, Output, Responder};
use crate::wal::record::encode_envelope;
use crate::wal::{Arrival, Command, Outcome, StreamKey};

/// How often the responder looks at the clock.
const TICK: Duration = Duration::from_secs(1);

/// A wall clock that moved by more was set.
const STEP_US: i64 = 500_000;

/// How long to wait before storing again what could not be stored.
const RETRY: Duration = Duration::from_secs(1);

/// How often what was learned of the series is written down.
const WRITE_DOWN: Duration = Duration::from_secs(300);

/// What the task is asked besides batches.
#[derive(Debug)]
pub enum Ask {
    /// A node's session began.
    Connected {
        /// Which.
        node: String,
        /// Its kernel's boot.
        boot: String,
        /// Another collector has what came before.
        elsewhere: bool,
    },
    /// A node's session ended.
    Disconnected {
        /// Which.
        node: String,
        /// For another collector: it is not to be missed here.
        left: bool,
    },
    /// An operator's word on an action.
    Operator {
        /// The word.
        request: v1::ActRequest,
        /// Whose.
        name: String,
        /// The answer.
        reply: oneshot::Sender<Result<v1::ActReply, Refusal>>,
    },
    /// A node says what it sees of another's service.
    Answer {
        /// Which node.
        node: String,
        /// What it says.
        answer: v1::ProbeAnswer,
    },
    /// The cluster answers.
    Cluster {
        /// Which it is.
        identity: String,
    },
    /// What became of an action on the cluster.
    Receipt {
        /// The receipt.
        receipt: Box<v1::Receipt>,
        /// Answered once it is stored.
        stored: oneshot::Sender<()>,
    },
    /// Rows the collector itself has to say.
    Record(Vec<v1::Chunk>),
    /// Other rules to judge by.
    Rules(Box<Loaded>),
}

/// The collector's own stream.
#[derive(Debug)]
pub struct OwnStream {
    /// Node and stream.
    pub key: StreamKey,
    /// Last number stored.
    pub last: u64,
    /// To the WAL's thread.
    pub wal: mpsc::Sender<Command>,
    /// Memory for rows.
    pub store: Arc<Store>,
    /// Time, which nobody sets: what is decided is timed by it, and these rows are stamped with it.
    pub clock: Clock,
}

/// The task's state.
#[derive(Debug)]
pub struct Respond {
    /// Decides.
    pub responder: Responder,
    /// Stores.
    pub own: OwnStream,
    /// The wall clock, which administrators set; commands follow it.
    pub wall: Clock,
    /// The audit chain.
    pub audit: Book,
    /// The way down.
    pub registry: Arc<Registry>,
    /// Where what was learned goes: of the series, and of what workloads usually do.
    pub learned: (PathBuf, PathBuf),
    /// Where what goes on by the policy goes.
    pub under_way: PathBuf,
    /// Who hears of findings, where anybody does.
    pub reports: Option<mpsc::Sender<Word>>,
    /// What the ledger has to hear before all else, and who waits for that.
    pub first: Option<(v1::Chunk, oneshot::Sender<()>)>,
}

/// The WAL takes nothing more.
#[derive(Debug)]
struct Stopping;

impl Respond {
    /// Serves until `finish`, when no session is left and no batch is on its way; then looks at the batches that are
    /// still there.
    pub async fn run(
        mut self,
        mut batches: mpsc::Receiver<Observed>,
        mut asks: mpsc::Receiver<Ask>,
        finish: Arc<Notify>,
    ) {
        if let Some((rows, entered)) = self.first.take() {
            if self.own.store_all(vec![rows]).await.is_err() {
                return;
            }
            // Who waits no longer goes on without.
            let _gone = entered.send(()).is_err();
        }
        self.report_standing().await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let first = tokio::time::Instant::now() + WRITE_DOWN;
        let mut write_down = tokio::time::interval_at(first, WRITE_DOWN);
        write_down.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let handled = tokio::select! {
                Some(batch) = batches.recv() => self.observe(batch).await,
                Some(ask) = asks.recv() => self.serve(ask).await,
                () = finish.notified() => break,
                _ = write_down.tick() => {
                    self.write_down().await;
                    Ok(())
                }
                _ = tick.tick() => {
                    let now_us = self.now();
                    let output = self.responder.tick(now_us);
                    self.carry_out(output).await
                }
            };
            if handled.is_err() {
                return;
            }
        }
        while let Ok(batch) = batches.try_recv() {
            if self.observe(batch).await.is_err() {
                return;
            }
        }
        let rest = self.responder.rest();
        if self.carry_out(rest).await.is_err() {
            return;
        }
        self.write_down().await;
    }

    /// Without it nothing is wrong but that it is learned anew after a restart.
    async fn write_down(&self) {
        let (series, habits) = self.learned.clone();
        for (path, learned) in [(series, self.responder.learned()), (habits, self.responder.habits())] {
            match tokio::task::spawn_blocking(move || write_whole(&path, &learned)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "what was learned could not be written down"),
                Err(error) => tracing::warn!(%error, "what was learned was not written down"),
            }
        }
    }

    async fn observe(&mut self, Observed { durable, slot }: Observed) -> Result<(), Stopping> {
        let now_us = self.now();
        let output = self.responder.observe(&durable.origin, &durable.batch, now_us);
        drop(slot);
        self.carry_out(output).await
    }

    async fn serve(&mut self, ask: Ask) -> Result<(), Stopping> {
        let now_us = self.now();
        match ask {
            Ask::Connected { node, boot, elsewhere } => {
                if elsewhere {
                    self.responder.was_elsewhere(&node);
                }
                let output = self.responder.connected(&node, &boot, now_us);
                self.carry_out(output).await
            }
            Ask::Disconnected { node, left } => {
                self.responder.disconnected(&node, left);
                Ok(())
            }
            Ask::Answer { node, answer } => {
                let output = self.responder.answered(&node, &answer, now_us);
                self.carry_out(output).await
            }
            Ask::Cluster { identity } => {
                let output = self.responder.cluster_connected(&identity, now_us);
                self.carry_out(output).await
            }
            Ask::Receipt { receipt, stored } => {
                let output = self.responder.cluster_said(&receipt, now_us);
                self.carry_out(output).await?;
                // Who does not hear of it says it again.
                let _gone = stored.send(()).is_err();
                Ok(())
            }
            Ask::Record(chunks) => self.own.store_all(chunks).await,
            Ask::Rules(mut loaded) => {
                let output = self.responder.reload(&mut loaded, now_us);
                self.carry_out(output).await
            }
            Ask::Operator { request, name, reply } => {
                let answer = match self.responder.operator(&request, &name, now_us) {
                    Ok((answer, output)) => {
                        self.carry_out(output).await?;
                        Ok(answer)
                    }
                    Err(refusal) => Err(refusal),
                };
                // An operator who went away reads the outcome in the tables.
                let _gone = reply.send(answer).is_err();
                Ok(())
            }
        }
    }

    /// Rows and steps first, commands when those are durable.
    async fn carry_out(&mut self, output: Output) -> Result<(), Stopping> {
        let mut todo = vec![output];
        while let Some(Output { chunks, records, commands, probes, reports }) = todo.pop() {
            self.own.store_all(chunks).await?;
            self.chain(records).await?;
            self.keep();
            self.report(reports).await;
            for (node, probe) in probes {
                let id = probe.id.clone();
                let message = v1::Down { message: Some(down::Message::Probe(probe)) };
                if let Err(error) = self.registry.send(&node, message) {
                    let detail = format!("it was not asked: {error}");
                    let answer = v1::ProbeAnswer { id, sight: v1::Sight::Unknown.into(), detail };
                    let now_us = self.now();
                    todo.push(self.responder.answered(&node, &answer, now_us));
                }
            }
            for Outgoing { node, action, undo, command } in commands {
                let message = v1::Down { message: Some(down::Message::Command(command)) };
                if let Err(error) = self.registry.send(&node, message) {
                    tracing::warn!(%node, %action, %error, "a command could not be delivered");
                    let now_us = self.now();
                    let consequence = self.responder.undeliverable(&action, undo, now_us);
                    // A command that answers an undeliverable one would go round for ever.
                    todo.push(Output { commands: Vec::new(), ..consequence });
                }
            }
        }
        Ok(())
    }

    /// Without it a restart begins with what the rows say: budgets hold, open ladders end.
    fn keep(&mut self) {
        let kept = match self.responder.under_way() {
            Ok(None) => return,
            Ok(Some(kept)) => tokio::task::block_in_place(|| write_whole(&self.under_way, &kept)),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "what goes on by the policy could not be written down");
        }
    }

    /// Appends to the audit chain, however long it takes.
    async fn chain(&mut self, mut records: Vec<Record>) -> Result<(), Stopping> {
        let policy = self.responder.policy_version();
        for record in &mut records {
            record.facts.insert("policy".to_owned(), policy.to_owned());
        }
        loop {
            let now_us = self.now();
            match tokio::task::block_in_place(|| self.audit.append(records.clone(), now_us)) {
                Ok(()) => return Ok(()),
                Err(error @ BookError::Io { .. }) => {
                    tracing::error!(error = %crate::error::chain(&error), "a step is not in the audit chain yet");
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => {
                    tracing::error!(error = %crate::error::chain(&error), "nothing more is decided");
                    return Err(Stopping);
                }
            }
        }
    }

    async fn report(&self, told: Vec<Report>) {
        let Some(reports) = &self.reports else { return };
        for report in told {
            // The other end is gone only while stopping.
            let _stopping = reports.send(Word::Report(report)).await.is_err();
        }
    }

    /// What stands since before this start: some of it may not have been told, and the end of some neither.
    async fn report_standing(&self) {
        let Some(reports) = &self.reports else { return };
        let standing = self.responder.standing();
        let keys = standing.iter().map(|report| report.key.clone()).collect();
        self.report(standing).await;
        let _stopping = reports.send(Word::Incidents { keys }).await.is_err();
    }

    /// What decisions are timed by; what comes of them may be a command, so the wall clock is looked at as well.
    fn now(&mut self) -> i64 {
        let moved_us = self.wall.reanchor();
        if moved_us.abs() > STEP_US {
            tracing::warn!(moved_us, "the wall clock was set; rows of the collector's own keep the time of its start");
        }
        let now_us = self.own.clock.wall_us();
        self.responder.wall_is_ahead(self.wall.wall_us() - now_us);
        now_us
    }
}

impl OwnStream {
    async fn store_all(&mut self, chunks: Vec<v1::Chunk>) -> Result<(), Stopping> {
        for chunks in by_distinct_tables(chunks) {
            self.store(chunks).await?;
        }
        Ok(())
    }

    /// Stores one batch, however long it takes.
    async fn store(&mut self, chunks: Vec<v1::Chunk>) -> Result<(), Stopping> {
        let now_us = self.clock.wall_us();
        let seq = self.last + 1;
        let origin = Origin { node: self.key.node.clone(), boot: String::new(), stream: self.key.stream.clone(), seq };
        let batch = v1::Batch { sealed_us: now_us, chunks, deliveries: Vec::new() };
        let envelope = match envelope::seal(origin, &batch) {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(error = %crate::error::chain(&error), "own rows do not seal and are not stored");
                return Ok(());
            }
        };
        loop {
            let checked = match arrival::check(&envelope, now_us) {
                Ok(checked) => checked,
                Err(error) => {
                    tracing::error!(error = %crate::error::chain(&error), "own rows do not check and are not stored");
                    return Ok(());
                }
            };
            let room = self.store.room(None, checked.row_bytes()).await.ok_or(Stopping)?;
            let (reply, answer) = oneshot::channel();
            let arrival = Arrival {
                key: self.key.clone(),
                seq,
                gap_from: seq,
                entry: encode_envelope(&envelope),
                rows: checked.rows,
                durable: checked.durable,
                room: Some(room),
                slot: None,
                reply,
            };
            self.wal.send(Command::Store(Box::new(arrival))).await.map_err(|_| Stopping)?;
            match answer.await.map_err(|_| Stopping)? {
                Outcome::Stored { .. } | Outcome::Repeat { .. } => {
                    self.last = seq;
                    return Ok(());
                }
                Outcome::Early { expected } => {
                    tracing::error!(seq, expected, "own numbers do not follow");
                    return Err(Stopping);
                }
                Outcome::Refused { .. } => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

/// A batch holds one chunk a table at most.
fn by_distinct_tables(chunks: Vec<v1::Chunk>) -> Vec<Vec<v1::Chunk>> {
    let mut batches: Vec<Vec<v1::Chunk>> = Vec::new();
    for chunk in chunks {
        match batches.iter_mut().find(|batch| batch.iter().all(|other| other.table != chunk.table)) {
            Some(batch) => batch.push(chunk),
            None => batches.push(vec![chunk]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_has_a_table_twice() {
        let chunk = |table: &str| v1::Chunk { table: table.to_owned(), ..Default::default() };
        let batches = by_distinct_tables(vec![chunk("audit"), chunk("actions"), chunk("audit")]);
        let names: Vec<Vec<_>> = batches.iter().map(|b| b.iter().map(|c| c.table.as_str()).collect()).collect();
        assert_eq!(names, [vec!["audit", "actions"], vec!["audit"]]);
    }
}
