//! Durable batches to whoever listens.
//!
//! The responder sees every batch: a session takes a [`Slot`] in its queue before the batch goes to the WAL, so the
//! queue can take it afterwards without anybody waiting. Event listeners may be slow: what they miss is counted.

use std::sync::Arc;

use skep_wire::v1;
use tokio::sync::{Notify, OwnedSemaphorePermit, broadcast, mpsc};

use super::durable::Durable;
use crate::console::events;

/// A place in the responder's queue, given back when the batch was looked at.
pub type Slot = OwnedSemaphorePermit;

/// What event listeners get.
#[derive(Debug, Clone)]
pub struct Published {
    /// Node the events come from.
    pub node: Arc<str>,
    /// The chunks of one batch whose rows are events.
    pub chunks: Arc<[v1::Chunk]>,
    /// Events published before these since the start, so that a listener can tell what it missed.
    pub events_before: u64,
    /// Events in these chunks.
    pub events: u64,
}

/// What the responder gets.
#[derive(Debug)]
pub struct Observed {
    /// The batch.
    pub durable: Arc<Durable>,
    /// Frees its place when dropped.
    pub slot: Slot,
}

/// The WAL's side of all listeners. Nothing here waits.
#[derive(Debug)]
pub struct Publisher {
    events: broadcast::Sender<Published>,
    responder: mpsc::Sender<Observed>,
    flush: Arc<Notify>,
    published: u64,
}

impl Publisher {
    /// Publishes to these.
    pub fn new(events: broadcast::Sender<Published>, responder: mpsc::Sender<Observed>, flush: Arc<Notify>) -> Self {
        Self { events, responder, flush, published: 0 }
    }

    /// Tells everybody of a durable batch.
    pub fn publish(&mut self, durable: Arc<Durable>, slot: Option<Slot>) {
        self.publish_events(&durable);
        if let Some(slot) = slot
            && let Err(error) = self.responder.try_send(Observed { durable, slot })
        {
            // Only while stopping: the queue has a place for every slot.
            tracing::debug!(%error, "the responder is gone");
        }
    }

    /// A queue of whole batches would hold far more than listeners want: only the events go in.
    fn publish_events(&mut self, durable: &Durable) {
        let is_event = |chunk: &&v1::Chunk| events::TABLES.contains(&chunk.table.as_str());
        let rows = durable.batch.chunks.iter().filter(is_event).map(|chunk| u64::from(chunk.rows));
        let (events_before, events) = (self.published, rows.sum());
        self.published += events;
        if events == 0 || self.events.receiver_count() == 0 {
            return;
        }
        let chunks = durable.batch.chunks.iter().filter(is_event).cloned().collect();
        let node = durable.origin.node.as_str().into();
        // A listener that has just gone is not an error.
        let _listeners = self.events.send(Published { node, chunks, events_before, events }).unwrap_or(0);
    }

    /// The segment being written is full enough to be flushed.
    pub fn flush_is_due(&self) {
        self.flush.notify_one();
    }
}
