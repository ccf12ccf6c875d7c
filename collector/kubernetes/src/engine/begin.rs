//! From a command to the change it asks for.

use skep_journal::JournalError;
use skep_journal::Standing;
use skep_journal::record::What;
use skep_seglog::Storage;
use skep_wire::order;
use skep_wire::v1::command::Action;
use skep_wire::v1::{self, Step};

use super::{Engine, SECOND_US};
use crate::act::{Act, ActError, Captured};
use crate::cluster::ClusterError;
use crate::refusal::Refusal;

impl<S: Storage + Clone> Engine<S> {
    /// Takes a command.
    ///
    /// # Errors
    /// [`JournalError`]: nothing more may be done.
    pub async fn execute(&mut self, command: &v1::Command) -> Result<(), JournalError> {
        if let Err(refusal) = self.admit(command) {
            return self.refuse(command, &refusal);
        }
        match &command.action {
            Some(Action::Undo(undo)) => {
                let mut changes = vec![self.seen(command, false)];
                changes.extend(self.to_be_undone(&undo.action_id));
                self.record(changes, Vec::new())?;
                tracing::info!(action = undo.action_id, by = command.approved_by, "undo was asked for");
                self.undo(&undo.action_id, "an operator asked for it").await
            }
            Some(Action::Extend(extend)) => self.extend(&extend.action_id, command),
            _ => match self.ready(command).await {
                Ok((act, captured)) => self.begin(command, &act, &captured).await,
                Err(refusal) => self.refuse(command, &refusal),
            },
        }
    }

    /// All that the command alone can answer.
    fn admit(&self, command: &v1::Command) -> Result<(), Refusal> {
        let (state, settings) = (self.journal.state(), &self.setup.settings);
        let now_us = self.now_us();
        if state.has_seen(&command.nonce, &command.id) {
            return Err(Refusal::Replay);
        }
        if command.boot != self.setup.identity {
            return Err(Refusal::OtherCluster);
        }
        let late_us = now_us.saturating_sub(command.not_after_us);
        if late_us > 0 {
            return Err(Refusal::Expired { seconds: late_us / SECOND_US });
        }
        let verb = order::verb(command.action.as_ref());
        match &command.action {
            Some(Action::Undo(undo)) => return self.stands(&undo.action_id),
            Some(Action::Extend(extend)) => {
                self.stands(&extend.action_id)?;
                return self.lease_fits(command.lease_s);
            }
            _ => {}
        }
        let policy = |why: String| Err(Refusal::Policy { why });
        if !settings.actions.contains(verb) {
            return policy(format!("{verb} is not among actions"));
        }
        let mode = if command.mode.is_empty() { "ask" } else { &command.mode };
        if !settings.modes.contains(mode) {
            return policy(format!("{mode} is not among modes"));
        }
        if order::is_leased(verb) {
            self.lease_fits(command.lease_s)?;
        }
        let full = |what, used, allowed| Err(Refusal::Budget { what, used, allowed });
        let (open, begun) = (state.standing.len(), state.begun_in_hour(now_us));
        if open >= settings.max_concurrent {
            return full("actions at a time", open, settings.max_concurrent);
        }
        if begun >= settings.max_per_hour {
            return full("actions an hour", begun, settings.max_per_hour);
        }
        Ok(())
    }

    fn lease_fits(&self, lease_s: u32) -> Result<(), Refusal> {
        let longest = self.setup.settings.max_lease_s;
        match lease_s {
            0 => Err(Refusal::Malformed { what: "it has no lease" }),
            lease_s if lease_s > longest => {
                Err(Refusal::Policy { why: format!("a lease of {lease_s} s, the longest is {longest} s") })
            }
            _ => Ok(()),
        }
    }

    /// Whether it stands and is one that can be undone.
    fn stands(&self, action: &str) -> Result<(), Refusal> {
        let standing = self.known(action).ok_or_else(|| Refusal::NothingStands { action: action.to_owned() })?;
        let verb = order::verb(standing.0.action.as_ref());
        if order::is_leased(verb) { Ok(()) } else { Err(Refusal::Irreversible { verb }) }
    }

