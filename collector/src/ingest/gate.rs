//! Large messages are let in as there is room for them.
//!
//! A message is whole in memory before it can be looked at, and many agents may send large ones at once, slowly or for
//! ever. Here the frames of a call are read before gRPC sees them: a large message must be a batch, and not the first of
//! its call, and nothing of it is read further before there is room for all of it; meanwhile HTTP/2 holds its sender back.
//! Who has room and does not fill it while others wait loses it.
//!
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message"; Protocol Buffers, "Encoding".

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use http::Request;
use http_body::{Body as _, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tower::util::MapRequestLayer;

/// Messages of more bytes need room; an agent may have one smaller message here whatever the others do.
pub const LARGE_BYTES: usize = 256 << 10;

/// Whoever has room for a message while others wait must have sent it after this time.
const WHOLE_WITHIN: Duration = Duration::from_secs(15);

/// Before a message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// The field of a batch in what goes up, and its length, which takes five bytes at most.
const BATCH_KEY: u8 = 0x12;
const FIELD_BYTES: usize = 6;

/// Room for the large messages of all agents.
#[derive(Debug)]
pub struct Gate {
    bytes: usize,
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// What comes up in one call. Clones are the same call.
#[derive(Debug, Clone)]
pub struct Gated(Arc<Mutex<Call>>);

struct Call {
    gate: Arc<Gate>,
    body: Body,
    /// What came and was not handed on.
    rest: Bytes,
    step: Step,
    /// Nothing was handed on: what comes is the hello, and who sends it is not known to the others yet.
    is_first: bool,
    /// Of the large message that comes in, or came in last.
    room: Option<OwnedSemaphorePermit>,
    /// What the message had room for that was given up on.
    given_up: Option<usize>,
}

enum Step {
    /// The beginning of the next message.
    Head(BytesMut),
    /// A large one has come so far, and waits for room.
    Wait { head: Bytes, left: usize, room: BoxFuture<'static, Option<OwnedSemaphorePermit>> },
    /// So much of it is still to come; by then, if it is large.
    Message { left: usize, until: Option<Pin<Box<Sleep>>> },
}

impl Gate {
    /// Room for so many bytes, which are more than those of any message.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, room: Arc::new(Semaphore::new(bytes)), waiting: AtomicUsize::new(0) })
    }

    /// A call whose large messages wait here.
    pub fn pass(self: &Arc<Self>, body: Body) -> Gated {
        Gated(Arc::new(Mutex::new(Call {
            gate: Arc::clone(self),
            body,
            rest: Bytes::new(),
            step: Step::Head(BytesMut::new()),
            is_first: true,
            room: None,
            given_up: None,
        })))
    }

    async fn room(self: Arc<Self>, bytes: u32) -> Option<OwnedSemaphorePermit> {
        let _waiting = Waiting::among(&self.waiting);
        Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()
    }
}

/// Lets the calls of a service through the gate; each finds itself among its extensions.
pub fn layer(gate: Arc<Gate>) -> MapRequestLayer<impl Fn(Request<Body>) -> Request<Body> + Clone> {
    MapRequestLayer::new(move |request: Request<Body>| {
        let (mut parts, body) = request.into_parts();
        let call = gate.pass(body);
        parts.extensions.insert(call.clone());
        Request::from_parts(parts, Body::new(call))
    })
}

/// Counts one who waits for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(all)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gated {
    /// Whether the message that came last is large: there is room for it until more is read.
    pub fn holds_room(&self) -> bool {
        self.lock().room.is_some()
    }

    /// The bytes of the message that did not come while others waited.
    pub fn given_up(&self) -> Option<usize> {
        self.lock().given_up
    }

    fn lock(&self) -> MutexGuard<'_, Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("room", &self.room).finish_non_exhaustive()
    }
}

impl http_body::Body for Gated {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.lock().poll_frame(cx)
    }
}

