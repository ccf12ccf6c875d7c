//! What was durable before this start is learned again: nothing is raised, nothing sent.

use skep_wire::chunk;
use skep_wire::envelope::Origin;
use skep_wire::{order, v1};

use super::receipt::Word;
use super::responder::{OWN_NODE, Responder};
use crate::decide::action::Action;
use crate::decide::seen;
use crate::decide::state::State;
use crate::detect::change::Changed;
use crate::detect::series::keep::KeepError;
use crate::incident::{Incident, Member};

impl Responder {
    /// Learns from a batch that was durable before this start, in order and before anything else: baselines and what
    /// became of actions from the nodes' batches, holds and actions from the collector's own. Raises nothing.
    pub fn restore(&mut self, origin: &Origin, batch: &v1::Batch, now_us: i64) {
        if origin.node != OWN_NODE {
            self.watch.restore_glance(origin, batch);
        }
        for chunk in &batch.chunks {
            if origin.node != OWN_NODE {
                if chunk.table == "connections" {
                    chunk::rows(chunk).for_each(|row| self.incidents.talks().row(&origin.node, &row));
                }
                self.watch.restore_minutes(origin, chunk);
                // It is a peer, though nobody knows yet whether it is there.
                self.engine.peer(&origin.node, false, now_us);
            }
            match chunk.table.as_str() {
                "actions" if origin.node == OWN_NODE => {
                    chunk::rows(chunk).for_each(|row| self.restore_row(&row, now_us));
                }
                "actions" => {
                    // Those that do not count were audited when they came.
                    for row in chunk::rows(chunk) {
                        if let Ok(Word::Receipt { id, state }) = self.judge(&origin.node, &row) {
                            let at_us = row.int("time").map_or(now_us, |time_us| time_us.min(now_us));
                            self.receipt(id, state, &row, at_us);
                        }
                    }
                }
                "incidents" if origin.node == OWN_NODE => chunk::rows(chunk)
                    .filter_map(|row| Incident::read(&row))
                    .for_each(|incident| self.incidents.restore(incident)),
                "findings" if origin.node == OWN_NODE => self.watch.restore_findings(chunk, now_us),
                "processes" if origin.node != OWN_NODE => self.watch.restore_processes(origin, chunk),
                "canaries" if origin.node != OWN_NODE => self.watch.restore_canaries(origin, chunk, now_us),
                "cpu" if origin.node != OWN_NODE => self.watch.restore_cpu(origin, chunk),
                _ => {}
            }
        }
        for Changed { workload, what, time_us } in self.watch.take_changed() {
            self.incidents.happened(Member::new(&origin.node, &workload), &what, time_us);
        }
    }

    /// A row of the collector's own. What the cluster said goes to the policy as what a host said does.
    fn restore_row(&mut self, row: &chunk::Row<'_>, now_us: i64) {
        let Some(action) = Action::read(row) else { return };
        let said = (row.text("actor") == Some(order::CLUSTER)).then(|| seen::heard(action.state)).flatten();
        let (id, at_us) = (action.id.clone(), action.changed_us.min(now_us));
        self.restore_action(action);
        if let Some(heard) = said {
            self.owed.extend(self.engine.heard(&id, heard, at_us));
        }
    }

    fn restore_action(&mut self, mut action: Action) {
        if let Some(known) = self.ledger.get(&action.id) {
            // Two changes of one moment: the later in life is the newer.
            if (known.changed_us, known.state as u8) > (action.changed_us, action.state as u8) {
                return;
            }
            // One that waits again was not delivered.
            if action.state != State::Pending {
                action.sent_us = known.sent_us.or(action.sent_us);
            }
            action.lease_until_us = action.lease_until_us.or(known.lease_until_us);
        }
        if let Some(sent_us) = action.sent_us.filter(|_| action.state.stands()) {
            self.engine.known(&action.id, &action.node, &action.workload, &action.wanted, sent_us);
        }
        self.ledger.put(action);
    }

    /// What goes on by the policy, to survive a restart, if that changed since it was asked for last.
    ///
    /// # Errors
    /// Never for a state of ours.
    pub fn under_way(&mut self) -> Result<Option<Vec<u8>>, serde_json::Error> {
        self.engine.to_keep()
    }

    /// Takes that up, ahead of [`Responder::restore`].
    ///
    /// # Errors
    /// It does not read: what is under way is known by its rows only.
    pub fn go_on(&mut self, kept: &[u8]) -> Result<(), serde_json::Error> {
        self.engine.take_up(kept)
    }

    /// What was learned of the series by the minute, to survive a restart.
    pub fn learned(&self) -> Vec<u8> {
        self.watch.learned()
    }

    /// What was learned of what workloads usually do, likewise.
    pub fn habits(&self) -> Vec<u8> {
        self.watch.habits()
    }

    /// Takes it up before [`Responder::restore`].
    ///
    /// # Errors
    /// [`skep_rules::keep::KeepError`]: it is learned anew.
    pub fn take_up_habits(&mut self, habits: &[u8]) -> Result<(), skep_rules::keep::KeepError> {
        self.watch.rules().take_up(habits)
    }

    /// Takes up what was learned before this start, ahead of [`Responder::restore`]; how many series are learned anew.
    ///
    /// # Errors
    /// [`KeepError`]: all are.
    pub fn take_up(&mut self, learned: &[u8]) -> Result<usize, KeepError> {
        self.watch.take_up(learned)
    }
}
