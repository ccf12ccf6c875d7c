//! One connection, from hello to its end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use skep_checks::peer::Looker;
use skep_runtime::clock::Clock;
use skep_runtime::shutdown::Token;
use skep_wire::v1::{self, down, up};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::acknowledged::Acknowledged;
use super::greet::{Greeted, OUTGOING, greet, window};
use super::look::Looks;
use crate::spool::{Request, SpoolState};

/// Sent when nothing else was.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// A collector that holds batches unacknowledged for this long has lost them or itself. Its disk may take seconds to
/// sync when others write; half a minute it does not take.
const ACK_TIMEOUT: Duration = Duration::from_secs(40);

/// How long what is in flight may take when the agent goes to another collector; and how long the old one may take to
/// hear of it.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(2);

/// A session that lasted this long was of use, though there was nothing to send.
const LASTING: Duration = Duration::from_secs(60);

/// Most bytes in flight, past the first batch: what is in flight cannot be evicted.
const MAX_FLIGHT_BYTES: u64 = 16 << 20;

/// Gaps of a session that are remembered for later hellos.
const MAX_GAPS: usize = 64;

/// Messages that wait to be sent; an answer that would be one more is dropped.
const MAX_READY: usize = 256;

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
    /// Another collector is to be gone on with.
    #[error("another collector is gone on with")]
    Left,
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
    /// Looks at services of other nodes.
    pub looker: Arc<Looker>,
}

/// What happened next.
enum Turn {
    Message(v1::Down),
    Stop,
    Leave,
    Beat,
    Answer(v1::ProbeAnswer),
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
    /// Highest number that any collector acknowledged before.
    known: u64,
    /// Numbers after those that nobody was sent.
    gaps: Vec<(u64, u64)>,
    /// Highest number sent, or not to be sent.
    sent: u64,
    /// Highest number that the collector has, was sent, or was told to be missing.
    told: u64,
    /// Numbers and sizes in flight.
    flight: VecDeque<(u64, u64)>,
    /// Read from the spool, to be sent.
    ready: VecDeque<v1::Up>,
    looks: Looks,
    last_progress: Instant,
}

/// How a session went.
#[derive(Debug)]
pub struct Ended {
    /// Why it ended.
    pub end: SessionEnd,
    /// Whether the collector acknowledged something, or would have.
    pub served: bool,
}

/// The collector called, and what is known of it.
#[derive(Debug)]
pub struct Callee<'a> {
    /// An open connection to it.
    pub channel: Channel,
    /// Its place in the agent's list.
    pub place: usize,
    /// What was acknowledged so far.
    pub acknowledged: &'a mut Acknowledged,
    /// When to go to another collector, after what is in flight.
    pub leave: oneshot::Receiver<()>,
}

/// Sends the oldest stream that waits, until something ends the session.
///
/// `hello` holds all but the stream and what was acknowledged of it. `on_welcome` is told of the collector's version. A
/// collector that has not answered the hello when the stop comes has half of the linger left to do so.
pub async fn run(
    callee: Callee<'_>,
    mut hello: v1::Hello,
    context: SessionContext,
    on_welcome: impl FnOnce(&v1::Welcome),
) -> Ended {
    let Callee { channel, place, acknowledged, mut leave } = callee;
    let stream = context.spool_state.borrow().stream.clone();
    hello.stream.clone_from(&stream);
    hello.acknowledged_seq = acknowledged.here(&stream, place);
    hello.elsewhere = acknowledged.elsewhere(&stream, place);
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
        Err(end) => return Ended { end, served: false },
    };
    on_welcome(&welcome);
    let began = Instant::now();
    let known = acknowledged.last(&stream);
    // One that lost what it had gets whatever is still there.
    let lacks = acknowledged.here(&stream, place) > welcome.durable_seq;
    let looks = Looks::new(Arc::clone(&context.looker));
    let mut session = Session {
        context,
        outgoing,
        incoming,
        window: window(welcome.window),
        acknowledged: welcome.durable_seq,
        known,
        gaps: Vec::new(),
        sent: if lacks { welcome.durable_seq } else { welcome.durable_seq.max(known) },
        told: welcome.durable_seq,
        flight: VecDeque::new(),
        ready: VecDeque::new(),
        looks,
        last_progress: Instant::now(),
        stream,
    };
    let end = session.run(&mut leave).await;
    session.note_in(acknowledged, place);
    let served = session.acknowledged > welcome.durable_seq || began.elapsed() > LASTING;
    if matches!(end, SessionEnd::Left) {
        session.farewell().await;
    }
    Ended { end, served }
}

