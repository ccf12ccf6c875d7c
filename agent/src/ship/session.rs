//! One connection, from hello to its end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use prost::Message;
use skep_runtime::clock::Clock;
use skep_runtime::shutdown::Token;
use skep_wire::v1::uplink_client::UplinkClient;
use skep_wire::v1::{self, down, up};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::spool::{Request, SpoolState};

/// Messages on their way into the connection.
const OUTGOING: usize = 8;

/// How long the collector may take to answer a hello.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// Sent when nothing else was.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// A collector that holds batches unacknowledged for this long has lost them or itself. Its disk may take seconds to
/// sync when others write; half a minute it does not take.
const ACK_TIMEOUT: Duration = Duration::from_secs(40);

/// In flight where the collector does not say.
const DEFAULT_WINDOW: usize = 16;

/// Most batches in flight whatever the collector says: they cannot be evicted while they are.
const MAX_WINDOW: usize = 64;

/// Most bytes in flight, past the first batch, for the same reason.
const MAX_FLIGHT_BYTES: u64 = 16 << 20;

/// Largest message either way: the largest payload and its envelope.
const MAX_MESSAGE_BYTES: usize = (skep_wire::envelope::MAX_PAYLOAD_BYTES as usize) + (1 << 20);

/// Why a session ended.
#[derive(Debug, Error)]
pub enum SessionEnd {
    /// The collector ended it, or the connection broke.
    #[error("the collector ended the session")]
    Status(#[source] Box<Status>),
    /// It closed the stream without a word.
    #[error("the collector closed the stream")]
    Closed,
    /// It asked for a fresh start.
    #[error("the collector asks to begin again: {reason}")]
    Reset {
        /// Its words.
        reason: String,
    },
    /// No welcome, or no acknowledgement, in time.
    #[error("the collector does not answer")]
    Silent,
    /// The stream is sent; another one waits.
    #[error("the next stream is to be sent")]
    NextStream,
    /// The spool's thread is gone: the agent is ending.
    #[error("the spool is gone")]
    SpoolGone,
    /// Told to stop, and all that could be sent was.
    #[error("stopping")]
    Stopped,
}

/// What a session needs of the rest of the agent.
#[derive(Debug, Clone)]
pub struct SessionContext {
    /// Where batches come from and acknowledgements go.
    pub spool: mpsc::Sender<Request>,
    /// Tells of new batches.
    pub spool_state: watch::Receiver<SpoolState>,
    /// Where commands go; when it is full the collector is told nothing and its command runs out of time.
    pub commands: mpsc::Sender<v1::SignedCommand>,
    /// When to stop; to be told after the last batch is in the spool.
    pub stop: Token,
    /// The clock.
    pub clock: Clock,
    /// How long to go on sending after the stop.
    pub linger: Duration,
}

/// The last acknowledgement of a stream, kept over sessions: a collector that has less now has lost it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledged {
    stream: String,
    seq: u64,
}

impl Acknowledged {
    /// What was acknowledged of `stream`; 0 for another stream than the last.
    fn of(&self, stream: &str) -> u64 {
        if self.stream == stream { self.seq } else { 0 }
    }

    fn note(&mut self, stream: &str, seq: u64) {
        let seq = seq.max(self.of(stream));
        stream.clone_into(&mut self.stream);
        self.seq = seq;
    }
}

/// What happened next.
enum Turn {
    Message(v1::Down),
    Stop,
    Beat,
    /// Something that the next look at everything takes care of.
    Other,
}

/// A session under way.
struct Session {
    context: SessionContext,
    stream: String,
    outgoing: mpsc::Sender<v1::Up>,
    incoming: Streaming<v1::Down>,
    window: usize,
    /// Highest number the collector has, or was told it will not get.
    acknowledged: u64,
    /// Highest number sent, or told to be missing.
    sent: u64,
    /// Numbers and sizes in flight.
    flight: VecDeque<(u64, u64)>,
    /// Read from the spool, to be sent.
    ready: VecDeque<v1::Up>,
    last_progress: Instant,
}

