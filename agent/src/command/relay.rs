//! The task between collector and executor.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message;
use skep_runtime::backoff::Backoff;
use skep_runtime::clock::Clock;
use skep_runtime::shutdown::Token;
use skep_wire::frame::{self, FrameError};
use skep_wire::v1::{self, executor_reply, executor_request};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::rows::{self, Change};
use crate::spool::{Append, ReceiptMark, Request};

/// Commands that may wait for the executor. More than that many at once is a fault of the collector's.
pub const QUEUE: usize = 64;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How often commands are looked through for those whose time is over.
const EXPIRY_TICK: Duration = Duration::from_secs(1);

/// What a command fails with that came when [`QUEUE`] others had no answer.
const TOO_MANY: &str = "too many commands wait for the executor";

/// Why an exchange with the executor ended.
#[derive(Debug, Error)]
enum LinkEnd {
    #[error("no word with the executor")]
    Frame(#[from] FrameError),
    #[error("the executor closed the connection")]
    Closed,
    #[error("stopping")]
    Stopped,
    #[error("the spool is gone")]
    SpoolGone,
}

/// The relay.
#[derive(Debug)]
pub struct Relay {
    /// The executor's socket; `None` on a node without one.
    pub socket: Option<PathBuf>,
    /// This node.
    pub node: String,
    /// From the collector.
    pub commands: mpsc::Receiver<v1::SignedCommand>,
    /// Rows go here.
    pub spool: mpsc::Sender<Request>,
    /// The newest receipt that is in a batch.
    pub receipt: Option<ReceiptMark>,
    /// When to stop.
    pub stop: Token,
    /// The clock.
    pub clock: Clock,
    /// Not answered yet.
    pub unanswered: Unanswered,
}

/// Commands without a receipt, by their id; at most [`QUEUE`].
#[derive(Debug, Default)]
pub struct Unanswered(BTreeMap<String, Kept>);

#[derive(Debug)]
struct Kept {
    signed: v1::SignedCommand,
    /// What it says.
    command: v1::Command,
    /// It was written to the executor's socket. It is not written again: the executor takes a command once.
    passed_on: bool,
}

/// Why a command is not kept.
#[derive(Debug, PartialEq)]
enum Unkept {
    /// It cannot be read, so nobody would ever know which receipt answers it or when its time is over.
    Unreadable,
    /// As many as may wait do already.
    TooMany(Box<v1::Command>),
}

impl Unanswered {
    fn keep(&mut self, signed: v1::SignedCommand, passed_on: bool) -> Result<(), Unkept> {
        let command = v1::Command::decode(signed.command.as_slice()).map_err(|_| Unkept::Unreadable)?;
        if self.0.len() >= QUEUE && !self.0.contains_key(&command.id) {
            return Err(Unkept::TooMany(Box::new(command)));
        }
        self.0.insert(command.id.clone(), Kept { signed, command, passed_on });
        Ok(())
    }

    /// A receipt answers its own command, and commands to undo its action.
    fn answer(&mut self, receipt: &v1::Receipt) {
        let own = receipt.command.as_ref().map_or(&receipt.action_id, |command| &command.id);
        self.0.remove(own);
        let undone = |kept: &Kept| match &kept.command.action {
            Some(v1::command::Action::Undo(undo)) => undo.action_id == receipt.action_id,
            _ => false,
        };
        let extended = |kept: &Kept| match &kept.command.action {
            Some(v1::command::Action::Extend(extend)) => extend.action_id == receipt.action_id,
            _ => false,
        };
        if receipt.step() == v1::Step::Extended {
            self.0.retain(|_, kept| !extended(kept));
        }
        if matches!(
            receipt.step(),
            v1::Step::Undone | v1::Step::Failed | v1::Step::Refused | v1::Step::Moot | v1::Step::Done
        ) {
            self.0.retain(|_, kept| !undone(kept));
        }
    }

