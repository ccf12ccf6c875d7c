//! Durable batches to whoever listens.
//!
//! The responder sees every batch: a session takes a [`Slot`] in its queue before the batch goes to the WAL, so the
//! queue can take it afterwards without anybody waiting. Event listeners may be slow: what they miss is counted.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, broadcast, mpsc};

use super::durable::Durable;

/// A place in the responder's queue, given back when the batch was looked at.
pub type Slot = OwnedSemaphorePermit;

/// What event listeners get.
#[derive(Debug, Clone)]
pub struct Published {
    /// The batch.
    pub durable: Arc<Durable>,
    /// Events published before it since the start, so that a listener can tell what it missed.
    pub events_before: u64,
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
        let events_before = self.published;
        self.published += durable.events();
        // No listener is not an error.
        let _listeners = self.events.send(Published { durable: Arc::clone(&durable), events_before }).unwrap_or(0);
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