impl Session {
    async fn run(&mut self, leave: &mut oneshot::Receiver<()>) -> SessionEnd {
        match self.serve(leave).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn serve(&mut self, leave: &mut oneshot::Receiver<()>) -> Result<Infallible, SessionEnd> {
        self.resume().await?;
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop_at: Option<Instant> = None;
        let mut leave_at: Option<Instant> = None;
        loop {
            if let Some(leave_at) = leave_at {
                if self.is_idle() || Instant::now() >= leave_at {
                    return Err(SessionEnd::Left);
                }
            } else {
                self.refill().await?;
            }
            if self.is_done() {
                if self.has_next_stream() {
                    return Err(SessionEnd::NextStream);
                }
                if stop_at.is_some() {
                    return Err(SessionEnd::Stopped);
                }
            }
            let turn = tokio::select! {
                biased;
                Ok(()) = &mut *leave, if leave_at.is_none() && stop_at.is_none() => Turn::Leave,
                turn = self.turn(&mut beat, stop_at) => turn?,
            };
            match turn {
                Turn::Message(message) => self.take(message).await?,
                Turn::Leave => leave_at = Some(Instant::now() + LEAVE_WITHIN),
                Turn::Stop => stop_at = Some(Instant::now() + self.context.linger),
                Turn::Beat => {
                    if !self.flight.is_empty() && self.last_progress.elapsed() > ACK_TIMEOUT {
                        return Err(SessionEnd::Silent);
                    }
                    if self.ready.is_empty() {
                        self.ready.push_back(self.heartbeat());
                    }
                }
                Turn::Answer(answer) => self.answer(answer),
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
            answer = self.looks.next() => Ok(Turn::Answer(answer)),
            changed = self.context.spool_state.changed() => match changed {
                Ok(()) => Ok(Turn::Other),
                Err(_) => Err(SessionEnd::SpoolGone),
            },
            () = self.context.stop.stopped(), if stop_at.is_none() => Ok(Turn::Stop),
            () = until(stop_at) => Err(SessionEnd::Stopped),
            _ = beat.tick() => Ok(Turn::Beat),
        }
    }

    /// Lets the spool know what the collector has, or others have.
    async fn resume(&mut self) -> Result<(), SessionEnd> {
        let (done, agrees) = oneshot::channel();
        let request = Request::Acknowledge { stream: self.stream.clone(), durable_seq: self.sent, done: Some(done) };
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
            self.note_missing(envelope.seq);
            if self.flight.is_empty() {
                self.last_progress = Instant::now();
            }
            (self.sent, self.told) = (envelope.seq, envelope.seq);
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
            Some(down::Message::Probe(probe)) => self.looks.begin(probe),
            Some(down::Message::Reset(reset)) => return Err(SessionEnd::Reset { reason: reset.reason }),
            // A second welcome, an acknowledgement of another stream, a message of a later revision.
            _ => tracing::debug!("a message is passed over"),
        }
        Ok(())
    }

    fn answer(&mut self, answer: v1::ProbeAnswer) {
        if self.ready.len() < MAX_READY {
            self.ready.push_back(v1::Up { message: Some(up::Message::ProbeAnswer(answer)) });
        } else {
            tracing::warn!("an answer is dropped: the collector does not read what is sent to it");
        }
    }

    /// Whether nothing is on its way.
    fn is_idle(&self) -> bool {
        self.flight.is_empty() && self.ready.is_empty()
    }

    /// Whether the collector has everything that is ready.
    fn is_done(&self) -> bool {
        let state = self.context.spool_state.borrow();
        let more = state.stream == self.stream && state.ready > self.sent;
        self.is_idle() && !more
    }

    fn has_next_stream(&self) -> bool {
        let state = self.context.spool_state.borrow();
        state.stream != self.stream && !state.stream.is_empty()
    }

    /// Declares the numbers before `seq` that the spool does not have and the collector does not know of.
    fn note_missing(&mut self, seq: u64) {
        let (from, to) = (self.told + 1, seq - 1);
        let acknowledged = (from, to.min(self.known), "acknowledged before");
        let dropped = (from.max(self.known + 1), to, "dropped by the spool; the ledger says what was lost");
        if dropped.0 <= dropped.1 && self.gaps.len() < MAX_GAPS {
            self.gaps.push((dropped.0, dropped.1));
        }
        for (from_seq, to_seq, reason) in [acknowledged, dropped] {
            if from_seq <= to_seq {
                let gap = v1::Gap { stream: self.stream.clone(), from_seq, to_seq, reason: reason.to_owned() };
                self.ready.push_back(v1::Up { message: Some(up::Message::Gap(gap)) });
            }
        }
    }

    /// Remembers what the collector has now.
    fn note_in(&self, acknowledged: &mut Acknowledged, place: usize) {
        for (from, to) in self.gaps.iter().filter(|(_, to)| *to < self.acknowledged) {
            acknowledged.note(&self.stream, Some(place), from - 1);
            acknowledged.note(&self.stream, None, *to);
        }
        acknowledged.note(&self.stream, Some(place), self.acknowledged);
    }

    /// Tells the collector not to wait for this node, and lets it hang up.
    async fn farewell(self) {
        let Self { outgoing, mut incoming, .. } = self;
        let leave = v1::Leave { reason: "a collector it prefers can be reached again".to_owned() };
        let told = async {
            if outgoing.send(v1::Up { message: Some(up::Message::Leave(leave)) }).await.is_ok() {
                drop(outgoing);
                while let Ok(Some(_)) = incoming.message().await {}
            }
        };
        if timeout(FAREWELL, told).await.is_err() {
            tracing::debug!("the collector that is left does not hang up");
        }
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
