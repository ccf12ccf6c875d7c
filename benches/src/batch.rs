//! A window of 500 processes: columns, compression, spool, and the collector's check of it.

use std::time::Instant;

use anyhow::{Context, Result};
use prost::Message;
use serde_json::{Map, Value, json};
use skep_common::bucket;
use skep_seglog::{Disk, Log, Options};
use skep_wire::envelope::{self, Origin};
use skep_wire::{chunk, tables, v1};

use crate::best;

const PROCESSES: u64 = 500;
const ROUNDS: usize = 30;

/// Figures in microseconds of one core a row, and bytes a row.
pub(crate) fn run() -> Result<Map<String, Value>> {
    let folder = tempfile::tempdir()?;
    let (mut log, _) = Log::open(Disk, folder.path(), Options::default())?;
    let (mut build, mut seal, mut append, mut open) = (vec![], vec![], vec![], vec![]);
    let mut bytes = 0;
    for round in 0..ROUNDS as u64 {
        let start = Instant::now();
        let batch = v1::Batch { sealed_us: 1, chunks: vec![window(round)?], deliveries: Vec::new() };
        build.push(per_row(start));
        let start = Instant::now();
        let envelope = envelope::seal(origin(round), &batch)?;
        seal.push(per_row(start));
        let encoded = envelope.encode_to_vec();
        bytes = encoded.len();
        let start = Instant::now();
        log.append(&encoded)?;
        append.push(per_row(start));
        let start = Instant::now();
        let back = envelope::open(&envelope)?;
        for part in &back.chunks {
            chunk::check(part, tables::find(&part.table).context("a known table")?)?;
        }
        open.push(per_row(start));
    }
    let mut figures = Map::new();
    figures.insert("rows".to_owned(), json!(PROCESSES));
    for (name, readings) in [("build_us", build), ("seal_us", seal), ("append_us", append), ("open_and_check_us", open)]
    {
        figures.insert(format!("{name}_per_row"), json!(best(&readings)));
    }
    figures.insert("bytes_per_row".to_owned(), json!(bytes as f64 / PROCESSES as f64));
    Ok(figures)
}

fn per_row(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / PROCESSES as f64
}

fn origin(seq: u64) -> Origin {
    Origin { node: "node".to_owned(), boot: "b".repeat(36), stream: "5".repeat(32), seq: seq + 1 }
}

/// One window of `cpu`, with run-queue delays spread over a dozen buckets a process.
fn window(round: u64) -> Result<v1::Chunk> {
    let mut rows = chunk::Builder::new(&tables::CPU);
    for pid in 0..PROCESSES {
        let noise = (pid * 2_654_435_761 + round * 40_503) % 997;
        rows.count("time", round * 10_000_000).float("window_s", 10.0);
        rows.count("pid", 1000 + pid).count("start_ns", pid * 1_000_003).text("comm", &format!("worker-{}", pid % 60));
        rows.text("workload", &format!("unit:service-{}.service", pid % 40)).text("attribution", "exact");
        rows.count("on_cpu_ns", 1_000_000 + noise * 1_713).count("slices", 100 + noise);
        rows.count("voluntary_switches", 90 + noise).count("involuntary_switches", 10);
        rows.count("run_queue_delay_count", 100 + noise).count("run_queue_delay_sum_ns", noise * 12_345);
        let first = bucket::index(2_000);
        rows.histogram("run_queue_delay", (0..12).map(|i| (first + 3 * i, 1 + noise / u64::from(i + 1))));
        rows.float("coverage", 1.0);
        rows.end_row()?;
    }
    rows.finish().context("a window has rows")
}
