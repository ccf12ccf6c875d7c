//! The collector's storage on a disk that loses power, fills up, fails syncs and rots.
//!
//! A round is a few lives of a collector on one disk. Each life ends in its own way: by a power cut at some operation, by
//! a kill that leaves the cache, by a sync that fails, or in order. The last one has nothing against it; after it, every
//! batch must be there once, and nothing may be missing that was acknowledged. Where a bit of the WAL was flipped while
//! nobody ran, the batch it was in may be missing, and no other, and must have been named by a start or by a hello.

mod agents;

mod collector;

mod keep;

mod rot;

mod rows;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use skep_collector::wal::Damage;
use skep_seglog::Storage;
use skep_seglog::sim::SimDisk;

use self::agents::Agent;
use self::collector::{Collector, DATA, Ended};
use self::rot::{Batch, Rot};
use crate::batch::{ROWS, ROWS_A_BATCH};
use skep_chaos_ground::{Dice, Figures};

/// What is counted.
pub(crate) const NAMES: [&str; 13] = [
    "rounds",
    "lives",
    "power_cuts",
    "kills",
    "sync_failures",
    "full_disks",
    "flipped_bits",
    "tables_merged",
    "rows_acked",
    "rows_stored",
    "rows_lost",
    "rows_doubled",
    "rows_missing_and_reported",
];

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The disk stops at some operation.
    PowerCut,
    /// The process goes, the cache stays.
    Kill,
    /// One sync fails, and the process ends by itself if it was one of the WAL.
    SyncFailure,
}

/// Runs rounds with the seeds from `first_seed` on.
pub(crate) fn run(first_seed: u64, rounds: u64) -> Figures {
    let mut figures = Figures::new(first_seed, &NAMES);
    for seed in first_seed..first_seed.saturating_add(rounds) {
        round(seed, &mut figures);
    }
    figures
}

/// One round; what is wrong is in the figures.
pub(crate) fn round(seed: u64, figures: &mut Figures) {
    figures.add("rounds", 1);
    let mut round = Round::new(seed);
    if let Err(error) = round.run(figures) {
        figures.violation(&format!("power --rounds 1 --seed {seed}"), &format!("{error:#}"));
    }
}

struct Round {
    dice: Dice,
    disk: SimDisk,
    agents: Vec<Agent>,
    /// What was flipped.
    rot: Rot,
    /// Batches that were said to be gone, by a start or after a hello.
    named: BTreeSet<Batch>,
    /// What must not be, and was noticed in the middle of a life.
    wrong: Option<String>,
}

impl Round {
    fn new(seed: u64) -> Self {
        let agents = ["a", "b", "c"].map(Agent::new).into();
        let (dice, disk) = (Dice::new(seed), SimDisk::default());
        Self { dice, disk, agents, rot: Rot::default(), named: BTreeSet::new(), wrong: None }
    }

    fn run(&mut self, figures: &mut Figures) -> Result<()> {
        self.disk.create_dir(Path::new(DATA))?;
        for _ in 0..self.dice.between(2, 6) {
            let fate = match self.dice.below(5) {
                0 => Fate::Kill,
                1 => Fate::SyncFailure,
                _ => Fate::PowerCut,
            };
            figures.add("lives", 1);
            self.life(fate, figures)?;
            self.right()?;
            if self.dice.one_in(8) && self.rot.flip(&self.disk, &mut self.dice)? {
                figures.add("flipped_bits", 1);
            }
        }
        figures.add("lives", 1);
        self.last_life(figures)?;
        self.right()
    }

    fn right(&self) -> Result<()> {
        self.wrong.as_ref().map_or(Ok(()), |wrong| Err(anyhow!("{wrong}")))
    }

