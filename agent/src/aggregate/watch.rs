//! The loop that owns the probes and the aggregator: one thread, blocking.

use std::sync::Arc;
use std::time::Duration;

use skep_runtime::clock::Clock;
use skep_runtime::shutdown::Token;
use skep_wire::chunk::ChunkError;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use super::aggregator::{Aggregator, Sealed};
use super::gauges::OwnState;
use super::pods::{PodNames, Pods};
use crate::govern::desk::{Desk, Look, Orders};
use crate::host;
use crate::probe::reading::Event;
use crate::source::{Detail, Source};
use crate::spool::{Request, SpoolState};

/// How often the ring buffer is emptied. With sealing right after, an event waits at most this long and a bit.
pub const PULSE: Duration = Duration::from_millis(200);

/// Why the loop ended by itself.
#[derive(Debug, Error)]
pub enum WatchError {
    /// A row did not fit its table: a fault of this program.
    #[error("cannot build a batch")]
    Row(#[from] ChunkError),
    /// The spool's thread is gone.
    #[error("the spool takes no more batches")]
    SpoolGone,
}

/// What the loop needs.
#[derive(Debug)]
pub struct Watch<S> {
    /// The probes.
    pub source: S,
    /// The stage.
    pub aggregator: Aggregator,
    /// Keeps both within their budget.
    pub desk: Desk,
    /// Told what is observed.
    pub detail: watch::Sender<Detail>,
    /// Batches go here. When it is full the loop waits: the ring buffer fills up meanwhile and counts what it loses.
    pub spool: mpsc::Sender<Request>,
    /// What the spool says of itself.
    pub spool_state: watch::Receiver<SpoolState>,
    /// Names of pods, where the container runtime may be asked.
    pub pods: Option<PodNaming>,
    /// When to stop.
    pub stop: Token,
    /// The clock.
    pub clock: Clock,
}

/// The two ends of the task that asks the container runtime.
#[derive(Debug)]
pub struct PodNaming {
    /// Uids without a name. What does not fit is asked for again when other names come.
    pub wanted: mpsc::Sender<String>,
    /// The names known.
    pub names: watch::Receiver<Arc<PodNames>>,
}

impl<S: Source> Watch<S> {
    /// Runs until told to stop, then seals the window that was under way.
    ///
    /// # Errors
    /// [`WatchError`]; the process should end.
    pub fn run(mut self) -> Result<(), WatchError> {
        loop {
            let boundary_us = self.aggregator.boundary_us();
            let left_us = u64::try_from(boundary_us - self.clock.wall_us()).unwrap_or(0);
            std::thread::sleep(PULSE.min(Duration::from_micros(left_us)));
            if self.stop.is_stopping() {
                return self.finish();
            }
            if self.desk.is_due(self.clock.boot_ns()) {
                self.govern();
            }
            if self.clock.wall_us() >= boundary_us {
                self.end_window()?;
            } else {
                self.drain()?;
            }
        }
    }

    fn drain(&mut self) -> Result<(), WatchError> {
        self.aggregator.refill();
        let mut taken = Taken { aggregator: &mut self.aggregator, fault: None, full: Vec::new() };
        self.source.drain(&mut |event, _| taken.take(&event));
        let full = taken.finish()?;
        self.send_all(full)?;
        self.exchange_pods();
        if let Some(sealed) = self.aggregator.seal_events()? {
            self.send(sealed)?;
        }
        Ok(())
    }

    /// Looks at the costs and does what they ask for.
    fn govern(&mut self) {
        let costs = self.source.take_cost();
        let look = Look {
            now_ns: self.clock.boot_ns(),
            now_us: self.clock.wall_us(),
            own_ns: host::own_cpu_ns(),
            costs,
            held_bytes: host::own_resident_bytes() + self.source.map_bytes(),
        };
        let Orders { detail, processes, rows } = self.desk.look(look);
        self.aggregator.note(rows);
        if let Some(detail) = detail {
            match self.source.set_detail(&detail) {
                Ok(()) => drop(self.detail.send_replace(detail)),
                Err(error) => {
                    tracing::error!(error = %crate::error::chain(&error), "the probes do not take another detail");
                    self.desk.refused();
                }
            }
        }
        if let Some(processes) = processes {
            self.aggregator.know_at_most(processes);
        }
    }

    /// Asks for pods without a name, and takes what was answered.
    fn exchange_pods(&mut self) {
        let Some(pods) = &mut self.pods else { return };
        for uid in self.aggregator.take_wanted_pods() {
            if pods.wanted.try_send(uid).is_err() {
                break;
            }
        }
        if pods.names.has_changed().unwrap_or(false) {
            let names = Arc::clone(&pods.names.borrow_and_update());
            self.aggregator.set_pods(Pods::new(names));
        }
    }

    fn end_window(&mut self) -> Result<(), WatchError> {
        let moved_us = self.clock.reanchor();
        if moved_us.abs() > 1_000_000 {
            tracing::warn!(moved_s = moved_us as f64 / 1e6, "the wall clock was set");
        }
        self.aggregator.refill();
        let mut taken = Taken { aggregator: &mut self.aggregator, fault: None, full: Vec::new() };
        let reading = self.source.flip(&mut |event, _| taken.take(&event));
        let full = taken.finish()?;
        self.send_all(full)?;
        self.aggregator.set_own(self.own_state());
        let (rows, gauges) = self.desk.end_window(self.clock.wall_us(), self.aggregator.elapsed_s());
        self.aggregator.note(rows);
        self.aggregator.set_spending(gauges);
        let sealed = match reading {
            Ok(reading) => self.aggregator.seal_window(&reading)?,
            Err(error) => {
                let detail = crate::error::chain(&error);
                tracing::error!(error = %detail, "a window is lost");
                self.aggregator.seal_unread(self.clock.boot_ns(), detail)?
            }
        };
        self.send(sealed)
    }

    fn finish(mut self) -> Result<(), WatchError> {
        self.drain()?;
        self.end_window()?;
        if let Some(sealed) = self.aggregator.seal_end()? {
            self.send(sealed)?;
        }
        Ok(())
    }

    fn own_state(&self) -> OwnState {
        let spool = self.spool_state.borrow();
        OwnState {
            spool_batches: spool.batches,
            spool_bytes: spool.bytes,
            map_bytes: self.source.map_bytes(),
            ..OwnState::default()
        }
    }

    fn send_all(&self, sealed: Vec<Sealed>) -> Result<(), WatchError> {
        sealed.into_iter().try_for_each(|sealed| self.send(sealed))
    }

    fn send(&self, sealed: Sealed) -> Result<(), WatchError> {
        self.spool.blocking_send(Request::Append(sealed.into())).map_err(|_| WatchError::SpoolGone)
    }
}

/// Takes events during one drain; the sink the probes call cannot fail, so the first fault is kept.
struct Taken<'a> {
    aggregator: &'a mut Aggregator,
    fault: Option<ChunkError>,
    full: Vec<Sealed>,
}

impl Taken<'_> {
    fn take(&mut self, event: &Event) {
        if self.fault.is_none()
            && let Err(fault) = self.try_take(event)
        {
            self.fault = Some(fault);
        }
    }

    fn try_take(&mut self, event: &Event) -> Result<(), ChunkError> {
        self.aggregator.on_event(event)?;
        if self.aggregator.is_full() {
            self.full.extend(self.aggregator.seal_events()?);
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Sealed>, ChunkError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.full),
        }
    }
}
