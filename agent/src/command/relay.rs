//! The task between collector and executor.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message;
use skep_runtime::backoff::Backoff;
use skep_runtime::clock::Clock;
use skep_runtime::shutdown::Token;
use skep_wire::v1::{self, executor_reply, executor_request};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::frame::{self, FrameError};
use super::rows::{self, Change, acted_on};
use crate::spool::{Append, ReceiptMark, Request};

/// Commands that may wait for the executor. More than that many at once is a fault of the collector's.
pub const QUEUE: usize = 64;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How often commands are looked through for those whose time is over.
const EXPIRY_TICK: Duration = Duration::from_secs(1);

/// Why an exchange with the executor ended.
#[derive(Debug, Error)]
enum LinkEnd {
    #[error(transparent)]
    Frame(#[from] FrameError),
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
    /// Passed on or to be passed on, and not answered yet, by action.
    pub unanswered: BTreeMap<String, v1::SignedCommand>,
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
                        LinkEnd::Frame(error) => tracing::warn!("{}", crate::error::chain(&error)),
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
                    Some(command) => if self.fail(&command, "no executor on this node").await.is_err() { return },
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
                    Some(command) => self.keep(command),
                    None => return Err(LinkEnd::Stopped),
                },
                () = self.stop.stopped() => return Err(LinkEnd::Stopped),
            }
        }
        self.fail_late().await
    }

    /// One connection. What was asked before and not answered is asked again: the executor knows what it has done.
    async fn exchange(&mut self, stream: UnixStream) -> LinkEnd {
        let (mut reader, mut writer) = stream.into_split();
        let (incoming, mut replies) = mpsc::channel::<Result<v1::ExecutorReply, FrameError>>(QUEUE);
        // A read must not be cancelled midway, so it has a future of its own that lives as long as the connection.
        let read = async move {
            loop {
                let reply = frame::read(&mut reader).await;
                let end = reply.is_err();
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
        replies: &mut mpsc::Receiver<Result<v1::ExecutorReply, FrameError>>,
    ) -> Result<(), LinkEnd> {
        let status = executor_request::Request::Status(v1::StatusRequest {});
        send(writer, status).await?;
        for command in self.unanswered.values() {
            send(writer, executor_request::Request::Execute(command.clone())).await?;
        }
        let mut tick = interval(EXPIRY_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                reply = replies.recv() => match reply {
                    Some(Ok(reply)) => self.take(writer, reply).await?,
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(FrameError::Closed.into()),
                },
                command = self.commands.recv() => match command {
                    Some(command) => {
                        self.keep(command.clone());
                        send(writer, executor_request::Request::Execute(command)).await?;
                    }
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
        let answered = receipt.command.as_ref().map_or(&receipt.action_id, |command| &command.id);
        self.unanswered.remove(answered);
        let mark = ReceiptMark { time_us: receipt.time_us, number: receipt.number };
        // A journal begun anew counts from one again, but at a later time.
        if self.receipt.is_some_and(|last| mark.number <= last.number && mark.time_us <= last.time_us) {
            return Ok(());
        }
        match Change::of_receipt(receipt, &self.node) {
            Some(change) => self.seal(&[change], Some(mark)).await?,
            None => tracing::error!(step = receipt.step, "a receipt of an unknown step is passed over"),
        }
        self.receipt = Some(mark);
        Ok(())
    }

    fn keep(&mut self, command: v1::SignedCommand) {
        let id = decode(&command).map_or_else(|| crate::spool::record::hex(&command.signature), |command| command.id);
        self.unanswered.insert(id, command);
    }

    async fn fail_late(&mut self) -> Result<(), LinkEnd> {
        let now_us = self.clock.wall_us();
        // What cannot be read has no time, and the executor refuses it as soon as it is there.
        let late: Vec<String> = self
            .unanswered
            .iter()
            .filter(|(_, signed)| decode(signed).is_some_and(|command| command.not_after_us < now_us))
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            if let Some(command) = self.unanswered.remove(&id) {
                self.fail(&command, "the executor did not answer before the command expired").await?;
            }
        }
        Ok(())
    }

    async fn fail(&self, signed: &v1::SignedCommand, detail: &str) -> Result<(), LinkEnd> {
        let command = decode(signed);
        let id = command.as_ref().map_or("", |command| command.id.as_str());
        let change = Change {
            time_us: self.clock.wall_us(),
            action_id: acted_on(id, command.as_ref()),
            state: "failed",
            actor: "agent",
            detail,
            command: command.as_ref(),
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
        let append = Append { batch, watched_until_us: None, receipt, done: Some(done) };
        self.spool.send(Request::Append(append)).await.map_err(|_| LinkEnd::SpoolGone)?;
        durable.await.map_err(|_| LinkEnd::SpoolGone)
    }
}

async fn send(writer: &mut OwnedWriteHalf, request: executor_request::Request) -> Result<(), LinkEnd> {
    Ok(frame::write(writer, &v1::ExecutorRequest { request: Some(request) }).await?)
}

fn decode(signed: &v1::SignedCommand) -> Option<v1::Command> {
    v1::Command::decode(signed.command.as_slice()).ok()
}

#[cfg(test)]
#[path = "tests/relay.rs"]
mod tests;
