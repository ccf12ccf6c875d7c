//! One agent's stream: batches up, acknowledgements and commands down.
//!
//! At most [`Shared::window`] batches are with the WAL at a time, and none is read from the wire while the buffer or
//! the responder's queue is full, or while the node sends more than its part: the agent's spool is where data waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use skep_runtime::clock::Clock;
use skep_wire::v1::{self, down, up};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::Status;

use super::admit::{Admitted, LARGE_BYTES, STOPPING, admit};
use super::arrival::Refused;
use super::asked::Asked;
use super::hole::{self, Missing, Word};
use super::inbox::Inbox;
use super::opener::Opener;
use super::pace::{self, Pace};
use super::publish::Slot;
use super::quarantine;
use super::registry::{Hole, Registry, SessionId, Tally};
use super::substitute;
use super::turn::{Offered, Turn};
use crate::buffer::Store;
use crate::respond::Ask;
use crate::wal::record::encode_envelope;
use crate::wal::{Arrival, Command, Outcome, StreamKey};

/// An agent that sends what cannot be stored is listened to again after this time: a node gone mad must not keep the
/// collector busy.
const REST_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// What every session shares.
#[derive(Debug)]
pub struct Shared {
    /// To the WAL's thread.
    pub wal: mpsc::Sender<Command>,
    /// Memory for rows.
    pub store: Arc<Store>,
    /// Places in the responder's queue.
    pub slots: Arc<Semaphore>,
    /// Nodes.
    pub registry: Arc<Registry>,
    /// Where batches go that cannot be stored.
    pub quarantine: PathBuf,
    /// Time.
    pub clock: Clock,
    /// Batches in flight for each agent.
    pub window: u32,
    /// Leave to open a large batch.
    pub large: Arc<Semaphore>,
    /// Opens it.
    pub opener: Opener,
    /// How fast batches are taken.
    pub pace: Arc<Pace>,
    /// To the responder.
    pub asks: mpsc::Sender<Ask>,
}

/// A batch with the WAL: what it adds to the node's figures, and the answer to come.
type InFlight = futures::future::BoxFuture<'static, (Pending, Option<Outcome>)>;

/// What is known of a batch while the WAL has it.
#[derive(Debug)]
struct Pending {
    seq: u64,
    rows: u64,
    /// It is no batch of the agent's: the agent is not told of it.
    own: bool,
}

/// One agent's stream.
pub struct Session {
    shared: Arc<Shared>,
    node: String,
    stream: String,
    id: SessionId,
    down: mpsc::Sender<Result<v1::Down, Status>>,
    in_flight: FuturesOrdered<InFlight>,
    /// The first and the last number of batches the agent said are gone; its next batch may follow them.
    gap: Option<(u64, u64)>,
    /// The number due, until the first batch has come.
    first_due: Option<u64>,
    /// What the hello says was acknowledged, and by whom.
    word: Word,
    /// The last number that is durable or with the WAL.
    submitted: u64,
    /// What the agent was asked and has not answered yet.
    asked: Asked,
    /// When its batches are taken.
    turn: Turn,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("node", &self.node).field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Why a session ends.
#[derive(Debug)]
enum End {
    /// The agent went.
    Gone,
    /// The agent must come back and resume where the next welcome says.
    Reset(String),
    /// The agent may not do what it did.
    Refused(Status),
    /// The agent goes to another collector.
    Left,
}

impl Session {
    /// Greets the agent.
    ///
    /// # Errors
    /// A status for the agent: the collector is stopping, or the hello makes no sense.
    pub async fn begin(
        shared: Arc<Shared>,
        hello: &v1::Hello,
        id: SessionId,
        down: mpsc::Sender<Result<v1::Down, Status>>,
    ) -> Result<Self, Status> {
        let word = Word::of(hello)?;
        let turn = Turn::begin(&shared, &hello.node).await?;
        let key = StreamKey { node: hello.node.clone(), stream: hello.stream.clone() };
        let (reply, answer) = oneshot::channel();
        let asked = shared.wal.send(Command::Offset(key, reply)).await.is_ok();
        let durable_seq = if asked { answer.await.ok() } else { None };
        let durable_seq = durable_seq.ok_or_else(|| Status::unavailable(STOPPING))?;
        if durable_seq == 0 && !shared.registry.may_begin(&hello.node, &hello.stream) {
            return Err(Status::resource_exhausted("the node begins new streams too often: later"));
        }
        let mut session = Self {
            node: hello.node.clone(),
            stream: hello.stream.clone(),
            id,
            down,
            in_flight: FuturesOrdered::new(),
            gap: None,
            first_due: Some(durable_seq + 1),
            word,
            submitted: durable_seq,
            asked: Asked::default(),
            turn,
            shared,
        };
        let welcome = v1::Welcome {
            durable_seq,
            collector_version: env!("CARGO_PKG_VERSION").to_owned(),
            wire_revision: skep_wire::WIRE_REVISION,
            window: session.shared.window,
        };
        session.say(down::Message::Welcome(welcome)).await;
        Ok(session)
    }

