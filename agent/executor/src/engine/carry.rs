//! From an admitted command to its outcome.

use std::sync::Arc;

use skep_seglog::Storage;
use skep_wire::v1::{self, Step};

use super::deed::Task;
use super::{Deed, Due, Engine, Job, Stage};
use crate::act::gauge::{Gauge, Reading};
use crate::act::kind::{ActError, Captured, Outcome};
use crate::journal::record::What;
use crate::journal::{JournalError, Standing};
use crate::verify::Refusal;

impl<S: Storage + Clone> Engine<S> {
    /// Everything is asked once more: since the first question the host went on.
    pub(super) fn apply(
        &mut self,
        deed: &Arc<Deed>,
        trigger: Option<(Gauge, Option<Reading>)>,
    ) -> Result<Option<Job>, JournalError> {
        let before = trigger.as_ref().and_then(|(_, reading)| *reading);
        let captured = match self.ready(deed, trigger) {
            Ok(captured) => captured,
            Err(refusal) => {
                self.refuse(Some(&deed.command), &refusal)?;
                return Ok(None);
            }
        };
        self.setup.fault.point("captured");
        let command = &deed.command;
        let what = deed.act.told(before.as_ref());
        if !self.setup.config.act {
            let applied = self.receipt(command, Step::Applied, format!("dry run: {what}"));
            let undone = self.receipt(command, Step::Undone, "dry run: nothing was changed".to_owned());
            self.record(vec![self.seen(command, true)], vec![applied, undone])?;
            return Ok(None);
        }
        let leased = deed.act.is_leased();
        let lease_us = i64::from(command.lease_s) * 1_000_000;
        let lease_until_us = if leased { self.setup.clock.wall_us() + lease_us } else { 0 };
        let standing = Standing {
            command: Some(command.clone()),
            boot: self.setup.boot.clone(),
            previous: captured.previous.clone(),
            ours: captured.ours.clone(),
            lease_until_us,
        };
        self.record(vec![self.seen(command, true), What::Standing(standing)], Vec::new())?;
        self.setup.fault.point("journalled");
        if let Err(error) = deed.act.apply(&self.setup.host, &captured) {
            self.not_applied(deed, &error)?;
            return Ok(None);
        }
        self.setup.fault.point("applied");
        if leased {
            self.lease(command);
        }
        let mut applied = self.receipt_of_change(command, Step::Applied, what);
        applied.lease_until_us = lease_until_us;
        self.record(Vec::new(), vec![applied])?;
        self.setup.fault.point("told");
        self.stages.insert(command.id.clone(), Stage::After);
        Ok(Some(self.job(deed, Task::Follow(before))))
    }

    /// From now on the action is undone when its lease ends.
    fn lease(&mut self, command: &v1::Command) {
        let at_ns = self.setup.clock.boot_ns() + u64::from(command.lease_s) * 1_000_000_000;
        self.due.insert(command.id.clone(), Due { at_ns, why: "the lease has ended", told: false });
    }

    /// What was half done, if anything, is taken back before the action is closed; until then it stands.
    pub(super) fn not_applied(&mut self, deed: &Deed, error: &ActError) -> Result<(), JournalError> {
        let command = &deed.command;
        tracing::warn!(action = command.id, %error, "an action could not be applied");
        let failed = self.receipt_of_change(command, Step::Failed, error.to_string());
        self.retry(&command.id, "it could not be applied", true);
        if deed.act.is_leased() && !self.undo_quietly(&command.id) {
            return self.record(Vec::new(), vec![failed]);
        }
        self.record(vec![What::Closed(command.id.clone())], vec![failed])?;
        self.due.remove(&command.id);
        Ok(())
    }

    /// How the host is, if the act still is in time, allowed, possible and called for.
    fn ready(&self, deed: &Deed, trigger: Option<(Gauge, Option<Reading>)>) -> Result<Captured, Refusal> {
        let left_us = deed.command.not_after_us.saturating_sub(self.setup.clock.wall_us());
        if left_us < 0 {
            return Err(Refusal::Expired { seconds: left_us.saturating_neg() / 1_000_000 });
        }
        self.may(deed)?;
        let captured = deed.act.capture(&self.setup.host)?;
        if let Some((gauge, reading)) = trigger {
            let Some(reading) = reading else { return Err(Refusal::unreadable("its trigger gave no reading")) };
            if let Some(reading) = deed.moot(&gauge, &reading) {
                return Err(Refusal::Moot { reading });
            }
        }
        Ok(captured)
    }

    pub(super) fn followed(&mut self, action: &str, outcome: Outcome) -> Result<(), JournalError> {
        let Some(standing) = self.journal.state().standing.get(action) else { return Ok(()) };
        let command = standing.command.clone().unwrap_or_default();
        let step = outcome.step;
        let receipt = self.receipt_of_change(&command, step, outcome.detail);
        let leased = skep_wire::order::is_leased(skep_wire::order::verb(command.action.as_ref()));
        let changes = if leased { Vec::new() } else { vec![What::Closed(action.to_owned())] };
        self.record(changes, vec![receipt])?;
        self.setup.fault.point("followed");
        match step {
            Step::Worse if leased => self.undo(action, "it made things worse"),
            Step::Failed if leased => self.undo(action, "it did not come about"),
            _ => Ok(()),
        }
    }

    /// Lets an action stand for longer.
    pub(super) fn extend(&mut self, action: &str, command: &v1::Command) -> Result<(), JournalError> {
        let Some(mut standing) = self.journal.state().standing.get(action).cloned() else { return Ok(()) };
        let mut of = standing.command.clone().unwrap_or_default();
        of.lease_s = command.lease_s;
        standing.lease_until_us = self.setup.clock.wall_us() + i64::from(command.lease_s) * 1_000_000;
        let mut receipt = self.receipt_of_change(&of, Step::Extended, format!("{} more seconds", command.lease_s));
        receipt.lease_until_us = standing.lease_until_us;
        if let Err(error) = Deed::of(of.clone()).map(|deed| deed.act.extend(&self.setup.host, command.lease_s)) {
            tracing::warn!(action, %error, "a lease could not be extended");
        }
        standing.command = Some(of.clone());
        self.record(vec![What::Standing(standing)], vec![receipt])?;
        self.lease(&of);
        Ok(())
    }
}
