//! What is heard of the cluster: that it answers, and what became of actions on it.

use skep_wire::order;
use skep_wire::v1::command::Action as Wanted;
use skep_wire::v1::{self, Step};

use super::output::{Output, Pending};
use super::responder::Responder;
use crate::decide::action::Cause;
use crate::decide::seen;
use crate::decide::state::{Event, State};

impl Responder {
    /// The cluster answers. What waits for an operator since before it was another one expires.
    pub fn cluster_connected(&mut self, identity: &str, now_us: i64) -> Output {
        let mut out = Pending::default();
        self.connected.insert(order::CLUSTER.to_owned(), identity.to_owned());
        self.expire_of_another_boot(order::CLUSTER, identity, now_us, &mut out);
        out.finish()
    }

    /// A receipt. It is heard again where it was not known to be stored: then it says nothing new.
    pub fn cluster_said(&mut self, receipt: &v1::Receipt, now_us: i64) -> Output {
        let mut out = Pending::default();
        let Some(state) = state_of(receipt.step()) else { return out.finish() };
        let (id, detail) = (receipt.action_id.as_str(), receipt.detail.as_str());
        let wanted = receipt.command.as_ref().and_then(|command| command.action.as_ref());
        let about = match wanted {
            Some(Wanted::Undo(undo)) => Some(undo.action_id.as_str()),
            Some(Wanted::Extend(extend)) => Some(extend.action_id.as_str()),
            _ => None,
        };
        if let Some(about) = about {
            self.not_undone(about, order::verb(wanted), detail, now_us, &mut out);
        } else if let Some(action) = self.ledger.apply(id, Event::Receipt(state), now_us) {
            if receipt.lease_until_us != 0 {
                action.lease_until_us = Some(receipt.lease_until_us);
            }
            action.dry_run |= receipt.dry_run;
            let action = action.clone();
            out.rows.action(&action, Cause { actor: order::CLUSTER, detail });
            out.rows.fact("cluster_time_us", &receipt.time_us.to_string());
            if let Some(heard) = seen::heard(state) {
                let decisions = self.engine.heard(id, heard, now_us);
                self.carry_out(decisions, now_us, &mut out);
            }
        }
        out.finish()
    }
}

/// The state a step leads to.
fn state_of(step: Step) -> Option<State> {
    Some(match step {
        Step::Refused => State::Refused,
        Step::Applied => State::Applied,
        Step::Improved => State::Improved,
        Step::Unchanged => State::Unchanged,
        Step::Worse => State::Worse,
        Step::Undone => State::Undone,
        Step::Failed => State::Failed,
        Step::Moot => State::Moot,
        Step::Done => State::Done,
        Step::Extended => State::Extended,
        Step::Unspecified => return None,
    })
}
