//! One stop for a whole process: signal, then intake, then flush, then exit.
//!
//! A component registers by name before it starts and holds its [`Component`] until it has finished; the drain waits for
//! all of them and, at the deadline, says who is missing.

use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The process did not stop in time.
#[derive(Debug, Error)]
#[error("still running after {deadline:?}: {}", pending.join(", "))]
pub struct DrainTimeout {
    /// What it was given.
    pub deadline: Duration,
    /// Components that had not finished.
    pub pending: Vec<String>,
}

/// The signal handlers could not be installed.
#[derive(Debug, Error)]
#[error("cannot listen for termination signals")]
pub struct SignalError(#[source] std::io::Error);

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    pending: Vec<String>,
}

/// Owner of the stop; `main` or `app` holds one. Cloning it shares it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    state: watch::Sender<State>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { state: watch::Sender::new(State::default()) }
    }
}

impl Shutdown {
    /// A stop that nobody asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a component watches.
    pub fn token(&self) -> Token {
        Token { state: self.state.subscribe() }
    }

    /// Registers a component; it counts as running until the value is dropped.
    pub fn component(&self, name: impl Into<String>) -> Component {
        let name = name.into();
        self.state.send_modify(|state| state.pending.push(name.clone()));
        Component { name, state: self.state.clone() }
    }

    /// Asks everything to stop. Asking twice is the same as once.
    pub fn begin(&self) {
        self.state.send_if_modified(|state| !std::mem::replace(&mut state.stopping, true));
    }

    /// Waits for SIGTERM or SIGINT, or for [`Shutdown::begin`] from elsewhere, then begins the stop.
    ///
    /// # Errors
    /// [`SignalError`] when no handler can be installed; the process should then not start.
    pub async fn on_signal(&self) -> Result<(), SignalError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(SignalError)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(SignalError)?;
        let mut token = self.token();
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = token.stopped() => return Ok(()),
        };
        tracing::info!(signal = name, "stopping");
        self.begin();
        Ok(())
    }

    /// Waits until every component has finished.
    ///
    /// # Errors
    /// [`DrainTimeout`] with the names still pending at the deadline.
    pub async fn drain(&self, deadline: Duration) -> Result<(), DrainTimeout> {
        let mut state = self.state.subscribe();
        let finished = tokio::time::timeout(deadline, state.wait_for(|state| state.pending.is_empty())).await;
        match finished {
            // The sender is ours, so the watch cannot have closed.
            Ok(_) => Ok(()),
            Err(_) => Err(DrainTimeout { deadline, pending: self.state.borrow().pending.clone() }),
        }
    }
}

/// Tells a component to stop. Cheap to clone, usable from tasks and threads.
#[derive(Debug, Clone)]
pub struct Token {
    state: watch::Receiver<State>,
}

impl Token {
    /// Whether the stop has begun.
    pub fn is_stopping(&self) -> bool {
        self.state.borrow().stopping
    }

    /// Resolves when the stop begins; at once when it has.
    pub async fn stopped(&mut self) {
        // An error means the owner is gone, which is a stop too.
        let _owner_gone = self.state.wait_for(|state| state.stopping).await.is_err();
    }
}

/// A running component; drop it when the work is finished.
#[derive(Debug)]
pub struct Component {
    name: String,
    state: watch::Sender<State>,
}

impl Drop for Component {
    fn drop(&mut self) {
        self.state.send_modify(|state| {
            if let Some(at) = state.pending.iter().position(|name| *name == self.name) {
                state.pending.swap_remove(at);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_taken_before_or_after_sees_the_stop() {
        let shutdown = Shutdown::new();
        let mut before = shutdown.token();
        assert!(!before.is_stopping());
        shutdown.begin();
        shutdown.begin();
        before.stopped().await;
        let mut after = shutdown.token();
        after.stopped().await;
        assert!(after.is_stopping());
    }

    #[tokio::test]
    async fn the_drain_waits_for_every_component() {
        let shutdown = Shutdown::new();
        let component = shutdown.component("spool");
        let mut token = shutdown.token();
        let worker = tokio::spawn(async move {
            token.stopped().await;
            drop(component);
        });
        shutdown.begin();
        shutdown.drain(Duration::from_secs(5)).await.unwrap();
        worker.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_drain_names_who_is_late() {
        let shutdown = Shutdown::new();
        let _ship = shutdown.component("ship");
        drop(shutdown.component("aggregate"));
        shutdown.begin();
        let late = shutdown.drain(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(late.pending, ["ship"]);
    }
}
