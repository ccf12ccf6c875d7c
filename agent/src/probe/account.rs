//! The ledger of a closed epoch, from what the kernel counted and what was handed out.

use skep_common::ledger::{RECURSION, UNEXPLAINED, UNREADABLE, column, probe};

use super::reading::ProbeLedger;

/// What is known of one probe in one epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    /// Index of [`probe`].
    pub(super) probe: usize,
    /// Where; `None` for what the kernel does not count by CPU.
    pub(super) cpu: Option<u32>,
    /// The kernel's counters, by [`column`].
    pub(super) counted: [u64; column::LEN],
    /// What user space itself added and handed out: slices that were still running.
    pub(super) added: u64,
    /// Times the kernel would not run the program because it was running already.
    pub(super) missed: u64,
    /// In the reading, or handed out as events.
    pub(super) delivered: u64,
}

impl Tally {
    /// Of a probe that saw nothing.
    pub(super) fn nowhere(probe: usize) -> Self {
        Self { probe, cpu: None, counted: [0; column::LEN], added: 0, missed: 0, delivered: 0 }
    }
}

/// Balances one probe. Whatever is neither delivered nor counted as lost is named as such, so that the sum always holds.
pub(super) fn account(tally: &Tally) -> ProbeLedger {
    let attempted = tally.counted[column::ATTEMPTED] + tally.added + tally.missed;
    let mut lost: Vec<_> = (column::ATTEMPTED + 1..column::LEN)
        .map(|column| (column::NAMES[column], tally.counted[column]))
        .chain([(RECURSION, tally.missed)])
        .filter(|(_, count)| *count > 0)
        .collect();
    let explained = tally.delivered + lost.iter().map(|(_, count)| count).sum::<u64>();
    if explained < attempted {
        let reason = if is_event(tally.probe) { UNREADABLE } else { UNEXPLAINED };
        lost.push((reason, attempted - explained));
    }
    ProbeLedger {
        probe: probe::NAMES[tally.probe],
        cpu: tally.cpu,
        attempted: attempted.max(explained),
        delivered: tally.delivered,
        lost,
    }
}

/// Whether a probe's deliveries are records of the ring.
pub(super) fn is_event(probe: usize) -> bool {
    matches!(probe, probe::TCP | probe::FORK | probe::EXEC | probe::EXIT | probe::CGROUP | probe::SECURITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(probe: usize, counted: [u64; 6], delivered: u64) -> Tally {
        let mut columns = [0; column::LEN];
        columns[..counted.len()].copy_from_slice(&counted);
        Tally { probe, cpu: Some(0), counted: columns, added: 0, missed: 0, delivered }
    }

    fn check(ledger: &ProbeLedger) {
        let lost: u64 = ledger.lost.iter().map(|(_, count)| count).sum();
        assert_eq!(ledger.attempted, ledger.delivered + lost, "{ledger:?}");
    }

    #[test]
    fn a_full_ring_is_a_reason() {
        let ledger = account(&tally(probe::FORK, [10, 0, 4, 0, 0, 0], 6));
        assert_eq!(ledger.lost, [("ring_full", 4)]);
        check(&ledger);
    }

    #[test]
    fn what_nothing_explains_is_said_so() {
        let ledger = account(&tally(probe::SYSCALL, [10, 1, 0, 0, 0, 0], 7));
        assert_eq!(ledger.lost, [("map_full", 1), (UNEXPLAINED, 2)]);
        check(&ledger);
        let ledger = account(&tally(probe::EXEC, [10, 0, 0, 0, 0, 0], 7));
        assert_eq!(ledger.lost, [(UNREADABLE, 3)]);
        check(&ledger);
    }

    #[test]
    fn more_than_the_kernel_offered_still_balances() {
        check(&account(&tally(probe::EXIT, [3, 0, 0, 0, 0, 0], 4)));
    }

    #[test]
    fn running_slices_and_refused_runs_are_attempts() {
        let ledger = account(&Tally { added: 2, missed: 3, ..tally(probe::CPU, [10, 0, 0, 0, 0, 0], 12) });
        assert_eq!((ledger.attempted, ledger.lost.as_slice()), (15, &[(RECURSION, 3)][..]));
        check(&ledger);
    }
}
