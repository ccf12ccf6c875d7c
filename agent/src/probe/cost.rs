//! What the probes themselves cost.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use aya::sys::Stats;
use skep_common::{ledger::price, state::Price};

use super::{cpus::Cpus, programs::Standing, sys};

/// What calling a program costs that only counts, nanoseconds: half of what two empty programs add to a system call and
/// some more. Command: `cargo xtask bench overhead`.
const CALLING_NS: u64 = 50;

/// Programs that run for one that is counted: the entry of a system call goes with its return.
const PROGRAMS_A_RUN: [u64; price::NAMES.len()] = [1, 2, 1, 1, 1, 1];

/// What a domain's programs cost, by their own measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainCost {
    /// One of [`price::NAMES`].
    pub domain: &'static str,
    /// Times they ran.
    pub runs: u64,
    /// Time they took, nanoseconds: runs that were timed stand for the others.
    pub run_ns: u64,
    /// The part of it for being called, nanoseconds, which stays however few of the calls are looked at.
    pub calling_ns: u64,
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
    let now = cpus.prices();
    let domains = price::NAMES.iter().zip(PROGRAMS_A_RUN).zip(now);
    domains.map(|((domain, programs), now)| cost(domain, programs, now, average_ns(now).unwrap_or(0))).collect()
}

/// What was spent between two readings of the prices. Runs are taken for as dear as those timed between the two, so that
/// a change of what they do shows at once.
pub(super) fn between(before: &[Price], now: &[Price]) -> Vec<DomainCost> {
    let spent = |before: &Price, now: &Price| Price {
        runs: now.runs.saturating_sub(before.runs),
        whole: now.whole.saturating_sub(before.whole),
        timed: now.timed.saturating_sub(before.timed),
        timed_ns: now.timed_ns.saturating_sub(before.timed_ns),
    };
    let domains = price::NAMES.iter().zip(PROGRAMS_A_RUN).zip(before.iter().zip(now));
    let one = |((domain, programs), (before, now)): ((&&'static str, u64), (&Price, &Price))| {
        let spent = spent(before, now);
        cost(domain, programs, spent, average_ns(spent).or(average_ns(*now)).unwrap_or(0))
    };
    domains.map(one).collect()
}

fn average_ns(price: Price) -> Option<u64> {
    price.timed_ns.checked_div(price.timed)
}

fn cost(domain: &'static str, programs: u64, price: Price, each_ns: u64) -> DomainCost {
    let calling_ns = price.runs * programs * CALLING_NS;
    DomainCost { domain, runs: price.runs, run_ns: calling_ns + price.whole * each_ns, calling_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_what_runs_cost_since_the_last_look() {
        let price = |runs, whole, timed, timed_ns| Price { runs, whole, timed, timed_ns };
        let none = price(0, 0, 0, 0);
        let before = [none, price(1000, 1000, 10, 9000), none, none, none];
        let mut now = before;
        now[1] = price(3000, 1008, 12, 9400);
        let syscall = between(&before, &now)[1];
        assert_eq!((syscall.domain, syscall.runs), ("syscall", 2000));
        assert_eq!(syscall.run_ns, 2000 * 2 * CALLING_NS + 8 * 200);
        assert_eq!(syscall.calling_ns, 2000 * 2 * CALLING_NS);
        now[1] = price(3000, 1008, 10, 9000);
        assert_eq!(between(&before, &now)[1].run_ns, 2000 * 2 * CALLING_NS + 8 * 900, "none was timed: as ever");
    }
}
