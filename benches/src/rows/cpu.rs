//! Rows of `cpu`.

use std::sync::Arc;

use anyhow::{Context, Result};
use skep_wire::chunk::Builder;
use skep_wire::{tables, v1};

use super::host::{Host, Process};
use super::random::Random;
use super::waits::{Buckets, Waits};

/// What is measured, in the order of [`Row::numbers`]; the rest of a row says of whom and when.
pub(crate) const NUMBERS: [&str; 13] = [
    "on_cpu_ns",
    "slices",
    "voluntary_switches",
    "involuntary_switches",
    "migrations",
    "run_queue_delay_count",
    "run_queue_delay_sum_ns",
    "run_queue_delay_min_ns",
    "run_queue_delay_max_ns",
    "off_cpu_count",
    "off_cpu_sum_ns",
    "off_cpu_min_ns",
    "off_cpu_max_ns",
];

/// One process in one window.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) process: Arc<Process>,
    /// [`NUMBERS`]; `None` where the table holds null.
    pub(crate) numbers: [Option<u64>; 13],
    pub(crate) run_queue_delay: Buckets,
    pub(crate) off_cpu: Buckets,
}

impl Row {
    /// Numbers it holds: what is measured, and a count for each bucket that is not empty.
    pub(crate) fn samples(&self) -> u64 {
        let buckets = self.run_queue_delay.len() + self.off_cpu.len();
        (self.numbers.iter().flatten().count() + buckets) as u64
    }
}

/// One window of every process of `host`.
pub(crate) fn window(host: &mut Host, window_s: f64, distributions: bool) -> Vec<Row> {
    let random = &mut host.random;
    host.processes.iter().map(|process| row(process, random, window_s, distributions)).collect()
}

fn row(process: &Arc<Process>, random: &mut Random, window_s: f64, distributions: bool) -> Row {
    let slices = (process.slices_per_s * window_s * random.log_normal(1.0, 0.5)).round().max(1.0) as u64;
    let voluntary =
        (0..slices.min(64)).filter(|_| random.share() < process.waiting).count() as u64 * slices / slices.min(64);
    let migrations = slices * random.below(8) / 64;
    let on_cpu = slices as f64 * random.log_normal(process.slice_ns, 0.3);
    let delays = Waits::draw(random, slices, process.delay_ns, 1.0);
    let off_cpu = Waits::draw(random, voluntary, 0.9e9 / process.slices_per_s, 1.3);
    Row {
        process: Arc::clone(process),
        numbers: [
            Some(on_cpu as u64),
            Some(slices),
            Some(voluntary),
            Some(slices - voluntary),
            Some(migrations),
            Some(delays.count()),
            Some(delays.sum()),
            delays.min(),
            delays.max(),
            Some(off_cpu.count()),
            Some(off_cpu.sum()),
            off_cpu.min(),
            off_cpu.max(),
        ],
        run_queue_delay: if distributions { delays.buckets() } else { Vec::new() },
        off_cpu: if distributions { off_cpu.buckets() } else { Vec::new() },
    }
}

/// The rows as an agent puts them.
pub(crate) fn chunk(rows: &[Row], time_us: i64, window_s: f64) -> Result<v1::Chunk> {
    let mut chunk = Builder::new(&tables::CPU);
    for row in rows {
        chunk.int("time", time_us).float("window_s", window_s);
        identity(&mut chunk, &row.process);
        // In the table's order, which is cheapest.
        let numbers = || NUMBERS.iter().zip(row.numbers);
        for (name, number) in numbers().take(9) {
            chunk.maybe_int(name, number.map(u64::cast_signed));
        }
        chunk.histogram("run_queue_delay", row.run_queue_delay.iter().copied());
        for (name, number) in numbers().skip(9) {
            chunk.maybe_int(name, number.map(u64::cast_signed));
        }
        chunk.histogram("off_cpu", row.off_cpu.iter().copied()).float("coverage", 1.0).end_row()?;
    }
    chunk.finish().context("a window has rows")
}

/// The columns that say who.
pub(crate) fn identity(chunk: &mut Builder, process: &Process) {
    chunk.count("pid", process.pid).count("start_ns", process.start_ns).text("comm", &process.comm);
    chunk.text("exe", &process.exe).count("uid", process.uid).text("workload", &process.workload);
    chunk.text("cgroup", &process.cgroup).count("cgroup_id", process.cgroup_id);
    chunk.text("unit", &process.unit).text("attribution", "exact");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_adds_up_and_its_chunk_passes_the_collectors_check() {
        let mut host = Host::new("h", 7, 50);
        let rows = window(&mut host, 1.0, true);
        for row in &rows {
            let counted: u64 = row.run_queue_delay.iter().map(|(_, count)| count).sum();
            assert_eq!(Some(counted), row.numbers[5]);
            assert_eq!(row.numbers[1], Some(row.numbers[2].unwrap() + row.numbers[3].unwrap()));
            assert!(row.samples() > 9);
        }
        let chunk = chunk(&rows, 1, 1.0).unwrap();
        assert_eq!(skep_wire::chunk::check(&chunk, &tables::CPU), Ok(0));
    }
}