    /// Whether the last batches of this stream went to another collector.
    pub fn was_elsewhere(&self) -> bool {
        self.word.last_elsewhere() > self.submitted
    }

    /// Serves the stream until either side ends it. Returns whether the agent goes to another collector.
    pub async fn run(
        mut self,
        mut up: Inbox,
        mut orders: mpsc::Receiver<v1::Down>,
        mut stop: skep_runtime::shutdown::Token,
    ) -> bool {
        let end = loop {
            let may_read = !self.turn.holds() && self.in_flight.len() < self.shared.window as usize;
            tokio::select! {
                Some((pending, outcome)) = self.in_flight.next() => {
                    if let Some(end) = self.answer(pending, outcome).await {
                        break end;
                    }
                }
                order = orders.recv() => match order {
                    Some(order) => {
                        self.asked.note(&order);
                        if self.down.send(Ok(order)).await.is_err() {
                            break End::Gone;
                        }
                    }
                    None => break End::Reset("this node has a newer session".to_owned()),
                },
                message = up.message(), if may_read => match message {
                    Ok(Some(v1::Up { message: Some(message) })) => {
                        if let Some(end) = self.take(message).await {
                            break end;
                        }
                    }
                    // A message of a later revision.
                    Ok(Some(v1::Up { message: None })) => {}
                    Ok(None) => break End::Gone,
                    Err(status) => break self.broken(&up, status),
                },
                () = self.turn.due(), if self.turn.holds() => {
                    if let Some(end) = self.look_again().await {
                        break end;
                    }
                }
                () = stop.stopped() => break Self::stopping(),
            }
        };
        let left = matches!(end, End::Left);
        self.finish(end).await;
        left
    }

    /// Nothing more can be read.
    fn broken(&mut self, up: &Inbox, status: Status) -> End {
        tracing::info!(node = %self.node, status = %status.message(), "uplink broke");
        if let Some(bytes) = up.given_up() {
            self.turn.charge(bytes);
        }
        // An agent that is still there may learn why.
        End::Refused(status)
    }

    async fn finish(mut self, end: End) {
        // What is with the WAL is still answered: an acknowledgement saved is a batch not sent again.
        while let Some((pending, outcome)) = self.in_flight.next().await {
            if self.answer(pending, outcome).await.is_some() {
                break;
            }
        }
        match end {
            End::Gone | End::Left => {}
            End::Reset(reason) => self.say(down::Message::Reset(v1::Reset { reason })).await,
            End::Refused(status) => {
                let _gone = self.down.send(Err(status)).await.is_err();
            }
        }
    }

    /// Who this is, for the registry.
    pub fn identity(&self) -> (String, SessionId) {
        (self.node.clone(), self.id)
    }

