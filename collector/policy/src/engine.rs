//! All cases: findings and what came of actions go in, decisions come out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_wire::{order, v1};

use crate::SECOND_US;
use crate::case::{Case, Stage, Symptom, Try};
use crate::choice::{self, Choice};
use crate::finding::Finding;
use crate::outcome::Outcomes;
use crate::policy::{Choose, Mode, Policy, Rule, Rung};
use crate::recipe;
use crate::spent::{Full, Spent, Target};

/// Findings remembered after their case, to take them up again when they come back.
const MOST_PAST: usize = 1_000;

/// How long a finding is remembered after its case.
const PAST_US: i64 = 3600 * SECOND_US;

/// Longest wait between two tries of a rung.
const MAX_BACKOFF_S: i64 = 600;

/// What is to be done, or to be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// An action.
    Begin(Box<Begin>),
    /// An action that did not help is to be taken back before the next.
    Undo {
        /// Which.
        action: String,
        /// One line.
        why: String,
    },
    /// Nothing yet, or nothing at all.
    Withheld {
        /// The finding.
        finding: String,
        /// Its node.
        node: String,
        /// One line.
        why: String,
    },
    /// A case is over.
    Ended {
        /// What it was about.
        finding: Box<Finding>,
        /// How it ended.
        end: End,
        /// One line.
        why: String,
    },
    /// So much goes wrong at once that nothing is done by itself for a while.
    Braked {
        /// How much.
        findings: usize,
        /// Until when.
        until_us: i64,
    },
}

/// An action that is to begin: to be recorded in mode observe, to be asked about, or to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Begin {
    /// Its id.
    pub action: String,
    /// What asks for it.
    pub finding: Finding,
    /// Action, process or unit, lease and trigger.
    pub wanted: v1::Command,
    /// Whether to send it.
    pub mode: Mode,
    /// By which rule.
    pub rule: String,
    /// Which rung, from 1.
    pub rung: usize,
    /// Which try of it, from 1.
    pub attempt: u32,
    /// Why this one.
    pub choice: Choice,
    /// Why it is not done by itself, where the rule says auto.
    pub lowered: Option<String>,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It is well again.
    Recovered,
    /// Nothing says whether it is.
    Unproven,
    /// Nothing is left to be tried: people are needed.
    Escalated,
    /// Somebody decided otherwise, or it waited too long.
    Dropped,
    /// It was only to be said.
    Observed,
}

impl End {
    /// As in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Unproven => "unproven",
            Self::Escalated => "escalated",
            Self::Dropped => "dropped",
            Self::Observed => "observed",
        }
    }
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It stands.
    Applied,
    /// It stands for longer.
    Extended,
    /// Its trigger went down.
    Improved,
    /// It did what it was to do.
    Done,
    /// It did not help.
    Unchanged,
    /// It made things worse, and is being undone.
    Worse,
    /// The host is as it was.
    Undone,
    /// The executor does not do such things.
    Refused,
    /// There was no reason any more.
    Moot,
    /// It could not be done.
    Failed,
    /// Nobody said anything.
    NoAnswer,
    /// It could not be sent.
    Undeliverable,
    /// An operator said no.
    Rejected,
    /// Nobody said yes in time, or the host started anew.
    Expired,
}

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
}

