//! What came of actions, and what is to be thought of it.

use skep_wire::{order, v1};

use super::{Engine, Past, key};
use crate::SECOND_US;
use crate::case::{Stage, Symptom, Try};
use crate::decision::{Decision, End, Heard};
use crate::recipe;
use crate::spent::{Full, Target};

/// Findings remembered after their case, to take them up again when they come back.
const MOST_PAST: usize = 1_000;

/// Longest wait between two tries of a rung.
const MAX_BACKOFF_S: i64 = 600;

impl Engine {
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
    pub(super) fn judge(&mut self, now_us: i64) -> Vec<Decision> {
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

    pub(super) fn end(&mut self, id: &str, end: End, why: &str, now_us: i64) -> Option<Decision> {
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
    let contains = matches!(
        of.verb.as_str(),
        "throttle" | "limit_memory" | "limit_io" | "freeze" | "block" | "isolate" | "pause_container" | "cordon"
    );
    if contains { said.or(gone) } else { gone.or(said) }
}
