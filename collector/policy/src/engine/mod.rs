//! All cases: findings and what came of actions go in, decisions come out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::SECOND_US;
use crate::case::{Case, Stage, Symptom};
use crate::decision::{Decision, End};
use crate::finding::Finding;
use crate::instances::Instances;
use crate::outcome::Outcomes;
use crate::policy::Policy;
use crate::spent::Spent;

mod confirm;
mod course;
mod turn;

use confirm::Peer;

/// What is to survive a restart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct State {
    /// By finding.
    cases: BTreeMap<String, Case>,
    past: BTreeMap<String, Past>,
    spent: Spent,
    outcomes: Outcomes,
    /// When cases were opened, within the storm's span.
    opened_us: Vec<i64>,
    braked_until_us: Option<i64>,
    /// The last tick.
    now_us: Option<i64>,
}

/// A finding whose case is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Past {
    finding: Finding,
    ended_us: i64,
    /// It was gone since, or at the end.
    gone: bool,
}

/// Decides. See the crate's head.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    state: State,
    changed: bool,
    /// Other nodes, by name.
    peers: BTreeMap<String, Peer>,
    instances: Instances,
    /// Whether a rung wants them.
    counts_instances: bool,
    /// The first tick.
    began_us: Option<i64>,
    /// Nobody is there to be asked.
    rehearses: bool,
}

impl Engine {
    /// With nothing going on.
    pub fn new(policy: Policy) -> Self {
        let counts_instances = policy.rules.iter().flat_map(|rule| &rule.ladder).any(|rung| rung.min_healthy.is_some());
        Self {
            policy,
            state: State::default(),
            changed: false,
            peers: BTreeMap::new(),
            instances: Instances::default(),
            counts_instances,
            began_us: None,
            rehearses: false,
        }
    }

