//! What was spent lately. Pure.
//!
//! The probes spend with every event, so their last seconds say it. The agent itself spends most of its time at the end
//! of each window, so only a whole window says it; after a change of detail, the lower of that and of what was seen
//! since is believed, so that what was spent before the change is not held against it.

use std::collections::VecDeque;

use super::ladder::Cost;
use crate::source::DomainCost;

/// Samples that say what the probes cost.
const PROBE_SAMPLES: usize = 3;

/// Costs between two looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Time that passed.
    pub elapsed_ns: u64,
    /// The agent's own time on a CPU.
    pub own_ns: u64,
    /// The probes', by domain.
    pub domains: Vec<DomainCost>,
}

/// The samples of one window.
#[derive(Debug)]
pub struct Spending {
    samples: VecDeque<Sample>,
    horizon: usize,
    /// Samples since the detail was changed.
    since_change: usize,
    /// Samples so far.
    seen: usize,
}

impl Spending {
    /// Keeps as many samples as make a window.
    pub fn new(horizon: usize) -> Self {
        let horizon = horizon.max(PROBE_SAMPLES);
        Self { samples: VecDeque::new(), horizon, since_change: 0, seen: 0 }
    }

    /// Samples that make a window.
    pub fn horizon(&self) -> usize {
        self.horizon
    }

    /// Takes one in.
    pub fn add(&mut self, sample: Sample) {
        self.seen += 1;
        if self.samples.len() == self.horizon {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.since_change += 1;
    }

    /// From here on the probes do something else.
    pub fn changed(&mut self) {
        self.since_change = 0;
    }

    /// Samples since the last change.
    pub fn since_change(&self) -> usize {
        self.since_change
    }

    /// The agent's own share of a core.
    pub fn own(&self) -> f64 {
        let newest = self.since_change.max(1).min(self.since_start());
        self.own_of_window().min(self.share(newest, |sample| sample.own_ns))
    }

    /// As [`Spending::own`], without the benefit of the doubt: over the whole window. The first that counts is not whole
    /// yet, and a burst in it is not to be taken for a habit.
    pub fn own_of_window(&self) -> f64 {
        let whole = self.since_start() as f64 / self.horizon as f64;
        self.share(self.since_start(), |sample| sample.own_ns) * whole
    }

    /// Samples of the agent's own time that count: what it spends in its first window goes into starting, which no lower
    /// detail makes cheaper.
    fn since_start(&self) -> usize {
        self.seen.saturating_sub(self.horizon).min(self.horizon)
    }

    /// What a domain costs.
    pub fn domain(&self, domain: &'static str) -> Cost {
        self.cost(domain, self.since_change.clamp(1, PROBE_SAMPLES))
    }

    /// As [`Spending::domain`], over a window, or since the last change of detail: what comes and goes within seconds is
    /// spread over it.
    pub fn domain_of_window(&self, domain: &'static str) -> Cost {
        self.cost(domain, self.since_change.max(1))
    }

    /// All that was spent in a window, or since the last change of detail, as a share of a core.
    pub fn of_window(&self) -> f64 {
        self.own() + self.share(self.since_change.max(1), |sample| sample.domains.iter().map(|cost| cost.run_ns).sum())
    }

    fn cost(&self, domain: &'static str, newest: usize) -> Cost {
        let sum = |sample: &Sample, part: fn(&DomainCost) -> u64| {
            sample.domains.iter().filter(|cost| cost.domain == domain).map(part).sum()
        };
        Cost {
            domain,
            ratio: self.share(newest, |sample| sum(sample, |cost| cost.run_ns)),
            calling_ratio: self.share(newest, |sample| sum(sample, |cost| cost.calling_ns)),
        }
    }

    fn share(&self, newest: usize, spent: impl Fn(&Sample) -> u64) -> f64 {
        let (mut spent_ns, mut elapsed_ns) = (0u64, 0u64);
        for sample in self.samples.iter().rev().take(newest) {
            spent_ns = spent_ns.saturating_add(spent(sample));
            elapsed_ns = elapsed_ns.saturating_add(sample.elapsed_ns);
        }
        if elapsed_ns == 0 { 0.0 } else { spent_ns as f64 / elapsed_ns as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(own_ns: u64, cpu_ns: u64) -> Sample {
        let domains = vec![DomainCost { domain: "cpu", run_ns: cpu_ns, calling_ns: 0, runs: 1 }];
        Sample { elapsed_ns: 1_000, own_ns, domains }
    }

    #[test]
    fn a_burst_at_the_end_of_a_window_is_spread_over_it() {
        let mut spending = Spending::new(10);
        for second in 0..30 {
            spending.add(sample(if second % 10 == 9 { 100 } else { 0 }, 0));
        }
        assert!((spending.own() - 0.01).abs() < 1e-9);
    }

    #[test]
    fn what_was_before_a_change_is_not_held_against_it() {
        let mut spending = Spending::new(10);
        (0..10).for_each(|_| spending.add(sample(900, 500)));
        assert!(spending.own().abs() < 1e-9, "the start does not count");
        (0..10).for_each(|_| spending.add(sample(500, 500)));
        assert!((spending.domain("cpu").ratio - 0.5).abs() < 1e-9 && (spending.own() - 0.5).abs() < 1e-9);
        spending.changed();
        spending.add(sample(10, 10));
        assert!((spending.domain("cpu").ratio - 0.01).abs() < 1e-9 && (spending.own() - 0.01).abs() < 1e-9);
        assert!(spending.own_of_window() > 0.4);
        assert!(spending.domain("tcp").ratio.abs() < 1e-9);
    }
}
