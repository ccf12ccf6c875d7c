//! A node's turn: its batches wait while it sends more than its part.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use skep_wire::v1;
use tonic::Status;

use super::gate;
use super::pace::Place;
use super::session::Shared;

/// How long a node waits to be greeted that was sent away with a batch; then it is sent away once more. An agent waits for
/// 15 s.
const GREET_WITHIN: Duration = Duration::from_secs(10);

/// A node is told of once it was made to wait for so long.
const TELL_OF_HELD: Duration = Duration::from_secs(10);

/// A batch's key and length in its message take no more.
const AROUND_BYTES: usize = 8;

/// A node's turn.
pub(super) struct Turn {
    shared: Arc<Shared>,
    node: String,
    place: Place,
    held: Option<Held>,
}

/// A batch that waits.
struct Held {
    envelope: v1::Envelope,
    /// The same for as long as it waits: no other batch is taken meanwhile.
    cost: f64,
    /// Since it came, or was looked at last.
    since: Instant,
    /// When it is looked at again.
    until: Instant,
}

/// What becomes of a batch.
pub(super) enum Offered {
    /// It is its turn.
    Now(v1::Envelope),
    /// It waits here.
    Later,
    /// It is too large to wait here: its node comes back with it when it is its turn.
    TooLarge,
}

impl Turn {
    /// Begins a node's session; a node that was sent away because of a batch waits until that batch may be taken.
    ///
    /// # Errors
    /// A status for the agent: it is not its turn yet.
    pub(super) async fn begin(shared: &Arc<Shared>, node: &str) -> Result<Self, Status> {
        let begun = Instant::now();
        let place = shared.pace.enter(node, begun);
        let mut turn = Self { shared: Arc::clone(shared), node: node.to_owned(), place, held: None };
        let mut now = begun;
        while let Some(until) = turn.place.owes(now) {
            if until.saturating_duration_since(begun) > GREET_WITHIN {
                return Err(Status::resource_exhausted("the node sends more than its part: later"));
            }
            tokio::time::sleep_until(until.into()).await;
            let since = std::mem::replace(&mut now, Instant::now());
            turn.count_held(now.saturating_duration_since(since));
        }
        Ok(turn)
    }

    /// Whether a batch waits; nothing more is to be read meanwhile.
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// A batch came that costs so much.
    pub(super) fn offer(&mut self, envelope: v1::Envelope, cost: f64) -> Offered {
        let now = Instant::now();
        let Some(until) = self.place.take(cost, now) else { return Offered::Now(envelope) };
        if envelope.encoded_len() + AROUND_BYTES > gate::LARGE_BYTES {
            return Offered::TooLarge;
        }
        self.held = Some(Held { envelope, cost, since: now, until });
        Offered::Later
    }

    /// When the batch that waits is to be looked at again; never without one.
    pub(super) async fn due(&self) {
        match &self.held {
            Some(held) => tokio::time::sleep_until(held.until.into()).await,
            None => std::future::pending().await,
        }
    }

    /// The batch that waits, if it is its turn.
    pub(super) fn look_again(&mut self) -> Option<v1::Envelope> {
        let held = self.held.take()?;
        let now = Instant::now();
        self.count_held(now.saturating_duration_since(held.since));
        let Some(until) = self.place.take(held.cost, now) else { return Some(held.envelope) };
        self.held = Some(Held { since: now, until, ..held });
        None
    }

    /// Charges the node for room it took and did not use; it is greeted again when that is paid for.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.place.charge(bytes as f64, Instant::now());
    }

    /// The node was made to wait.
    fn count_held(&self, more: Duration) {
        let all = self.shared.registry.held(&self.node, self.shared.clock.wall_us(), more);
        if all >= TELL_OF_HELD && all.saturating_sub(more) < TELL_OF_HELD {
            tracing::warn!(node = %self.node, "the node sends more than its part and waits; held_us of `skep nodes` says for how long");
        }
    }
}
