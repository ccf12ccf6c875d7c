//! Where readings and events come from: the probes, or a test.

use std::fmt;

use crate::probe::reading::{Event, Reading};

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

/// What the agent needs of its probes.
pub trait Source: Send {
    /// Hands out the events that happened since the last call. To be called every 200 ms.
    fn drain(&mut self, sink: &mut dyn FnMut(Event));

    /// Ends the epoch: hands out the rest of its events, then returns everything it counted.
    ///
    /// # Errors
    /// [`SourceError`]: the epoch is lost; the next one may work.
    fn flip(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Reading, SourceError>;

    /// Memory the kernel holds for the probes, in bytes.
    fn map_bytes(&self) -> u64;
}

impl Source for crate::probe::Probes {
    fn drain(&mut self, sink: &mut dyn FnMut(Event)) {
        self.drain_events(sink);
    }

    fn flip(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Reading, SourceError> {
        Self::flip(self, sink).map_err(|error| SourceError(Box::new(error)))
    }

    fn map_bytes(&self) -> u64 {
        Self::map_bytes(self)
    }
}
