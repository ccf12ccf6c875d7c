//! What it takes to take in and keep a sample: the real collector, fed as an agent feeds it, and its peers.
//!
//! A sample is one number that was measured: a value of one of the thirteen measured columns of `cpu`
//! ([`cpu::NUMBERS`], nulls are none), or the count of one bucket of a distribution that is not empty. Times, identities
//! and coverage are no samples. To a peer a sample is a sample: one value of one series at one time.
//!
//! CPU is that of the server's process from when it listens to its clean end, by which everything is in its files; the
//! generator is another process and does not count.

mod ours;

pub(crate) mod report;

mod subjects;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::rows::{Host, Windows, cpu, last_hour_us};

/// Seed of the host all subjects are fed.
const SEED: u64 = 11;

/// Name of that host.
const NODE: &str = "bench";

/// How much is fed to whom.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "A sample is one measured number: a value of one of cpu's thirteen measured columns, or the count \
    of one bucket that is not empty. Times, identities and coverage are none.\n\n\
    Examples:\n  cargo xtask bench ingest --json --peers\n  cargo xtask bench ingest --window-s 1 --rounds 1"
)]
pub(crate) struct IngestArguments {
    /// Rows of `cpu`, a process and window each; without this, an hour of them
    #[arg(long, value_parser = clap::value_parser!(u64).range(500..=100_000_000))]
    rows: Option<u64>,
    /// Length of a window, seconds; the default is that of agents
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    window_s: u64,
    /// Processes at a time
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    processes: u64,
    /// Times each is measured, in turn with the others
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Feed the same samples to VictoriaMetrics and Prometheus too, which takes them some five minutes a round: each bucket
    /// is a series of theirs
    #[arg(long)]
    peers: bool,
    /// What rows hold
    #[arg(long, default_value = "whole")]
    workload: Workload,
}

/// What the rows hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Workload {
    /// The thirteen measured columns without the distributions, which is nothing agents send
    Numbers,
    /// What agents send
    Whole,
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Self::Numbers => "numbers",
            Self::Whole => "whole",
        }
    }
}

impl IngestArguments {
    fn windows(&self) -> Result<Windows> {
        Ok(Windows {
            host: Host::new(NODE, SEED, usize::try_from(self.processes)?),
            window_s: self.window_s as f64,
            distributions: self.workload == Workload::Whole,
            time_us: last_hour_us()?,
            left: self.rows.map_or(3600 / self.window_s, |rows| rows.div_ceil(self.processes)),
        })
    }
}

/// Figures of the workload; progress goes to stderr.
pub(crate) fn run(arguments: &IngestArguments) -> Result<Map<String, Value>> {
    let rounds = subjects::rounds(arguments)?;
    let mut figures = Map::new();
    figures.insert(
        "sample".to_owned(),
        json!(format!("a value of {} or the count of one bucket", cpu::NUMBERS.join(", "))),
    );
    figures.insert("batch_rows".to_owned(), json!(arguments.processes));
    figures.insert("window_s".to_owned(), json!(arguments.window_s));
    figures.insert("workloads".to_owned(), json!({ arguments.workload.name(): report::of(&rounds) }));
    Ok(figures)
}
