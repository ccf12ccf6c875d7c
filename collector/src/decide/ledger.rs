//! All actions, within the budgets.

use std::collections::HashMap;

use skep_wire::order;

use super::action::Action;
use super::policy::{Mode, Policy, Rule};
use super::protected;
use super::refusal::Refusal;
use super::state::{Event, State};
use crate::detect::finding::Finding;

/// Closed actions remembered, for operators' questions and late receipts; the oldest are forgotten first.
const MAX_CLOSED: usize = 2_000;

/// How long a sent command may go unanswered: it is void after one minute, and its receipt travels in a batch.
const ANSWER_WITHIN_US: i64 = 180_000_000;

const HOUR_US: i64 = 3_600_000_000;

/// What the policy makes of a finding.
#[derive(Debug, Clone, PartialEq)]
pub enum Proposal {
    /// Nothing: no rule, or nothing to aim at.
    None,
    /// A rule matched and something forbids it; the text goes to the audit log.
    Withheld(String),
    /// An action, in `Observed` or `Pending`; in mode auto the caller approves it at once.
    Action(Box<Action>),
}

/// All actions this collector knows of.
#[derive(Debug)]
pub struct Ledger {
    policy: Policy,
    actions: HashMap<String, Action>,
    /// Action to when its command was sent, within the last hour.
    sent_us: HashMap<String, i64>,
}

impl Ledger {
    /// An empty ledger under `policy`.
    pub fn new(policy: Policy) -> Self {
        Self { policy, actions: HashMap::new(), sent_us: HashMap::new() }
    }

    /// The action with this id.
    pub fn get(&self, id: &str) -> Option<&Action> {
        self.actions.get(id)
    }

    /// Finds an action by its id or by the beginning of it (at least four digits).
    ///
    /// # Errors
    /// [`Refusal::UnknownAction`] and [`Refusal::Ambiguous`].
    pub fn find(&self, id: &str) -> Result<&Action, Refusal> {
        if let Some(action) = self.actions.get(id) {
            return Ok(action);
        }
        let unknown = || Refusal::UnknownAction { action: id.to_owned() };
        if id.len() < 4 {
            return Err(unknown());
        }
        let mut fitting = self.actions.values().filter(|action| action.id.starts_with(id));
        let first = fitting.next().ok_or_else(unknown)?;
        match fitting.count() {
            0 => Ok(first),
            more => Err(Refusal::Ambiguous { action: id.to_owned(), candidates: more + 1 }),
        }
    }

    /// Puts in an action, new or read back; a known one is replaced.
    pub fn put(&mut self, action: Action, now_us: i64) {
        match action.sent_us {
            Some(sent_us) if now_us - sent_us < HOUR_US => {
                self.sent_us.insert(action.id.clone(), sent_us);
            }
            _ => {
                self.sent_us.remove(&action.id);
            }
        }
        self.actions.insert(action.id.clone(), action);
        self.forget_oldest_closed();
    }

    /// What the policy makes of a finding. `id` is the new action's, if there will be one.
    pub fn propose(&self, finding: &Finding, id: String, now_us: i64) -> Proposal {
        let Some(rule) = self.policy.rule_for(finding) else { return Proposal::None };
        let Some(wanted) = rule.recipe.command(finding, rule.lease_s) else { return Proposal::None };
        if let Some(why) = self.withheld(finding, rule, now_us) {
            return Proposal::Withheld(why);
        }
        let state = if rule.mode == Mode::Observe { State::Observed } else { State::Pending };
        Proposal::Action(Box::new(Action {
            id,
            finding: finding.id.clone(),
            node: finding.node.clone(),
            boot: Some(finding.boot.clone()),
            workload: finding.workload.clone(),
            aim: finding.aim.clone().filter(|_| order::aims_at_cgroup(&wanted)),
            wanted,
            mode: rule.mode,
            state,
            changed_us: now_us,
            sent_us: None,
            lease_until_us: None,
            dry_run: false,
        }))
    }

    /// The pattern that protects this workload, if one does.
    pub fn protects(&self, workload: &str, cgroup: &str) -> Option<&str> {
        protected::pattern_for(&self.policy.protected, workload, cgroup)
    }

    fn withheld(&self, finding: &Finding, rule: &Rule, now_us: i64) -> Option<String> {
        let cgroup = finding.aim.as_ref().map_or("", |aim| aim.cgroup.as_str());
        if let Some(pattern) = self.protects(&finding.workload, cgroup) {
            return Some(format!("{} is protected by {pattern}", finding.workload));
        }
        if finding.coverage < self.policy.min_coverage {
            return Some(format!(
                "coverage {:.2} is below the policy's {:.2}",
                finding.coverage, self.policy.min_coverage
            ));
        }
        let mut same = self.actions.values().filter(|a| a.node == finding.node && a.workload == finding.workload);
        let cool_down_us = self.policy.budget.cool_down_s * 1_000_000;
        let busy = same.find(|action| match action.state {
            State::Pending => true,
            state if state.stands() => action.occupies(now_us),
            _ => now_us - action.changed_us < cool_down_us,
        });
        if let Some(action) = busy {
            return Some(format!("action {} on {} is {}", action.id, action.workload, action.state.as_str()));
        }
        let pending = self.count(|action| action.state == State::Pending);
        if rule.mode != Mode::Observe && pending >= self.policy.budget.max_pending {
            return Some(format!("{pending} actions wait for an operator already"));
        }
        None
    }

