//! Waits until the collector has put what it was sent in order: what it does about that is no part of an answer.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::measured::Measured;

/// It looks for work once a minute.
const IDLE: Duration = Duration::from_secs(62);

/// After which it is asked all the same.
const PATIENCE: Duration = Duration::from_secs(300);

const STEP: Duration = Duration::from_secs(1);

/// More of a core than it takes to do nothing.
const BUSY_RATIO: f64 = 0.1;

/// Whether it came to rest.
pub(super) fn wait(collector: &Measured) -> Result<bool> {
    eprintln!("until the collector has nothing left to do ...");
    let start = Instant::now();
    let (mut quiet_since, mut before) = (start, collector.cpu()?);
    while quiet_since.elapsed() < IDLE {
        if start.elapsed() > PATIENCE {
            return Ok(false);
        }
        let step = Instant::now();
        std::thread::sleep(STEP);
        let now = collector.cpu()?;
        if (now - before).as_secs_f64() > BUSY_RATIO * step.elapsed().as_secs_f64() {
            quiet_since = Instant::now();
        }
        before = now;
    }
    Ok(true)
}
