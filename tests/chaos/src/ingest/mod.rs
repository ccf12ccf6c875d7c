//! Real collectors under faults, with agents that speak the real protocol over mutual TLS.
//!
//! An episode is one data folder on a small disk, four agents, and a few rounds. A round is one life of a collector with
//! one kind of fault in it: killed at start, killed at work, its connections cut, its disk full, stopped in the middle for
//! a while, or told to end. In some lives its monotonic clocks are ahead, in a time namespace; the wall clock is the
//! host's and cannot be stepped for one process alone, so what steps is the time in the batches, back and forth. After the
//! last round everything is delivered, and each batch must be there once: asked of the collector while it runs, and of its
//! files once it is stopped.

mod agent;

mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;

use skep_chaos_ground::place::{LEFT_BYTES, NODES};
use skep_chaos_ground::{Collector, Dice, Figures, Ground, Proxy};

use self::agent::Agent;
pub(crate) use self::tally::query;
use crate::power;

/// Rounds on one data folder.
const EPISODE: u64 = 10;

/// How long the agents have to get the rest through at the end of an episode.
const SETTLE: Duration = Duration::from_secs(60);

/// What is counted.
const NAMES: [&str; 18] = [
    "rounds",
    "kills",
    "kills_at_start",
    "partitions",
    "full_disks",
    "freezes",
    "stops",
    "clock_steps",
    "connections",
    "batches_resent",
    "rows_acked",
    "rows_stored",
    "rows_lost",
    "rows_doubled",
    "ledger_attempted",
    "ledger_delivered",
    "ledger_lost",
    "ledger_rows_unbalanced",
];

/// Episodes at a time. Most of one is waiting: for a collector to start, for a moment to kill it at.
const LANES: usize = 2;

/// Runs rounds with the seeds from `first_seed` on, and a round of [`power`] for every second.
pub(crate) fn run(first_seed: u64, rounds: u64) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let begun = AtomicU64::new(0);
    let mut figures = Figures::new(first_seed, &NAMES);
    let mut power = Figures::new(first_seed, &power::NAMES);
    let lane = || lane(&runtime, first_seed, rounds, &begun);
    let done: Vec<_> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().map(|lane| lane.join()).collect()
    });
    for lane in done {
        let (ingest, storage) = lane.map_err(|_| anyhow!("a lane of rounds panicked"))?;
        figures.take(&ingest, "");
        power.take(&storage, "");
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    figures.take(&power, "power_");
    Ok(figures)
}

/// One episode after the other, as long as there are any: what the collectors did, and what the rounds of [`power`].
fn lane(runtime: &tokio::runtime::Runtime, first_seed: u64, rounds: u64, begun: &AtomicU64) -> (Figures, Figures) {
    let mut figures = Figures::new(first_seed, &[]);
    let mut power = Figures::new(first_seed, &[]);
    loop {
        let before = begun.fetch_add(EPISODE, Ordering::SeqCst);
        if before >= rounds {
            return (figures, power);
        }
        let (seed, count) = (first_seed.saturating_add(before), EPISODE.min(rounds - before));
        if let Err(error) = episode(runtime, seed, count, &mut figures) {
            figures.violation(&format!("ingest --rounds {count} --seed {seed}"), &format!("{error:#}"));
        }
        for seed in (seed..seed + count).step_by(2) {
            power::round(seed, &mut power);
        }
    }
}

/// One data folder from its first collector to the last count.
fn episode(runtime: &tokio::runtime::Runtime, seed: u64, rounds: u64, figures: &mut Figures) -> Result<()> {
    let ground = Arc::new(Ground::new()?);
    let mut dice = Dice::new(seed);
    let (mut proxies, mut agents) = (Vec::new(), Vec::new());
    for node in NODES {
        let proxy = runtime.block_on(Proxy::listen())?;
        agents.push(Arc::new(Agent::new(node, proxy.address.clone())));
        proxies.push(proxy);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = agents
        .iter()
        .map(|agent| runtime.spawn(Arc::clone(agent).run(Arc::clone(&ground), Arc::clone(&stop))))
        .collect();
    let mut life = Life { ground: &ground, proxies: &proxies, dice: &mut dice, figures };
    let mut result = (0..rounds).try_for_each(|_| life.round());
    if result.is_ok() {
        result = last_life(runtime, &ground, &proxies, &agents, figures);
    }
    stop.store(true, Ordering::SeqCst);
    proxies.iter().for_each(Proxy::close);
    for task in tasks {
        // An agent that does not come back from a dead connection is of no use any more.
        let _ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(2), task).await }).is_ok();
    }
    for agent in &agents {
        figures.add("connections", agent.connections.load(Ordering::SeqCst));
        figures.add("batches_resent", agent.resent.load(Ordering::SeqCst));
        if let Some(wrong) = agent.wrong() {
            figures.add("rows_lost", 1);
            bail!("{wrong}");
        }
    }
    result
}

