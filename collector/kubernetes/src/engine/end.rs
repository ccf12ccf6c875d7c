//! From a change to its outcome, and back.

use skep_journal::record::What;
use skep_journal::{JournalError, Standing};
use skep_seglog::Storage;
use skep_wire::order;
use skep_wire::v1::command::Action;
use skep_wire::v1::{ObjectVerb, Step};

use super::{Due, Engine, RETRY_US};
use crate::act::{self, ActError, Outcome, Progress};

impl<S: Storage + Clone> Engine<S> {
    /// Looks at what is under way.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn look(&mut self) -> Result<(), JournalError> {
        let actions: Vec<(String, i64)> =
            self.following.iter().map(|(action, following)| (action.clone(), following.until_us)).collect();
        for (action, until_us) in actions {
            let Some((command, Some(captured))) = self.known(&action) else {
                self.following.remove(&action);
                continue;
            };
            let found = act::progress(&self.setup.cluster, &command, &captured).await;
            let late = self.now_us() >= until_us;
            let within_s = self.setup.settings.within_s;
            let outcome = match found {
                Ok(Progress::Over(outcome)) => outcome,
                Ok(Progress::Under(detail)) if late => {
                    Outcome { step: Step::Failed, detail: format!("not within {within_s} s: {detail}") }
                }
                Err(ActError::Cluster(error)) if !late => {
                    tracing::warn!(action, %error, "what came of an action cannot be told yet");
                    continue;
                }
                Err(error) => Outcome { step: Step::Failed, detail: error.to_string() },
                Ok(Progress::Under(_)) => continue,
            };
            self.over(&action, &command, outcome).await?;
        }
        Ok(())
    }

    async fn over(
        &mut self,
        action: &str,
        command: &skep_wire::v1::Command,
        outcome: Outcome,
    ) -> Result<(), JournalError> {
        self.following.remove(action);
        if !order::is_leased(order::verb(command.action.as_ref())) {
            return self.close(action, outcome.step, outcome.detail);
        }
        let receipt = self.receipt(command, outcome.step, outcome.detail);
        self.record(Vec::new(), vec![receipt])?;
        match outcome.step {
            Step::Failed | Step::Worse => self.undo(action, "it did not come about").await,
            _ => Ok(()),
        }
    }

    /// Takes back what is due.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn run_due(&mut self) -> Result<(), JournalError> {
        let now_us = self.now_us();
        let due: Vec<(String, Due)> =
            self.due.iter().filter(|(_, due)| due.at_us <= now_us).map(|(id, due)| (id.clone(), *due)).collect();
        for (action, due) in due {
            if self.stays(&action) && due.why == "the lease has ended" {
                let detail =
                    "the lease has ended: the release of before stays, and is not taken back any more".to_owned();
                self.close(&action, Step::Done, detail)?;
                continue;
            }
            self.undo(&action, due.why).await?;
        }
        Ok(())
    }

    /// A release that was found to be bad does not come back by itself.
    fn stays(&self, action: &str) -> bool {
        let command = self.known(action).map(|(command, _)| command);
        let undone = |change: &skep_wire::v1::ChangeObject| change.verb() == ObjectVerb::UndoRollout;
        command.is_some_and(|command| matches!(&command.action, Some(Action::ChangeObject(change)) if undone(change)))
    }

    /// Takes an action back; a failure is told once and tried again.
    pub(super) async fn undo(&mut self, action: &str, why: &'static str) -> Result<(), JournalError> {
        let Some((command, captured)) = self.known(action) else {
            self.due.remove(action);
            return Ok(());
        };
        self.following.remove(action);
        if let Some(change) = self.to_be_undone(action) {
            self.record(vec![change], Vec::new())?;
        }
        self.setup.fault.point("undoing");
        let done = match &captured {
            Some(captured) => act::undo(&self.setup.cluster, &command, captured).await,
            None => Err(ActError::Journal),
        };
        match done {
            Ok(how) => {
                self.setup.fault.point("undone");
                tracing::info!(action, why, how, "undone");
                self.close(action, Step::Undone, format!("{why}: {how}"))?;
                self.setup.fault.point("closed");
                Ok(())
            }
            Err(error) => {
                tracing::error!(action, why, %error, "an action could not be undone; it will be tried again");
                let told = self.due.get(action).is_some_and(|due| due.told);
                self.retry(action, why);
                if told {
                    return Ok(());
                }
                let receipt = self.receipt(&command, Step::Failed, format!("could not be undone: {error}"));
                self.record(Vec::new(), vec![receipt])
            }
        }
    }

    /// From now on every life takes it back; `None` where the journal says so already.
    pub(super) fn to_be_undone(&self, action: &str) -> Option<What> {
        let standing = self.journal.state().standing.get(action).filter(|standing| standing.lease_until_us != 0)?;
        Some(What::Standing(Standing { lease_until_us: 0, ..standing.clone() }))
    }

    pub(super) fn retry(&mut self, action: &str, why: &'static str) {
        let at_us = self.now_us() + RETRY_US;
        self.due.insert(action.to_owned(), Due { at_us, why, told: true });
    }

    /// Whether nothing of the action is left.
    pub(super) async fn take_back_quietly(&mut self, action: &str) -> bool {
        let Some((command, Some(captured))) = self.known(action) else { return true };
        match act::undo(&self.setup.cluster, &command, &captured).await {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(action, %error, "an action that could not be applied could not be taken back either");
                false
            }
        }
    }
}
