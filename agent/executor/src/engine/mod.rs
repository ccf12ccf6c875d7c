//! Carries a command through check, journal, apply, verify and undo. It owns all state; one task calls it.
//!
//! Every step is idempotent by the command's id and written to the journal before it is taken. Measurements take time,
//! so they are handed out as [`Measure`] and come back by [`Engine::measured`]; meanwhile other commands, leases and
//! stops are served.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use skep_runtime::clock::Clock;
use skep_seglog::{Disk, Storage};
use skep_wire::v1::{self, Step};
use tokio::sync::watch;

use crate::act::hierarchy::{Cgroup, Held, Hierarchy};
use crate::act::throttle::{self, Limit, LimitError};
use crate::act::usage::Usage;
use crate::config::Config;
use crate::journal::record::What;
use crate::journal::{Entry, Journal, JournalError, Seen, Standing};
use crate::undo;
use crate::verify::admission::{self, Order, Situation};
use crate::verify::key::Trusted;
use crate::verify::refusal::Cores;
use crate::verify::{Refusal, protected, trigger};

/// How long usage is watched before a limit is set.
pub const BEFORE: Duration = Duration::from_millis(1_000);

/// How long a limit is given to bite before usage is watched again.
pub const SETTLE: Duration = Duration::from_millis(500);

/// How long usage is watched after a limit was set.
pub const AFTER: Duration = Duration::from_millis(2_000);

/// An undo that failed is tried again after this time.
const RETRY_NS: u64 = 5_000_000_000;

/// Why everything is undone at the end.
pub const STOPPING: &str = "the executor is stopping";

/// Nonces are remembered for so long after the command's own end, whatever the clock does meanwhile.
const REMEMBER_US: i64 = 86_400_000_000;

/// Receipts kept for an agent that does not take them; beyond it commands are dropped with a line in the log.
const MAX_RECEIPTS: usize = 4_096;

/// What an engine is made with.
#[derive(Debug)]
pub struct Setup {
    /// This node's name.
    pub node: String,
    /// This boot.
    pub boot: String,
    /// Whose commands count.
    pub trusted: Trusted,
    /// Own policy.
    pub config: Config,
    /// Where the cgroups are.
    pub hierarchy: Hierarchy,
    /// Clocks.
    pub clock: Clock,
}

/// A measurement to be made; its result goes to [`Engine::measured`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// Action it is for.
    pub action: String,
    /// Cgroup to watch.
    pub dir: PathBuf,
    /// Wait this long first.
    pub settle: Duration,
    /// Then watch for this long.
    pub watch: Duration,
}

/// Actions on their way to be applied or verified.
#[derive(Debug)]
enum Stage {
    /// Watched before the limit is set.
    Before(Box<v1::Command>),
    /// Watched under the limit.
    After { before: Usage, limit_cores: f64 },
}

/// When an action is to be undone, on the boot clock, and why.
#[derive(Debug)]
struct Due {
    at_ns: u64,
    why: &'static str,
    /// The failure to undo was told already.
    told: bool,
}

/// Carries commands out.
#[derive(Debug)]
pub struct Engine<S: Storage + Clone = Disk> {
    setup: Setup,
    journal: Journal<S>,
    stages: HashMap<String, Stage>,
    due: HashMap<String, Due>,
    outbox: watch::Sender<Arc<Vec<v1::Receipt>>>,
    /// With a damaged journal nonces may be missing: what was issued before this is refused.
    distrust_before_us: i64,
    stopping: bool,
}

impl<S: Storage + Clone> Engine<S> {
    /// An engine over a journal; undoes at once whatever it says stands.
    ///
    /// # Errors
    /// [`JournalError`]: what stood is undone as far as possible, and no command may be taken.
    pub fn start(setup: Setup, journal: Journal<S>) -> Result<Self, JournalError> {
        let now_us = setup.clock.wall_us();
        for fault in journal.damage() {
            tracing::error!(%fault, "the journal is damaged; commands issued before now are refused");
        }
        let distrust_before_us = if journal.damage().is_empty() { i64::MIN } else { now_us };
        let mut engine = Self {
            setup,
            journal,
            stages: HashMap::new(),
            due: HashMap::new(),
            outbox: watch::Sender::new(Arc::default()),
            distrust_before_us,
            stopping: false,
        };
        engine.undo_all("the executor had ended while it stood")?;
        engine.publish();
        Ok(engine)
    }

