//! Receipts, and their way into journal and outbox.

use std::sync::Arc;

use skep_seglog::Storage;
use skep_wire::v1::{self, Step};

use super::Engine;
use crate::journal::record::What;
use crate::journal::state::REMEMBER_US;
use crate::journal::state::mark;
use crate::journal::{JournalError, Now, Seen};
use crate::verify::Refusal;

/// Nonces of commands that end later than this are remembered as if they ended then. They were refused; a clock set back by
/// less than that must not have one of them taken when it is right again.
const MOST_AHEAD_US: i64 = 7 * 86_400_000_000;

impl<S: Storage + Clone> Engine<S> {
    /// A refusal is a receipt. One of an undo, or of a command seen before, must not speak for the action itself.
    pub(super) fn refuse(&mut self, command: Option<&v1::Command>, refusal: &Refusal) -> Result<(), JournalError> {
        let known = command.cloned().unwrap_or_default();
        tracing::warn!(action = known.id, %refusal, "refused");
        let step = if matches!(refusal, Refusal::Moot { .. }) { Step::Moot } else { Step::Refused };
        let mut receipt = self.receipt(&known, step, refusal.to_string());
        receipt.command = command.cloned();
        if *refusal == Refusal::Replay {
            receipt.action_id = format!("replay:{}", known.id);
        }
        let trusted =
            !matches!(refusal, Refusal::UnknownKey { .. } | Refusal::BadSignature | Refusal::Malformed { .. });
        let changes = if trusted && *refusal != Refusal::Replay { vec![self.seen(&known, false)] } else { Vec::new() };
        self.record(changes, vec![receipt])
    }

    pub(super) fn receipt(&self, command: &v1::Command, step: Step, detail: String) -> v1::Receipt {
        v1::Receipt {
            number: 0,
            time_us: self.setup.clock.wall_us(),
            action_id: command.id.clone(),
            step: step.into(),
            detail,
            command: Some(command.clone()),
            dry_run: !self.setup.config.act,
            lease_until_us: 0,
            journal_us: 0,
        }
    }

    /// Of an action the host was changed by, whatever this life may do: only such actions stand.
    pub(super) fn receipt_of_change(&self, command: &v1::Command, step: Step, detail: String) -> v1::Receipt {
        v1::Receipt { dry_run: false, ..self.receipt(command, step, detail) }
    }

    pub(super) fn seen(&self, command: &v1::Command, begins: bool) -> What {
        let now = self.now();
        let until_us = command.not_after_us.min(now.wall_us + MOST_AHEAD_US).saturating_add(REMEMBER_US);
        What::Seen(Seen::of(command, until_us, begins, now))
    }

    /// Writes changes and receipts as one step, then shows the receipts.
    pub(super) fn record(&mut self, changes: Vec<What>, receipts: Vec<v1::Receipt>) -> Result<(), JournalError> {
        let now = self.now();
        self.journal.record(changes, receipts, now)?;
        self.publish();
        Ok(())
    }

    pub(super) fn now(&self) -> Now {
        let clock = &self.setup.clock;
        Now { wall_us: clock.wall_us(), boot_ns: clock.boot_ns(), boot: mark(&self.setup.boot) }
    }

    pub(super) fn publish(&self) {
        self.outbox.send_replace(Arc::new(self.journal.state().receipts.values().cloned().collect()));
    }
}
