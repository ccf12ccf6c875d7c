//! Whose turn it is, and the next step of a case.

use skep_wire::order;

use super::Engine;
use super::confirm::Leave;
use crate::SECOND_US;
use crate::case::{Case, Stage, Symptom, Try};
use crate::choice::{self, Choice};
use crate::decision::{Begin, Decision, End};
use crate::finding::Finding;
use crate::policy::{Choose, Mode, Rule, Rung};
use crate::recipe;
use crate::spent::Target;

/// How long a finding is remembered after its case.
const PAST_US: i64 = 3600 * SECOND_US;

impl Engine {
    /// To be called about once a second. `id` makes ids for actions.
    pub fn tick(&mut self, now_us: i64, mut id: impl FnMut() -> String) -> Vec<Decision> {
        self.state.now_us = Some(now_us);
        self.state.spent.tick(now_us);
        self.state.past.retain(|_, past| now_us - past.ended_us < PAST_US);
        self.look_at_peers(now_us);
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
        let confirmed = match self.confirm(id, (at, mode), now_us, new_id) {
            Leave::Granted(confirmed) => confirmed,
            Leave::Denied(decision) => return decision,
        };
        let case = self.state.cases.get(id)?;
        let rule = self.policy.rule(&case.rule)?;
        let rung = &rule.ladder[at];
        let attempt = case.tried.get(&at).copied().unwrap_or(0) + 1;
        let (action, quorum) = confirmed.unzip();
        let begin = Begin {
            action: action.unwrap_or_else(new_id),
            finding: case.finding.clone(),
            wanted,
            mode,
            rule: rule.name.clone(),
            rung: at + 1,
            attempt,
            choice,
            lowered,
            quorum,
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
        (case.told, case.poll, case.refusals) = (None, None, 0);
        case.symptom = case.finding.until_over.then_some(Symptom::Present);
        if mode == Mode::Auto {
            let target = Target { node: &case.finding.node, workload: &of.target };
            self.state.spent.sent(&of.action, (target, &case.key()), &of.verb, of.lease_s, now_us);
        }
        case.stage = if mode == Mode::Ask { Stage::Asked(of) } else { Stage::Open(of) };
    }

    pub(super) fn choose(&self, case: &Case, rule: &Rule, now_us: i64) -> Choice {
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
            if case.finding.is_in_root() && rung.recipe.aims_at_cgroup() {
                return Some("would hit everything, it is in the root".to_owned());
            }
            let target = recipe::target(&wanted, &case.finding.workload);
            let target = Target { node: &case.finding.node, workload: &target };
            let restarts = order::is_restart(rung.recipe.verb());
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
        if let Some(why) = self.too_few(case, rung, target) {
            return Some(("healthy", why));
        }
        let left_s = |from_us: i64| (from_us - now_us + SECOND_US - 1) / SECOND_US;
        // Between the rungs of one ladder their verification is pause enough; and a process is never another's second try.
        let cools = verb != "kill" || rung.recipe.aims_at_cgroup();
        if cools && let Some(from_us) = spent.cool_from_us(&self.policy.budget, at, &case.key(), now_us) {
            return Some(("cooldown", format!("{target} was acted on; the next may be in {} s", left_s(from_us))));
        }
        if order::is_restart(verb)
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
    pub(super) fn tell(&mut self, id: &str, topic: &'static str, why: String) -> Option<Decision> {
        let case = self.state.cases.get_mut(id)?;
        if case.told.as_deref() == Some(topic) {
            return None;
        }
        case.told = Some(topic.to_owned());
        self.changed = true;
        Some(Decision::Withheld { finding: id.to_owned(), node: case.finding.node.clone(), why })
    }
}
