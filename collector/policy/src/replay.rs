//! What a policy would have done about recorded findings.

use std::collections::BTreeMap;

use crate::SECOND_US;
use crate::decision::{Decision, Heard};
use crate::engine::Engine;
use crate::finding::Finding;
use crate::policy::{Mode, Policy};

/// What is taken to have come of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assume {
    /// Each helps: the least that would have been done.
    Recovers,
    /// None helps: every ladder to its end, the most that would have been done.
    Fails,
}

/// One thing that would have been done or said.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// When.
    pub time_us: i64,
    /// What.
    pub decision: Decision,
}

/// After the last finding the clock goes on until nothing is left to happen, for so long at most.
const AFTERWARDS_S: i64 = 6 * 3600;

/// Plays findings, oldest first. Operators approve nothing, so what is asked about expires.
pub fn replay(policy: Policy, findings: Vec<Finding>, assume: Assume) -> Vec<Happened> {
    let pending_us = policy.pending_expires_s * SECOND_US;
    let mut play = Play {
        engine: Engine::rehearsal(policy),
        assume,
        pending_us,
        due: Vec::new(),
        about: BTreeMap::new(),
        next_id: 0,
        out: Vec::new(),
    };
    let mut last_us = 0;
    for finding in findings {
        play.until(finding.time_us);
        last_us = finding.time_us;
        let decisions = play.engine.consider(finding, last_us);
        play.take(decisions, last_us);
        play.tick(last_us);
    }
    play.until(last_us + AFTERWARDS_S * SECOND_US);
    play.out
}

struct Play {
    engine: Engine,
    assume: Assume,
    pending_us: i64,
    /// When something is heard of an action.
    due: Vec<(i64, String, Heard)>,
    /// What their actions are about.
    about: BTreeMap<String, Finding>,
    next_id: u64,
    out: Vec<Happened>,
}

impl Play {
    /// A second at a time while something is going on; what happens then may come at any of them.
    fn until(&mut self, time_us: i64) {
        let Some(mut now_us) = self.engine.busy_from_us() else { return };
        while now_us + SECOND_US <= time_us {
            now_us += SECOND_US;
            self.tick(now_us);
            if self.engine.is_idle() && self.due.is_empty() {
                return;
            }
        }
    }

    fn tick(&mut self, now_us: i64) {
        self.due.sort_by_key(|(at_us, ..)| *at_us);
        while self.due.first().is_some_and(|(at_us, ..)| *at_us <= now_us) {
            let (_, action, heard) = self.due.remove(0);
            let decisions = self.engine.heard(&action, heard, now_us);
            self.take(decisions, now_us);
            if let Some(Finding { rule, node, workload, .. }) = self.about.remove(&action)
                && heard == Heard::Done
            {
                let decisions = self.engine.symptom(&rule, &node, &workload, false, now_us);
                self.take(decisions, now_us);
            }
        }
        let mut next_id = self.next_id;
        let decisions = self.engine.tick(now_us, || {
            next_id += 1;
            format!("{next_id:032x}")
        });
        self.next_id = next_id;
        self.take(decisions, now_us);
    }

    fn take(&mut self, decisions: Vec<Decision>, now_us: i64) {
        for decision in decisions {
            match &decision {
                Decision::Begin(begin) => {
                    let action = begin.action.clone();
                    if begin.mode == Mode::Auto {
                        self.about.insert(action.clone(), begin.finding.clone());
                    }
                    match (begin.mode, self.assume) {
                        (Mode::Observe, _) => {}
                        (Mode::Ask, _) => self.due.push((now_us + self.pending_us, action, Heard::Expired)),
                        (Mode::Auto, Assume::Recovers) => self.due.push((now_us + SECOND_US, action, Heard::Done)),
                        (Mode::Auto, Assume::Fails) => self.due.push((now_us + SECOND_US, action, Heard::Unchanged)),
                    }
                }
                Decision::Undo { action, .. } => self.due.push((now_us + SECOND_US, action.clone(), Heard::Undone)),
                _ => {}
            }
            self.out.push(Happened { time_us: now_us, decision });
        }
    }
}