impl Call {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Step::Head(_) = self.step {
            // Whoever reads on is done with the message before.
            self.room = None;
        }
        loop {
            if let Step::Wait { head, left, room } = &mut self.step {
                self.room = ready!(room.as_mut().poll(cx));
                let head = std::mem::take(head);
                let until = Some(Box::pin(tokio::time::sleep(WHOLE_WITHIN)));
                self.step = Step::Message { left: *left, until };
                return Poll::Ready(Some(Ok(Frame::data(head))));
            }
            if self.rest.is_empty() {
                let frame = match self.body_frame(cx)? {
                    Poll::Ready(frame) => frame,
                    Poll::Pending => return self.poll_late(cx),
                };
                match frame.map(Frame::into_data) {
                    Some(Ok(data)) => self.rest = data,
                    Some(Err(other)) => return Poll::Ready(Some(Ok(other))),
                    None => return Poll::Ready(self.last_words()),
                }
            }
            if let Some(data) = self.advance()? {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn body_frame(&mut self, cx: &mut Context<'_>) -> Result<Poll<Option<Frame<Bytes>>>, Status> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => frame.transpose().map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Nothing came: whether that is so for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Step::Message { until: Some(until), .. } = &mut self.step else { return Poll::Pending };
        while until.as_mut().poll(cx).is_ready() {
            if self.gate.waiting.load(Ordering::Relaxed) == 0 {
                until.set(tokio::time::sleep(WHOLE_WITHIN));
                continue;
            }
            let bytes = self.room.take().map_or(0, |room| room.num_permits());
            self.given_up = Some(bytes);
            let what = format!("a message of {bytes} bytes did not come within {WHOLE_WITHIN:?} while others waited");
            return Poll::Ready(Some(Err(Status::resource_exhausted(what))));
        }
        Poll::Pending
    }

    /// The call ended; in the middle of a message it is gRPC's to say so.
    fn last_words(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        let Step::Head(head) = &mut self.step else { return None };
        let head = std::mem::take(head);
        (!head.is_empty()).then(|| Ok(Frame::data(head.freeze())))
    }

    /// Looks at what came, and hands on what may be handed on.
    fn advance(&mut self) -> Result<Option<Bytes>, Status> {
        match &mut self.step {
            Step::Wait { .. } => Ok(None),
            Step::Message { left, .. } => {
                let data = self.rest.split_to(self.rest.len().min(*left));
                *left -= data.len();
                if *left == 0 {
                    self.step = Step::Head(BytesMut::new());
                }
                Ok(Some(data))
            }
            Step::Head(head) => {
                fill(head, &mut self.rest, HEAD_BYTES);
                let Some(length) = length(head) else { return Ok(None) };
                if length > LARGE_BYTES && length <= self.gate.bytes {
                    if self.is_first {
                        let what = format!("the first message must be a hello; this one has {length} bytes");
                        return Err(Status::failed_precondition(what));
                    }
                    fill(head, &mut self.rest, HEAD_BYTES + FIELD_BYTES);
                    if let Some(step) = ask_room(&self.gate, head, length)? {
                        self.step = step;
                    }
                    return Ok(None);
                }
                let head = std::mem::take(head).freeze();
                self.is_first = false;
                if length > 0 {
                    self.step = Step::Message { left: length, until: None };
                }
                Ok(Some(head))
            }
        }
    }
}

/// Gets in line with a large message, once enough of it came to tell what it is.
fn ask_room(gate: &Arc<Gate>, head: &mut BytesMut, length: usize) -> Result<Option<Step>, Status> {
    let Some(field) = head.get(HEAD_BYTES..HEAD_BYTES + FIELD_BYTES) else { return Ok(None) };
    if !is_batch(field, length) {
        let what = format!("only a batch may be larger than {LARGE_BYTES} bytes; this message has {length}");
        return Err(Status::invalid_argument(what));
    }
    let room = Box::pin(Arc::clone(gate).room(u32::try_from(length).unwrap_or(u32::MAX)));
    Ok(Some(Step::Wait { head: std::mem::take(head).freeze(), left: length - FIELD_BYTES, room }))
}

/// Moves bytes until there are so many in `head`, if they came.
fn fill(head: &mut BytesMut, rest: &mut Bytes, bytes: usize) {
    let lacking = bytes.saturating_sub(head.len()).min(rest.len());
    head.extend_from_slice(&rest.split_to(lacking));
}

/// The length of a message, if so much of it came.
fn length(head: &[u8]) -> Option<usize> {
    head.get(1..HEAD_BYTES).map(|mut length| length.get_u32() as usize)
}

/// Whether a message of this length that begins like this is one batch and nothing else.
fn is_batch(field: &[u8], length: usize) -> bool {
    let Some((&BATCH_KEY, mut rest)) = field.split_first() else { return false };
    let all = rest.len();
    let Ok(batch) = prost::encoding::decode_varint(&mut rest) else { return false };
    batch == (length - 1 - (all - rest.len())) as u64
}

#[cfg(test)]
#[path = "gate_tests.rs"]
pub(super) mod tests;