    /// One life with its fate. An error is a violation; what fails because the disk does is none.
    fn life(&mut self, fate: Fate, figures: &mut Figures) -> Result<()> {
        let work = if fate == Fate::PowerCut {
            let done = self.dice.one_in(2);
            let operations = self.dice.between(1, 400);
            self.disk.cut_after(operations, done);
            u64::MAX
        } else {
            self.dice.between(1, 12)
        };
        let ended = match Collector::start(&self.disk) {
            Ok(mut collector) => self.work(&mut collector, work, fate, figures)?,
            Err(error) => Some(error),
        };
        self.disk.fail_next_sync(false);
        match (fate, ended) {
            (Fate::PowerCut, _) if self.disk.is_off() => figures.add("power_cuts", 1),
            (Fate::PowerCut, error) => {
                return Err(error
                    .unwrap_or_else(|| anyhow!("no more work"))
                    .context("the power is on, and the collector ended"));
            }
            (Fate::Kill, Some(error)) => return Err(error.context("a healthy disk, and the collector ended")),
            (Fate::Kill, None) => figures.add("kills", 1),
            (Fate::SyncFailure, _) => figures.add("sync_failures", 1),
        }
        // After a sync that failed the machine may well go down too: what the cache holds is then worth nothing.
        if fate == Fate::PowerCut || self.dice.one_in(3) {
            let dice = &mut self.dice;
            self.disk.power_on(&mut |n| dice.below(n));
        }
        Ok(())
    }

    /// Batches, flushes and full disks until the power goes or the work is done. Returns why the collector ended.
    fn work(
        &mut self,
        collector: &mut Collector,
        work: u64,
        fate: Fate,
        figures: &mut Figures,
    ) -> Result<Option<anyhow::Error>> {
        if let Err(Ended(error)) = self.welcome(collector) {
            return Ok(Some(error));
        }
        let failing = self.dice.between(0, 8);
        for step in 0..work {
            if self.disk.is_off() {
                return Ok(Some(anyhow!("the power went")));
            }
            if fate == Fate::SyncFailure && step == failing {
                self.disk.fail_next_sync(true);
            }
            let full = self.dice.one_in(10);
            if full {
                figures.add("full_disks", 1);
                self.disk.set_free(Some(self.dice.below(6000)));
            }
            let is_sound = !full && fate != Fate::SyncFailure;
            let done =
                if self.dice.one_in(3) { self.flush(collector, is_sound, figures) } else { self.send(collector) };
            self.disk.set_free(None);
            match done {
                Ok(()) => {}
                Err(Ended(error)) => {
                    let by_full = full && fate == Fate::Kill;
                    ensure!(!by_full, "a full disk ended the collector: {error:#}");
                    return Ok(Some(error));
                }
            }
        }
        Ok(None)
    }

    /// Every agent says hello to a collector that has just started.
    fn welcome(&mut self, collector: &mut Collector) -> Result<(), Ended> {
        for damage in &collector.damage {
            if let Damage::Gone { key, from, to } = damage {
                self.name(&key.node, *from..=*to, "a start");
            }
        }
        self.agents.iter_mut().for_each(|agent| agent.is_connected = false);
        self.connect(collector)
    }

    /// Every agent without a session says hello. A collector that does not know of what it acknowledged has lost it.
    fn connect(&mut self, collector: &mut Collector) -> Result<(), Ended> {
        for at in 0..self.agents.len() {
            if !self.agents[at].is_connected {
                let durable_seq = collector.durable_seq(&self.agents[at].key())?;
                let gone = self.agents[at].resume(durable_seq);
                let node = self.agents[at].node.clone();
                self.name(&node, gone, "a hello");
            }
        }
        Ok(())
    }

    /// These batches are said to be gone. Only those may be in which a bit was flipped.
    fn name(&mut self, node: &str, gone: RangeInclusive<u64>, by: &str) {
        for seq in gone.clone() {
            let batch = (node.to_owned(), seq);
            if !self.rot.batches.contains(&batch) {
                self.wrong = Some(format!("{by} says that batches {gone:?} of {node} are gone, and {seq} is sound"));
            }
            self.named.insert(batch);
        }
    }

    fn send(&mut self, collector: &mut Collector) -> Result<(), Ended> {
        self.connect(collector)?;
        let mut group = Vec::new();
        let mut senders = Vec::new();
        for (at, agent) in self.agents.iter_mut().enumerate() {
            let new = self.dice.below(4);
            let batches = agent.send(&mut self.dice, new).map_err(|error| Ended(error.into()))?;
            senders.extend(std::iter::repeat_n(at, batches.len()));
            group.extend(batches);
        }
        let (outcomes, ended) = collector.store(group);
        // In order, and what follows a refused batch is refused for coming early: the last word counts.
        for (at, outcome) in senders.into_iter().zip(&outcomes) {
            self.agents[at].hear(outcome.as_ref());
        }
        ended
    }

