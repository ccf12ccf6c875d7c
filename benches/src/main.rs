//! Costs of the hot paths, each against a floor or a peer measured in turn in the same run.
//!
//! `cargo xtask bench NAME --json` runs one of these, built with optimisation.

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::{Map, Value};

mod agent;

mod authority;

mod batch;

mod fleet;

mod ground;

mod ingest;

mod measured;

mod overhead;

mod peers;

mod quantiles;

mod query;

mod rows;

mod syscall;

mod tiny;

mod uplink;

#[derive(Parser)]
#[command(about = "Costs of skep's hot paths")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
    /// One JSON object instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Bench {
    /// What the probes add to things a program does, against empty programs and bpftrace; needs root and two CPUs
    Overhead(overhead::OverheadArguments),
    /// CPU and memory of the agent itself, at rest and under load; needs root
    Agent(agent::AgentArguments),
    /// CPU, memory and latency of the collector with thousands of agents, and hostile ones among them
    Fleet(fleet::FleetArguments),
    /// CPU and disk the collector takes for a sample, against VictoriaMetrics and Prometheus
    Ingest(ingest::IngestArguments),
    /// CPU the collector takes for an answer, against VictoriaMetrics, DuckDB and ClickHouse
    Query(query::QueryArguments),
    /// What the probes add to one getppid(); needs root
    Syscall,
    /// Rows to a sealed, spooled batch and back
    Batch,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let figures = match &cli.bench {
        Bench::Agent(arguments) => agent::run(arguments)?,
        Bench::Fleet(arguments) => fleet::run(arguments)?,
        Bench::Ingest(arguments) => ingest::run(arguments)?,
        Bench::Overhead(arguments) => overhead::run(arguments)?,
        Bench::Query(arguments) => query::run(arguments)?,
        Bench::Syscall => syscall::run()?,
        Bench::Batch => batch::run()?,
    };
    if cli.json {
        println!("{}", Value::Object(figures));
    } else if matches!(cli.bench, Bench::Overhead(_)) {
        print!("{}", overhead::table(&figures));
    } else {
        print(&figures, "");
    }
    Ok(())
}

/// A figure a line, with the names of what it is in before its own.
fn print(figures: &Map<String, Value>, within: &str) {
    for (name, value) in figures {
        match value {
            Value::Object(inner) => print(inner, &format!("{within}{name} ")),
            value => println!("{:<60} {value}", format!("{within}{name}")),
        }
    }
}

/// Smallest of the readings: the one least disturbed by the machine.
fn best(readings: &[f64]) -> f64 {
    rounded(readings.iter().copied().fold(f64::INFINITY, f64::min))
}

/// Three digits after the point.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