/// Sends the oldest stream that waits, until something ends the session.
///
/// `hello` holds all but the stream and what was acknowledged of it. `on_welcome` is told of the collector's version. A
/// collector that has not answered the hello when the stop comes has half of the linger left to do so.
pub async fn run(
    channel: Channel,
    mut hello: v1::Hello,
    context: SessionContext,
    acknowledged: &mut Acknowledged,
    on_welcome: impl FnOnce(&v1::Welcome),
) -> SessionEnd {
    let stream = context.spool_state.borrow().stream.clone();
    hello.stream.clone_from(&stream);
    hello.acknowledged_seq = acknowledged.of(&stream);
    let mut stop = context.stop.clone();
    let stopped = async {
        stop.stopped().await;
        tokio::time::sleep(context.linger / 2).await;
    };
    let greeted = tokio::select! {
        greeted = greet(channel, hello) => greeted,
        () = stopped => Err(SessionEnd::Stopped),
    };
    let Greeted { outgoing, incoming, welcome } = match greeted {
        Ok(greeted) => greeted,
        Err(end) => return end,
    };
    on_welcome(&welcome);
    let mut session = Session {
        context,
        stream,
        outgoing,
        incoming,
        window: window(welcome.window),
        acknowledged: welcome.durable_seq,
        sent: welcome.durable_seq,
        flight: VecDeque::new(),
        ready: VecDeque::new(),
        last_progress: Instant::now(),
    };
    let end = session.run().await;
    acknowledged.note(&session.stream, session.acknowledged);
    end
}

/// Both ways of a connection, and the collector's first word.
struct Greeted {
    outgoing: mpsc::Sender<v1::Up>,
    incoming: Streaming<v1::Down>,
    welcome: v1::Welcome,
}

async fn greet(channel: Channel, hello: v1::Hello) -> Result<Greeted, SessionEnd> {
    let mut client = UplinkClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (outgoing, receiver) = mpsc::channel(OUTGOING);
    if outgoing.send(v1::Up { message: Some(up::Message::Hello(hello)) }).await.is_err() {
        return Err(SessionEnd::Closed);
    }
    let call = client.uplink(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let mut incoming = match timeout(WELCOME_TIMEOUT, call).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(SessionEnd::Status(Box::new(status))),
        Err(_) => return Err(SessionEnd::Silent),
    };
    match timeout(WELCOME_TIMEOUT, incoming.message()).await {
        Ok(Ok(Some(v1::Down { message: Some(down::Message::Welcome(welcome)) }))) => {
            Ok(Greeted { outgoing, incoming, welcome })
        }
        Ok(Ok(Some(v1::Down { message: Some(down::Message::Reset(reset)) }))) => {
            Err(SessionEnd::Reset { reason: reset.reason })
        }
        Ok(Ok(_)) => Err(SessionEnd::Closed),
        Ok(Err(status)) => Err(SessionEnd::Status(Box::new(status))),
        Err(_) => Err(SessionEnd::Silent),
    }
}

fn window(said: u32) -> usize {
    match usize::try_from(said) {
        Ok(0) | Err(_) => DEFAULT_WINDOW,
        Ok(said) => said.min(MAX_WINDOW),
    }
}

impl Session {
    async fn run(&mut self) -> SessionEnd {
        match self.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn serve(&mut self) -> Result<Infallible, SessionEnd> {
        self.resume().await?;
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop_at: Option<Instant> = None;
        loop {
            self.refill().await?;
            if self.is_done() {
                if self.has_next_stream() {
                    return Err(SessionEnd::NextStream);
                }
                if stop_at.is_some() {
                    return Err(SessionEnd::Stopped);
                }
            }
            match self.turn(&mut beat, stop_at).await? {
                Turn::Message(message) => self.take(message).await?,
                Turn::Stop => stop_at = Some(Instant::now() + self.context.linger),
                Turn::Beat => {
                    if !self.flight.is_empty() && self.last_progress.elapsed() > ACK_TIMEOUT {
                        return Err(SessionEnd::Silent);
                    }
                    if self.ready.is_empty() {
                        self.ready.push_back(self.heartbeat());
                    }
                }
                Turn::Other => {}
            }
        }
    }

    /// Waits for the next thing to do. Acknowledgements come first: they make room.
    async fn turn(&mut self, beat: &mut Interval, stop_at: Option<Instant>) -> Result<Turn, SessionEnd> {
        tokio::select! {
            biased;
            message = self.incoming.message() => match message {
                Ok(Some(message)) => Ok(Turn::Message(message)),
                Ok(None) => Err(SessionEnd::Closed),
                Err(status) => Err(SessionEnd::Status(Box::new(status))),
            },
            permit = self.outgoing.reserve(), if !self.ready.is_empty() => match (permit, self.ready.pop_front()) {
                (Ok(permit), Some(message)) => {
                    permit.send(message);
                    Ok(Turn::Other)
                }
                (Ok(_), None) => Ok(Turn::Other),
                (Err(_), _) => Err(SessionEnd::Closed),
            },
            changed = self.context.spool_state.changed() => match changed {
                Ok(()) => Ok(Turn::Other),
                Err(_) => Err(SessionEnd::SpoolGone),
            },
            () = self.context.stop.stopped(), if stop_at.is_none() => Ok(Turn::Stop),
            () = until(stop_at) => Err(SessionEnd::Stopped),
            _ = beat.tick() => Ok(Turn::Beat),
        }
    }

    /// Lets the spool know what the collector has.
    async fn resume(&mut self) -> Result<(), SessionEnd> {
        let (done, agrees) = oneshot::channel();
        let request =
            Request::Acknowledge { stream: self.stream.clone(), durable_seq: self.acknowledged, done: Some(done) };
        self.context.spool.send(request).await.map_err(|_| SessionEnd::SpoolGone)?;
        match agrees.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(SessionEnd::NextStream),
            Err(_) => Err(SessionEnd::SpoolGone),
        }
    }

