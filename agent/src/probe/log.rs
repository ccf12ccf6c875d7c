//! What the probes write for debugging, passed on to the agent's log.

use aya::Ebpf;
use aya_log::EbpfLogger;

use super::options::{LogLevel, ProbeOptions};
use crate::error::chain;

/// Reads the probes' messages; absent unless they were asked for.
pub(super) struct ProbeLog(Option<EbpfLogger<Tracing>>);

impl ProbeLog {
    /// Takes the messages' ring out of the object. That it is missing is worth a warning, not a failure.
    pub(super) fn take(ebpf: &mut Ebpf, options: &ProbeOptions) -> Self {
        if options.log == LogLevel::Off {
            return Self(None);
        }
        let logger = EbpfLogger::init_with_logger(ebpf, Tracing);
        let logger = logger.inspect_err(|error| tracing::warn!("no messages from the probes: {}", chain(error)));
        Self(logger.ok())
    }

    /// No messages.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Passes on what has come.
    pub(super) fn flush(&mut self) {
        if let Some(logger) = &mut self.0 {
            logger.flush();
        }
    }
}

/// The level the programs compare with.
pub(super) fn level(log: LogLevel) -> u8 {
    match log {
        LogLevel::Off => 0,
        LogLevel::Debug => ::log::Level::Debug as u8,
    }
}

/// Hands records of the `log` crate, which the reader speaks, to `tracing`.
struct Tracing;

impl ::log::Log for Tracing {
    fn enabled(&self, _: &::log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &::log::Record<'_>) {
        tracing::debug!(probe = record.module_path().unwrap_or_default(), "{}", record.args());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_is_below_every_level() {
        assert!(level(LogLevel::Off) < ::log::Level::Error as u8);
        assert_eq!(level(LogLevel::Debug), 4);
    }
}