    /// For what was recorded: peers are taken to agree, and enough instances to be healthy.
    pub fn rehearsal(policy: Policy) -> Self {
        Self { rehearses: true, ..Self::new(policy) }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is known of outcomes.
    pub fn outcomes(&self) -> &Outcomes {
        &self.state.outcomes
    }

    /// What is to survive a restart, if that changed since it was asked for last.
    ///
    /// # Errors
    /// Never for a state of ours.
    pub fn to_keep(&mut self) -> Result<Option<Vec<u8>>, serde_json::Error> {
        if !std::mem::take(&mut self.changed) {
            return Ok(None);
        }
        serde_json::to_vec(&self.state).map(Some)
    }

    /// Takes up what was kept.
    ///
    /// # Errors
    /// It does not read: nothing was taken up.
    pub fn take_up(&mut self, kept: &[u8]) -> Result<(), serde_json::Error> {
        self.state = serde_json::from_slice(kept)?;
        Ok(())
    }

    /// Takes up a finding. One that has an end and begins again while its case is open is no second case: it says that
    /// what was done did not last, or that another check of the same fails too.
    pub fn consider(&mut self, finding: Finding, now_us: i64) -> Vec<Decision> {
        if finding.until_over && self.is_there_again(&finding) {
            return Vec::new();
        }
        let Some(rule) = self.policy.rule_for(&finding) else { return Vec::new() };
        // Where nothing of the ladder fits the finding there is nothing to withhold.
        if rule.ladder.iter().all(|rung| rung.recipe.command(&finding, rung.lease_s).is_none()) {
            return Vec::new();
        }
        let withheld =
            |why: String| Decision::Withheld { finding: finding.id.clone(), node: finding.node.clone(), why };
        if let Some(why) = self.policy.forbids(rule, &finding) {
            return vec![withheld(why)];
        }
        if self.state.cases.contains_key(&finding.id) {
            return Vec::new();
        }
        if self.state.cases.len() >= self.policy.queue.max {
            return vec![withheld(format!("{} findings wait already", self.state.cases.len()))];
        }
        self.changed = true;
        let case = Case {
            rule: rule.name.clone(),
            opened_us: now_us,
            tried: BTreeMap::new(),
            given_up: BTreeMap::new(),
            stage: Stage::Waiting { since_us: now_us, from_us: now_us },
            told: None,
            symptom: None,
            parts: finding.until_over.then(|| finding.part.clone()).into_iter().collect(),
            poll: None,
            refusals: 0,
            finding,
        };
        self.state.past.remove(&key(&case.finding));
        self.state.cases.insert(case.finding.id.clone(), case);
        self.storm(now_us).into_iter().collect()
    }

    fn is_there_again(&mut self, finding: &Finding) -> bool {
        let open = self.state.cases.values_mut().find(|case| key(&case.finding) == key(finding));
        let Some(case) = open.filter(|case| case.finding.until_over) else { return false };
        case.symptom = Some(Symptom::Present);
        case.parts.insert(finding.part.clone());
        self.changed = true;
        true
    }

    /// A finding that has an end is over, for this part of what it is about.
    pub fn over(&mut self, rule: &str, (node, workload): (&str, &str), part: &str, now_us: i64) -> Vec<Decision> {
        let about = key_of(rule, node, workload);
        if let Some(case) = self.state.cases.values_mut().find(|case| key(&case.finding) == about) {
            self.changed = true;
            case.parts.remove(part);
            if !case.parts.is_empty() {
                return Vec::new();
            }
        }
        self.symptom(rule, node, workload, false, now_us)
    }

    fn storm(&mut self, now_us: i64) -> Option<Decision> {
        let storm = self.policy.storm;
        self.state.opened_us.retain(|at_us| now_us - at_us < storm.within_s * SECOND_US);
        self.state.opened_us.push(now_us);
        let findings = self.state.opened_us.len();
        if findings <= storm.findings {
            return None;
        }
        let until_us = now_us + storm.hold_s * SECOND_US;
        let news = self.state.braked_until_us.is_none_or(|until_us| now_us >= until_us);
        self.state.braked_until_us = Some(until_us);
        news.then_some(Decision::Braked { findings, until_us })
    }

    /// A reading of what findings of this rule are about: whether it is there.
    pub fn symptom(&mut self, rule: &str, node: &str, workload: &str, present: bool, now_us: i64) -> Vec<Decision> {
        let about = |finding: &Finding| finding.rule == rule && finding.node == node && finding.workload == workload;
        let mut over = Vec::new();
        let mut known = false;
        for (id, case) in self.state.cases.iter_mut().filter(|(_, case)| about(&case.finding)) {
            known = true;
            self.changed = true;
            if present && case.is_of_before(now_us) {
                continue;
            }
            case.symptom = Some(match (present, case.symptom) {
                (true, _) => Symptom::Present,
                (false, Some(since @ Symptom::AbsentSince(_))) => since,
                (false, _) => Symptom::AbsentSince(now_us),
            });
            if !present && matches!(case.stage, Stage::Waiting { .. }) {
                over.push(id.clone());
            }
        }
        let mut out: Vec<Decision> =
            over.iter().filter_map(|id| self.end(id, End::Recovered, "it is well again", now_us)).collect();
        if known {
            return out;
        }
        let Some(past) = self.state.past.get_mut(&key_of(rule, node, workload)) else { return out };
        if !present {
            past.gone = true;
        } else if past.gone && past.finding.process.is_none() {
            // The finding itself is held back as a repeat.
            let finding = past.finding.clone();
            out.extend(self.consider(finding, now_us));
        }
        out
    }

    /// Whether no case is open.
    pub fn is_idle(&self) -> bool {
        self.state.cases.is_empty()
    }

    /// Whether a reading would make a difference.
    pub fn cares(&self) -> bool {
        !self.state.cases.is_empty() || !self.state.past.is_empty()
    }

    /// The last tick, while a case is open.
    pub(crate) fn busy_from_us(&self) -> Option<i64> {
        self.state.now_us.filter(|_| !self.is_idle())
    }
}

fn key(finding: &Finding) -> String {
    key_of(&finding.rule, &finding.node, &finding.workload)
}

fn key_of(rule: &str, node: &str, workload: &str) -> String {
    format!("{rule}\n{node}\n{workload}")
}