    /// As the flusher does it, with batches coming in between, and the keeper behind it.
    fn flush(&mut self, collector: &mut Collector, is_sound: bool, figures: &mut Figures) -> Result<(), Ended> {
        let before = collector.seal()?;
        if self.dice.one_in(2) {
            self.send(collector)?;
        }
        if collector.flush().is_ok() {
            if self.dice.one_in(4) {
                self.send(collector)?;
            }
            collector.remove(before)?;
            if self.dice.one_in(2) {
                match collector.keep(&self.disk) {
                    Ok(merged) => figures.add("tables_merged", merged),
                    Err(error) if is_sound && !self.disk.is_off() => return Err(Ended(error.context("upkeep"))),
                    // What fails because the disk does is made good the next time.
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Nothing is against it: everything that was made comes in, and is counted, before and after a flush and in a life
    /// after that.
    fn last_life(&mut self, figures: &mut Figures) -> Result<()> {
        let mut collector = Collector::start(&self.disk)?;
        self.welcome(&mut collector).map_err(|Ended(error)| error)?;
        for _ in 0..3 {
            self.send(&mut collector).map_err(|Ended(error)| error)?;
        }
        for agent in &self.agents {
            ensure!(agent.acked == agent.made, "{}: {} of {} are acknowledged", agent.node, agent.acked, agent.made);
        }
        self.count(&collector, "before the flush", figures)?;
        let before = collector.seal().map_err(|Ended(error)| error)?;
        collector.flush()?;
        collector.remove(before).map_err(|Ended(error)| error)?;
        self.count(&collector, "after the flush", figures)?;
        figures.add("tables_merged", collector.keep(&self.disk)?);
        self.count(&collector, "after the upkeep", figures)?;
        drop(collector);
        let mut dice = self.dice.clone();
        self.disk.power_on(&mut |n| dice.below(n));
        let collector = Collector::start(&self.disk)?;
        let sums = self.count(&collector, "after all", figures)?;
        let acked: u64 = self.agents.iter().map(|agent| agent.acked).sum();
        figures.add("rows_acked", acked * ROWS_A_BATCH);
        figures.add("rows_stored", sums.stored);
        figures.add("rows_missing_and_reported", sums.missing);
        Ok(())
    }

    /// Every batch that was made is there once, but for those that were named. Those may be there all the same: when the
    /// bit was flipped, their rows were in Parquet already.
    fn count(&self, collector: &Collector, when: &str, figures: &mut Figures) -> Result<Sums> {
        let (mut sums, mut doubled, mut strange) = (Sums::default(), 0, 0);
        let mut missing = BTreeSet::new();
        for (table, rows_a_batch) in ROWS {
            let mut rows = rows::of(table, &collector.store, &self.disk)?;
            for agent in &self.agents {
                for seq in 1..=agent.made {
                    let batch = (agent.node.clone(), seq);
                    let there = rows.remove(&batch).unwrap_or(0);
                    sums.stored += there;
                    doubled += there.saturating_sub(rows_a_batch);
                    if there < rows_a_batch {
                        sums.missing += rows_a_batch - there;
                        missing.insert(batch);
                    }
                }
            }
            strange += rows.len();
        }
        ensure!(strange == 0, "{when}: {strange} batches that nobody sent");
        figures.add("rows_doubled", doubled);
        ensure!(doubled == 0, "{when}: {doubled} rows are there twice");
        missing.retain(|batch| !self.named.contains(batch));
        if !missing.is_empty() {
            figures.add("rows_lost", sums.missing);
            bail!("{when}: {missing:?} are missing and nobody said so; bits were flipped in {:?}", self.rot.batches);
        }
        Ok(sums)
    }
}

/// Rows of all tables.
#[derive(Debug, Default)]
struct Sums {
    stored: u64,
    missing: u64,
}
