//! An operator's word on an action or an incident.

use skep_policy::{Full, Mode, pattern};
use skep_wire::order::{self, ReadError};
use skep_wire::v1;

use super::output::{Output, Pending};
use super::responder::Responder;
use crate::decide::Refusal;
use crate::decide::action::{Action, Cause};
use crate::decide::state::{Event, State};
use crate::detect::finding::Aim;
use crate::incident::{self, Change, Incident};

impl Responder {
    /// An operator's word on an action or an incident. `operator` is the name in its certificate.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was changed; the text is for the operator.
    pub fn operator(
        &mut self,
        request: &v1::ActRequest,
        operator: &str,
        now_us: i64,
    ) -> Result<(v1::ActReply, Output), Refusal> {
        let mut out = Pending::default();
        let reason = if request.reason.is_empty() { "no reason given" } else { &request.reason };
        match request.verb() {
            v1::Verb::Acknowledge => {
                return self.word_on_incident(request, Change::Acknowledged, (operator, reason), now_us);
            }
            v1::Verb::Close => return self.word_on_incident(request, Change::Closed, (operator, reason), now_us),
            _ => {}
        }
        let ordered = match (request.verb(), &request.order) {
            (v1::Verb::Order, Some(order)) => Some(self.order(order, operator, reason, now_us, &mut out)?),
            _ => None,
        };
        let action = self.ledger.find(ordered.as_ref().unwrap_or(&request.action_id))?.clone();
        let cause = Cause { actor: operator, detail: reason };
        let detail = match request.verb() {
            v1::Verb::Approve => {
                self.may(&action, "approve", action.state == State::Pending)?;
                self.reachable(&action)?;
                let whom = (action.node.as_str(), action.workload.as_str());
                self.engine.approve(&action.id, whom, &action.wanted, now_us).map_err(used_up)?;
                out.rows.audit(now_us, operator, "approve", &action.id, &action.node, reason);
                self.send(&action.id, cause, now_us, &mut out);
                format!("{} on {}", action.parameters(), action.node)
            }
            v1::Verb::Reject => {
                self.may(&action, "reject", action.state == State::Pending)?;
                self.change(&action.id, Event::Reject, cause, now_us, &mut out);
                "nothing was changed on the host".to_owned()
            }
            v1::Verb::Undo => {
                // Of one that failed something may stand: nobody answered, or it could not be undone.
                self.may(&action, "undo", action.state.stands() || action.state == State::Failed)?;
                self.reachable(&action)?;
                out.rows.audit(now_us, operator, "undo", &action.id, &action.node, reason);
                self.send_undo(&action, operator, now_us, &mut out);
                format!("undo sent to {}", action.node)
            }
            v1::Verb::Order if ordered.is_some() => {
                format!("{} {} on {}", action.verb(), action.parameters(), action.node)
            }
            v1::Verb::Extend => {
                self.may(&action, "extend", action.state.stands() && action.state != State::Sent)?;
                self.reachable(&action)?;
                out.rows.audit(now_us, operator, "extend", &action.id, &action.node, reason);
                self.send_extension(&action, request.lease_s, operator, now_us, &mut out);
                format!("{} more seconds asked of {}", request.lease_s, action.node)
            }
            v1::Verb::Order | v1::Verb::Unspecified | v1::Verb::Acknowledge | v1::Verb::Close => {
                return Err(Refusal::UnknownVerb { verb: request.verb });
            }
        };
        let state = self.ledger.get(&action.id).map_or(action.state, |action| action.state);
        let reply = v1::ActReply { state: state.as_str().to_owned(), detail, action_id: action.id };
        Ok((reply, out.finish()))
    }

    /// An operator's own action, sent at once; its id.
    fn order(
        &mut self,
        order: &v1::Order,
        operator: &str,
        reason: &str,
        now_us: i64,
        out: &mut Pending,
    ) -> Result<String, Refusal> {
        let wanted = order::read(&order.verb, &order.parameters)?;
        let verb = order::verb(wanted.action.as_ref());
        if !order::VERBS.contains(&verb) {
            return Err(ReadError::Verb { verb: verb.to_owned() }.into());
        }
        let aimed = order::aims_at_cgroup(&wanted);
        if aimed && order.cgroup.is_empty() {
            return Err(Refusal::NoAim { verb });
        }
        if order::is_for_cluster(verb) != (order.node == order::CLUSTER) {
            return Err(Refusal::Misplaced { verb, node: order.node.clone() });
        }
        let named = order::named(&wanted).filter(|_| order.node == order::CLUSTER || order.workload == "host");
        let workload = named.unwrap_or_else(|| order.workload.clone());
        let cgroup = if aimed { order.cgroup.as_str() } else { "/-" };
        let about_all = !aimed && workload == "host";
        let protected = &self.engine.policy().protected;
        if let Some(pattern) = pattern::pattern_for(protected, &workload, cgroup).filter(|_| !about_all) {
            return Err(Refusal::Protected { workload, pattern: pattern.to_owned() });
        }
        let Some(boot) = self.connected.get(&order.node).cloned() else {
            return Err(Refusal::NoSuchNode { node: order.node.clone() });
        };
        let id = self.draw.hex();
        self.engine.order(&id, (&order.node, &workload), &wanted, now_us).map_err(used_up)?;
        let action = Action {
            id,
            finding: String::new(),
            node: order.node.clone(),
            boot: Some(boot),
            workload,
            aim: aimed.then(|| Aim { cgroup: order.cgroup.clone(), cgroup_id: order.cgroup_id }),
            wanted,
            mode: Mode::Ask,
            state: State::Pending,
            changed_us: now_us,
            sent_us: None,
            lease_until_us: None,
            dry_run: false,
        };
        let (id, cause) = (action.id.clone(), Cause { actor: operator, detail: reason });
        out.rows.action(&action, cause);
        self.ledger.put(action);
        self.send(&id, cause, now_us, out);
        Ok(id)
    }

    /// An operator's word on an incident.
    fn word_on_incident(
        &mut self,
        request: &v1::ActRequest,
        change: Change,
        word: (&str, &str),
        now_us: i64,
    ) -> Result<(v1::ActReply, Output), Refusal> {
        let mut out = Pending::default();
        let tell = &mut |incident: &Incident, cause: incident::Cause<'_>| out.incident(incident, cause);
        let incident = self.incidents.operator(&request.action_id, change, word, now_us, tell)?;
        let (state, detail) = (incident.state.as_str().to_owned(), incident.title.clone());
        let reply = v1::ActReply { state, detail, action_id: incident.id.clone() };
        Ok((reply, out.finish()))
    }

    fn may(&self, action: &Action, verb: &'static str, allowed: bool) -> Result<(), Refusal> {
        if allowed {
            return Ok(());
        }
        Err(Refusal::WrongState { action: action.id.clone(), verb, state: action.state })
    }
}

/// A budget of the policy is used up.
fn used_up(Full { what, used, allowed }: Full) -> Refusal {
    Refusal::Budget { what, used, allowed }
}