impl Engine {
    /// With nothing going on.
    pub fn new(policy: Policy) -> Self {
        Self { policy, state: State::default(), changed: false }
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

    /// Takes up a finding.
    pub fn consider(&mut self, finding: Finding, now_us: i64) -> Vec<Decision> {
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
            finding,
        };
        self.state.past.remove(&key(&case.finding));
        self.state.cases.insert(case.finding.id.clone(), case);
        self.storm(now_us).into_iter().collect()
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

    /// To be called about once a second. `id` makes ids for actions.
    pub fn tick(&mut self, now_us: i64, mut id: impl FnMut() -> String) -> Vec<Decision> {
        self.state.now_us = Some(now_us);
        self.state.spent.tick(now_us);
        self.state.past.retain(|_, past| now_us - past.ended_us < PAST_US);
        let mut out = self.judge(now_us);
        for finding in self.in_turn(now_us) {
            out.extend(self.next(&finding, now_us, &mut id));
        }
        out
    }

    /// Findings that wait, the most urgent first.
    fn in_turn(&self, now_us: i64) -> Vec<String> {
        let ageing_us = self.policy.queue.ageing_s * SECOND_US;
        let mut waiting: Vec<(i64, i64, &String)> = Vec::new();
        for (id, case) in &self.state.cases {
            if !matches!(case.stage, Stage::Waiting { .. }) {
                continue;
            }
            let rule = self.policy.rule(&case.rule).map_or(0, |rule| rule.priority);
            let waited = (now_us - case.opened_us).max(0) / ageing_us;
            waiting.push((-(rule + 10 * case.finding.severity as i64 + waited), case.opened_us, id));
        }
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, _, id)| id.clone()).collect()
    }

    /// The next step of a case that waits.
    fn next(&mut self, id: &str, now_us: i64, new_id: &mut impl FnMut() -> String) -> Option<Decision> {
        let case = self.state.cases.get(id)?;
        let Stage::Waiting { since_us, from_us } = case.stage else { return None };
        let Some(rule) = self.policy.rule(&case.rule) else {
            return self.end(id, End::Dropped, "its rule is gone from the policy", now_us);
        };
        if now_us - since_us >= self.policy.queue.expires_s * SECOND_US {
            return self.end(id, End::Dropped, "it waited too long; what it says may no longer be true", now_us);
        }
        if now_us < from_us {
            return None;
        }
        let choice = self.choose(case, rule, now_us);
        let Some(at) = choice.chosen else {
            return self.end(id, End::Escalated, &format!("nothing is left to be tried ({choice})"), now_us);
        };
        let rung = &rule.ladder[at];
        let wanted = rung.recipe.command(&case.finding, rung.lease_s)?;
        let (mut mode, window) = self.policy.mode_at(rule, &case.finding, now_us);
        let mut lowered = window.map(|window| format!("maintenance window {} is open", window.name));
        if mode == Mode::Auto && self.state.braked_until_us.is_some_and(|until_us| now_us < until_us) {
            (mode, lowered) = (Mode::Ask, Some("too much goes wrong at once".to_owned()));
        }
        let target = recipe::target(&wanted, &case.finding.workload);
        if let Some((topic, why)) = self.wait_for(case, rung, mode, &target, now_us) {
            return self.tell(id, topic, why);
        }
        let attempt = case.tried.get(&at).copied().unwrap_or(0) + 1;
        let begin = Begin {
            action: new_id(),
            finding: case.finding.clone(),
            wanted,
            mode,
            rule: rule.name.clone(),
            rung: at + 1,
            attempt,
            choice,
            lowered,
        };
        let of = Try {
            action: begin.action.clone(),
            rung: at,
            verb: rung.recipe.verb().to_owned(),
            target,
            lease_s: rung.lease_s,
            asked: mode == Mode::Ask,
            at_us: now_us,
        };
        self.begin(id, of, mode, now_us);
        Some(Decision::Begin(Box::new(begin)))
    }

    fn begin(&mut self, id: &str, of: Try, mode: Mode, now_us: i64) {
        self.changed = true;
        if mode == Mode::Observe {
            let _observed = self.end(id, End::Observed, "", now_us);
            return;
        }
        let Some(case) = self.state.cases.get_mut(id) else { return };
        *case.tried.entry(of.rung).or_default() += 1;
        (case.told, case.symptom) = (None, case.finding.until_over.then_some(Symptom::Present));
        if mode == Mode::Auto {
            let target = Target { node: &case.finding.node, workload: &of.target };
            self.state.spent.sent(&of.action, (target, &case.key()), &of.verb, of.lease_s, now_us);
        }
        case.stage = if mode == Mode::Ask { Stage::Asked(of) } else { Stage::Open(of) };
    }

    fn choose(&self, case: &Case, rule: &Rule, now_us: i64) -> Choice {
        let out = |at: usize| {
            let rung = rule.ladder.get(at)?;
            let tried = case.tried.get(&at).copied().unwrap_or(0);
            if let Some(why) = case.given_up.get(&at) {
                return Some(why.clone());
            }
            if tried >= rung.attempts {
                return Some(if tried == 1 { "was tried".to_owned() } else { format!("was tried {tried} times") });
            }
            if rule.choose == Choose::Order && case.highest().is_some_and(|highest| at < highest) {
                return Some("is behind us".to_owned());
            }
            let Some(wanted) = rung.recipe.command(&case.finding, rung.lease_s) else {
                return Some("needs what the finding does not say".to_owned());
            };
            let target = recipe::target(&wanted, &case.finding.workload);
            let target = Target { node: &case.finding.node, workload: &target };
            let restarts = rung.recipe.verb() == "restart_unit";
            let limit = restarts.then(|| self.state.spent.restarted_too_often(&self.policy.restart, target, now_us));
            limit.flatten().map(|full| full.to_string())
        };
        let (class, finding_rule) = (case.finding.class(), &case.finding.rule);
        choice::choose(rule, class, finding_rule, &self.policy.weights, &self.state.outcomes, out)
    }

    /// What a case has to wait for, by topic and in words.
    fn wait_for(
        &self,
        case: &Case,
        rung: &Rung,
        mode: Mode,
        target: &str,
        now_us: i64,
    ) -> Option<(&'static str, String)> {
        if mode == Mode::Observe {
            return None;
        }
        let (spent, verb) = (&self.state.spent, rung.recipe.verb());
        let at = Target { node: &case.finding.node, workload: target };
        if let Some(first) = self.stands_first(case, at, verb) {
            return Some(first);
        }
        let left_s = |from_us: i64| (from_us - now_us + SECOND_US - 1) / SECOND_US;
        // Between the rungs of one ladder their verification is pause enough.
        if let Some(from_us) = spent.cool_from_us(&self.policy.budget, at, &case.key(), now_us) {
            return Some(("cooldown", format!("{target} was acted on; the next may be in {} s", left_s(from_us))));
        }
        if verb == "restart_unit"
            && let Some(from_us) = spent.restart_from_us(&self.policy.restart, at, now_us)
        {
            return Some(("restart", format!("{target} was restarted; the next may be in {} s", left_s(from_us))));
        }
        if mode == Mode::Ask {
            let pending = self.state.cases.values().filter(|case| matches!(case.stage, Stage::Asked(_))).count();
            return (pending >= self.policy.budget.max_pending)
                .then(|| ("pending", format!("{pending} actions wait for an operator already")));
        }
        let full = spent.full(&self.policy.budget, at, now_us)?;
        Some((full.what, format!("the policy's budget is used up: {full}")))
    }

    /// What is to be over before: an action that is asked about or stands, or the repair of what this one needs.
    fn stands_first(&self, case: &Case, at: Target<'_>, verb: &str) -> Option<(&'static str, String)> {
        let target = at.workload;
        let asked = |other: &&Case| match &other.stage {
            Stage::Asked(of) => of.target == target && other.finding.node == case.finding.node,
            _ => false,
        };
        if let Some(of) = self.state.cases.values().find(asked).and_then(Case::current) {
            return Some(("conflict", format!("action {} on {target} waits for an operator", of.action)));
        }
        let needed = |other: &&Case| {
            // Two that need each other do not wait for each other.
            self.policy.needs(&case.finding, &other.finding) && !self.policy.needs(&other.finding, &case.finding)
        };
        if let Some(other) = self.state.cases.values().find(needed) {
            let Finding { workload, node, .. } = &other.finding;
            return Some(("dependency", format!("it needs {workload} on {node}, which is being repaired")));
        }
        if let Some(action) = self.state.spent.in_the_way(at, verb) {
            return Some(("conflict", format!("action {action} stands in the way on {target}")));
        }
        None
    }

    /// Told once as long as it is about the same.
    fn tell(&mut self, id: &str, topic: &'static str, why: String) -> Option<Decision> {
        let case = self.state.cases.get_mut(id)?;
        if case.told.as_deref() == Some(topic) {
            return None;
        }
        case.told = Some(topic.to_owned());
        self.changed = true;
        Some(Decision::Withheld { finding: id.to_owned(), node: case.finding.node.clone(), why })
    }

    /// An operator lets an action pass that waits. One that this state has no word of counts as an order.
    ///
    /// # Errors
    /// [`Full`]: a budget is used up, or something stands in the way.
    pub fn approve(
        &mut self,
        action: &str,
        (node, workload): (&str, &str),
        wanted: &v1::Command,
        now_us: i64,
    ) -> Result<(), Full> {
        let found = self.state.cases.iter().find_map(|(id, case)| match &case.stage {
            Stage::Asked(of) if of.action == action => Some((id.clone(), of.clone())),
            _ => None,
        });
        let Some((id, of)) = found else { return self.order(action, (node, workload), wanted, now_us) };
        let target = Target { node, workload: &of.target };
        if let Some(full) = self.state.spent.full(&self.policy.budget, target, now_us) {
            return Err(full);
        }
        if self.state.spent.in_the_way(target, &of.verb).is_some() {
            return Err(Full { what: "actions on one target", used: 1, allowed: 1 });
        }
        self.changed = true;
        if let Some(case) = self.state.cases.get_mut(&id) {
            self.state.spent.sent(action, (target, &case.key()), &of.verb, of.lease_s, now_us);
            case.stage = Stage::Open(Try { at_us: now_us, ..of });
        }
        Ok(())
    }

    /// An operator's own action. It is not refused for standing beside another: the policy's wait for it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn order(
        &mut self,
        action: &str,
        (node, workload): (&str, &str),
        wanted: &v1::Command,
        now_us: i64,
    ) -> Result<(), Full> {
        let target = recipe::target(wanted, workload);
        let target = Target { node, workload: &target };
        if let Some(full) = self.state.spent.full(&self.policy.budget, target, now_us) {
            return Err(full);
        }
        self.changed = true;
        let verb = order::verb(wanted.action.as_ref());
        self.state.spent.sent(action, (target, ""), verb, wanted.lease_s, now_us);
        Ok(())
    }

    /// An action is known to have been sent that this state has no word of: it counts like any other.
    pub fn known(&mut self, action: &str, node: &str, workload: &str, wanted: &v1::Command, sent_us: i64) {
        if self.state.spent.knows(action) {
            return;
        }
        self.changed = true;
        let target = recipe::target(wanted, workload);
        let verb = order::verb(wanted.action.as_ref());
        self.state.spent.sent(action, (Target { node, workload: &target }, ""), verb, wanted.lease_s, sent_us);
    }

    /// What became of an action.
    pub fn heard(&mut self, action: &str, heard: Heard, now_us: i64) -> Vec<Decision> {
        self.changed = true;
        match heard {
            Heard::Undeliverable | Heard::Rejected | Heard::Expired => self.state.spent.refund(action),
            Heard::Done | Heard::Undone | Heard::Refused | Heard::Moot | Heard::Failed => {
                self.state.spent.closed(action, now_us);
            }
            Heard::NoAnswer => self.state.spent.unanswered(action, now_us),
            _ => {}
        }
        let Some((id, of)) = self.state.cases.iter().find_map(|(id, case)| {
            let of = case.current().filter(|of| of.action == action)?;
            Some((id.clone(), of.clone()))
        }) else {
            return Vec::new();
        };
        match heard {
            Heard::Applied | Heard::Extended => self.watch(&id, of, None, now_us),
            Heard::Improved | Heard::Done => self.watch(&id, of, Some(true), now_us),
            Heard::Unchanged => self.watch(&id, of, Some(false), now_us),
            Heard::Worse => return self.did_not_help(&id, &of, "it made things worse", now_us),
            Heard::Failed | Heard::NoAnswer => return self.did_not_help(&id, &of, "it could not be done", now_us),
            Heard::Refused => {
                if let Some(case) = self.state.cases.get_mut(&id) {
                    case.given_up.insert(of.rung, "the executor refuses it".to_owned());
                    case.stage = Stage::Waiting { since_us: now_us, from_us: now_us };
                }
            }
            Heard::Undeliverable => {
                if let Some(case) = self.state.cases.get_mut(&id) {
                    let Stage::Open(_) = case.stage else { return Vec::new() };
                    if of.asked {
                        case.stage = Stage::Asked(of);
                        return Vec::new();
                    }
                    let tries = case.tried.entry(of.rung).or_default();
                    *tries = tries.saturating_sub(1);
                    case.stage = Stage::Waiting { since_us: case.opened_us, from_us: now_us + 10 * SECOND_US };
                }
            }
            Heard::Moot => return self.end_with(&id, End::Recovered, "there was no reason any more", now_us),
            Heard::Undone => return self.end_with(&id, End::Dropped, "it was undone", now_us),
            Heard::Rejected => return self.end_with(&id, End::Dropped, "an operator said no", now_us),
            Heard::Expired => return self.end_with(&id, End::Dropped, "nobody approved it in time", now_us),
        }
        Vec::new()
    }

    /// It was carried out: whether it helped is seen by the end of its window.
    fn watch(&mut self, id: &str, of: Try, said: Option<bool>, now_us: i64) {
        let Some(case) = self.state.cases.get_mut(id) else { return };
        let verify_s = self.policy.rule(&case.rule).and_then(|rule| rule.ladder.get(of.rung)).map(|rung| rung.verify_s);
        match &mut case.stage {
            Stage::Verifying { said: before, .. } => *before = said.or(*before),
            stage => {
                // What was read before it says nothing of it; what has an end is there until that is said, which may be
                // before the executor's word comes.
                let gone = case.symptom.filter(|symptom| match symptom {
                    Symptom::AbsentSince(since_us) => *since_us >= of.at_us,
                    Symptom::Present => false,
                });
                case.symptom = gone.or(case.finding.until_over.then_some(Symptom::Present));
                let until_us = now_us + verify_s.unwrap_or(60) * SECOND_US;
                *stage = Stage::Verifying { of, said, until_us };
            }
        }
    }

    /// Decides those whose window is over.
    fn judge(&mut self, now_us: i64) -> Vec<Decision> {
        let due: Vec<String> = self
            .state
            .cases
            .iter()
            .filter(|(_, case)| matches!(case.stage, Stage::Verifying { until_us, .. } if now_us >= until_us))
            .map(|(id, _)| id.clone())
            .collect();
        let mut out = Vec::new();
        for id in due {
            let Some(case) = self.state.cases.get(&id) else { continue };
            let Stage::Verifying { of, said, .. } = &case.stage else { continue };
            let (of, said) = (of.clone(), *said);
            let well = well_again(&of, said, case.symptom);
            let recovered_us = match case.symptom {
                Some(Symptom::AbsentSince(since_us)) => since_us,
                _ => now_us,
            };
            match well {
                Some(true) => {
                    let (rule, class) = (case.finding.rule.clone(), case.finding.class().to_owned());
                    let after_s = (recovered_us - of.at_us) as f64 / SECOND_US as f64;
                    self.state.outcomes.recovered(&rule, &of.verb, &class, after_s);
                    let why = format!("{} helped", of.verb);
                    out.extend(self.end_with(&id, End::Recovered, &why, now_us));
                }
                Some(false) => out.extend(self.did_not_help(&id, &of, "it did not help", now_us)),
                None => {
                    let why = format!("nothing says whether {} helped", of.verb);
                    out.extend(self.end_with(&id, End::Unproven, &why, now_us));
                }
            }
        }
        out
    }

    /// On to the next try, or the next rung; what stands goes first.
    fn did_not_help(&mut self, id: &str, of: &Try, why: &str, now_us: i64) -> Vec<Decision> {
        self.changed = true;
        let Some(case) = self.state.cases.get_mut(id) else { return Vec::new() };
        self.state.outcomes.failed(&case.finding.rule, &of.verb, case.finding.class());
        let rule = self.policy.rule(&case.rule);
        let rung = rule.and_then(|rule| rule.ladder.get(of.rung));
        let tries = case.tried.get(&of.rung).copied().unwrap_or(1);
        let backoff_s = rung
            .filter(|rung| tries < rung.attempts)
            .map_or(0, |rung| rung.backoff_s.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(MAX_BACKOFF_S));
        case.stage = Stage::Waiting { since_us: now_us, from_us: now_us + backoff_s * SECOND_US };
        let Some(case) = self.state.cases.get(id) else { return Vec::new() };
        let more = rule.is_some_and(|rule| self.choose(case, rule, now_us).chosen.is_some());
        // After the last rung what stands is better than nothing.
        let undo = more && order::is_leased(&of.verb) && self.state.spent.is_open(&of.action);
        undo.then(|| Decision::Undo { action: of.action.clone(), why: why.to_owned() }).into_iter().collect()
    }

    fn end_with(&mut self, id: &str, end: End, why: &str, now_us: i64) -> Vec<Decision> {
        self.end(id, end, why, now_us).into_iter().collect()
    }

    fn end(&mut self, id: &str, end: End, why: &str, now_us: i64) -> Option<Decision> {
        let case = self.state.cases.remove(id)?;
        self.changed = true;
        if self.state.past.len() >= MOST_PAST {
            let oldest = self.state.past.iter().min_by_key(|(_, past)| past.ended_us).map(|(key, _)| key.clone());
            oldest.map(|oldest| self.state.past.remove(&oldest));
        }
        let gone = end == End::Recovered;
        let past = Past { finding: case.finding.clone(), ended_us: now_us, gone };
        self.state.past.insert(key(&case.finding), past);
        Some(Decision::Ended { finding: Box::new(case.finding), end, why: why.to_owned() })
    }
}

/// Whether the trouble is over; `None` where nothing says so. What contains a trouble is judged by what the executor saw of
/// it, since the finding may well go on; what is to end it, by whether the finding is still there.
fn well_again(of: &Try, said: Option<bool>, symptom: Option<Symptom>) -> Option<bool> {
    let gone = symptom.map(|symptom| symptom != Symptom::Present);
    let contains =
        matches!(of.verb.as_str(), "throttle" | "limit_memory" | "limit_io" | "freeze" | "block" | "isolate");
    if contains { said.or(gone) } else { gone.or(said) }
}

fn key(finding: &Finding) -> String {
    key_of(&finding.rule, &finding.node, &finding.workload)
}

fn key_of(rule: &str, node: &str, workload: &str) -> String {
    format!("{rule}\n{node}\n{workload}")
}
