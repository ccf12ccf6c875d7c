//! A storm of the same thing is one finding and a count.
//!
//! A finding with a given key is raised once; its repeats within the hold are counted. A rule as a whole may raise only
//! so many findings at a time. Whatever is held back is told: in the next finding with the same key, or, when the hold
//! ends without one, as [`Told`], which becomes a row of `audit`.

use std::collections::HashMap;
use std::sync::Arc;

/// How long repeats of a finding are only counted.
pub const HOLD_US: i64 = 3_600_000_000;

/// Findings a rule may raise in a burst; after that one every [`REFILL_US`].
const BURST: f64 = 20.0;

/// A rule earns one finding in this time once its burst is used up.
const REFILL_US: f64 = 30_000_000.0;

/// Keys remembered; beyond it the oldest are told and forgotten.
const MAX_KEYS: usize = 10_000;

/// Repeats remembered until they are asked for; a storm of the same thing says no more by more of them.
const MAX_REPEATED: usize = 1_000;

/// What makes two findings the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Rule or signal.
    pub rule: Arc<str>,
    /// Node.
    pub node: String,
    /// Workload.
    pub workload: String,
    /// Executable and its parent's, for rules.
    pub programs: String,
}

/// Whether to raise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Raise it; so many of the same were held back before it.
    Raise {
        /// Not raised since the one before.
        held_back: u64,
    },
    /// Held back and counted.
    HoldBack,
}

/// Repeats that no later finding told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What repeated.
    pub key: Key,
    /// The finding they repeat; empty when the rule's burst was used up before any was raised.
    pub finding: String,
    /// How many.
    pub held_back: u64,
}

#[derive(Debug)]
struct Held {
    finding: String,
    since_us: i64,
    /// Whether a finding was raised; otherwise the rule's burst was used up.
    raised: bool,
    held_back: u64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at_us: i64,
}

/// Remembers what was raised.
#[derive(Debug, Default)]
pub struct Hold {
    held: HashMap<Key, Held>,
    buckets: HashMap<Arc<str>, Bucket>,
    told: Vec<Told>,
    /// What was held back as a repeat since it was asked for last.
    repeated: Vec<Key>,
}

impl Hold {
    /// Asks whether to raise a finding with this key; after `Raise`, say which by [`Hold::raised`].
    pub fn ask(&mut self, key: &Key, now_us: i64) -> Verdict {
        if let Some(held) = self.held.get_mut(key)
            && held.raised
            && now_us - held.since_us < HOLD_US
        {
            held.held_back += 1;
            if self.repeated.len() < MAX_REPEATED {
                self.repeated.push(key.clone());
            }
            return Verdict::HoldBack;
        }
        if self.take_token(&key.rule, now_us) {
            let held_back = self.held.remove(key).map_or(0, |held| held.held_back);
            return Verdict::Raise { held_back };
        }
        self.make_room(key);
        let held = self.held.entry(key.clone()).or_insert(Held {
            finding: String::new(),
            since_us: now_us,
            raised: false,
            held_back: 0,
        });
        held.held_back += 1;
        Verdict::HoldBack
    }

    /// A finding with this key was raised.
    pub fn raised(&mut self, key: Key, finding: &str, now_us: i64) {
        self.make_room(&key);
        self.held.insert(key, Held { finding: finding.to_owned(), since_us: now_us, raised: true, held_back: 0 });
    }