    /// Reads batches from the spool as far as the window allows.
    async fn refill(&mut self) -> Result<(), SessionEnd> {
        let state = self.context.spool_state.borrow_and_update().clone();
        let in_flight_bytes: u64 = self.flight.iter().map(|(_, bytes)| bytes).sum();
        let room = self.window.saturating_sub(self.flight.len());
        let more = state.stream == self.stream && state.ready > self.sent;
        let bytes = MAX_FLIGHT_BYTES.saturating_sub(in_flight_bytes);
        if !more || room == 0 || !self.ready.is_empty() || bytes == 0 {
            return Ok(());
        }
        let (reply, batches) = oneshot::channel();
        let request =
            Request::Read { stream: self.stream.clone(), after: self.sent, count: room.min(OUTGOING), bytes, reply };
        self.context.spool.send(request).await.map_err(|_| SessionEnd::SpoolGone)?;
        for envelope in batches.await.map_err(|_| SessionEnd::SpoolGone)? {
            if envelope.seq > self.sent + 1 {
                self.ready.push_back(self.gap(self.sent + 1, envelope.seq - 1));
            }
            if self.flight.is_empty() {
                self.last_progress = Instant::now();
            }
            self.sent = envelope.seq;
            self.flight.push_back((envelope.seq, envelope.encoded_len() as u64));
            self.ready.push_back(v1::Up { message: Some(up::Message::Batch(envelope)) });
        }
        Ok(())
    }

    async fn take(&mut self, message: v1::Down) -> Result<(), SessionEnd> {
        match message.message {
            Some(down::Message::Ack(ack)) if ack.stream == self.stream => {
                if ack.durable_seq > self.acknowledged {
                    self.acknowledged = ack.durable_seq;
                    self.flight.retain(|(seq, _)| *seq > ack.durable_seq);
                    self.last_progress = Instant::now();
                    let request = Request::Acknowledge { stream: ack.stream, durable_seq: ack.durable_seq, done: None };
                    self.context.spool.send(request).await.map_err(|_| SessionEnd::SpoolGone)?;
                }
            }
            Some(down::Message::Command(command)) => {
                if self.context.commands.try_send(command).is_err() {
                    tracing::error!("a command is dropped: the relay has its hands full");
                }
            }
            Some(down::Message::Reset(reset)) => return Err(SessionEnd::Reset { reason: reset.reason }),
            // A second welcome, an acknowledgement of another stream, a message of a later revision.
            _ => tracing::debug!("a message is passed over"),
        }
        Ok(())
    }

    /// Whether the collector has everything that is ready.
    fn is_done(&self) -> bool {
        let state = self.context.spool_state.borrow();
        let more = state.stream == self.stream && state.ready > self.sent;
        self.flight.is_empty() && self.ready.is_empty() && !more
    }

    fn has_next_stream(&self) -> bool {
        let state = self.context.spool_state.borrow();
        state.stream != self.stream && !state.stream.is_empty()
    }

    fn gap(&self, from_seq: u64, to_seq: u64) -> v1::Up {
        let reason = "dropped by the spool; the ledger says what was lost".to_owned();
        let gap = v1::Gap { stream: self.stream.clone(), from_seq, to_seq, reason };
        v1::Up { message: Some(up::Message::Gap(gap)) }
    }

    fn heartbeat(&self) -> v1::Up {
        let state = self.context.spool_state.borrow();
        let heartbeat = v1::Heartbeat {
            sent_us: self.context.clock.wall_us(),
            spooled_batches: state.batches,
            spooled_bytes: state.bytes,
        };
        v1::Up { message: Some(up::Message::Heartbeat(heartbeat)) }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_wiped_collector_once_acknowledged_is_not_forgotten() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.note("s", 7);
        acknowledged.note("s", 0);
        assert_eq!((acknowledged.of("s"), acknowledged.of("t")), (7, 0));
        acknowledged.note("t", 2);
        assert_eq!((acknowledged.of("s"), acknowledged.of("t")), (0, 2));
    }
}