    async fn take(&mut self, message: up::Message) -> Option<End> {
        let now_us = self.shared.clock.wall_us();
        match message {
            up::Message::Hello(_) => Some(End::Refused(Status::failed_precondition("a second hello on one stream"))),
            up::Message::Heartbeat(beat) => {
                self.shared.registry.seen(&self.node, now_us, Tally::default(), Some(beat.spooled_batches));
                None
            }
            up::Message::Gap(gap) => {
                if gap.to_seq > self.word.last_elsewhere() {
                    tracing::warn!(node = %self.node, from = gap.from_seq, to = gap.to_seq, reason = %gap.reason, "the agent had to drop batches");
                }
                let (from, to) = self.gap.unwrap_or((gap.from_seq, gap.to_seq));
                self.gap = Some((from.min(gap.from_seq), to.max(gap.to_seq)));
                None
            }
            up::Message::Leave(leave) => {
                tracing::info!(node = %self.node, reason = %leave.reason, "the node goes to another collector");
                Some(End::Left)
            }
            up::Message::ProbeAnswer(answer) => {
                self.answered(answer);
                None
            }
            up::Message::Batch(envelope) => self.offer(envelope, now_us).await,
        }
    }

    /// Passes a peer's word on, if it was asked for; it is not waited for room, since the answer is of no use later.
    fn answered(&mut self, answer: v1::ProbeAnswer) {
        let refused = match self.asked.take(&answer) {
            Ok(()) => {
                let ask = Ask::Answer { node: self.node.clone(), answer };
                self.shared.asks.try_send(ask).err().map(|_| "the responder has its hands full".to_owned())
            }
            Err(refused) => Some(refused.to_string()),
        };
        if let Some(reason) = refused
            && self.shared.registry.answer_refused(&self.node) == 1
        {
            tracing::warn!(node = %self.node, %reason, "an answer to a probe is refused; the next ones are only counted");
        }
    }

    /// Stores a batch, at once or when it is the node's turn.
    async fn offer(&mut self, envelope: v1::Envelope, now_us: i64) -> Option<End> {
        if envelope.node != self.node || envelope.stream != self.stream {
            let what = format!("a batch of node {} came from {}", envelope.node, self.node);
            tracing::error!(node = %self.node, claimed = %envelope.node, "{what}");
            return Some(End::Refused(Status::permission_denied(what)));
        }
        // One that came before is not opened.
        let is_repeat = envelope.seq <= self.submitted;
        let cost = if is_repeat { pace::cost_unopened(&envelope) } else { pace::cost(&envelope) };
        match self.turn.offer(envelope, cost) {
            Offered::Now(envelope) => self.store(envelope, now_us).await,
            Offered::Later => None,
            Offered::TooLarge => Some(End::Reset("the node sends more than its part, and waits".to_owned())),
        }
    }

    /// Stores the batch that waits, if it is its turn.
    async fn look_again(&mut self) -> Option<End> {
        let envelope = self.turn.look_again()?;
        self.store(envelope, self.shared.clock.wall_us()).await
    }

    /// Opens, checks and stores a batch whose turn it is.
    async fn store(&mut self, envelope: v1::Envelope, now_us: i64) -> Option<End> {
        if envelope.seq <= self.submitted {
            return self.repeat(envelope.seq).await;
        }
        // Of all agents' large batches one at a time, until it is in the buffer: it takes a hundred times the memory it
        // came in.
        let large = Arc::clone(&self.shared.large);
        let _alone = if envelope.payload_bytes < LARGE_BYTES { None } else { large.acquire_owned().await.ok() };
        let gap_from = match self.fill_hole(&envelope, now_us).await {
            Ok(gap_from) => gap_from,
            Err(end) => return Some(end),
        };
        let slot = match self.slot().await {
            Ok(slot) => slot,
            Err(end) => return Some(end),
        };
        let (envelope, admitted, slot) = match admit(&self.shared, &self.node, envelope, now_us).await {
            Ok((envelope, Ok(admitted))) => (envelope, admitted, slot),
            Err(why) => return Some(End::Reset(why.to_owned())),
            Ok((envelope, Err(refused))) => {
                // Who sent it rests for a while; the place is for others meanwhile.
                drop(slot);
                match self.substitute(envelope, &refused, now_us).await {
                    Ok(substitute) => substitute,
                    Err(end) => return Some(end),
                }
            }
        };
        let checked = &admitted.checked;
        if !checked.unknown_tables.is_empty() || checked.unknown_columns > 0 {
            tracing::debug!(node = %self.node, tables = ?checked.unknown_tables, columns = checked.unknown_columns,
                "a newer agent sends what this collector does not know");
        }
        self.submit(&envelope, gap_from, admitted, slot, false).await
    }

