//! Actions change their state, and commands are made of them.

use skep_policy::Heard;
use skep_wire::v1;

use super::output::{Outgoing, Pending};
use super::responder::Responder;
use crate::decide::Refusal;
use crate::decide::action::{Action, Cause};
use crate::decide::state::Event;

/// A command the executor has not begun by then is void.
const COMMAND_VALID_US: i64 = 60_000_000;

impl Responder {
    pub(super) fn reachable(&self, action: &Action) -> Result<(), Refusal> {
        let (id, node) = (action.id.clone(), action.node.clone());
        match (self.connected.get(&action.node), &action.boot) {
            (None, _) => Err(Refusal::NotConnected { action: id, node }),
            (Some(now), Some(then)) if now != then => Err(Refusal::Restarted { action: id, node }),
            _ => Ok(()),
        }
    }

    /// Changes an action's state and says so in `actions` and `audit`.
    pub(super) fn change(&mut self, id: &str, event: Event, cause: Cause<'_>, now_us: i64, out: &mut Pending) {
        let Some(action) = self.ledger.apply(id, event, now_us) else { return };
        out.rows.action(action, cause);
        let heard = match event {
            Event::Reject => Heard::Rejected,
            Event::Expire => Heard::Expired,
            Event::Undeliverable => Heard::Undeliverable,
            Event::NoAnswer => Heard::NoAnswer,
            Event::Approve | Event::Receipt(_) => return,
        };
        self.owed.extend(self.engine.heard(id, heard, now_us));
    }

    pub(super) fn send(&mut self, id: &str, cause: Cause<'_>, now_us: i64, out: &mut Pending) {
        let Some(action) = self.ledger.apply(id, Event::Approve, now_us) else { return };
        out.rows.action(action, cause);
        let action = action.clone();
        let command = v1::Command {
            id: action.id.clone(),
            lease_s: action.wanted.lease_s,
            action: action.wanted.action.clone(),
            trigger: action.wanted.trigger,
            quorum: action.wanted.quorum.clone(),
            ..self.command(&action, cause.actor, now_us)
        };
        self.dispatch(&action, false, &command, out);
    }

    pub(super) fn send_undo(&mut self, action: &Action, operator: &str, now_us: i64, out: &mut Pending) {
        let undo = v1::Undo { action_id: action.id.clone() };
        let command = v1::Command {
            id: self.draw.hex(),
            action: Some(v1::command::Action::Undo(undo)),
            ..self.command(action, operator, now_us)
        };
        self.dispatch(action, true, &command, out);
    }

    pub(super) fn send_extension(
        &mut self,
        action: &Action,
        lease_s: u32,
        operator: &str,
        now_us: i64,
        out: &mut Pending,
    ) {
        let extend = v1::Extend { action_id: action.id.clone() };
        let command = v1::Command {
            id: self.draw.hex(),
            lease_s,
            action: Some(v1::command::Action::Extend(extend)),
            ..self.command(action, operator, now_us)
        };
        self.dispatch(action, true, &command, out);
    }

    fn command(&mut self, action: &Action, approved_by: &str, now_us: i64) -> v1::Command {
        let wall_us = now_us + self.ahead_us;
        v1::Command {
            node: action.node.clone(),
            // An executor of a later boot is to refuse it.
            boot: action.boot.as_ref().or_else(|| self.connected.get(&action.node)).cloned().unwrap_or_default(),
            target: Some(action.target()),
            not_after_us: wall_us + COMMAND_VALID_US,
            issued_us: wall_us,
            nonce: self.draw.hex(),
            finding: action.finding.clone(),
            approved_by: approved_by.to_owned(),
            mode: action.mode.as_str().to_owned(),
            ..v1::Command::default()
        }
    }

    fn dispatch(&self, action: &Action, undo: bool, command: &v1::Command, out: &mut Pending) {
        let command = self.signer.sign(command);
        out.commands.push(Outgoing { node: action.node.clone(), action: action.id.clone(), undo, command });
    }
}