    /// What was held back as a repeat since this was asked last: it is still there.
    pub fn take_repeated(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.repeated)
    }

    /// Ends holds before their time: what they are about has changed.
    pub fn release(&mut self, over: impl Fn(&Key) -> bool) {
        let over: Vec<Key> = self.held.keys().filter(|key| over(key)).cloned().collect();
        for key in over {
            self.forget(&key);
        }
    }

    /// Ends holds that are over; returns what was held back and not told yet.
    pub fn tick(&mut self, now_us: i64) -> Vec<Told> {
        let over: Vec<Key> = self
            .held
            .iter()
            .filter(|(_, held)| now_us - held.since_us >= HOLD_US)
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.forget(&key);
        }
        std::mem::take(&mut self.told)
    }

    fn take_token(&mut self, rule: &Arc<str>, now_us: i64) -> bool {
        let bucket = self.buckets.entry(Arc::clone(rule)).or_insert(Bucket { tokens: BURST, at_us: now_us });
        let passed = (now_us - bucket.at_us).max(0) as f64;
        bucket.tokens = (bucket.tokens + passed / REFILL_US).min(BURST);
        bucket.at_us = bucket.at_us.max(now_us);
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    fn make_room(&mut self, for_key: &Key) {
        if self.held.len() < MAX_KEYS || self.held.contains_key(for_key) {
            return;
        }
        let mut oldest: Vec<(i64, Key)> = self.held.iter().map(|(key, held)| (held.since_us, key.clone())).collect();
        oldest.sort_unstable_by_key(|(since_us, _)| *since_us);
        for (_, key) in oldest.into_iter().take(MAX_KEYS / 10) {
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some((key, held)) = self.held.remove_entry(key)
            && held.held_back > 0
        {
            self.told.push(Told { key, finding: held.finding, held_back: held.held_back });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(programs: usize) -> Key {
        Key { rule: Arc::from("r"), node: "n".to_owned(), workload: "w".to_owned(), programs: programs.to_string() }
    }

    #[test]
    fn a_storm_is_one_finding_and_its_count_is_in_the_next() {
        let mut hold = Hold::default();
        assert_eq!(hold.ask(&key(1), 0), Verdict::Raise { held_back: 0 });
        hold.raised(key(1), "f", 0);
        for at in 1..=500 {
            assert_eq!(hold.ask(&key(1), at), Verdict::HoldBack);
        }
        assert_eq!(hold.ask(&key(2), 501), Verdict::Raise { held_back: 0 }, "another key is not held");
        assert_eq!(hold.ask(&key(1), HOLD_US), Verdict::Raise { held_back: 500 });
    }

    #[test]
    fn a_count_nobody_asked_for_again_is_told_when_the_hold_ends() {
        let mut hold = Hold::default();
        hold.ask(&key(1), 0);
        hold.raised(key(1), "f", 0);
        hold.ask(&key(1), 5);
        assert_eq!(hold.tick(HOLD_US - 1), []);
        let told = hold.tick(HOLD_US);
        assert_eq!(told, [Told { key: key(1), finding: "f".to_owned(), held_back: 1 }]);
        assert_eq!(hold.tick(2 * HOLD_US), []);
    }

    #[test]
    fn a_released_key_is_raised_anew_and_its_count_is_not_forgotten() {
        let mut hold = Hold::default();
        for at in 0..3 {
            if matches!(hold.ask(&key(1), at), Verdict::Raise { .. }) {
                hold.raised(key(1), "f", at);
            }
        }
        hold.release(|key| key.node == "n");
        assert_eq!(hold.ask(&key(1), 4), Verdict::Raise { held_back: 0 });
        assert_eq!(hold.tick(5), [Told { key: key(1), finding: "f".to_owned(), held_back: 2 }]);
    }

    #[test]
    fn a_rule_that_fires_on_everything_is_braked_and_nothing_is_lost_count_of() {
        let mut hold = Hold::default();
        let mut raised = 0;
        for i in 0..30_000 {
            match hold.ask(&key(i), i as i64) {
                Verdict::Raise { held_back } => {
                    assert_eq!(held_back, 0);
                    hold.raised(key(i), "f", i as i64);
                    raised += 1;
                }
                Verdict::HoldBack => {}
            }
            assert!(hold.held.len() <= MAX_KEYS);
        }
        assert_eq!(raised, BURST as usize);
        let told: u64 = hold.tick(2 * HOLD_US).iter().map(|told| told.held_back).sum();
        assert_eq!(told + raised as u64, 30_000);
    }

    #[test]
    fn a_braked_rule_earns_a_finding_again_and_tells_what_it_missed() {
        let mut hold = Hold::default();
        for i in 0..BURST as usize {
            hold.ask(&key(i), 0);
        }
        assert_eq!(hold.ask(&key(99), 0), Verdict::HoldBack);
        assert_eq!(hold.ask(&key(99), REFILL_US as i64), Verdict::Raise { held_back: 1 });
    }
}