    /// Removes the commands whose time is over.
    fn take_late(&mut self, now_us: i64) -> Vec<v1::Command> {
        let late = |kept: &Kept| kept.command.not_after_us < now_us;
        self.0.extract_if(.., |_, kept| late(kept)).map(|(_, kept)| kept.command).collect()
    }
}

impl Relay {
    /// Runs until told to stop.
    pub async fn run(mut self) {
        let Some(socket) = self.socket.clone() else { return self.run_alone().await };
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut told = false;
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => {
                    tracing::info!(socket = %socket.display(), "connected to the executor");
                    backoff.reset();
                    told = false;
                    match self.exchange(stream).await {
                        LinkEnd::Stopped | LinkEnd::SpoolGone => return,
                        end @ (LinkEnd::Frame(_) | LinkEnd::Closed) => tracing::warn!("{}", crate::error::chain(&end)),
                    }
                }
                Err(error) if !told => {
                    told = true;
                    tracing::warn!("{}: the executor is not reachable: {error}", socket.display());
                }
                Err(error) => tracing::debug!("{}: {error}", socket.display()),
            }
            if self.wait(backoff.next_wait()).await.is_err() {
                return;
            }
        }
    }

    /// On a node without an executor every command fails, and says so.
    async fn run_alone(mut self) {
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(signed) => {
                        let command = v1::Command::decode(signed.command.as_slice()).ok();
                        if self.fail(command.as_ref(), "no executor on this node").await.is_err() {
                            return;
                        }
                    }
                    None => return,
                },
                () = self.stop.stopped() => return,
            }
        }
    }

    /// Between two connections: takes commands in and lets the late ones fail.
    async fn wait(&mut self, wait: Duration) -> Result<(), LinkEnd> {
        let pause = tokio::time::sleep(wait);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                command = self.commands.recv() => match command {
                    Some(signed) => self.hold(signed).await?,
                    None => return Err(LinkEnd::Stopped),
                },
                () = self.stop.stopped() => return Err(LinkEnd::Stopped),
            }
        }
        self.fail_late().await
    }

    /// Takes a command in while there is no connection.
    async fn hold(&mut self, signed: v1::SignedCommand) -> Result<(), LinkEnd> {
        match self.unanswered.keep(signed, false) {
            Ok(()) => Ok(()),
            Err(Unkept::Unreadable) => self.fail(None, "the command cannot be read").await,
            Err(Unkept::TooMany(command)) => self.fail(Some(&command), TOO_MANY).await,
        }
    }

    /// Hands a command to the executor, which refuses what cannot be read.
    async fn pass_on(&mut self, writer: &mut OwnedWriteHalf, signed: v1::SignedCommand) -> Result<(), LinkEnd> {
        match self.unanswered.keep(signed.clone(), true) {
            Ok(()) | Err(Unkept::Unreadable) => send(writer, executor_request::Request::Execute(signed)).await,
            Err(Unkept::TooMany(command)) => self.fail(Some(&command), TOO_MANY).await,
        }
    }

    /// One connection.
    async fn exchange(&mut self, stream: UnixStream) -> LinkEnd {
        let (mut reader, mut writer) = stream.into_split();
        let (incoming, mut replies) = mpsc::channel::<Result<Option<v1::ExecutorReply>, FrameError>>(QUEUE);
        // A read must not be cancelled midway, so it has a future of its own that lives as long as the connection.
        let read = async move {
            loop {
                let reply = frame::read(&mut reader).await;
                let end = !matches!(reply, Ok(Some(_)));
                if incoming.send(reply).await.is_err() || end {
                    return;
                }
            }
        };
        let serve = async {
            match self.serve(&mut writer, &mut replies).await {
                Ok(()) => LinkEnd::Stopped,
                Err(end) => end,
            }
        };
        tokio::pin!(serve);
        tokio::select! {
            end = &mut serve => end,
            () = read => serve.await,
        }
    }

    async fn serve(
        &mut self,
        writer: &mut OwnedWriteHalf,
        replies: &mut mpsc::Receiver<Result<Option<v1::ExecutorReply>, FrameError>>,
    ) -> Result<(), LinkEnd> {
        let status = executor_request::Request::Status(v1::StatusRequest {});
        send(writer, status).await?;
        for kept in self.unanswered.0.values_mut().filter(|kept| !kept.passed_on) {
            kept.passed_on = true;
            send(writer, executor_request::Request::Execute(kept.signed.clone())).await?;
        }
        let mut tick = interval(EXPIRY_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                reply = replies.recv() => match reply {
                    Some(Ok(Some(reply))) => self.take(writer, reply).await?,
                    Some(Ok(None)) | None => return Err(LinkEnd::Closed),
                    Some(Err(error)) => return Err(error.into()),
                },
                command = self.commands.recv() => match command {
                    Some(signed) => self.pass_on(writer, signed).await?,
                    None => return Ok(()),
                },
                _ = tick.tick() => self.fail_late().await?,
                () = self.stop.stopped() => return Ok(()),
            }
        }
    }

    async fn take(&mut self, writer: &mut OwnedWriteHalf, reply: v1::ExecutorReply) -> Result<(), LinkEnd> {
        match reply.reply {
            Some(executor_reply::Reply::Receipt(receipt)) => {
                let number = receipt.number;
                self.seal_receipt(&receipt).await?;
                send(writer, executor_request::Request::ReceiptAck(v1::ReceiptAck { durable_number: number })).await
            }
            Some(executor_reply::Reply::Status(status)) => {
                let active = status.active.len();
                tracing::info!(version = %status.version, dry_run = status.dry_run, active, "the executor is there");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A receipt becomes rows, once: the executor sends it again until it is acknowledged.
    async fn seal_receipt(&mut self, receipt: &v1::Receipt) -> Result<(), LinkEnd> {
        self.unanswered.answer(receipt);
        let says = receipt.journal_us != 0;
        let time_us = if says { receipt.journal_us } else { receipt.time_us };
        let mark = ReceiptMark { time_us, number: receipt.number };
        let is_told = |last: ReceiptMark| match says {
            // The time of a receipt says nothing of its place: clocks are set.
            true => mark <= last,
            // A journal begun anew counts from one again, but at a later time.
            false => mark.number <= last.number && mark.time_us <= last.time_us,
        };
        if self.receipt.is_some_and(is_told) {
            return Ok(());
        }
        match Change::of_receipt(receipt, &self.node) {
            Some(change) => self.seal(&[change], Some(mark)).await?,
            None => tracing::error!(step = receipt.step, "a receipt of an unknown step is passed over"),
        }
        self.receipt = Some(mark);
        Ok(())
    }

    async fn fail_late(&mut self) -> Result<(), LinkEnd> {
        for command in self.unanswered.take_late(self.clock.wall_us()) {
            self.fail(Some(&command), "the executor did not answer before the command expired").await?;
        }
        Ok(())
    }

    async fn fail(&self, command: Option<&v1::Command>, detail: &str) -> Result<(), LinkEnd> {
        let change = Change {
            time_us: self.clock.wall_us(),
            action_id: command.map_or("", |command| &command.id),
            state: "failed",
            actor: "agent",
            detail,
            command,
            dry_run: false,
            lease_until_us: None,
            node: &self.node,
        };
        tracing::warn!(action = change.action_id, "{detail}");
        self.seal(&[change], None).await
    }

    async fn seal(&self, changes: &[Change<'_>], receipt: Option<ReceiptMark>) -> Result<(), LinkEnd> {
        let chunks = match rows::chunks(changes) {
            Ok(chunks) => chunks,
            Err(error) => {
                tracing::error!(error = %error, "an outcome cannot be told");
                return Ok(());
            }
        };
        let (done, durable) = oneshot::channel();
        let batch = v1::Batch { sealed_us: self.clock.wall_us(), chunks, deliveries: Vec::new() };
        let append = Append { batch, watched_until_us: None, receipt, mark: None, done: Some(done) };
        self.spool.send(Request::Append(append)).await.map_err(|_| LinkEnd::SpoolGone)?;
        durable.await.map_err(|_| LinkEnd::SpoolGone)
    }
}

async fn send(writer: &mut OwnedWriteHalf, request: executor_request::Request) -> Result<(), LinkEnd> {
    Ok(frame::write(writer, &v1::ExecutorRequest { request: Some(request) }).await?)
}

#[cfg(test)]
#[path = "tests/relay.rs"]
mod tests;
