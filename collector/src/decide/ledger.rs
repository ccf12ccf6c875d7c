//! All actions.

use std::collections::HashMap;

use super::action::Action;
use super::refusal::Refusal;
use super::state::{Event, State};

/// Closed actions remembered, for operators' questions and late receipts; the oldest are forgotten first.
const MAX_CLOSED: usize = 2_000;

/// How long a sent command may go unanswered: it is void after one minute, and its receipt travels in a batch.
const ANSWER_WITHIN_US: i64 = 180_000_000;

/// All actions this collector knows of.
#[derive(Debug, Default)]
pub struct Ledger {
    actions: HashMap<String, Action>,
}

impl Ledger {
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
    pub fn put(&mut self, action: Action) {
        self.actions.insert(action.id.clone(), action);
        self.forget_oldest_closed();
    }

    /// Applies an event; the action as it is then, or `None` when the event does not belong to its state. Every change
    /// has a later time than the one before, so that the newest row is the one that counts.
    pub fn apply(&mut self, id: &str, event: Event, now_us: i64) -> Option<&mut Action> {
        let action = self.actions.get_mut(id)?;
        action.state = action.state.after(event)?;
        action.changed_us = action.later_than_changed(now_us);
        match event {
            Event::Approve => action.sent_us = Some(action.changed_us),
            Event::Undeliverable => action.sent_us = None,
            _ => {}
        }
        Some(action)
    }

    /// Ids of actions that have waited too long, for an operator so long, with what happens to them.
    pub fn overdue(&self, pending_expires_s: i64, now_us: i64) -> Vec<(String, Event)> {
        let pending_us = pending_expires_s * 1_000_000;
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
    use skep_policy::Mode;
    use skep_wire::order;

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
    fn every_change_is_later_than_the_one_before_though_the_clock_is_not() {
        let mut ledger = Ledger::default();
        ledger.put(Action { changed_us: 7, ..pending("a") });
        assert_eq!(ledger.apply("a", Event::Approve, 7).map(|action| action.changed_us), Some(8));
        assert_eq!(ledger.apply("a", Event::NoAnswer, 3).map(|action| action.changed_us), Some(9));
    }
}
