//! Durable batches to whoever listens.
//!
//! The responder sees every batch: a session takes a [`Slot`] in its queue before the batch goes to the WAL, so the
//! queue can take it afterwards without anybody waiting. Event listeners may be slow: what they miss is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Where events go and come from. Cloning it shares it.
#[derive(Debug, Clone)]
pub struct Events {
    queue: broadcast::Sender<Published>,
    /// Events published since the start.
    total: Arc<AtomicU64>,
}

impl Events {
    /// Events over this queue.
    pub fn new(queue: broadcast::Sender<Published>) -> Self {
        Self { queue, total: Arc::default() }
    }

    /// What is published from now on, and how many events were before.
    pub fn subscribe(&self) -> (broadcast::Receiver<Published>, u64) {
        // In this order: what comes between the two is missed, and counted as missed.
        let before = self.total.load(Ordering::Acquire);
        (self.queue.subscribe(), before)
    }

    /// A queue of whole batches would hold far more than listeners want: only the events go in.
    fn publish(&self, durable: &Durable) {
        let is_event = |chunk: &&v1::Chunk| events::TABLES.contains(&chunk.table.as_str());
        let rows = durable.batch.chunks.iter().filter(is_event).map(|chunk| u64::from(chunk.rows));
        let events = rows.sum();
        let events_before = self.total.fetch_add(events, Ordering::AcqRel);
        if events == 0 || self.queue.receiver_count() == 0 {
            return;
        }
        let chunks = durable.batch.chunks.iter().filter(is_event).cloned().collect();
        let node = durable.origin.node.as_str().into();
        // A listener that has just gone is not an error.
        let _listeners = self.queue.send(Published { node, chunks, events_before, events }).unwrap_or(0);
    }
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
    events: Events,
    responder: mpsc::Sender<Observed>,
    flush: Arc<Notify>,
}

impl Publisher {
    /// Publishes to these.
    pub fn new(events: Events, responder: mpsc::Sender<Observed>, flush: Arc<Notify>) -> Self {
        Self { events, responder, flush }
    }

    /// Tells everybody of a durable batch.
    pub fn publish(&self, durable: Arc<Durable>, slot: Option<Slot>) {
        self.events.publish(&durable);
        if let Some(slot) = slot
            && let Err(error) = self.responder.try_send(Observed { durable, slot })
        {
            // Only while stopping: the queue has a place for every slot.
            tracing::debug!(%error, "the responder is gone");
        }
    }

    /// The segment being written is full enough to be flushed.
    pub fn flush_is_due(&self) {
        self.flush.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use skep_wire::envelope::Origin;

    use super::*;

    fn durable(rows: u32) -> Durable {
        let chunk = |table: &str| v1::Chunk { table: table.to_owned(), rows, columns: Vec::new() };
        let origin = Origin { node: "n".to_owned(), boot: String::new(), stream: String::new(), seq: 1 };
        let chunks = vec![chunk("cpu"), chunk("processes")];
        Durable { origin, batch: v1::Batch { sealed_us: 0, chunks, deliveries: Vec::new() }, received_us: 0 }
    }

    #[test]
    fn a_listener_can_tell_what_it_missed() {
        let events = Events::new(broadcast::channel(2).0);
        events.publish(&durable(100));
        let (mut receiver, before) = events.subscribe();
        assert_eq!(before, 100);
        for rows in [1, 2, 3, 4] {
            events.publish(&durable(rows));
        }
        assert!(matches!(receiver.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
        let next = receiver.try_recv().unwrap();
        assert_eq!((next.events_before - before, next.events, next.chunks.len()), (3, 3, 1));
        assert_eq!(next.chunks[0].table, "processes");
    }
}
