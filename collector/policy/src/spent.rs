//! Budgets, cooldowns and limits: what was sent, what stands, and what ended when.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};
use skep_wire::order;

use crate::SECOND_US;
use crate::policy::{Budget, Restart};

const HOUR_US: i64 = 3600 * SECOND_US;

const DAY_US: i64 = 24 * HOUR_US;

/// What has no lease is done within an hour, or nobody will hear of it any more.
const UNLEASED_S: u32 = 3600;

/// How long after its lease an action may still be on its way back.
const GRACE_US: i64 = 300 * SECOND_US;

/// A budget that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Which.
    pub what: &'static str,
    /// Used.
    pub used: usize,
    /// Allowed.
    pub allowed: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {}", self.used, self.allowed, self.what)
    }
}

/// Whom an action is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Where.
    pub node: &'a str,
    /// A workload.
    pub workload: &'a str,
}

/// What was sent, what stands, and what ended when.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Oldest first.
    sends: VecDeque<Sent>,
    /// By action.
    open: BTreeMap<String, Open>,
    /// When the last action on a target ended, by node and workload.
    ended: BTreeMap<String, BTreeMap<String, Ended>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sent {
    at_us: i64,
    action: String,
    node: String,
    workload: String,
    verb: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ended {
    at_us: i64,
    case: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    /// The case it is of; empty for an operator's order.
    case: String,
    node: String,
    workload: String,
    verb: String,
    until_us: i64,
}

impl Spent {
    /// A command is sent, of a case or of none.
    pub fn sent(&mut self, action: &str, (target, case): (Target<'_>, &str), verb: &str, lease_s: u32, now_us: i64) {
        self.sends.retain(|sent| sent.action != action);
        self.sends.push_back(Sent {
            at_us: now_us,
            action: action.to_owned(),
            node: target.node.to_owned(),
            workload: target.workload.to_owned(),
            verb: verb.to_owned(),
        });
        let for_s = if order::is_leased(verb) { lease_s } else { UNLEASED_S };
        let open = Open {
            case: case.to_owned(),
            node: target.node.to_owned(),
            workload: target.workload.to_owned(),
            verb: verb.to_owned(),
            until_us: now_us + i64::from(for_s) * SECOND_US + GRACE_US,
        };
        self.open.insert(action.to_owned(), open);
    }

    /// It never left.
    pub fn refund(&mut self, action: &str) {
        self.sends.retain(|sent| sent.action != action);
        self.open.remove(action);
    }

    /// It stands no more.
    pub fn closed(&mut self, action: &str, now_us: i64) {
        if let Some(open) = self.open.remove(action) {
            let ended = Ended { at_us: now_us, case: open.case };
            self.ended.entry(open.node).or_default().insert(open.workload, ended);
        }
    }

    /// Nobody said what became of it: what has a lease may stand until that ends.
    pub fn unanswered(&mut self, action: &str, now_us: i64) {
        if self.open.get(action).is_some_and(|open| !order::is_leased(&open.verb)) {
            self.closed(action, now_us);
        }
    }

    /// Whether it stands or is on its way.
    pub fn is_open(&self, action: &str) -> bool {
        self.open.contains_key(action)
    }

    /// Whether something stands or is on its way there.
    pub fn is_acted_on(&self, node: &str, workload: &str) -> bool {
        let about = |open: &Open| open.node == node && (open.workload == workload || open.verb == "isolate");
        self.open.values().any(about)
    }

    /// Whether its command is remembered, or it stands.
    pub fn knows(&self, action: &str) -> bool {
        self.is_open(action) || self.sends.iter().any(|sent| sent.action == action)
    }

    /// Forgets what no limit looks at any more; what outlived its lease counts as ended then.
    pub fn tick(&mut self, now_us: i64) {
        while self.sends.front().is_some_and(|sent| now_us - sent.at_us >= DAY_US) {
            self.sends.pop_front();
        }
        let over: Vec<String> =
            self.open.iter().filter(|(_, open)| now_us >= open.until_us).map(|(action, _)| action.clone()).collect();
        over.iter().for_each(|action| self.closed(action, now_us));
        self.ended.retain(|_, of_node| {
            of_node.retain(|_, ended| now_us - ended.at_us < DAY_US);
            !of_node.is_empty()
        });
    }

    /// The action that stands in the way of another on this target: one that is about the same, or either is about the
    /// whole host.
    pub fn in_the_way(&self, target: Target<'_>, verb: &str) -> Option<&str> {
        let mut open = self.open.iter();
        open.find(|(_, open)| {
            let same = open.workload == target.workload || open.verb == "isolate" || verb == "isolate";
            open.node == target.node && same
        })
        .map(|(action, _)| action.as_str())
    }

    /// The first budget that one more would exceed.
    pub fn full(&self, budget: &Budget, target: Target<'_>, now_us: i64) -> Option<Full> {
        let sends = |which: &dyn Fn(&Sent) -> bool| {
            self.sends.iter().filter(|sent| now_us - sent.at_us < HOUR_US && which(sent)).count()
        };
        let here = |sent: &Sent| sent.node == target.node;
        let open_here = self.open.values().filter(|open| open.node == target.node).count();
        let limits = [
            ("concurrent actions", self.open.len(), budget.max_concurrent),
            ("concurrent actions on the node", open_here, budget.node_concurrent),
            ("commands an hour", sends(&|_| true), budget.max_per_hour),
            ("commands an hour on the node", sends(&here), budget.node_per_hour),
            (
                "commands an hour on the target",
                sends(&|sent| here(sent) && sent.workload == target.workload),
                budget.target_per_hour,
            ),
        ];
        let (what, used, allowed) = limits.into_iter().find(|(_, used, allowed)| used >= allowed)?;
        Some(Full { what, used, allowed })
    }

    /// Whether a restart of this target is one too many.
    pub fn restarted_too_often(&self, restart: &Restart, target: Target<'_>, now_us: i64) -> Option<Full> {
        let within_us = restart.within_s * SECOND_US;
        let used = self.restarts(target).filter(|at_us| now_us - at_us < within_us).count();
        (used >= restart.limit).then_some(Full { what: "restarts of it", used, allowed: restart.limit })
    }

    /// When a target may be restarted again, if that is later than now.
    pub fn restart_from_us(&self, restart: &Restart, target: Target<'_>, now_us: i64) -> Option<i64> {
        let from_us = self.restarts(target).max()? + restart.cool_down_s * SECOND_US;
        (from_us > now_us).then_some(from_us)
    }

    /// When a case may lead to an action on this target after one of another, if that is later than now.
    pub fn cool_from_us(&self, budget: &Budget, target: Target<'_>, case: &str, now_us: i64) -> Option<i64> {
        let ended = self.ended.get(target.node)?.get(target.workload).filter(|ended| ended.case != case)?;
        let from_us = ended.at_us + budget.cool_down_s * SECOND_US;
        (from_us > now_us).then_some(from_us)
    }

    fn restarts<'a>(&'a self, target: Target<'a>) -> impl Iterator<Item = i64> + 'a {
        let of_it = move |sent: &&Sent| {
            order::is_restart(&sent.verb) && sent.node == target.node && sent.workload == target.workload
        };
        self.sends.iter().filter(of_it).map(|sent| sent.at_us)
    }
}