    /// Receipts nobody acknowledged, in order; changes with every step.
    pub fn receipts(&self) -> watch::Receiver<Arc<Vec<v1::Receipt>>> {
        self.outbox.subscribe()
    }

    /// What stands now.
    pub fn status(&self) -> v1::Status {
        v1::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dry_run: !self.setup.config.act,
            active: self.journal.state().standing.keys().cloned().collect(),
        }
    }

    /// Takes a command; returns a measurement when it passed all that can be asked at once.
    ///
    /// # Errors
    /// [`JournalError`]: nothing was changed by it.
    pub fn execute(&mut self, signed: &v1::SignedCommand) -> Result<Option<Measure>, JournalError> {
        if self.journal.state().receipts.len() >= MAX_RECEIPTS {
            tracing::error!("a command was dropped: {MAX_RECEIPTS} receipts are not acknowledged");
            return Ok(None);
        }
        self.setup.clock.reanchor();
        // Read before it is verified, so that the refusal of a bad signature names its action; nothing else uses it
        // then.
        let decoded = v1::Command::decode(signed.command.as_slice());
        let command = decoded.as_ref().ok();
        match self.admit(signed, command) {
            Ok(Admitted::Throttle(command, cgroup)) => {
                let measure =
                    Measure { action: command.id.clone(), dir: cgroup.dir, settle: Duration::ZERO, watch: BEFORE };
                self.record(vec![self.seen(&command, false)], Vec::new())?;
                self.stages.insert(command.id.clone(), Stage::Before(Box::new(command)));
                Ok(Some(measure))
            }
            Ok(Admitted::Undo(command, action)) => {
                self.record(vec![self.seen(&command, false)], Vec::new())?;
                self.undo_on_request(&action, &command)?;
                Ok(None)
            }
            Err(refusal) => {
                self.refuse(command, &refusal)?;
                Ok(None)
            }
        }
    }

    /// Takes the result of a measurement; returns the next one to be made.
    ///
    /// # Errors
    /// [`JournalError`]: call [`Engine::undo_all`] and stop.
    pub fn measured(&mut self, action: &str, usage: Usage) -> Result<Option<Measure>, JournalError> {
        match self.stages.remove(action) {
            Some(Stage::Before(command)) => self.apply(*command, usage),
            Some(Stage::After { before, limit_cores }) => {
                self.verify(action, before, usage, limit_cores)?;
                Ok(None)
            }
            // Undone meanwhile.
            None => Ok(None),
        }
    }

    /// The agent has the receipts up to here in its spool.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn acknowledge(&mut self, number: u64) -> Result<(), JournalError> {
        let state = self.journal.state();
        if number > state.last_receipt {
            tracing::warn!(number, last = state.last_receipt, "a receipt was acknowledged that was never given");
            return Ok(());
        }
        if state.receipts.range(..=number).next().is_none() {
            return Ok(());
        }
        self.record(vec![What::Acknowledged(number)], Vec::new())
    }

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
        let waiting: Vec<Stage> = self.stages.drain().map(|(_, stage)| stage).collect();
        // The host comes first: a journal that fails must not keep a limit standing.
        let mut result = self.undo_all(STOPPING);
        for stage in waiting {
            if let Stage::Before(command) = stage {
                result = result.and(self.refuse(Some(&command), &Refusal::Stopping));
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

    fn admit(&self, signed: &v1::SignedCommand, command: Option<&v1::Command>) -> Result<Admitted, Refusal> {
        self.setup.trusted.check(signed)?;
        let Some(command) = command else { return Err(Refusal::Malformed { what: "it is no command" }) };
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        let state = self.journal.state();
        let now_us = self.setup.clock.wall_us();
        let measuring = self.stages.values().filter(|stage| matches!(stage, Stage::Before(_))).count();
        let situation = Situation {
            node: &self.setup.node,
            boot: &self.setup.boot,
            now_us,
            seen: state.has_seen(&command.nonce, &command.id) || command.issued_us < self.distrust_before_us,
            standing: state.standing.len() + measuring,
            begun_in_hour: state.begun_in_hour(now_us) + measuring,
        };
        match admission::check(command, &self.setup.config.policy, situation)? {
            Order::Throttle { .. } => {
                let cgroup = self.aim(command)?;
                Ok(Admitted::Throttle(command.clone(), cgroup))
            }
            Order::Undo { action_id } => {
                let waiting = matches!(self.stages.get(&action_id), Some(Stage::Before(_)));
                if !waiting && !state.standing.contains_key(&action_id) {
                    return Err(Refusal::NothingToUndo { action: action_id });
                }
                Ok(Admitted::Undo(command.clone(), action_id))
            }
        }
    }

    /// The target, if it may be acted on at this moment.
    fn aim(&self, command: &v1::Command) -> Result<Cgroup, Refusal> {
        let target = command.target.clone().unwrap_or_default();
        if target.cgroup == "/" {
            return Err(Refusal::Protected { cgroup: target.cgroup, why: "it is the root".to_owned() });
        }
        let cgroup = self.setup.hierarchy.cgroup(&target.cgroup, target.cgroup_id)?;
        protected::check(&cgroup, &self.setup.config.policy.protected_cgroups)?;
        let standing = self.journal.state().standing.values();
        let measured = self.stages.values().filter_map(|stage| match stage {
            Stage::Before(other) if other.id != command.id => Some((&other.id, other.target.as_ref()?.cgroup.as_str())),
            _ => None,
        });
        let mut occupied = measured
            .map(|(id, path)| (id.clone(), path.to_owned()))
            .chain(standing.map(|standing| (standing.action().to_owned(), standing.target().0.to_owned())));
        if let Some((action, _)) = occupied.find(|(_, path)| *path == cgroup.path) {
            return Err(Refusal::Occupied { cgroup: cgroup.path, action });
        }
        Ok(cgroup)
    }

    /// Everything is asked once more: between the first question and now the host went on.
    fn apply(&mut self, command: v1::Command, before: Usage) -> Result<Option<Measure>, JournalError> {
        let Ready { cgroup, held, previous, limit } = match self.ready(&command, before) {
            Ok(ready) => ready,
            Err(refusal) => {
                self.refuse(Some(&command), &refusal)?;
                return Ok(None);
            }
        };
        let what = format!(
            "{} limited to {:.3} cores for {} s; it used {:.3}",
            cgroup.path,
            limit.cores(),
            command.lease_s,
            before.used_cores
        );
        let lease_until_us = self.setup.clock.wall_us() + i64::from(command.lease_s) * 1_000_000;
        if !self.setup.config.act {
            let applied = self.receipt(&command, Step::Applied, format!("dry run: {what}"));
            let undone = self.receipt(&command, Step::Undone, "dry run: nothing was changed".to_owned());
            self.record(vec![self.seen(&command, true)], vec![applied, undone])?;
            return Ok(None);
        }
        let version = self.setup.hierarchy.version;
        let standing = Standing {
            command: Some(command.clone()),
            boot: self.setup.boot.clone(),
            previous: previous.text(version),
            ours: limit.text(version),
            lease_until_us,
        };
        self.record(vec![self.seen(&command, true), What::Standing(standing)], Vec::new())?;
        if let Err(error) = throttle::write(version, held.dir(), &limit).map_err(|error| error.within(&cgroup.dir)) {
            self.not_set(&command, &error)?;
            return Ok(None);
        }
        let lease_ns = u64::from(command.lease_s) * 1_000_000_000;
        let at_ns = self.setup.clock.boot_ns() + lease_ns;
        self.due.insert(command.id.clone(), Due { at_ns, why: "the lease has ended", told: false });
        let mut applied = self.receipt_of_change(&command, Step::Applied, what);
        applied.lease_until_us = lease_until_us;
        self.record(Vec::new(), vec![applied])?;
        let measure = Measure { action: command.id.clone(), dir: cgroup.dir, settle: SETTLE, watch: AFTER };
        self.stages.insert(command.id, Stage::After { before, limit_cores: limit.cores() });
        Ok(Some(measure))
    }

    /// What was half set, if anything, is taken back before the action is closed; until then it stands.
    fn not_set(&mut self, command: &v1::Command, error: &LimitError) -> Result<(), JournalError> {
        tracing::warn!(action = command.id, %error, "a limit could not be set");
        let failed = self.receipt_of_change(command, Step::Failed, error.to_string());
        self.retry(&command.id, "it could not be set", true);
        if !self.undo_quietly(&command.id) {
            return self.record(Vec::new(), vec![failed]);
        }
        self.record(vec![What::Closed(command.id.clone())], vec![failed])?;
        self.due.remove(&command.id);
        Ok(())
    }

    /// The target, the limit it has and the one it is to have.
    fn ready(&self, command: &v1::Command, before: Usage) -> Result<Ready, Refusal> {
        let left_us = command.not_after_us.saturating_sub(self.setup.clock.wall_us());
        if left_us < 0 {
            return Err(Refusal::Expired { seconds: left_us.saturating_neg() / 1_000_000 });
        }
        let cgroup = self.aim(command)?;
        let held = cgroup.hold()?;
        let previous = throttle::read(self.setup.hierarchy.version, held.dir())
            .map_err(|_| Refusal::Malformed { what: "its cgroup has no readable cpu limit" })?;
        let millicores = match &command.action {
            Some(v1::command::Action::Throttle(throttle)) => throttle.cpu_millicores,
            _ => return Err(Refusal::Malformed { what: "it is no throttle" }),
        };
        let limit = Limit::of_millicores(millicores, previous.period_us);
        if previous.cores() <= limit.cores() {
            return Err(Refusal::LimitedAlready { cores: Cores::new(previous.cores()) });
        }
        if !trigger::stands(before, limit.cores()) {
            let (used, limit) = (Cores::new(before.used_cores), Cores::new(limit.cores()));
            return Err(Refusal::TriggerGone { used, limit });
        }
        Ok(Ready { cgroup, held, previous, limit })
    }

    fn verify(&mut self, action: &str, before: Usage, after: Usage, limit_cores: f64) -> Result<(), JournalError> {
        let Some(standing) = self.journal.state().standing.get(action) else { return Ok(()) };
        let command = standing.command.clone().unwrap_or_default();
        let step = trigger::outcome(before, after, limit_cores);
        let detail = format!("it uses {:.3} cores now, it used {:.3}", after.used_cores, before.used_cores);
        let receipt = self.receipt_of_change(&command, step, detail);
        self.record(Vec::new(), vec![receipt])?;
        if step == Step::Worse { self.undo(action, "it made things worse") } else { Ok(()) }
    }

    fn undo_on_request(&mut self, action: &str, command: &v1::Command) -> Result<(), JournalError> {
        if let Some(Stage::Before(waiting)) = self.stages.remove(action) {
            return self.refuse(Some(&waiting), &Refusal::Withdrawn);
        }
        tracing::info!(action, by = command.approved_by, "undo was asked for");
        self.undo(action, "an operator asked for it")
    }

    /// Takes an action back; a failure is told once and tried again.
    fn undo(&mut self, action: &str, why: &'static str) -> Result<(), JournalError> {
        let Some(standing) = self.journal.state().standing.get(action).cloned() else {
            self.due.remove(action);
            return Ok(());
        };
        self.stages.remove(action);
        let command = standing.command.clone().unwrap_or_default();
        match undo::undo(&standing, &self.setup.boot, &self.setup.hierarchy) {
            Ok(how) => {
                tracing::info!(action, why, how, "undone");
                let receipt = self.receipt_of_change(&command, Step::Undone, format!("{why}: {how}"));
                // While the journal cannot be written the action stays in it, to be closed when it can.
                self.retry(action, why, true);
                self.record(vec![What::Closed(action.to_owned())], vec![receipt])?;
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

    fn retry(&mut self, action: &str, why: &'static str, told: bool) {
        let at_ns = self.setup.clock.boot_ns() + RETRY_NS;
        self.due.insert(action.to_owned(), Due { at_ns, why, told });
    }

    /// Whether nothing of the action is left on the host.
    fn undo_quietly(&self, action: &str) -> bool {
        let Some(standing) = self.journal.state().standing.get(action) else { return true };
        match undo::undo(standing, &self.setup.boot, &self.setup.hierarchy) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(action, %error, "a limit that could not be set could not be taken back either");
                false
            }
        }
    }

    /// A refusal is a receipt. One of an undo, or of a command seen before, must not speak for the action itself.
    fn refuse(&mut self, command: Option<&v1::Command>, refusal: &Refusal) -> Result<(), JournalError> {
        let known = command.cloned().unwrap_or_default();
        tracing::warn!(action = known.id, %refusal, "refused");
        let mut receipt = self.receipt(&known, Step::Refused, refusal.to_string());
        receipt.command = command.cloned();
        if *refusal == Refusal::Replay {
            receipt.action_id = format!("replay:{}", known.id);
        }
        let trusted =
            !matches!(refusal, Refusal::UnknownKey { .. } | Refusal::BadSignature | Refusal::Malformed { .. });
        let changes = if trusted && *refusal != Refusal::Replay { vec![self.seen(&known, false)] } else { Vec::new() };
        self.record(changes, vec![receipt])
    }

    fn receipt(&self, command: &v1::Command, step: Step, detail: String) -> v1::Receipt {
        v1::Receipt {
            number: 0,
            time_us: self.setup.clock.wall_us(),
            action_id: command.id.clone(),
            step: step.into(),
            detail,
            command: Some(command.clone()),
            dry_run: !self.setup.config.act,
            lease_until_us: 0,
        }
    }

    /// Of an action the host was changed by, whatever this life may do: only such actions stand.
    fn receipt_of_change(&self, command: &v1::Command, step: Step, detail: String) -> v1::Receipt {
        v1::Receipt { dry_run: false, ..self.receipt(command, step, detail) }
    }

    fn seen(&self, command: &v1::Command, begins: bool) -> What {
        let now_us = self.setup.clock.wall_us();
        What::Seen(Seen {
            nonce: command.nonce.clone(),
            command: command.id.clone(),
            until_us: command.not_after_us.clamp(now_us, now_us + admission::MAX_VALID_US) + REMEMBER_US,
            begun_us: if begins { now_us } else { 0 },
        })
    }

    /// Writes changes and receipts as one step, then shows the receipts.
    fn record(&mut self, mut changes: Vec<What>, receipts: Vec<v1::Receipt>) -> Result<(), JournalError> {
        let last = self.journal.state().last_receipt;
        for (number, mut receipt) in (last + 1..).zip(receipts) {
            receipt.number = number;
            changes.push(What::Receipt(receipt));
        }
        self.journal.write(Entry::of(changes), self.setup.clock.wall_us())?;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.outbox.send_replace(Arc::new(self.journal.state().receipts.values().cloned().collect()));
    }
}

/// A target at the moment it is to be changed.
struct Ready {
    cgroup: Cgroup,
    /// Between this and the change the journal is written: the change must hit this very cgroup or none.
    held: Held,
    previous: Limit,
    limit: Limit,
}

/// A command that passed.
enum Admitted {
    Throttle(v1::Command, Cgroup),
    Undo(v1::Command, String),
}

#[cfg(test)]
mod tests;