    /// The act and how its object is, if it may be acted on at this moment.
    async fn ready(&mut self, command: &v1::Command) -> Result<(Act, Captured), Refusal> {
        let cluster = &self.setup.cluster;
        if command.trigger.is_some() {
            return Err(Refusal::Malformed { what: "a trigger is read on hosts, not in clusters" });
        }
        let act = Act::of(cluster, command).await?;
        act.check(cluster, &self.setup.settings).await?;
        let occupied = self.journal.state().standing.iter().find(|(_, standing)| {
            let captured: Option<Captured> = serde_json::from_str(&standing.previous).ok();
            captured.is_some_and(|captured| captured.uid == act.object.uid)
        });
        if let Some((action, _)) = occupied {
            return Err(Refusal::Occupied { subject: act.subject(), action: action.clone() });
        }
        let captured = act.capture(cluster).await?;
        Ok((act, captured))
    }

    async fn begin(&mut self, command: &v1::Command, act: &Act, captured: &Captured) -> Result<(), JournalError> {
        let what = act.told(captured);
        if !self.setup.settings.act {
            let mut applied = self.receipt(command, Step::Applied, format!("dry run: {what}"));
            let mut undone = self.receipt(command, Step::Undone, "dry run: nothing was changed".to_owned());
            (applied.dry_run, undone.dry_run) = (true, true);
            return self.record(vec![self.seen(command, true)], vec![applied, undone]);
        }
        self.setup.fault.point("admitted");
        let standing = Standing {
            command: Some(command.clone()),
            boot: self.setup.identity.clone(),
            previous: serde_json::to_string(captured).unwrap_or_default(),
            // Until it is known to be applied there is no lease: the next life takes it back.
            lease_until_us: 0,
            ..Standing::default()
        };
        self.record(vec![self.seen(command, true), What::Standing(standing.clone())], Vec::new())?;
        self.setup.fault.point("journalled");
        if let Err(error) = act.apply(&self.setup.cluster, captured).await {
            return self.not_applied(command, &error).await;
        }
        self.setup.fault.point("applied");
        let leased = order::is_leased(order::verb(command.action.as_ref()));
        let lease_until_us = if leased { self.now_us() + i64::from(command.lease_s) * SECOND_US } else { 0 };
        let mut applied = self.receipt(command, Step::Applied, what);
        applied.lease_until_us = lease_until_us;
        self.record(vec![What::Standing(Standing { lease_until_us, ..standing })], vec![applied])?;
        self.setup.fault.point("told");
        if leased {
            self.lease(&command.id, lease_until_us);
        }
        self.follow(&command.id);
        Ok(())
    }

    /// The answer may have been lost and not the change: what there is of it is taken back before the action is closed.
    async fn not_applied(&mut self, command: &v1::Command, error: &ActError) -> Result<(), JournalError> {
        tracing::warn!(action = command.id, %error, "an action could not be applied");
        let leased = order::is_leased(order::verb(command.action.as_ref()));
        if !leased && matches!(error, ActError::Cluster(ClusterError::Unreachable { .. })) {
            // What cannot be taken back is looked at: what came of it is its receipt.
            self.follow(&command.id);
            return Ok(());
        }
        let failed = self.receipt(command, Step::Failed, error.to_string());
        if leased && !self.take_back_quietly(&command.id).await {
            self.retry(&command.id, "it could not be applied");
            return self.record(Vec::new(), vec![failed]);
        }
        self.record(vec![What::Closed(command.id.clone())], vec![failed])
    }

    /// Lets an action stand for longer.
    fn extend(&mut self, action: &str, command: &v1::Command) -> Result<(), JournalError> {
        let Some(mut standing) = self.journal.state().standing.get(action).cloned() else { return Ok(()) };
        let mut of = standing.command.clone().unwrap_or_default();
        of.lease_s = command.lease_s;
        standing.lease_until_us = self.now_us() + i64::from(command.lease_s) * SECOND_US;
        standing.command = Some(of.clone());
        let until_us = standing.lease_until_us;
        let mut receipt = self.receipt(&of, Step::Extended, format!("{} more seconds", command.lease_s));
        receipt.lease_until_us = until_us;
        self.record(vec![self.seen(command, false), What::Standing(standing)], vec![receipt])?;
        self.lease(action, until_us);
        Ok(())
    }
}
