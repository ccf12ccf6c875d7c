//! How often which action helped, with how sure that is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What came of one kind of action on one kind of trouble of one kind of workload.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// It was well afterwards.
    pub recovered: u32,
    /// It was not.
    pub failed: u32,
    /// Sum of the times it took, of those that recovered.
    pub recover_s: f64,
}

impl Tally {
    /// The share that recovers, as the mean of Beta(1 + recovered, 1 + failed): one half where nothing is known.
    pub fn mean(&self) -> f64 {
        let (a, b) = self.shape();
        a / (a + b)
    }

    /// How sure that is: the standard deviation of the same distribution.
    pub fn deviation(&self) -> f64 {
        let (a, b) = self.shape();
        (a * b / ((a + b).powi(2) * (a + b + 1.0))).sqrt()
    }

    /// The mean time to recover, where any did.
    pub fn mean_recover_s(&self) -> Option<f64> {
        (self.recovered > 0).then(|| self.recover_s / f64::from(self.recovered))
    }

    /// How many it rests on.
    pub fn of(&self) -> u32 {
        self.recovered + self.failed
    }

    fn shape(&self) -> (f64, f64) {
        (1.0 + f64::from(self.recovered), 1.0 + f64::from(self.failed))
    }
}

/// All tallies, by finding kind, action and workload class.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcomes(BTreeMap<String, Tally>);

/// Kinds remembered: rules and verbs are few, and nobody makes them up.
const MOST: usize = 10_000;

impl Outcomes {
    /// What is known.
    pub fn of(&self, rule: &str, verb: &str, class: &str) -> Tally {
        self.0.get(&key(rule, verb, class)).copied().unwrap_or_default()
    }

    /// One more that recovered after so long.
    pub fn recovered(&mut self, rule: &str, verb: &str, class: &str, after_s: f64) {
        if let Some(tally) = self.entry(rule, verb, class) {
            tally.recovered = tally.recovered.saturating_add(1);
            tally.recover_s += after_s.max(0.0);
        }
    }

    /// One more that did not.
    pub fn failed(&mut self, rule: &str, verb: &str, class: &str) {
        if let Some(tally) = self.entry(rule, verb, class) {
            tally.failed = tally.failed.saturating_add(1);
        }
    }

    fn entry(&mut self, rule: &str, verb: &str, class: &str) -> Option<&mut Tally> {
        let key = key(rule, verb, class);
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            return None;
        }
        Some(self.0.entry(key).or_default())
    }
}

fn key(rule: &str, verb: &str, class: &str) -> String {
    format!("{rule} {verb} {class}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_often_is_surer() {
        let mut outcomes = Outcomes::default();
        assert_eq!(outcomes.of("r", "restart_unit", "unit").mean(), 0.5);
        for _ in 0..8 {
            outcomes.recovered("r", "restart_unit", "unit", 10.0);
        }
        outcomes.failed("r", "restart_unit", "unit");
        let tally = outcomes.of("r", "restart_unit", "unit");
        assert!((tally.mean() - 9.0 / 11.0).abs() < 1e-12);
        // Of Beta(9, 2).
        assert!((tally.deviation() - (18.0_f64 / (121.0 * 12.0)).sqrt()).abs() < 1e-12);
        assert!(tally.deviation() < Tally::default().deviation());
        assert_eq!((tally.of(), tally.mean_recover_s()), (9, Some(10.0)));
        assert_eq!(outcomes.of("r", "restart_unit", "pod").of(), 0);
    }
}
