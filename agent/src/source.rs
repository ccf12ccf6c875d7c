//! Where readings and events come from: the probes, or a test.

use std::fmt;

pub use crate::probe::DomainCost;
use crate::probe::reading::{Event, Mark, Reading};

/// The counters of an epoch could not be read. Its observations are lost and nobody knows how many they were.
#[derive(Debug)]
pub struct SourceError(pub Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the probes could not be read")
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

/// Parts of the probes that cost and can be switched off by themselves.
pub const DOMAINS: [&str; 7] = ["cpu", "syscall", "tcp", "process", "socket", "block", "security"];

/// How much the probes observe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// Every how manieth system call is looked at; 1 for all. A power of two.
    pub syscall_one_in: u32,
    /// Domains that are switched off, the one switched off first in front.
    pub off: Vec<&'static str>,
}

impl Default for Detail {
    fn default() -> Self {
        Self { syscall_one_in: 1, off: Vec::new() }
    }
}

/// What the agent needs of its probes.
pub trait Source: Send {
    /// Hands out the events that happened since the last call. To be called every 200 ms.
    ///
    /// With each comes the place behind it, which a [`Mark`] can name.
    fn drain(&mut self, sink: &mut dyn FnMut(Event, u64));

    /// Ends the epoch: hands out the rest of its events, then returns everything it counted.
    ///
    /// # Errors
    /// [`SourceError`]: the epoch is lost; the next one may work.
    fn flip(&mut self, sink: &mut dyn FnMut(Event, u64)) -> Result<Reading, SourceError>;

    /// Whether the epoch can be ended: what the last one counted is safe.
    fn can_flip(&self) -> bool {
        true
    }

    /// What an earlier agent closed and did not store; to be asked once, before the first flip.
    ///
    /// # Errors
    /// [`SourceError`]: it is lost.
    fn catch_up(&mut self, _sink: &mut dyn FnMut(Event, u64)) -> Result<Option<Reading>, SourceError> {
        Ok(None)
    }

    /// How far it was read, to be stored with what was read; `None` when nobody could read it again anyway.
    fn mark(&self) -> Option<Mark> {
        None
    }

    /// What was handed out before `mark` is stored.
    ///
    /// # Errors
    /// [`SourceError`]: what it holds cannot be let go.
    fn commit(&mut self, _mark: Mark) -> Result<(), SourceError> {
        Ok(())
    }

    /// Whether it counted before this process.
    fn is_adopted(&self) -> bool {
        false
    }

    /// Whether nothing is missing between what an earlier process stored and what is handed out first.
    fn is_seamless(&self) -> bool {
        false
    }

    /// Since when what is handed out next was counted, nanoseconds of `CLOCK_BOOTTIME`; `None` means since just now.
    fn since_ns(&self) -> Option<u64> {
        None
    }

    /// To be called now and then: looks after itself.
    fn tend(&mut self) {}

    /// Memory the kernel holds for the probes, in bytes.
    fn map_bytes(&self) -> u64;

    /// What the probes cost since the last call, by domain; a domain whose cost is not known is left out.
    fn take_cost(&mut self) -> Vec<DomainCost>;

    /// Observe as much as this from now on.
    ///
    /// # Errors
    /// [`SourceError`]: everything is as before.
    fn set_detail(&mut self, detail: &Detail) -> Result<(), SourceError>;
}

impl Source for crate::probe::Probes {
    fn drain(&mut self, sink: &mut dyn FnMut(Event, u64)) {
        self.drain_events(sink);
    }

    fn flip(&mut self, sink: &mut dyn FnMut(Event, u64)) -> Result<Reading, SourceError> {
        Self::flip(self, sink).map_err(failed)
    }

    fn can_flip(&self) -> bool {
        Self::can_flip(self)
    }

    fn catch_up(&mut self, sink: &mut dyn FnMut(Event, u64)) -> Result<Option<Reading>, SourceError> {
        Self::catch_up(self, sink).map_err(failed)
    }

    fn mark(&self) -> Option<Mark> {
        Self::mark(self)
    }

    fn commit(&mut self, mark: Mark) -> Result<(), SourceError> {
        Self::commit(self, mark).map_err(failed)
    }

    fn is_adopted(&self) -> bool {
        Self::is_adopted(self)
    }

    fn is_seamless(&self) -> bool {
        Self::is_seamless(self)
    }

    fn since_ns(&self) -> Option<u64> {
        Some(Self::since_ns(self))
    }

    fn tend(&mut self) {
        Self::tend(self);
    }

    fn map_bytes(&self) -> u64 {
        Self::map_bytes(self)
    }

    fn take_cost(&mut self) -> Vec<DomainCost> {
        let mut costs = self.take_costs();
        // One name for a domain everywhere else.
        costs.iter_mut().filter(|cost| cost.domain == "network").for_each(|cost| cost.domain = "tcp");
        costs
    }

    fn set_detail(&mut self, detail: &Detail) -> Result<(), SourceError> {
        self.sample_syscalls(detail.syscall_one_in.max(1).ilog2());
        self.switch_off(&detail.off).map_err(failed)
    }
}

fn failed(error: crate::probe::ProbeError) -> SourceError {
    SourceError(Box::new(error))
}
