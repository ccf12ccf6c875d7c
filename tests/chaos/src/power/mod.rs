//! The collector's storage on a disk that loses power, fills up, fails syncs and rots.
//!
//! A round is a few lives of a collector on one disk. Each life ends in its own way: by a power cut at some operation, by
//! a kill that leaves the cache, by a sync that fails, or in order. The last one has nothing against it; after it, every
//! batch must be there once, and nothing may be missing that was acknowledged. Where a bit of the WAL was flipped while
//! nobody ran, what is missing must have been said by the start that found it.

mod agents;

mod collector;

mod rows;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use skep_seglog::Storage;
use skep_seglog::sim::SimDisk;

use self::agents::Agent;
use self::collector::{Collector, DATA, Ended, WAL};
use crate::batch::{ROWS, ROWS_A_BATCH};
use crate::dice::Dice;
use crate::figures::Figures;

/// What is counted.
pub(crate) const NAMES: [&str; 12] = [
    "rounds",
    "lives",
    "power_cuts",
    "kills",
    "sync_failures",
    "full_disks",
    "flipped_bits",
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
    /// Parts of the WAL a start said it could not read.
    reported: BTreeSet<String>,
    /// Bits that were flipped: as many batches may be missing.
    flips: usize,
    /// A bit was flipped since the last start: the end of the WAL may look torn, and only the hellos tell.
    rotten: bool,
    /// Batches that were said to be gone by name.
    excused: BTreeSet<(String, u64)>,
}

impl Round {
    fn new(seed: u64) -> Self {
        let agents = ["a", "b", "c"].map(Agent::new).into();
        Self {
            dice: Dice::new(seed),
            disk: SimDisk::default(),
            agents,
            reported: BTreeSet::new(),
            flips: 0,
            rotten: false,
            excused: BTreeSet::new(),
        }
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
            if self.dice.one_in(8) {
                self.flip(figures)?;
            }
        }
        figures.add("lives", 1);
        self.last_life(figures)
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
        if let Err(Ended(error)) = self.welcome(collector)? {
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
            let done = if self.dice.one_in(3) { self.flush(collector) } else { self.send(collector) };
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

    /// Every agent says hello. A collector that does not know of what it acknowledged has lost it.
    fn welcome(&mut self, collector: &mut Collector) -> Result<Result<(), Ended>> {
        self.reported.extend(collector.damage.iter().map(ToString::to_string));
        for agent in &mut self.agents {
            let durable_seq = match collector.durable_seq(&agent.key()) {
                Ok(durable_seq) => durable_seq,
                Err(ended) => return Ok(Err(ended)),
            };
            let gone = agent.resume(durable_seq);
            let rotten = self.rotten;
            let batches: BTreeSet<_> = gone.clone().map(|seq| (agent.node.clone(), seq)).collect();
            let known = rotten || batches.is_subset(&self.excused);
            ensure!(known, "{}: acknowledged batches {gone:?} are gone", agent.node);
            self.excused.extend(batches);
        }
        self.rotten = false;
        Ok(Ok(()))
    }

    fn send(&mut self, collector: &mut Collector) -> Result<(), Ended> {
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

    /// As the flusher does it, with batches coming in between.
    fn flush(&mut self, collector: &mut Collector) -> Result<(), Ended> {
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
                // The logs are as good without; the next time makes it good.
                let _kept = collector.keep_logs().is_ok();
            }
        }
        Ok(())
    }

    /// Flips a bit of the WAL while nobody runs.
    fn flip(&mut self, figures: &mut Figures) -> Result<()> {
        let dir = Path::new(WAL);
        let names = self.disk.list(dir)?;
        if names.is_empty() {
            return Ok(());
        }
        let path = dir.join(&names[self.dice.below(names.len() as u64) as usize]);
        let size = self.disk.size(&path).unwrap_or(0) as u64;
        if size > 0 {
            self.disk.flip(&path, self.dice.below(size) as usize);
            figures.add("flipped_bits", 1);
            self.rotten = true;
            self.flips += 1;
        }
        Ok(())
    }

    /// Nothing is against it: everything that was made comes in, and is counted, before and after a flush and in a life
    /// after that.
    fn last_life(&mut self, figures: &mut Figures) -> Result<()> {
        let mut collector = Collector::start(&self.disk)?;
        self.welcome(&mut collector)?.map_err(|Ended(error)| error)?;
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

    /// Every batch that was made is there once, but for what bits that were flipped took with them and a start reported.
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
        missing.retain(|batch| !self.excused.contains(batch));
        // A flipped bit takes one entry with it, and two that are neighbours are one fault.
        let excused = missing.is_empty() || (missing.len() <= self.flips && !self.reported.is_empty());
        if !excused {
            figures.add("rows_lost", sums.missing);
            bail!("{when}: {missing:?} are missing, {} bits flipped, reported: {:?}", self.flips, self.reported);
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
