//! Agents as the protocol wants them: each keeps every batch until it is acknowledged, and sends the rest again.

use std::ops::RangeInclusive;

use skep_collector::wal::{Outcome, StreamKey};
use skep_wire::envelope::EnvelopeError;

use super::collector::Sent;
use crate::batch;
use skep_chaos_ground::Dice;

/// One agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) node: String,
    stream: String,
    /// Last batch it made.
    pub(super) made: u64,
    /// Last batch it was told is durable: it has none of those any more.
    pub(super) acked: u64,
    /// Next batch to send.
    next: u64,
    /// The first batch the collector lacks and the agent no longer has, until the next one is sent.
    hole: Option<u64>,
    /// It has a session. What is refused ends it, as the collector does, and the next hello tells where to go on.
    pub(super) is_connected: bool,
}

impl Agent {
    pub(super) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            stream: node.repeat(32),
            made: 0,
            acked: 0,
            next: 1,
            hole: None,
            is_connected: false,
        }
    }

    pub(super) fn key(&self) -> StreamKey {
        StreamKey { node: self.node.clone(), stream: self.stream.clone() }
    }

    /// A welcome came, which acknowledges all up to the number in it. Returns the batches that were acknowledged and are
    /// not known of: the hello said how far that was, so the collector says in `loss` that they are gone.
    pub(super) fn resume(&mut self, durable_seq: u64) -> RangeInclusive<u64> {
        self.is_connected = true;
        self.next = durable_seq.max(self.acked) + 1;
        self.hole = (durable_seq < self.acked).then_some(durable_seq + 1);
        let gone = durable_seq + 1..=self.acked;
        self.acked = self.acked.max(durable_seq);
        gone
    }

    /// Some new batches and all that were not sent since the welcome; now and then one twice, as after a broken
    /// connection.
    pub(super) fn send(&mut self, dice: &mut Dice, new: u64) -> Result<Vec<Sent>, EnvelopeError> {
        self.made = self.made.max(self.next - 1) + new;
        let mut batches = Vec::new();
        while self.next <= self.made {
            let envelope = batch::sealed(&self.node, &self.stream, self.next, batch::START_US)?;
            let sent = Sent { envelope, gap_from: self.hole.take().unwrap_or(self.next) };
            if dice.one_in(8) {
                batches.push(sent.clone());
            }
            batches.push(sent);
            self.next += 1;
        }
        Ok(batches)
    }

    /// An answer came.
    pub(super) fn hear(&mut self, outcome: Option<&Outcome>) {
        match outcome {
            Some(Outcome::Stored { durable_seq } | Outcome::Repeat { durable_seq }) => {
                self.acked = self.acked.max(*durable_seq);
            }
            Some(Outcome::Refused { .. } | Outcome::Early { .. }) | None => self.is_connected = false,
        }
    }
}
