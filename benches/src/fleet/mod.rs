//! Many agents at one collector: what they take, and what a few hostile ones among them change for the rest.
//!
//! Every agent has its own certificate and its own connection, sends a window's batch every ten seconds at a moment of
//! its own, a heartbeat in between, and waits for its acknowledgement.

mod batch;

mod crowd;

mod hostile;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value, json};

use crate::ground::{Collector, Ground};
use crate::ingest::report::at_most;
use crate::{quantiles, rounded};
use batch::Template;
use crowd::Crowd;
use hostile::{Hostile, Manner};

/// How long the collector may take to end: it writes what it has in memory.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many there are, and for how long.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench fleet --agents 2000 --json\n  \
    cargo xtask bench fleet --agents 2000 --hostile 100 --json\n  cargo xtask bench fleet --agents 100 --seconds 20")]
pub(crate) struct FleetArguments {
    /// Agents
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    agents: u64,
    /// Length of each phase; whole windows of 10 s tell most
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=3600))]
    seconds: u64,
    /// Processes on each of their hosts
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=5_000))]
    processes: u64,
    /// After a phase without, a phase with this many more that send garbage, batches again and again and huge ones, and
    /// do not read
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1000))]
    hostile: u64,
    /// Only those of this manner; may be repeated
    #[arg(long, value_enum, requires = "hostile")]
    manner: Vec<Manner>,
}

/// Figures by phase; progress goes to stderr.
pub(crate) fn run(arguments: &FleetArguments) -> Result<Map<String, Value>> {
    allow_connections()?;
    let ground = Ground::new()?;
    let mut collector = ground.serve()?;
    let alone = collector.process.resident_bytes()?;
    let templates = Arc::new(Template::some(usize::try_from(arguments.processes)?)?);
    let mut figures = Map::new();
    figures.insert("agents".to_owned(), json!(arguments.agents));
    figures.insert(
        "rows_a_batch".to_owned(),
        json!(templates.iter().map(Template::rows).sum::<u64>() / templates.len() as u64),
    );

    eprintln!("{} agents connect ...", arguments.agents);
    let (start, cpu) = (Instant::now(), collector.process.cpu()?);
    let crowd = Crowd::connect(&ground, &collector, arguments.agents)?;
    let connect = json!({
        "seconds": rounded(start.elapsed().as_secs_f64()),
        "cpu_ms_an_agent": rounded((collector.process.cpu()? - cpu).as_secs_f64() * 1e3 / arguments.agents as f64),
        "rss_bytes_alone": alone,
        "rss_bytes_an_agent": collector.process.resident_bytes()?.saturating_sub(alone) / arguments.agents,
    });
    figures.insert("connect".to_owned(), connect);

    let crowd = crowd.begin(&templates);
    let time = Duration::from_secs(arguments.seconds);
    // Everybody's first window passes before anything is measured.
    crowd.gather(batch::WINDOW)?;
    figures.insert("alone".to_owned(), phase("alone", &crowd, &collector, time)?);
    if arguments.hostile > 0 {
        let hostile = Hostile::begin(&ground, &collector, (arguments.hostile, &arguments.manner), &templates)?;
        let mut with = phase("among_hostile", &crowd, &collector, time)?;
        with["hostile"] = hostile.end();
        figures.insert("among_hostile".to_owned(), with);
    }
    collector.process.check().with_context(|| ground.log())?;
    let sent = crowd.end()?;
    let peak = collector.process.peak_bytes()?;
    figures.insert("peak_rss_bytes".to_owned(), json!(peak));
    let life = collector.process.stop(PATIENCE)?;
    figures.insert("cpu_s_to_the_end".to_owned(), json!(rounded(life.cpu.as_secs_f64())));
    let stored = crate::ground::live_rows(&ground.table("cpu"))?;
    // Of hostile ones, too, what could be stored is.
    ensure!(stored >= sent, "{sent} rows of cpu were acknowledged and {stored} are stored: {}", ground.log());
    figures.insert("cpu_rows".to_owned(), json!({ "acknowledged": sent, "stored": stored }));
    let goals = goals(&figures, peak);
    figures.insert("goals".to_owned(), Value::Object(goals));
    Ok(figures)
}

fn phase(name: &str, crowd: &crowd::Running, collector: &Collector, time: Duration) -> Result<Value> {
    eprintln!("{name} ...");
    crowd.take();
    let (start, cpu) = (Instant::now(), collector.process.cpu()?);
    crowd.gather(time)?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = (collector.process.cpu()? - cpu).as_secs_f64();
    let taken = crowd.take();
    Ok(json!({
        "seconds": rounded(seconds),
        "cores": rounded(cpu / seconds),
        "cpu_us_a_batch": rounded(cpu * 1e6 / taken.len().max(1) as f64),
        "rss_bytes": collector.process.resident_bytes()?,
        "ack": quantiles::of(taken),
    }))
}

fn goals(figures: &Map<String, Value>, peak: u64) -> Map<String, Value> {
    let of = |phase: &str, key: &str| figures.get(phase).and_then(|of| of[key].as_f64());
    let p99 = |phase: &str| figures.get(phase).and_then(|of| of["ack"]["p99_ms"].as_f64());
    let goals = [
        at_most("cores", of("alone", "cores"), 1.0),
        at_most("peak_rss_gb", Some(rounded(peak as f64 / 1e9)), 1.0),
        at_most("ack_p99_ms", p99("alone"), 1000.0),
        at_most("ack_p99_ms_among_hostile", p99("among_hostile"), 1000.0),
    ];
    goals.into_iter().flatten().collect()
}

/// As many open files as may be: every agent is a connection at both ends.
fn allow_connections() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("cannot open more files")
}
