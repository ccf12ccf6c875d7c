//! The host as acts see it: where things are, and this program's own policy about them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::hierarchy::Hierarchies;
use crate::config::Policy;

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// The host.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where the cgroups are.
    pub cgroups: Hierarchies,
    /// Own policy.
    pub policy: Policy,
    /// Set when this program is about to end: nobody waits any longer.
    stopping: Arc<AtomicBool>,
}

impl Host {
    /// A host with these cgroups and this policy.
    pub fn new(cgroups: Hierarchies, policy: Policy) -> Self {
        Self { cgroups, policy, stopping: Arc::default() }
    }

    /// Nobody waits any longer.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether this program is about to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Asks until there is an answer; `None` after `limit`, or when this program is about to end.
    pub fn wait_for<T>(&self, limit: Duration, ask: impl FnMut() -> Option<T>) -> Option<T> {
        self.wait_every(LOOK, limit, ask)
    }

    /// The same, with so long between two questions.
    pub fn wait_every<T>(&self, look: Duration, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        loop {
            if let Some(answer) = ask() {
                return Some(answer);
            }
            if Instant::now() >= end || self.is_stopping() {
                return None;
            }
            std::thread::sleep(look);
        }
    }

    /// Sleeps, unless this program is about to end.
    pub fn pause(&self, length: Duration) {
        self.wait_for(length, || None::<()>);
    }
}
