//! How often a rule may speak: one that fires all the time on a node says something about the node, not about an event.
//!
//! By the hour and node: a rule that fired more than five times in ten thousand execs of an hour only counts in the next
//! one, for the session it is about, and is told of once. What is critical is always told.

use crate::aging::Aging;
use crate::rule::Level;
use crate::table::hash;

const HOUR_US: i64 = 3_600_000_000;

/// Of ten thousand execs.
const MOST_IN_10K: u64 = 5;

/// So few in an hour are no noise, however few execs there were.
const FEW: u64 = 20;

/// Nodes, and pairs of node and rule, that are remembered.
const MAX_COUNTS: usize = 20_000;

/// What one hour and the one before it had.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    hour: i64,
    now: u64,
    before: u64,
}

impl Count {
    fn at(&mut self, hour: i64) {
        if hour != self.hour {
            self.before = if hour == self.hour + 1 { self.now } else { 0 };
            (self.hour, self.now) = (hour, 0);
        }
    }
}

/// What a rule may do with a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// It is told.
    Aloud,
    /// It only counts. The first time in an hour that is to be told, with how often it fired in the hour before, and among
    /// how many execs.
    Softly(Option<(u64, u64)>),
}

/// See the module.
#[derive(Debug)]
pub struct Budget {
    execs: Aging<u64, Count>,
    fired: Aging<(u64, u64), Count>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { execs: Aging::new(MAX_COUNTS), fired: Aging::new(MAX_COUNTS) }
    }
}

impl Budget {
    /// A node ran something.
    pub fn exec(&mut self, node: &str, now_us: i64) {
        count(&mut self.execs, hash(node), now_us.div_euclid(HOUR_US)).now += 1;
    }

    /// A rule matched.
    pub fn fires(&mut self, node: &str, rule: &str, level: Level, now_us: i64) -> Say {
        let hour = now_us.div_euclid(HOUR_US);
        let execs = count(&mut self.execs, hash(node), hour).before;
        let fired = count(&mut self.fired, (hash(node), hash(rule)), hour);
        fired.now += 1;
        let noisy = fired.before > FEW && fired.before * 10_000 > execs * MOST_IN_10K;
        if !noisy || level == Level::Critical {
            return Say::Aloud;
        }
        Say::Softly((fired.now == 1).then_some((fired.before, execs)))
    }
}

fn count<K: Copy + Eq + std::hash::Hash>(counts: &mut Aging<K, Count>, key: K, hour: i64) -> &mut Count {
    let count = counts.get_or_default(key);
    count.at(hour);
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(budget: &mut Budget, hour: i64, execs: u64, fires: u64, level: Level) -> Vec<Say> {
        let at = hour * HOUR_US;
        (0..execs).for_each(|_| budget.exec("n", at));
        (0..fires).map(|_| budget.fires("n", "r", level, at)).collect()
    }

    #[test]
    fn a_noisy_rule_only_counts_in_the_next_hour_and_is_told_of_once() {
        let mut budget = Budget::default();
        assert!(hour(&mut budget, 7, 10_000, 100, Level::High).iter().all(|say| *say == Say::Aloud));
        let next = hour(&mut budget, 8, 10_000, 3, Level::High);
        assert_eq!(next, [Say::Softly(Some((100, 10_000))), Say::Softly(None), Say::Softly(None)]);
        assert_eq!(hour(&mut budget, 9, 10_000, 1, Level::High), [Say::Aloud], "it has been quiet since");
    }

    #[test]
    fn few_a_long_time_ago_and_critical_ones_are_told() {
        let mut budget = Budget::default();
        hour(&mut budget, 1, 100, 20, Level::High);
        assert_eq!(hour(&mut budget, 2, 100, 1, Level::High), [Say::Aloud], "few");
        hour(&mut budget, 3, 100, 90, Level::High);
        assert_eq!(hour(&mut budget, 5, 100, 1, Level::High), [Say::Aloud], "long ago");
        hour(&mut budget, 6, 100, 90, Level::Critical);
        assert_eq!(hour(&mut budget, 7, 100, 1, Level::Critical), [Say::Aloud], "critical");
        hour(&mut budget, 8, 1_000_000, 90, Level::High);
        assert_eq!(hour(&mut budget, 9, 100, 1, Level::High), [Say::Aloud], "seldom");
    }
}
