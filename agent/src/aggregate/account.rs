//! The ledger of one window: what the probes say, split over the batches that carry it.
//!
//! An event batch states what it carries, so that it stands by itself should the agent die before the window ends. The
//! window's own batch then states the aggregates and every loss, and nothing twice.

use std::collections::BTreeMap;

use skep_common::ledger::column;
use skep_wire::v1;

use crate::ledger::LossRow;
use crate::probe::reading::ProbeLedger;

/// Probes whose observations cross one by one, in batches of events.
pub const EVENT_PROBES: [&str; 6] = ["fork", "exec", "exit", "tcp", "cgroup", "security"];

/// Reason of events the probes counted as handed out and that never came.
pub const NEVER_CAME: &str = "not_handed_out";

/// Reason of what sampling passed over.
const SAMPLED: &str = column::NAMES[column::SAMPLED];

/// Observations of event probes that are about to be sealed.
#[derive(Debug, Default)]
pub struct Account {
    /// Events taken into rows since the last batch, by probe and CPU.
    pending: BTreeMap<(&'static str, Option<u32>), u64>,
    /// Handed out according to the probes, less what came. Above zero something is on its way or lost, below zero an
    /// event of the next epoch came early.
    owed: BTreeMap<&'static str, i64>,
}

/// A batch's part of the ledger.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Rows of `loss`.
    pub rows: Vec<LossRow>,
    /// The same deliveries, for the day the batch has to be dropped.
    pub deliveries: Vec<v1::Delivery>,
}

impl Account {
    /// An event of `probe`, counted on `cpu`, became a row.
    pub fn count(&mut self, probe: &'static str, cpu: u32) {
        *self.pending.entry((probe, Some(cpu))).or_default() += 1;
        *self.owed.entry(probe).or_default() -= 1;
    }

    /// What the events since the last batch come to.
    pub fn state_events(&mut self, span: (i64, i64)) -> Statement {
        let mut statement = Statement::default();
        for ((probe, cpu), count) in std::mem::take(&mut self.pending) {
            statement.deliver(span, (probe, cpu), count);
        }
        statement
    }

    /// What a window's batch states: pending events, aggregates and losses.
    ///
    /// Every attached probe has a row even if it saw nothing: silence is not health.
    pub fn state_window(&mut self, span: (i64, i64), ledger: &[ProbeLedger]) -> Statement {
        let mut statement = Statement::default();
        let mut pending = std::mem::take(&mut self.pending);
        for row in ledger {
            let who = (row.probe, row.cpu);
            if EVENT_PROBES.contains(&row.probe) {
                *self.owed.entry(row.probe).or_default() += i64::try_from(row.delivered).unwrap_or(i64::MAX);
                statement.deliver(span, who, pending.remove(&who).unwrap_or(0));
            } else {
                statement.deliver(span, who, row.delivered);
            }
            for (reason, count) in &row.lost {
                statement.rows.push(LossRow::lost(span, row.probe, reason, *count).on(row.cpu));
            }
        }
        // Of probes or CPUs the ledger does not name: an event of the next epoch that came early.
        for (who, count) in pending {
            statement.deliver(span, who, count);
        }
        statement
    }

    /// What never came, at the very end; to be asked once, after the last flip.
    pub fn state_missing(&mut self, span: (i64, i64)) -> Vec<LossRow> {
        let owed = std::mem::take(&mut self.owed);
        let missing = owed.into_iter().filter_map(|(probe, owed)| Some((probe, u64::try_from(owed).ok()?)));
        missing
            .filter(|(_, owed)| *owed > 0)
            .map(|(probe, owed)| LossRow::lost(span, probe, NEVER_CAME, owed))
            .collect()
    }
}

impl Statement {
    fn deliver(&mut self, span: (i64, i64), (probe, cpu): (&str, Option<u32>), count: u64) {
        self.rows.push(LossRow::delivered(span, probe, count).on(cpu));
        if count == 0 {
            return;
        }
        match self.deliveries.iter_mut().find(|known| known.probe == probe) {
            Some(known) => known.delivered += count,
            None => self.deliveries.push(v1::Delivery { probe: probe.to_owned(), delivered: count }),
        }
    }
}

/// Share of a probe's observations that arrived, all CPUs; 1 for a probe that had none, 0 for one that is not attached.
///
/// What sampling passed over is no gap: what was measured stands for it, and its row says for how many.
pub fn coverage(ledger: &[ProbeLedger], probe: &str) -> f64 {
    let mut found = false;
    let (mut attempted, mut arrived) = (0, 0);
    for row in ledger.iter().filter(|row| row.probe == probe) {
        found = true;
        attempted += row.attempted;
        arrived +=
            row.delivered + row.lost.iter().filter(|(reason, _)| *reason == SAMPLED).map(|(_, n)| n).sum::<u64>();
    }
    match (found, attempted) {
        (false, _) => 0.0,
        (true, 0) => 1.0,
        (true, _) => arrived as f64 / attempted as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Counts;

    fn probe(probe: &'static str, delivered: u64, lost: Vec<(&'static str, u64)>) -> ProbeLedger {
        let attempted = delivered + lost.iter().map(|(_, count)| count).sum::<u64>();
        ProbeLedger { probe, cpu: Some(0), attempted, delivered, lost }
    }

    fn delivered(rows: &[LossRow], name: &str) -> i64 {
        rows.iter().filter(|row| row.probe == name).filter_map(|row| row.counts).map(|c| c.delivered).sum()
    }

    #[test]
    fn events_are_stated_once_whatever_batch_they_are_in() {
        let mut account = Account::default();
        account.count("exec", 0);
        account.count("exec", 0);
        let first = account.state_events((0, 10));
        assert_eq!(delivered(&first.rows, "exec"), 2);
        account.count("exec", 0);
        let ledger = [probe("exec", 3, vec![("ring_full", 4)]), probe("cpu", 9, vec![])];
        let second = account.state_window((0, 10), &ledger);
        assert_eq!(delivered(&second.rows, "exec"), 1);
        assert_eq!(delivered(&second.rows, "cpu"), 9);
        let lost = second.rows.iter().find(|row| row.reason == "ring_full").unwrap();
        assert_eq!(lost.counts, Some(Counts { delivered: 0, lost: 4 }));
        assert_eq!(account.state_missing((0, 10)), Vec::new());
    }

    #[test]
    fn an_event_that_never_came_is_a_loss_at_the_end() {
        let mut account = Account::default();
        account.count("tcp", 0);
        account.state_window((0, 10), &[probe("tcp", 3, vec![])]);
        assert_eq!(account.state_missing((0, 10)), [LossRow::lost((0, 10), "tcp", NEVER_CAME, 2)]);
    }

    #[test]
    fn a_silent_probe_still_has_a_row() {
        let statement = Account::default().state_window((0, 10), &[probe("tcp", 0, vec![])]);
        assert_eq!(statement.rows, [LossRow::delivered((0, 10), "tcp", 0).on(Some(0))]);
        assert_eq!(statement.deliveries, Vec::new());
    }

    #[test]
    fn coverage_is_the_delivered_share() {
        let elsewhere = ProbeLedger { cpu: Some(1), ..probe("cpu", 2, vec![("sampled", 2)]) };
        let ledger = [probe("cpu", 3, vec![("map_full", 1)]), elsewhere, probe("tcp", 0, vec![])];
        assert!((coverage(&ledger, "cpu") - 7.0 / 8.0).abs() < 1e-12);
        assert!((coverage(&ledger, "tcp") - 1.0).abs() < 1e-12);
        assert!(coverage(&ledger, "exec").abs() < 1e-12);
    }
}
