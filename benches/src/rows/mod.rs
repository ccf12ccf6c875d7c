//! What agents send, made up: processes that come and go, durations that are log-normal, the same in every run.
//!
//! * [`random`]: numbers of a seed.
//! * [`host`]: a host with processes.
//! * [`waits`]: how long things took.
//! * [`cpu`]: rows of `cpu`.
//! * [`syscalls`]: rows of `syscalls`.

pub(crate) mod random;

pub(crate) mod host;

pub(crate) mod waits;

pub(crate) mod cpu;

pub(crate) mod syscalls;

pub(crate) use host::Host;

use cpu::Row;

/// One hour, microseconds.
pub(crate) const HOUR_US: i64 = 3_600_000_000;

/// The last hour that is over: its rows fill one partition, and no server finds them too old or too new.
pub(crate) fn last_hour_us() -> anyhow::Result<i64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok((i64::try_from(now.as_micros())? / HOUR_US - 1) * HOUR_US)
}

/// Windows of one host, one after another: when each began, and its rows.
#[derive(Debug)]
pub(crate) struct Windows {
    pub(crate) host: Host,
    pub(crate) window_s: f64,
    /// Whether rows have their distributions, or none.
    pub(crate) distributions: bool,
    pub(crate) time_us: i64,
    pub(crate) left: u64,
}

impl Iterator for Windows {
    type Item = (i64, Vec<Row>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let time_us = self.time_us;
        let rows = cpu::window(&mut self.host, self.window_s, self.distributions);
        self.host.advance(self.window_s);
        self.time_us += (self.window_s * 1e6) as i64;
        Some((time_us, rows))
    }
}
