//! What nodes say became of actions, and whether they are believed.

use skep_wire::chunk;

use super::output::Pending;
use super::responder::Responder;
use crate::decide::action::Cause;
use crate::decide::seen;
use crate::decide::state::{Event, State};

impl Responder {
    /// A row of `actions` that came from `node`.
    pub(super) fn outcome(&mut self, node: &str, row: &chunk::Row<'_>, now_us: i64, out: &mut Pending) {
        match self.judge(node, row) {
            Ok(Word::Receipt { id, state }) => {
                if self.receipt(id, state, row, now_us) {
                    out.rows.receipt(now_us, id, node, state, row);
                    if state == State::Applied {
                        self.tell_act(id, now_us, out);
                    }
                }
            }
            Ok(Word::UndoRefused { action }) => self.undo_refused(action, row, now_us, out),
            Ok(Word::Nothing) => {}
            Err(Unfounded { step, detail }) => {
                let id = row.text("action").unwrap_or_default();
                tracing::warn!(node, action = id, step, "a row of actions is not believed: {detail}");
                out.rows.audit(now_us, "collector", step, id, node, detail);
            }
        }
    }

    /// What a row that came from `node` says. A node speaks for itself alone, and only of what it was sent.
    pub(super) fn judge<'a>(&self, node: &str, row: &chunk::Row<'a>) -> Result<Word<'a>, Unfounded> {
        let unfounded = |step, detail| Err(Unfounded { step, detail });
        let (Some(id), Some(state)) = (row.text("action"), row.text("state").and_then(State::parse)) else {
            return Ok(Word::Nothing);
        };
        if !state.is_executors() {
            return unfounded("claimed_state", "only the collector brings this state about; the row is ignored");
        }
        let word = row.text("verb").filter(|verb| matches!(*verb, "undo" | "extend"));
        let undo = word.map(|_| row.text("parameters").unwrap_or_default());
        // A refused or lost command to undo or to extend has an id of its own and names the action it was for.
        let about = undo.map_or(Some(id), |parameters| parameters.strip_prefix("action=")?.split(' ').next());
        let known = about.and_then(|about| self.ledger.get(about));
        match (known, about) {
            // Refusals of what this collector never sent, or has forgotten, are only rows.
            (None, _) | (_, None) if state == State::Refused => Ok(Word::Nothing),
            (None, _) | (_, None) => unfounded("unknown_action", "no such action is known here; the row is ignored"),
            (Some(action), _) if action.node != node => {
                unfounded("foreign_action", "the action is on another node; the row is ignored")
            }
            (Some(_), _) if row.text("target_node") != Some(node) => {
                unfounded("foreign_action", "the row is about another node; it is ignored")
            }
            (Some(action), _) if action.sent_us.is_none() => {
                unfounded("unknown_action", "the action was never sent; the row is ignored")
            }
            (Some(_), Some(action)) if undo.is_some() => Ok(match state {
                State::Refused | State::Failed => Word::UndoRefused { action },
                _ => Word::Nothing,
            }),
            (Some(_), Some(id)) => Ok(Word::Receipt { id, state }),
        }
    }

    /// Whether it says anything new.
    pub(super) fn receipt(&mut self, id: &str, state: State, row: &chunk::Row<'_>, now_us: i64) -> bool {
        let Some(action) = self.ledger.apply(id, Event::Receipt(state), now_us) else { return false };
        action.lease_until_us = row.int("lease_until").or(action.lease_until_us);
        action.dry_run |= row.int("dry_run") == Some(1);
        if let Some(heard) = seen::heard(state) {
            // Carried out with the next decisions: a receipt may be read back at a start.
            self.owed.extend(self.engine.heard(id, heard, now_us));
        }
        true
    }

    /// The action stands as it did; its history says why it still does.
    fn undo_refused(&mut self, id: &str, row: &chunk::Row<'_>, now_us: i64, out: &mut Pending) {
        let detail = row.text("detail").unwrap_or_default();
        self.not_undone(id, row.text("verb").unwrap_or("undo"), detail, now_us, out);
    }

    pub(super) fn not_undone(&mut self, id: &str, verb: &str, detail: &str, now_us: i64, out: &mut Pending) {
        if let Some(mut action) = self.ledger.get(id).cloned() {
            action.changed_us = action.later_than_changed(now_us);
            let detail = format!("{verb} refused: {detail}");
            out.rows.action(&action, Cause { actor: "collector", detail: &detail });
            self.ledger.put(action);
        }
    }
}

/// What a node's row of `actions` comes to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word<'a> {
    /// The executor's word on an action it was sent.
    Receipt { id: &'a str, state: State },
    /// The command to undo this action was refused, or got lost.
    UndoRefused { action: &'a str },
    /// Only a row.
    Nothing,
}

/// Why a row is not believed, for the audit log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unfounded {
    step: &'static str,
    detail: &'static str,
}
