//! What the probes themselves cost.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use aya::sys::Stats;
use skep_common::ledger::price;

use super::{cpus::Cpus, programs::Standing, sys};

/// What calling a program costs that only counts, nanoseconds: half of what two empty programs add to a system call and
/// some more. Command: `cargo xtask bench overhead`.
const CALLING_NS: u64 = 50;

/// Programs that run for one that is counted: the entry of a system call goes with its return.
const PROGRAMS_A_RUN: [u64; price::NAMES.len()] = [1, 2, 1, 1, 1];

/// What a domain's programs cost since they were loaded, by their own measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainCost {
    /// One of [`price::NAMES`].
    pub domain: &'static str,
    /// Times they ran.
    pub runs: u64,
    /// Time they took, nanoseconds: runs that were timed stand for the others.
    pub run_ns: u64,
}

/// Price of one program since it was loaded, by the kernel's measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its hook.
    pub name: &'static str,
    /// Time it ran, nanoseconds, while statistics were on.
    pub run_ns: u64,
    /// How often, while statistics were on.
    pub runs: u64,
    /// How often the kernel would not run it because it was running on that CPU already.
    pub refused: u64,
    /// Instructions the verifier looked at; 0 where the kernel does not say.
    pub verified_instructions: u32,
}

/// The kernel measures the run time of every BPF program on the host while this is held. It makes each run some
/// nanoseconds dearer.
#[derive(Debug)]
pub struct RunStatistics {
    _held: OwnedFd,
}

impl RunStatistics {
    /// Turns the measurement on.
    ///
    /// # Errors
    /// What the kernel says; it needs `CAP_SYS_ADMIN`.
    pub fn enable() -> io::Result<Self> {
        aya::sys::enable_stats(Stats::RunTime).map(|held| Self { _held: held }).map_err(|error| error.io_error)
    }
}

pub(super) fn by_program(standing: &Standing) -> Vec<ProgramCost> {
    let programs = standing.programs.iter().filter_map(|program| {
        let info = sys::program_info(program.program.as_fd()).ok()?;
        Some(ProgramCost {
            name: program.hook,
            run_ns: info.run_time_ns,
            runs: info.run_cnt,
            refused: info.recursion_misses,
            verified_instructions: info.verified_insns,
        })
    });
    programs.collect()
}

pub(super) fn by_domain(cpus: &Cpus) -> Vec<DomainCost> {
    let prices = cpus.prices();
    let domains = price::NAMES.iter().zip(PROGRAMS_A_RUN).zip(prices);
    let cost = |((domain, programs), price): ((&&'static str, u64), skep_common::state::Price)| {
        let each_ns = price.timed_ns.checked_div(price.timed).unwrap_or(0);
        DomainCost { domain, runs: price.runs, run_ns: price.runs * programs * CALLING_NS + price.whole * each_ns }
    };
    domains.map(cost).collect()
}