    /// Says again how far the stream is durable, without looking at the batch.
    async fn repeat(&mut self, seq: u64) -> Option<End> {
        self.first_due = None;
        let key = StreamKey { node: self.node.clone(), stream: self.stream.clone() };
        let (reply, answer) = oneshot::channel();
        // Behind what is with the WAL already, so that the answer comes when all of that is durable.
        if self.shared.wal.send(Command::Offset(key, reply)).await.is_err() {
            return Some(Self::stopping());
        }
        let pending = Pending { seq, rows: 0, own: false };
        self.in_flight.push_back(Box::pin(async move {
            (pending, answer.await.ok().map(|durable_seq| Outcome::Repeat { durable_seq }))
        }));
        None
    }

    /// The first number known to be gone before the batch.
    ///
    /// An agent resumes where the welcome says. What is missing before its first batch and was acknowledged here is lost,
    /// and the ledger says so, whatever else the agent declares of it: the agent let go of it in good faith. What another
    /// collector acknowledged is there.
    ///
    /// If more is missing and no gap is declared, the agent is sent back once; if it comes with the same again, it no
    /// longer has what this collector has lost, and waiting for it would be waiting for ever: the batch is taken.
    async fn fill_hole(&mut self, envelope: &v1::Envelope, now_us: i64) -> Result<u64, End> {
        let seq = envelope.seq;
        // A gap that ends further down says nothing of what is missing right before this batch.
        let declared = self.gap.take().filter(|(_, to)| to.saturating_add(1) >= seq).map(|(from, _)| from);
        let gap_from = declared.unwrap_or(seq);
        let Some(due) = self.first_due.take().filter(|due| *due < seq) else { return Ok(gap_from) };
        let lost = match self.word.judge(due, seq, gap_from) {
            Missing::Explained(lost) => lost,
            Missing::Unexplained(lost) if self.shared.registry.hole_again(&self.node, self.hole(due, seq)) => lost,
            Missing::Unexplained(_) => return Ok(gap_from),
        };
        let Some((_, last)) = lost.last().copied() else { return Ok(due) };
        tracing::error!(node = %self.node, batches = %hole::text(&lost), "batches that were acknowledged are gone");
        let row = substitute::lost(envelope, last, &lost, now_us);
        let row = row.map_err(|error| End::Reset(error.to_string()))?;
        let slot = self.slot().await?;
        let (row, admitted) = self.admit_own(row, now_us).await?;
        match self.submit(&row, due, admitted, slot, true).await {
            Some(end) => Err(end),
            None => Ok(last + 1),
        }
    }

    fn hole(&self, expected: u64, found: u64) -> Hole {
        Hole { stream: self.stream.clone(), expected, found }
    }

    /// Puts a batch that cannot be stored aside, and what is stored in its place in its place.
    async fn substitute(
        &mut self,
        bad: v1::Envelope,
        refused: &Refused,
        now_us: i64,
    ) -> Result<(v1::Envelope, Admitted, Slot), End> {
        let why = crate::error::chain(refused);
        let folder = self.shared.quarantine.clone();
        let (bad, kept) = tokio::task::spawn_blocking(move || {
            let kept = quarantine::keep_envelope(&folder, &bad);
            (bad, kept)
        })
        .await
        .map_err(|error| End::Reset(error.to_string()))?;
        let place = kept.map_or_else(|error| format!("could not be kept: {error}"), |p| p.display().to_string());
        tracing::error!(node = %self.node, seq = bad.seq, %why, kept = %place, "a batch cannot be stored");
        tokio::time::sleep(REST_AFTER_REFUSAL).await;
        let substitute = substitute::rejected(&bad, &why, now_us).map_err(|error| End::Reset(error.to_string()))?;
        let slot = self.slot().await?;
        let (substitute, admitted) = self.admit_own(substitute, now_us).await?;
        Ok((substitute, admitted, slot))
    }

