//! The loop that owns the probes and the aggregator: one thread, blocking.
//!
//! Every batch goes to the spool with the mark up to which the probes were read for it, and the probes are told when it is
//! stored. They hold everything until then, so that whatever moment this process dies at, the next one knows from the
//! spool what is stored and reads the rest again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skep_runtime::clock::Clock;
use skep_runtime::shutdown::Token;
use skep_wire::chunk::ChunkError;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use super::aggregator::{Aggregator, Sealed};
use super::gauges::{Gauge, OwnState};
use super::pods::{PodNames, Pods};
use crate::govern::desk::{Desk, Look, Orders};
use crate::host;
use crate::probe::reading::{Event, Mark, Reading};
use crate::source::{Detail, Source, SourceError};
use crate::spool::{Append, Request, SpoolState};

/// How often the ring buffer is emptied. With sealing right after, an event waits at most this long and a bit; each time
/// costs a wake-up, and with events a batch.
pub const PULSE: Duration = Duration::from_millis(400);

/// How often it is looked whether a window that is late can end.
const LATE_PULSE: Duration = Duration::from_millis(20);

/// A spool that takes this long to store a window is worth a line in the log.
const LATE_NS: u64 = 1_000_000_000;

/// How long the last window waits until the one before is stored.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

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
    /// Gauges of service checks.
    pub services: mpsc::Receiver<Vec<Gauge>>,
    /// When to stop.
    pub stop: Token,
    /// The clock.
    pub clock: Clock,
    /// Nothing yet.
    pub progress: Progress,
}

