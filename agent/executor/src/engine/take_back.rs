//! From a standing action to none.

use skep_seglog::Storage;
use skep_wire::order;
use skep_wire::v1::{self, Step};

use super::{Due, Engine, RETRY_NS, STOPPING, Stage};
use crate::journal::record::What;
use crate::journal::{JournalError, Standing};
use crate::undo;
use crate::verify::Refusal;

impl<S: Storage + Clone> Engine<S> {
    /// When [`Engine::run_due`] is to be called, on the boot clock.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.due.values().map(|due| due.at_ns).min()
    }

    /// Undoes what is due.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn run_due(&mut self) -> Result<(), JournalError> {
        let now_ns = self.setup.clock.boot_ns();
        let due: Vec<(String, &'static str)> =
            self.due.iter().filter(|(_, due)| due.at_ns <= now_ns).map(|(id, due)| (id.clone(), due.why)).collect();
        for (action, why) in due {
            self.undo(&action, why)?;
        }
        Ok(())
    }

    /// Takes no more commands and undoes everything.
    ///
    /// # Errors
    /// [`JournalError`]: as much as possible was undone.
    pub fn stop(&mut self) -> Result<(), JournalError> {
        self.stopping = true;
        self.setup.host.stop();
        let waiting: Vec<Stage> = self.stages.drain().map(|(_, stage)| stage).collect();
        // The host comes first: a journal that fails must not keep a limit standing.
        let mut result = self.undo_all(STOPPING);
        for stage in waiting {
            if let Stage::Before(deed, _) = stage {
                result = result.and(self.refuse(Some(&deed.command), &Refusal::Stopping));
            }
        }
        result
    }

    /// Undoes everything that stands, in spite of failures to write the journal.
    ///
    /// # Errors
    /// The first [`JournalError`], after everything was tried.
    pub fn undo_all(&mut self, why: &'static str) -> Result<(), JournalError> {
        let standing: Vec<String> = self.journal.state().standing.keys().cloned().collect();
        let results: Vec<_> = standing.iter().map(|action| self.undo(action, why)).collect();
        results.into_iter().collect()
    }

    pub(super) fn undo_on_request(&mut self, action: &str, command: &v1::Command) -> Result<(), JournalError> {
        if let Some(Stage::Before(waiting, _)) = self.stages.remove(action) {
            return self.refuse(Some(&waiting.command), &Refusal::Withdrawn);
        }
        tracing::info!(action, by = command.approved_by, "undo was asked for");
        self.undo(action, "an operator asked for it")
    }

    /// Takes an action back; a failure is told once and tried again.
    pub(super) fn undo(&mut self, action: &str, why: &'static str) -> Result<(), JournalError> {
        let Some(standing) = self.journal.state().standing.get(action).cloned() else {
            self.due.remove(action);
            return Ok(());
        };
        self.stages.remove(action);
        let command = standing.command.clone().unwrap_or_default();
        let verb = order::verb(command.action.as_ref());
        if verb != order::UNKNOWN && !order::is_leased(verb) {
            return self.interrupted(action, &standing, why);
        }
        self.setup.fault.point("undoing");
        match undo::undo(&standing, &self.setup.boot, &self.setup.host) {
            Ok(how) => {
                self.setup.fault.point("undone");
                tracing::info!(action, why, how, "undone");
                let receipt = self.receipt_of_change(&command, Step::Undone, format!("{why}: {how}"));
                // While the journal cannot be written the action stays in it, to be closed when it can.
                self.retry(action, why, true);
                self.record(vec![What::Closed(action.to_owned())], vec![receipt])?;
                self.setup.fault.point("closed");
                self.due.remove(action);
                Ok(())
            }
            Err(error) => {
                tracing::error!(action, why, %error, "an action could not be undone; it will be tried again");
                let told = self.due.get(action).is_some_and(|due| due.told);
                self.retry(action, why, true);
                if told {
                    return Ok(());
                }
                let receipt = self.receipt_of_change(&command, Step::Failed, format!("could not be undone: {error}"));
                self.record(Vec::new(), vec![receipt])
            }
        }
    }

    /// Of an action that cannot be undone nobody waits for the end any more. It is not begun again.
    fn interrupted(&mut self, action: &str, standing: &Standing, why: &str) -> Result<(), JournalError> {
        let command = standing.command.clone().unwrap_or_default();
        let detail = format!("{why}: it was under way, and what came of it is not known; it is not done again");
        let receipt = self.receipt_of_change(&command, Step::Failed, detail);
        self.record(vec![What::Closed(action.to_owned())], vec![receipt])
    }

    pub(super) fn retry(&mut self, action: &str, why: &'static str, told: bool) {
        let at_ns = self.setup.clock.boot_ns() + RETRY_NS;
        self.due.insert(action.to_owned(), Due { at_ns, why, told });
    }

    /// Whether nothing of the action is left on the host.
    pub(super) fn undo_quietly(&self, action: &str) -> bool {
        let Some(standing) = self.journal.state().standing.get(action) else { return true };
        match undo::undo(standing, &self.setup.boot, &self.setup.host) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(action, %error, "an action that could not be applied could not be taken back either");
                false
            }
        }
    }
}