    /// Gets room for what was made here in place of something else.
    fn admit_own(
        &self,
        envelope: v1::Envelope,
        now_us: i64,
    ) -> impl Future<Output = Result<(v1::Envelope, Admitted), End>> + use<> {
        let (shared, node) = (Arc::clone(&self.shared), self.node.clone());
        async move {
            match admit(&shared, &node, envelope, now_us).await {
                Ok((envelope, Ok(admitted))) => Ok((envelope, admitted)),
                Ok((_, Err(refused))) => Err(End::Reset(refused.to_string())),
                Err(why) => Err(End::Reset(why.to_owned())),
            }
        }
    }

    /// A place in the responder's queue, which a batch has before it has room: places come free as the responder works, and
    /// the responder itself waits for room. Room held while waiting for a place would be room it may never get.
    fn slot(&self) -> impl Future<Output = Result<Slot, End>> + use<> {
        let slots = Arc::clone(&self.shared.slots);
        async move { slots.acquire_owned().await.map_err(|_| Self::stopping()) }
    }

    fn stopping() -> End {
        End::Reset(STOPPING.to_owned())
    }

    /// Hands a batch to the WAL; `own` is what was not sent by the agent.
    async fn submit(
        &mut self,
        envelope: &v1::Envelope,
        gap_from: u64,
        Admitted { checked, room }: Admitted,
        slot: Slot,
        own: bool,
    ) -> Option<End> {
        let rows = checked.rows.iter().map(|(_, batch)| batch.num_rows() as u64).sum();
        let (reply, answer) = oneshot::channel();
        let arrival = Arrival {
            key: StreamKey { node: self.node.clone(), stream: self.stream.clone() },
            seq: envelope.seq,
            gap_from,
            entry: encode_envelope(envelope),
            rows: checked.rows,
            durable: checked.durable,
            room: Some(room),
            slot: Some(slot),
            reply,
        };
        if self.shared.wal.send(Command::Store(Box::new(arrival))).await.is_err() {
            return Some(Self::stopping());
        }
        self.submitted = envelope.seq;
        let pending = Pending { seq: envelope.seq, rows, own };
        self.in_flight.push_back(Box::pin(async move { (pending, answer.await.ok()) }));
        None
    }

    async fn answer(&mut self, pending: Pending, outcome: Option<Outcome>) -> Option<End> {
        let now_us = self.shared.clock.wall_us();
        let (durable_seq, tally) = match outcome {
            Some(Outcome::Stored { durable_seq }) => {
                (durable_seq, Tally { batches: 1, rows: pending.rows, repeats: 0 })
            }
            Some(Outcome::Repeat { durable_seq }) => (durable_seq, Tally { repeats: 1, ..Tally::default() }),
            Some(Outcome::Early { expected }) => {
                return Some(End::Reset(format!("batch {} came, {expected} is due", pending.seq)));
            }
            Some(Outcome::Refused { reason }) => return Some(End::Reset(reason)),
            None => return Some(Self::stopping()),
        };
        if pending.own {
            return None;
        }
        self.shared.registry.seen(&self.node, now_us, tally, None);
        self.say(down::Message::Ack(v1::Ack { stream: self.stream.clone(), durable_seq })).await;
        None
    }

    async fn say(&mut self, message: down::Message) {
        // An agent that is gone learns of it when it comes back.
        let _gone = self.down.send(Ok(v1::Down { message: Some(message) })).await.is_err();
    }
}
