//! One workload under whatever is attached now.

use std::time::Instant;

use anyhow::{Context, Result};
use rustix::thread::CpuSet;

use super::workload::{Work, Workload};

/// The CPU of everything that is measured.
pub(crate) const MEASURED_CPU: usize = 1;

/// The CPU of what helps.
pub(crate) const OTHER_CPU: usize = 0;

/// Nothing on this machine should come between.
const NICE: i32 = -20;

/// Keeps this thread on one CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("cannot stay on CPU {cpu}"))
}

/// Puts this thread, and those it starts, before others.
pub(crate) fn hurry() -> Result<()> {
    rustix::process::setpriority_process(None, NICE).context("cannot run before others (are you root?)")
}

/// Takes it back for this thread.
pub(crate) fn step_back() -> Result<()> {
    rustix::process::setpriority_process(None, 0).context("cannot take its place among others")
}

/// Nanoseconds of one time, by sample, after a sample that warms up.
pub(crate) fn samples(workload: &Workload, work: &mut dyn Work, count: u32) -> Result<Vec<f64>> {
    work.repeat(workload.times)?;
    let mut samples = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let start = Instant::now();
        work.repeat(workload.times)?;
        samples.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(workload.times));
    }
    Ok(samples)
}
