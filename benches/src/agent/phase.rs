//! What the agent takes while something goes on.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::collector::Collector;
use super::subject::Agent;
use crate::rounded;

/// Measures the agent while `load` runs, which returns what a second of it held, if it holds anything.
pub(crate) fn measure(
    name: &str,
    agent: &mut Agent,
    collector: &Collector,
    load: impl FnOnce() -> Result<Option<f64>>,
) -> Result<Value> {
    eprintln!("{name} ...");
    agent.forget_peak()?;
    let (cpu, busy, start) = (agent.cpu_time()?, host_busy()?, Instant::now());
    let bytes = collector.taken.bytes.load(Ordering::Relaxed);
    let reached = load()?;
    agent.check()?;
    let seconds = start.elapsed().as_secs_f64();
    let percent = |time: Duration| rounded(100.0 * time.as_secs_f64() / seconds);
    let memory = agent.memory()?;
    Ok(json!({
        "seconds": rounded(seconds),
        "cpu_percent_of_a_core": percent(agent.cpu_time()? - cpu),
        "rss_bytes": memory.resident,
        "rss_anonymous_bytes": memory.anonymous,
        "rss_of_maps_bytes": memory.maps,
        "peak_rss_bytes": memory.peak,
        "map_bytes": agent.map_bytes()?,
        "sent_bytes_per_s": rounded((collector.taken.bytes.load(Ordering::Relaxed) - bytes) as f64 / seconds),
        "reached_per_s": reached.map(rounded),
        // All programs on all CPUs: says whether anything else went on.
        "host_busy_percent_of_a_core": percent(host_busy()?.saturating_sub(busy)),
    }))
}

/// Time all CPUs together have worked since boot.
fn host_busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // User, nice, system; idle and waiting for disks are 3 and 4; then interrupts and time that was stolen.
    let busy: u64 =
        ticks.iter().enumerate().filter(|(index, _)| ![3, 4, 8, 9].contains(index)).map(|(_, ticks)| ticks).sum();
    Ok(Duration::from_secs_f64(busy as f64 / rustix::param::clock_ticks_per_second() as f64))
}
