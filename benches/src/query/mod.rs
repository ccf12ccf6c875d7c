//! What answers take: the real collector with an hour of every second and a day of every ten in its files, asked as
//! `skep query` asks, and others that hold the same.
//!
//! CPU is that of the server's process while it answers, every thread of it: what was stored is put in order first.

mod ask;

mod engines;

mod fill;

mod settle;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::ground::Ground;
use crate::ingest::report::at_most;
use crate::quantiles::median;
use crate::{best, rounded};
use ask::Asker;
use fill::Filled;

/// How much there is, and how often it is asked for.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench query --json --peers\n  \
    cargo xtask bench query --minutes 5 --hours 2 --times 5")]
pub(crate) struct QueryArguments {
    /// Length of the history of every second
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=60))]
    minutes: u64,
    /// Length of the history of every ten seconds
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=240))]
    hours: u64,
    /// Processes at a time
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    processes: u64,
    /// How often each statement is asked, after once to warm up
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,
    /// Ask VictoriaMetrics, DuckDB and ClickHouse (chdb) for the busiest processes too
    #[arg(long)]
    peers: bool,
}

/// Figures by question; progress goes to stderr.
pub(crate) fn run(arguments: &QueryArguments) -> Result<Map<String, Value>> {
    let ground = Ground::new()?;
    let mut collector = ground.serve()?;
    let filled = fill::fill(arguments, &ground, &collector)?;
    let settled = settle::wait(&collector.process)?;
    let asker = Asker::connect(&ground, &collector)?;
    let mut figures = Map::new();
    for (name, sql) in filled.questions() {
        eprintln!("{name} ...");
        let readings = asker.ask(&sql, arguments.times).with_context(|| format!("{name}: {sql}"))?;
        figures.insert(name.to_owned(), readings);
    }
    for (name, sql) in filled.streamed() {
        eprintln!("{name} ...");
        figures.insert(name.to_owned(), asker.first_row(&sql, arguments.times)?);
    }
    let busiest = asker.rows(&filled.busiest())?;
    figures.insert("peak_rss_bytes".to_owned(), json!(collector.process.peak_bytes()?));
    drop(asker);
    collector.process.check().with_context(|| ground.log())?;
    if arguments.peers {
        let peers = engines::all(arguments, &ground, &filled, &busiest)?;
        figures.insert("peers".to_owned(), Value::Object(peers));
    }
    figures.insert("data".to_owned(), fill::about(&ground)?);
    figures.insert("settled".to_owned(), json!(settled));
    let goals = goals(&figures);
    figures.insert("goals".to_owned(), Value::Object(goals));
    Ok(figures)
}

/// Milliseconds, of which the smallest is the least disturbed.
fn of_readings(cpu_ms: &[f64], wall_ms: &[f64]) -> Value {
    json!({
        "cpu_ms": { "best": best(cpu_ms), "median": rounded(median(cpu_ms)) },
        "wall_ms": { "best": best(wall_ms), "median": rounded(median(wall_ms)) },
    })
}

fn goals(figures: &Map<String, Value>) -> Map<String, Value> {
    let best = |name: &str, key: &str| figures.get(name).and_then(|of| of[key]["best"].as_f64());
    let ours = best("busiest_hour", "cpu_ms");
    let peer = |name: &str| figures.get("peers").and_then(|peers| peers[name]["cpu_ms"]["best"].as_f64());
    let over = |name: &str| Some(rounded(ours? / peer(name)?));
    let goals = [
        at_most("busiest_hour_over_victoria_metrics", over("victoria_metrics"), 0.5),
        at_most("busiest_hour_over_duckdb", over("duckdb"), 1.3),
        at_most("syscall_p99_hour_cpu_ms", best("syscall_p99_hour", "cpu_ms"), 250.0),
        at_most("one_process_day_cpu_ms", best("one_process_day", "cpu_ms"), 50.0),
        at_most("first_row_ms", figures.get("first_row").and_then(|of| of["wall_ms"]["median"].as_f64()), 100.0),
    ];
    goals.into_iter().flatten().collect()
}

impl Filled {
    /// What is asked over gRPC, the whole answer taken.
    fn questions(&self) -> [(&'static str, String); 3] {
        let syscalls = format!(
            "SELECT pid, start_ns, hist_quantile(latency, 0.99) AS p99_ns FROM syscalls WHERE {} GROUP BY pid, start_ns",
            self.hour()
        );
        let process = format!(
            "SELECT time, on_cpu_ns, run_queue_delay_sum_ns FROM cpu WHERE {} AND pid = {} AND start_ns = {} ORDER BY time",
            self.day(),
            self.pid,
            self.start_ns
        );
        [("busiest_hour", self.busiest()), ("syscall_p99_hour", syscalls), ("one_process_day", process)]
    }

    /// The processes that were busiest in their busiest seconds.
    fn busiest(&self) -> String {
        format!(
            "SELECT pid, start_ns, percentile_cont(on_cpu_ns, 0.99) AS p99_ns FROM cpu WHERE {} \
             GROUP BY pid, start_ns ORDER BY p99_ns DESC LIMIT 10",
            self.hour()
        )
    }

    /// What the command line is asked, until the first row is there.
    fn streamed(&self) -> [(&'static str, String); 2] {
        let all = format!("SELECT time, pid, comm, on_cpu_ns FROM cpu WHERE {}", self.hour());
        [("first_row", all), ("first_row_of_busiest_hour", self.busiest())]
    }
}
