//! What one session did altogether: many small things of one login, or of one service, weigh as much as a large one.

use std::sync::Arc;

use crate::aging::Aging;
use crate::detector::Alert;
use crate::rule::Level;
use crate::table::hash;

/// Points at which a session is told of.
pub const RAISE_AT: f64 = 100.0;

/// Points halve in this time.
const HALF_LIFE_US: f64 = 3_600e6;

/// Share of the points that counts below a trusted program; never of what is critical.
const TRUSTED_SHARE: f64 = 0.3;

/// Sessions remembered.
const MAX_SESSIONS: usize = 10_000;

/// Rules remembered of one session; each counts so often as [`MAX_REPEATS`].
const MAX_RULES: usize = 32;

const MAX_REPEATS: u8 = 3;

#[derive(Debug, Default)]
struct Session {
    points: f64,
    at_us: i64,
    raised: bool,
    rules: Vec<(Arc<str>, u8)>,
}

/// A session that has done enough to be told of.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    /// Its points.
    pub points: f64,
    /// The rules they come from, with how often each counted.
    pub rules: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Scores {
    sessions: Aging<u64, Session>,
}

impl Default for Scores {
    fn default() -> Self {
        Self { sessions: Aging::new(MAX_SESSIONS) }
    }
}

impl Scores {
    /// Adds the alerts of one event to a session; what it sums up to when that reaches [`RAISE_AT`] by more than one rule,
    /// once until it has halved.
    pub fn add(&mut self, session: &str, alerts: &[Alert], now_us: i64) -> Option<Sum> {
        let key = hash(session);
        if alerts.is_empty() {
            return None;
        }
        if self.sessions.get(&key).is_none() {
            self.sessions.put(key, Session { at_us: now_us, ..Session::default() });
        }
        let session = self.sessions.get(&key)?;
        session.fade(now_us);
        alerts.iter().for_each(|alert| session.take(alert));
        let due = session.points >= RAISE_AT && session.rules.len() > 1 && !session.raised;
        due.then(|| {
            session.raised = true;
            Sum {
                points: session.points,
                rules: session.rules.iter().map(|(rule, times)| format!("{rule} {times}")).collect(),
            }
        })
    }
}

impl Session {
    fn fade(&mut self, now_us: i64) {
        let passed = (now_us - self.at_us).max(0) as f64;
        self.points *= 0.5_f64.powf(passed / HALF_LIFE_US);
        self.at_us = self.at_us.max(now_us);
        if self.points < RAISE_AT / 2.0 {
            self.raised = false;
        }
        if self.points < 1.0 {
            self.rules.clear();
        }
    }

    fn take(&mut self, alert: &Alert) {
        let name = &alert.rule.name;
        let full = self.rules.len() >= MAX_RULES;
        match self.rules.iter_mut().find(|(rule, _)| rule == name) {
            Some((_, times)) if *times >= MAX_REPEATS => return,
            Some((_, times)) => *times += 1,
            None if full => return,
            None => self.rules.push((Arc::clone(name), 1)),
        }
        self.points += points(alert.rule.level) * if alert.trusted.is_some() { TRUSTED_SHARE } else { 1.0 };
    }
}

fn points(level: Level) -> f64 {
    match level {
        Level::Info => 1.0,
        Level::Low => 5.0,
        Level::Medium => 25.0,
        Level::High => 60.0,
        Level::Critical => 100.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    fn alert(name: &str, trusted: bool) -> Alert {
        let rules = Loaded::pack().rules;
        let rule = rules.into_iter().find(|rule| &*rule.name == name).unwrap();
        let level = rule.level;
        Alert { rule: Arc::new(rule), level, trusted: trusted.then(|| "build".to_owned()), facts: Vec::new() }
    }

    #[test]
    fn small_things_add_up_and_one_alone_does_not() {
        let mut scores = Scores::default();
        let one = [alert("exec-volatile", false)];
        for second in 0..50 {
            assert_eq!(scores.add("a", &one, second), None, "one rule is no session");
        }
        let other = [alert("log-clearing", false), alert("setuid-grant", false)];
        assert_eq!(scores.add("b", &other, 50), None, "another session");
        let sum = scores.add("a", &other, 51).unwrap();
        assert!((sum.points - 125.0).abs() < 1.0, "{sum:?}");
        assert_eq!(sum.rules, ["exec-volatile 3", "log-clearing 1", "setuid-grant 1"]);
        assert_eq!(scores.add("a", &[alert("timestomp", false)], 52), None, "told once");
    }

    #[test]
    fn time_and_trust_take_off() {
        let mut scores = Scores::default();
        let all = ["exec-volatile", "log-clearing", "timestomp", "program-copied"];
        let trusted: Vec<Alert> = all.iter().map(|name| alert(name, true)).collect();
        assert_eq!(scores.add("a", &trusted, 0), None);
        for (hour, name) in all.iter().enumerate() {
            assert_eq!(scores.add("b", &[alert(name, false)], hour as i64 * 2 * 3_600_000_000), None, "{name}");
        }
    }
}
