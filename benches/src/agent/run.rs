//! The phases.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::collector::Collector;
use super::load::{self, Crowd};
use super::phase::measure;
use super::subject::Agent;
use crate::{rounded, tiny};

const CALLS_PER_S: u32 = 100_000;
const EXECS_PER_S: u32 = 2_000;
const PROCESSES: usize = 5_000;

/// A window and a bit: afterwards the agent has been through all it does.
const SETTLE: Duration = Duration::from_secs(12);

/// How long the agent may take to send its first batch.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AgentArguments {
    /// Length of each phase; whole windows of 10 s tell most
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

/// Figures by phase; progress goes to stderr.
pub(crate) fn run(arguments: &AgentArguments) -> Result<Map<String, Value>> {
    let time = Duration::from_secs(arguments.seconds);
    let folder = tempfile::tempdir()?;
    let program = tiny::write_exit(folder.path())?;
    let collector = Collector::start()?;
    let mut agent = Agent::start(&collector)?;
    eprintln!("start ...");
    let started = wait_for_batch(&mut agent, &collector)?;
    std::thread::sleep(SETTLE);
    let start_peak = agent.memory()?.peak;

    let mut phases = Map::new();
    let mut phase = |name: &str, load: &mut dyn FnMut() -> Result<Option<f64>>| -> Result<()> {
        let figures = measure(name, &mut agent, &collector, load)?;
        phases.insert(name.to_owned(), figures);
        Ok(())
    };
    phase("at_rest", &mut || {
        std::thread::sleep(time);
        Ok(None)
    })?;
    phase("calls", &mut || load::paced(CALLS_PER_S, time, load::call).map(Some))?;
    phase("execs", &mut || load::paced(EXECS_PER_S, time, || load::exec(&program)).map(Some))?;
    let crowd = Crowd::start(folder.path(), PROCESSES)?;
    std::thread::sleep(SETTLE);
    phase("crowd", &mut || {
        std::thread::sleep(time);
        Ok(None)
    })?;
    drop(crowd);
    agent.stop()?;
    Ok(figures(started, start_peak, phases))
}

/// Returns how long the agent took.
fn wait_for_batch(agent: &mut Agent, collector: &Collector) -> Result<Duration> {
    let start = Instant::now();
    while collector.taken.batches.load(Ordering::Relaxed) == 0 {
        agent.check()?;
        ensure!(start.elapsed() < PATIENCE, "the agent sent nothing in {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(start.elapsed())
}

fn figures(started: Duration, start_peak: u64, mut phases: Map<String, Value>) -> Map<String, Value> {
    let of = |phase: &str, key: &str| phases[phase][key].as_f64().unwrap_or(f64::NAN);
    let steady = of("at_rest", "rss_bytes");
    // Maps have their own figure.
    let without_maps = |phase: &Value| Some(phase["peak_rss_bytes"].as_f64()? - phase["rss_of_maps_bytes"].as_f64()?);
    let highest = phases.values().filter_map(without_maps).fold(0.0, f64::max);
    let start = json!({
        "first_batch_s": rounded(started.as_secs_f64()),
        "peak_rss_bytes": start_peak,
        "steady_rss_bytes": steady,
    });
    let goals = [
        ("cpu_at_rest_percent", of("at_rest", "cpu_percent_of_a_core"), 0.5),
        ("cpu_at_100k_calls_percent", of("calls", "cpu_percent_of_a_core"), 1.5),
        ("highest_rss_without_maps_mb", highest / 1e6, 60.0),
        ("start_peak_over_steady", start_peak as f64 / steady, 1.3),
    ];
    let goals = goals.map(|(name, found, most)| {
        (name.to_owned(), json!({ "found": rounded(found), "at_most": most, "met": found <= most }))
    });
    let mut all = Map::new();
    all.insert("kernel".to_owned(), json!(rustix::system::uname().release().to_string_lossy()));
    all.insert("start".to_owned(), start);
    all.append(&mut phases);
    all.insert("goals".to_owned(), Value::Object(goals.into_iter().collect()));
    all
}