/// What the loop remembers of itself.
#[derive(Debug, Default)]
pub struct Progress {
    /// What the probes were told is stored.
    committed: Option<Mark>,
    /// When the last window was handed to the spool.
    sealed_ns: u64,
    /// End of the window that is late, once that was said.
    late: Option<i64>,
    /// Kernel memory of the probes at the end of the last window: asking for it every second would cost a twentieth of
    /// all the agent spends.
    map_bytes: u64,
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
        self.progress.map_bytes = self.source.map_bytes();
        self.catch_up()?;
        loop {
            let boundary_us = self.aggregator.boundary_us();
            std::thread::sleep(self.pause(boundary_us));
            if self.stop.is_stopping() {
                return self.finish();
            }
            if self.desk.is_due(self.clock.boot_ns()) {
                self.govern();
            }
            self.commit();
            if self.clock.wall_us() < boundary_us {
                self.drain()?;
            } else if self.source.can_flip() {
                self.end_window()?;
            } else {
                self.note_late(boundary_us);
                self.drain()?;
            }
        }
    }

    /// Until the window's end, unless the window before is not stored yet.
    fn pause(&self, boundary_us: i64) -> Duration {
        match u64::try_from(boundary_us - self.clock.wall_us()) {
            Ok(left_us) => PULSE.min(Duration::from_micros(left_us)),
            Err(_) if self.source.can_flip() => Duration::ZERO,
            Err(_) => LATE_PULSE,
        }
    }

    /// Tells the probes what is stored, so that they may have the room.
    fn commit(&mut self) {
        let mark = self.spool_state.borrow_and_update().mark;
        let Some(mark) = mark.filter(|mark| self.progress.committed != Some(*mark)) else { return };
        match self.source.commit(mark) {
            Ok(()) => self.progress.committed = Some(mark),
            Err(error) => tracing::warn!(error = %crate::error::chain(&error), "cannot empty what is stored"),
        }
    }

    fn note_late(&mut self, boundary_us: i64) {
        let waited_ns = self.clock.boot_ns().saturating_sub(self.progress.sealed_ns);
        if self.progress.late != Some(boundary_us) && waited_ns > LATE_NS {
            self.progress.late = Some(boundary_us);
            tracing::warn!("the spool has not stored the last window yet: this one goes on until it has");
        }
    }

    /// What an earlier agent counted and did not store is a window of its own.
    fn catch_up(&mut self) -> Result<(), WatchError> {
        let mut taken = Taken::new(&mut self.aggregator, self.source.mark());
        let reading = self.source.catch_up(&mut |event, behind| taken.take(&event, behind));
        let full = taken.finish()?;
        self.send_all(full)?;
        match reading.transpose() {
            Some(reading) => self.seal(reading),
            None => Ok(()),
        }
    }

    fn drain(&mut self) -> Result<(), WatchError> {
        self.aggregator.refill();
        let mut taken = Taken::new(&mut self.aggregator, self.source.mark());
        self.source.drain(&mut |event, behind| taken.take(&event, behind));
        let full = taken.finish()?;
        self.send_all(full)?;
        self.exchange_pods();
        if let Some(sealed) = self.aggregator.seal_events()? {
            self.send(sealed, self.source.mark())?;
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
            held_bytes: host::own_resident_bytes() + self.progress.map_bytes,
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
        self.source.tend();
        self.aggregator.refill();
        let mut taken = Taken::new(&mut self.aggregator, self.source.mark());
        let reading = self.source.flip(&mut |event, behind| taken.take(&event, behind));
        let full = taken.finish()?;
        self.send_all(full)?;
        self.seal(reading)
    }

    /// Seals a window with what its reading holds, or that it could not be read.
    fn seal(&mut self, reading: Result<Reading, SourceError>) -> Result<(), WatchError> {
        self.progress.map_bytes = self.source.map_bytes();
        self.aggregator.set_own(self.own_state());
        let (rows, mut gauges) = self.desk.end_window(self.clock.wall_us(), self.aggregator.elapsed_s());
        self.aggregator.note(rows);
        gauges.extend(self.service_gauges());
        self.aggregator.set_spending(gauges);
        let sealed = match reading {
            Ok(reading) => self.aggregator.seal_window(&reading)?,
            Err(error) => {
                let detail = crate::error::chain(&error);
                tracing::error!(error = %detail, "a window is lost");
                self.aggregator.seal_unread(self.clock.boot_ns(), detail)?
            }
        };
        self.progress.sealed_ns = self.clock.boot_ns();
        self.send(sealed, self.source.mark())
    }

    fn finish(mut self) -> Result<(), WatchError> {
        self.drain()?;
        // While the window before is not stored this one stays in the kernel, for the next agent.
        if self.may_flip_within(LAST_PATIENCE) {
            self.end_window()?;
        }
        if let Some(sealed) = self.aggregator.seal_end()? {
            self.send(sealed, self.source.mark())?;
        }
        Ok(())
    }

    fn may_flip_within(&mut self, patience: Duration) -> bool {
        let deadline_ns = self.clock.boot_ns() + u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX / 2);
        loop {
            self.commit();
            if self.source.can_flip() || self.clock.boot_ns() > deadline_ns {
                return self.source.can_flip();
            }
            std::thread::sleep(LATE_PULSE);
        }
    }

    /// What services said in this window; of several words the last. Of one that was not asked there is none.
    fn service_gauges(&mut self) -> impl Iterator<Item = Gauge> + use<S> {
        let mut last = BTreeMap::new();
        while let Ok(gauges) = self.services.try_recv() {
            last.extend(gauges.into_iter().map(|gauge| ((gauge.metric, gauge.label.clone()), gauge)));
        }
        last.into_values()
    }

    fn own_state(&self) -> OwnState {
        let spool = self.spool_state.borrow();
        OwnState {
            spool_batches: spool.batches,
            spool_bytes: spool.bytes,
            map_bytes: self.progress.map_bytes,
            ..OwnState::default()
        }
    }

    fn send_all(&self, sealed: Vec<(Sealed, Option<Mark>)>) -> Result<(), WatchError> {
        sealed.into_iter().try_for_each(|(sealed, mark)| self.send(sealed, mark))
    }

    fn send(&self, sealed: Sealed, mark: Option<Mark>) -> Result<(), WatchError> {
        let Sealed { batch, watched_until_us } = sealed;
        let append = Append { batch, watched_until_us, receipt: None, mark, done: None };
        self.spool.blocking_send(Request::Append(append)).map_err(|_| WatchError::SpoolGone)
    }
}

/// Takes events during one drain; the sink the probes call cannot fail, so the first fault is kept.
struct Taken<'a> {
    aggregator: &'a mut Aggregator,
    /// How far the probes were read before the drain.
    before: Option<Mark>,
    fault: Option<ChunkError>,
    full: Vec<(Sealed, Option<Mark>)>,
}

impl<'a> Taken<'a> {
    fn new(aggregator: &'a mut Aggregator, before: Option<Mark>) -> Self {
        Self { aggregator, before, fault: None, full: Vec::new() }
    }

    fn take(&mut self, event: &Event, behind: u64) {
        if self.fault.is_none()
            && let Err(fault) = self.try_take(event, behind)
        {
            self.fault = Some(fault);
        }
    }

    fn try_take(&mut self, event: &Event, behind: u64) -> Result<(), ChunkError> {
        self.aggregator.on_event(event)?;
        if self.aggregator.is_full()
            && let Some(sealed) = self.aggregator.seal_events()?
        {
            self.full.push((sealed, self.before.map(|before| Mark { position: behind, ..before })));
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<(Sealed, Option<Mark>)>, ChunkError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.full),
        }
    }
}

#[cfg(test)]
#[path = "tests/watch.rs"]
mod tests;