/// What a round needs.
struct Life<'a> {
    ground: &'a Ground,
    proxies: &'a [Proxy],
    dice: &'a mut Dice,
    figures: &'a mut Figures,
}

impl Life<'_> {
    fn round(&mut self) -> Result<()> {
        self.figures.add("rounds", 1);
        let clock_s = self.dice.one_in(4).then(|| self.dice.between(1, 1_000_000));
        if clock_s.is_some() {
            self.figures.add("clock_steps", 1);
        }
        let mut collector = Collector::spawn(self.ground, clock_s)?;
        let kind = self.dice.below(7);
        if kind == 0 {
            self.rest(5, 400);
            collector.kill();
            self.figures.add("kills_at_start", 1);
            return Ok(());
        }
        collector.ready(self.ground)?;
        self.proxies.iter().for_each(|proxy| proxy.open(&collector.address));
        self.rest(30, 300);
        match kind {
            1 | 2 => self.partition(&collector),
            3 | 4 => self.full_disk(&mut collector)?,
            5 => self.freeze(&collector),
            _ => {}
        }
        let in_order = self.dice.one_in(6);
        ensure!(collector.is_alive(), "the collector ended by itself: {}", self.ground.log());
        if in_order {
            self.ground.empty();
            collector.stop().with_context(|| self.ground.log())?;
            self.figures.add("stops", 1);
        } else {
            collector.kill();
            self.figures.add("kills", 1);
        }
        self.ground.empty();
        self.proxies.iter().for_each(Proxy::close);
        Ok(())
    }

    /// Some agents' connections break, a few times.
    fn partition(&mut self, collector: &Collector) {
        for _ in 0..self.dice.between(1, 3) {
            let cut: Vec<&Proxy> = self.proxies.iter().filter(|_| self.dice.one_in(2)).collect();
            cut.iter().for_each(|proxy| proxy.close());
            self.rest(5, 100);
            cut.iter().for_each(|proxy| proxy.open(&collector.address));
            self.rest(20, 80);
        }
        self.figures.add("partitions", 1);
    }

    /// The disk fills and, more often than not, has room again before the end. A full disk ends no collector.
    fn full_disk(&mut self, collector: &mut Collector) -> Result<()> {
        self.figures.add("full_disks", 1);
        self.ground.fill(self.dice.below(LEFT_BYTES))?;
        self.rest(50, 300);
        ensure!(collector.is_alive(), "a full disk ended the collector: {}", self.ground.log());
        if !self.dice.one_in(3) {
            self.ground.empty();
            self.rest(30, 300);
        }
        Ok(())
    }

    /// The process stands still: to itself, time jumps.
    fn freeze(&mut self, collector: &Collector) {
        self.figures.add("freezes", 1);
        collector.signal(Signal::STOP);
        self.rest(50, 250);
        collector.signal(Signal::CONT);
        self.rest(20, 100);
    }

    fn rest(&mut self, from_ms: u64, to_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.dice.between(from_ms, to_ms)));
    }
}

/// Nothing is against it: the rest comes in, and everything is counted.
fn last_life(
    runtime: &tokio::runtime::Runtime,
    ground: &Ground,
    proxies: &[Proxy],
    agents: &[Arc<Agent>],
    figures: &mut Figures,
) -> Result<()> {
    agents.iter().for_each(|agent| agent.settling.store(true, Ordering::SeqCst));
    let mut collector = Collector::spawn(ground, None)?;
    collector.ready(ground)?;
    proxies.iter().for_each(|proxy| proxy.open(&collector.address));
    let deadline = Instant::now() + SETTLE;
    while !agents.iter().all(|agent| agent.is_settled()) {
        if let Some(wrong) = agents.iter().find_map(|agent| agent.wrong()) {
            bail!("{wrong}");
        }
        ensure!(Instant::now() < deadline, "the agents do not get the rest through: {}", ground.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    runtime.block_on(tally::while_running(ground, &collector.address, agents, figures))?;
    collector.stop().with_context(|| ground.log())?;
    tally::offline(ground, agents)
}
