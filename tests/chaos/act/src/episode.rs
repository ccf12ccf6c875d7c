//! One data folder and one journal, from the first order to the last count; and as many of them as are asked for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use skep_chaos_ground::{Dice, Figures, Ground, Proxy};
use tokio::runtime::Runtime;

use crate::clock::{self, Clock};
use crate::host::Host;
use crate::programs::{Center, Program};
use crate::round::Life;
use crate::tap::Tap;
use crate::{tally, watch};

/// Rounds on one data folder and one journal.
const EPISODE: u64 = 10;

/// Episodes at a time: most of one is waiting.
const LANES: usize = 2;

/// Actions that may stand at a time on the host.
const MAX_CONCURRENT: u64 = 3;

/// Actions that may be begun in an hour, in an episode that is not about that: more than there are.
const PLENTY: u64 = 1_000;

/// What is counted.
const NAMES: [&str; 28] = [
    "rounds",
    "orders",
    "orders_refused",
    "orders_refused_budget",
    "orders_unanswered",
    "undos",
    "extensions",
    "commands_sent",
    "commands_doubled",
    "commands_late",
    "commands_reordered",
    "commands_replayed",
    "refused_replay",
    "refused_expired",
    "refused_clock_skew",
    "refused_budget",
    "refused_occupied",
    "applied",
    "undone",
    "done",
    "kills_collector",
    "kills_executor",
    "kills_agent",
    "stops_executor",
    "partitions",
    "link_cuts",
    "clock_steps",
    "audit_entries",
];

/// Runs rounds with the seeds from `first_seed` on.
pub(crate) fn run(first_seed: u64, rounds: u64) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let begun = AtomicU64::new(0);
    let mut figures = Figures::new(first_seed, &NAMES);
    let lane = || {
        let mut figures = Figures::new(first_seed, &[]);
        loop {
            let before = begun.fetch_add(EPISODE, Ordering::SeqCst);
            if before >= rounds {
                return figures;
            }
            let (seed, count) = (first_seed.saturating_add(before), EPISODE.min(rounds - before));
            if let Err(error) = episode(&runtime, seed, count, &mut figures) {
                figures.violation(&format!("act --rounds {count} --seed {seed}"), &format!("{error:#}"));
            }
        }
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().map(|lane| lane.join()).collect()
    });
    for lane in done {
        figures.take(&lane.map_err(|_| anyhow!("a lane of rounds panicked"))?, "");
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(figures)
}

/// One data folder and one journal, from the first order to the last count.
fn episode(runtime: &Runtime, seed: u64, rounds: u64, figures: &mut Figures) -> Result<()> {
    let _within = runtime.enter();
    let ground = Ground::new()?;
    let mut dice = Dice::new(seed);
    let library = clock::compile(ground.path())?;
    let clock = |name: &str| Clock::new(&library, ground.path(), name);
    let host = Host::new(ground.path(), &format!("{}-{seed}", std::process::id()))?;
    // Now and then the hour's budgets are what is tried.
    let (in_executor, in_collector) = match dice.below(4) {
        0 => (dice.between(6, 12), PLENTY),
        1 => (PLENTY, dice.between(6, 12)),
        _ => (PLENTY, PLENTY),
    };
    let settings = host.executor_settings(MAX_CONCURRENT, in_executor);
    let mut executor = Program::executor(&ground, clock("executor")?, &host.net, &settings)?;
    executor.start().context("the executor")?;
    let mut center = Center::new(&ground, clock("collector")?, in_collector)?;
    let address = center.start(&ground)?;
    let proxy = runtime.block_on(Proxy::listen())?;
    proxy.open(&address);
    let socket = ground.path().join("tap.sock");
    let tap = Tap::listen(&socket, &ground.path().join("executor.sock"), dice.roll())?;
    let mut agent = Program::agent(&ground, clock("agent")?, &proxy.address, &socket)?;
    agent.start().context("the agent")?;

    let (host, up, stop) = (Mutex::new(host), executor.up(), AtomicBool::new(false));
    let mut life = Life {
        runtime,
        ground: &ground,
        host: &host,
        tap: &tap,
        proxy: &proxy,
        center,
        executor,
        agent,
        leased: Vec::new(),
        dice,
        figures,
    };
    let (lived, sight) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch::watch(&host, &tap, &up, &|| stop.load(Ordering::SeqCst)));
        let lived = live(&mut life, rounds);
        stop.store(true, Ordering::SeqCst);
        (lived, watching.join())
    });
    let sight = sight.map_err(|_| anyhow!("whoever watches the host panicked"))?;
    lived?;
    ensure!(sight.overdue.is_empty(), "{}; the executor says: {}", sight.overdue.join("; "), life.executor.log());
    let host = host.lock().unwrap_or_else(PoisonError::into_inner);
    let limits = tally::Limits { concurrent: MAX_CONCURRENT, in_executor, in_collector };
    tally::of_the_host(&tap.log(), &host, &sight, limits, life.figures)?;
    tally::of_the_chain(&ground, &tap.log(), life.figures)?;
    tally::of_the_tables(&ground, &tap.log())
}

/// All rounds, and what comes after them, until nobody runs.
fn live(life: &mut Life<'_>, rounds: u64) -> Result<()> {
    life.connected()?;
    for _ in 0..rounds {
        life.round()?;
    }
    life.calm()?;
    life.replay_everything()?;
    life.still_works()?;
    life.all_is_over()?;
    life.told()?;
    life.end()
}

/// Asks until there is an answer.
pub(crate) fn eventually<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "no {what} within {patience:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