    /// Whether one more command fits the budgets.
    ///
    /// # Errors
    /// [`Refusal::Budget`].
    pub fn afford(&mut self, now_us: i64) -> Result<(), Refusal> {
        self.sent_us.retain(|_, sent_us| now_us - *sent_us < HOUR_US);
        let standing = self.count(|action| action.occupies(now_us));
        for (what, used, allowed) in [
            ("concurrent actions", standing, self.policy.budget.max_concurrent),
            ("commands an hour", self.sent_us.len(), self.policy.budget.max_per_hour),
        ] {
            if used >= allowed {
                return Err(Refusal::Budget { what, used, allowed });
            }
        }
        Ok(())
    }

    /// Applies an event; the action as it is then, or `None` when the event does not belong to its state. Every change
    /// has a later time than the one before, so that the newest row is the one that counts.
    pub fn apply(&mut self, id: &str, event: Event, now_us: i64) -> Option<&mut Action> {
        let action = self.actions.get_mut(id)?;
        action.state = action.state.after(event)?;
        action.changed_us = action.later_than_changed(now_us);
        match event {
            Event::Approve => {
                action.sent_us = Some(action.changed_us);
                self.sent_us.insert(action.id.clone(), action.changed_us);
            }
            Event::Undeliverable => {
                action.sent_us = None;
                self.sent_us.remove(&action.id);
            }
            _ => {}
        }
        Some(action)
    }

    /// Ids of actions that have waited too long, with what happens to them.
    pub fn overdue(&self, now_us: i64) -> Vec<(String, Event)> {
        let pending_us = self.policy.pending_expires_s * 1_000_000;
        let mut overdue: Vec<(String, Event)> = self
            .actions
            .values()
            .filter_map(|action| match action.state {
                State::Pending if now_us - action.changed_us >= pending_us => Some((action.id.clone(), Event::Expire)),
                State::Sent if now_us - action.changed_us >= ANSWER_WITHIN_US => {
                    Some((action.id.clone(), Event::NoAnswer))
                }
                _ => None,
            })
            .collect();
        overdue.sort_by(|a, b| a.0.cmp(&b.0));
        overdue
    }

    /// Ids of pending actions on `node` that were proposed in another boot, or in one that is not known any more.
    pub fn of_another_boot(&self, node: &str, boot: &str) -> Vec<String> {
        self.actions
            .values()
            .filter(|action| action.state == State::Pending && action.node == node)
            .filter(|action| action.boot.as_deref() != Some(boot))
            .map(|action| action.id.clone())
            .collect()
    }

    fn count(&self, which: impl Fn(&Action) -> bool) -> usize {
        self.actions.values().filter(|action| which(action)).count()
    }

    fn forget_oldest_closed(&mut self) {
        let closed = self.count(|action| action.state.is_closed());
        if closed <= MAX_CLOSED {
            return;
        }
        let mut by_age: Vec<(i64, String)> = self
            .actions
            .values()
            .filter(|action| action.state.is_closed())
            .map(|action| (action.changed_us, action.id.clone()))
            .collect();
        by_age.sort_unstable();
        for (_, id) in by_age.into_iter().take(closed - MAX_CLOSED + MAX_CLOSED / 10) {
            self.actions.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::finding::Aim;

    fn pending(id: &str) -> Action {
        Action {
            id: id.to_owned(),
            finding: "f".to_owned(),
            node: "n".to_owned(),
            boot: Some("b".to_owned()),
            workload: id.to_owned(),
            aim: Some(Aim { cgroup: format!("/{id}"), cgroup_id: 1 }),
            wanted: order::read("throttle", "cpu_millicores=500 lease_s=60").unwrap(),
            mode: Mode::Ask,
            state: State::Pending,
            changed_us: 0,
            sent_us: None,
            lease_until_us: None,
            dry_run: false,
        }
    }

    #[test]
    fn commands_sent_at_one_moment_are_counted_one_by_one() {
        let policy = Policy::parse("[budget]\nmax_per_hour = 2\nmax_concurrent = 9\n").unwrap();
        let mut ledger = Ledger::new(policy);
        for id in ["a", "b"] {
            ledger.put(pending(id), 5);
            assert!(ledger.afford(5).is_ok());
            ledger.apply(id, Event::Approve, 5);
        }
        assert!(ledger.afford(5).is_err());
        ledger.apply("a", Event::Undeliverable, 5);
        assert!(ledger.afford(5).is_ok(), "only the one that came back is given back");
        ledger.put(pending("c"), 5);
        ledger.apply("c", Event::Approve, 5);
        assert!(ledger.afford(5).is_err());
        assert!(ledger.afford(5 + HOUR_US).is_ok());
    }

    #[test]
    fn every_change_is_later_than_the_one_before_though_the_clock_is_not() {
        let mut ledger = Ledger::new(Policy::parse("").unwrap());
        ledger.put(Action { changed_us: 7, ..pending("a") }, 7);
        assert_eq!(ledger.apply("a", Event::Approve, 7).map(|action| action.changed_us), Some(8));
        assert_eq!(ledger.apply("a", Event::NoAnswer, 3).map(|action| action.changed_us), Some(9));
    }
}
