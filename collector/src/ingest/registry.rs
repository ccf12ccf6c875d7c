//! Which nodes there are, and the way down to them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skep_wire::v1;
use thiserror::Error;
use tokio::sync::mpsc;

use super::fresh::Fresh;

/// Nodes that were connected since the start of this process.
#[derive(Debug, Default)]
pub struct Registry(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<String, Entry>,
    next_session: u64,
}

#[derive(Debug)]
struct Entry {
    node: v1::Node,
    session: Option<(SessionId, mpsc::Sender<v1::Down>)>,
    /// The hole a session was reset for, so that the same hole in the next session is taken as final.
    refused_hole: Option<Hole>,
    fresh: Fresh,
}

/// Batches a stream lacks: expected number, and the one that came instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// Life of the spool.
    pub stream: String,
    /// Expected.
    pub expected: u64,
    /// Came.
    pub found: u64,
}

/// One connection of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId(u64);

/// What a session adds to its node's figures.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Batches stored.
    pub batches: u64,
    /// Rows stored.
    pub rows: u64,
    /// Batches that were stored before.
    pub repeats: u64,
}

/// A message could not be handed to a node's session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Undeliverable {
    /// No session.
    #[error("node {node} is not connected")]
    NotConnected {
        /// Which.
        node: String,
    },
    /// Its session does not take what is sent.
    #[error("node {node} does not read what it is sent")]
    Stuck {
        /// Which.
        node: String,
    },
}

impl Registry {
    /// A node's session begins; one it had before is cut off.
    pub fn begin(&self, hello: &v1::Hello, down: mpsc::Sender<v1::Down>, now_us: i64) -> SessionId {
        let mut state = self.lock();
        state.next_session += 1;
        let id = SessionId(state.next_session);
        let before = state.nodes.remove(&hello.node);
        let (figures, refused_hole, fresh) = match before {
            Some(entry) => (entry.node, entry.refused_hole, entry.fresh),
            None => (v1::Node::default(), None, Fresh::new(Instant::now())),
        };
        let node = v1::Node {
            node: hello.node.clone(),
            boot: hello.boot.clone(),
            agent_version: hello.agent_version.clone(),
            kernel_release: hello.kernel_release.clone(),
            connected: true,
            last_seen_us: now_us,
            probes: hello.probes.clone(),
            missing: hello.missing.clone(),
            collector_place: hello.collector_place,
            collectors: hello.collectors,
            ..figures
        };
        state.nodes.insert(hello.node.clone(), Entry { node, session: Some((id, down)), refused_hole, fresh });
        id
    }

    /// A session ended. Returns whether the node is now without one.
    pub fn end(&self, node: &str, session: SessionId) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.nodes.get_mut(node) else { return false };
        let was_current = entry.session.as_ref().is_some_and(|(id, _)| *id == session);
        if was_current {
            entry.session = None;
            entry.node.connected = false;
        }
        was_current
    }

    /// Whether a node may begin a stream that is not known here.
    pub fn may_begin(&self, node: &str, stream: &str) -> bool {
        let mut state = self.lock();
        state.nodes.get_mut(node).is_none_or(|entry| entry.fresh.may_begin(stream, Instant::now()))
    }

    /// Something came from a node.
    pub fn seen(&self, node: &str, now_us: i64, tally: Tally, spooled: Option<u64>) {
        if let Some(entry) = self.lock().nodes.get_mut(node) {
            entry.node.last_seen_us = now_us;
            entry.node.batches += tally.batches;
            entry.node.rows += tally.rows;
            entry.node.repeats += tally.repeats;
            if let Some(spooled) = spooled {
                entry.node.spooled_batches = spooled;
            }
        }
    }

    /// A node's batch waits because the node sends more than its part, for so long more; for how long in all.
    pub fn held(&self, node: &str, now_us: i64, more: Duration) -> Duration {
        let mut state = self.lock();
        let Some(entry) = state.nodes.get_mut(node) else { return more };
        // It is there, though nothing else of it is read.
        entry.node.last_seen_us = now_us;
        entry.node.held_us += u64::try_from(more.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(entry.node.held_us)
    }

    /// An answer to a probe was refused; how many were of this node so far.
    pub fn answer_refused(&self, node: &str) -> u64 {
        self.lock().nodes.get_mut(node).map_or(0, |entry| {
            entry.node.answers_refused += 1;
            entry.node.answers_refused
        })
    }

    /// Notes a hole; returns whether the node's session before this one was reset for the same.
    pub fn hole_again(&self, node: &str, hole: Hole) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.nodes.get_mut(node) else { return false };
        let again = entry.refused_hole.as_ref() == Some(&hole);
        entry.refused_hole = (!again).then_some(hole);
        again
    }

    /// Hands a message to a node's session, without waiting.
    ///
    /// # Errors
    /// [`Undeliverable`].
    pub fn send(&self, node: &str, down: v1::Down) -> Result<(), Undeliverable> {
        let state = self.lock();
        let session = state.nodes.get(node).and_then(|entry| entry.session.as_ref());
        let (_, sender) = session.ok_or_else(|| Undeliverable::NotConnected { node: node.to_owned() })?;
        sender.try_send(down).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Undeliverable::Stuck { node: node.to_owned() },
            mpsc::error::TrySendError::Closed(_) => Undeliverable::NotConnected { node: node.to_owned() },
        })
    }

    /// Every node, by name.
    pub fn nodes(&self) -> Vec<v1::Node> {
        self.lock().nodes.values().map(|entry| entry.node.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: &str) -> v1::Hello {
        v1::Hello { node: node.to_owned(), boot: "b".to_owned(), ..Default::default() }
    }

    #[test]
    fn a_newer_session_takes_over_and_the_older_one_ends_nothing() {
        let registry = Registry::default();
        let (first, mut first_down) = mpsc::channel(1);
        let (second, mut second_down) = mpsc::channel(1);
        let old = registry.begin(&hello("n"), first, 1);
        registry.seen("n", 2, Tally { batches: 3, rows: 30, repeats: 1 }, Some(4));
        let new = registry.begin(&hello("n"), second, 5);
        assert!(matches!(first_down.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
        assert!(!registry.end("n", old));
        let node = &registry.nodes()[0];
        assert_eq!((node.batches, node.spooled_batches, node.connected), (3, 4, true));
        registry.send("n", v1::Down::default()).unwrap();
        assert!(second_down.try_recv().is_ok());
        assert!(registry.end("n", new));
        assert!(!registry.nodes()[0].connected);
    }

    #[test]
    fn what_cannot_be_delivered_says_why() {
        let registry = Registry::default();
        let absent = registry.send("n", v1::Down::default()).unwrap_err();
        assert_eq!(absent.to_string(), "node n is not connected");
        let (down, _receiver) = mpsc::channel(1);
        registry.begin(&hello("n"), down, 1);
        registry.send("n", v1::Down::default()).unwrap();
        assert!(matches!(registry.send("n", v1::Down::default()), Err(Undeliverable::Stuck { .. })));
    }

    #[test]
    fn a_hole_is_final_the_second_time() {
        let registry = Registry::default();
        registry.begin(&hello("n"), mpsc::channel(1).0, 1);
        let hole = |found| Hole { stream: "s".to_owned(), expected: 2, found };
        assert!(!registry.hole_again("n", hole(5)));
        assert!(!registry.hole_again("n", hole(6)));
        assert!(registry.hole_again("n", hole(6)));
        assert!(!registry.hole_again("n", hole(6)));
    }
}
