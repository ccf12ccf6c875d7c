//! Carries a command through check, journal, apply, verify and undo. It owns all state; one task calls it.
//!
//! Every step is idempotent by the command's id and written to the journal before it is taken. What takes time (looking
//! at the trigger, waiting for what was begun) is handed out as [`Job`] and comes back by [`Engine::found`]; meanwhile
//! other commands, leases and stops are served.
//!
//! * [`deed`]: a command with its act, and jobs.
//! * `carry`: from an admitted command to its outcome.
//! * `take_back`: from a standing action to none.
//! * `tell`: receipts.

pub mod deed;

mod carry;

mod take_back;

mod tell;

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use skep_runtime::clock::Clock;
use skep_seglog::{Disk, Storage};
use skep_wire::v1;
use tokio::sync::watch;

use crate::act::gauge::Gauge;
use crate::act::host::Host;
use crate::config::Config;
use crate::journal::fault::Fault;
use crate::journal::record::What;
use crate::journal::{Journal, JournalError};
use crate::verify::Refusal;
use crate::verify::admission::{self, Order, Situation};
use crate::verify::key::Trusted;

pub use deed::{Deed, Found, Job};

/// An undo that failed is tried again after this time.
const RETRY_NS: u64 = 5_000_000_000;

/// Why everything is undone at the end.
pub const STOPPING: &str = "the executor is stopping";

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
    /// What is acted on.
    pub host: Host,
    /// Clocks.
    pub clock: Clock,
    /// For tests.
    pub fault: Fault,
}

/// Actions on their way to be applied or verified.
#[derive(Debug)]
enum Stage {
    /// Its trigger is being read.
    Before(Arc<Deed>, Gauge),
    /// It is applied, and followed.
    After,
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

/// A command that passed.
enum Admitted {
    Deed(Arc<Deed>, Option<Gauge>),
    Undo(v1::Command, String),
    Extend(v1::Command, String),
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

    /// Takes a command; returns what is to be done beside, when it passed all that can be asked at once.
    ///
    /// # Errors
    /// [`JournalError`]: call [`Engine::undo_all`] and stop.
    pub fn execute(&mut self, signed: &v1::SignedCommand) -> Result<Option<Job>, JournalError> {
        if self.journal.state().receipts.len() >= MAX_RECEIPTS {
            tracing::error!("a command was dropped: {MAX_RECEIPTS} receipts are not acknowledged");
            return Ok(None);
        }
        self.setup.clock.reanchor();
        self.setup.trusted.refresh();
        // Read before it is verified, so that the refusal of a bad signature names its action; nothing else uses it
        // then.
        let decoded = v1::Command::decode(signed.command.as_slice());
        let command = decoded.as_ref().ok();
        match self.admit(signed, command) {
            Ok(Admitted::Deed(deed, gauge)) => {
                self.record(vec![self.seen(&deed.command, false)], Vec::new())?;
                self.setup.fault.point("admitted");
                let Some(gauge) = gauge else { return self.apply(&deed, None) };
                let task = deed::Task::Observe(gauge.clone());
                let job = self.job(&deed, task);
                self.stages.insert(job.action.clone(), Stage::Before(deed, gauge));
                Ok(Some(job))
            }
            Ok(Admitted::Undo(command, action)) => {
                self.record(vec![self.seen(&command, false)], Vec::new())?;
                self.undo_on_request(&action, &command)?;
                Ok(None)
            }
            Ok(Admitted::Extend(command, action)) => {
                self.record(vec![self.seen(&command, false)], Vec::new())?;
                self.extend(&action, &command)?;
                Ok(None)
            }
            Err(refusal) => {
                self.refuse(command, &refusal)?;
                Ok(None)
            }
        }
    }

    /// Takes what a job found; returns the next one.
    ///
    /// # Errors
    /// [`JournalError`]: call [`Engine::undo_all`] and stop.
    pub fn found(&mut self, action: &str, found: Found) -> Result<Option<Job>, JournalError> {
        match (self.stages.remove(action), found) {
            (Some(Stage::Before(deed, gauge)), Found::Observed(reading)) => {
                self.setup.fault.point("observed");
                self.apply(&deed, Some((gauge, reading)))
            }
            (Some(Stage::After), Found::Followed(outcome)) => {
                self.followed(action, outcome)?;
                Ok(None)
            }
            // Undone meanwhile.
            _ => Ok(None),
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

    fn admit(&self, signed: &v1::SignedCommand, command: Option<&v1::Command>) -> Result<Admitted, Refusal> {
        self.setup.trusted.check(signed)?;
        let Some(command) = command else { return Err(Refusal::Malformed { what: "it is no command" }) };
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        let state = self.journal.state();
        let now = self.now();
        let waiting = self.stages.values().filter(|stage| matches!(stage, Stage::Before(..))).count();
        let situation = Situation {
            node: &self.setup.node,
            boot: &self.setup.boot,
            now_us: now.wall_us,
            seen: state.has_seen(&command.nonce, &command.id),
            may_be_seen: state.may_have_seen(command.not_after_us) || command.issued_us < self.distrust_before_us,
            standing: state.standing.len() + waiting,
            begun_in_hour: state.begun_in_hour(now) + waiting,
        };
        match admission::check(command, &self.setup.config.policy, situation)? {
            Order::Act => {
                let deed = Arc::new(Deed::of(command.clone())?);
                self.may(&deed)?;
                let gauge = deed.gauge(&self.setup.host)?;
                Ok(Admitted::Deed(deed, gauge))
            }
            Order::Undo { action_id } => {
                let waiting = matches!(self.stages.get(&action_id), Some(Stage::Before(..)));
                if !waiting {
                    self.stands(&action_id)?;
                }
                Ok(Admitted::Undo(command.clone(), action_id))
            }
            Order::Extend { action_id } => {
                let standing = self.stands(&action_id)?;
                admission::lease_fits(standing, command.lease_s, &self.setup.config.policy)?;
                Ok(Admitted::Extend(command.clone(), action_id))
            }
        }
    }

    /// The command that stands, if it is one that can be undone.
    fn stands(&self, action: &str) -> Result<&v1::Command, Refusal> {
        let standing = self.journal.state().standing.get(action).and_then(|standing| standing.command.as_ref());
        let command = standing.ok_or_else(|| Refusal::NothingStands { action: action.to_owned() })?;
        if skep_wire::order::is_leased(skep_wire::order::verb(command.action.as_ref())) {
            return Ok(command);
        }
        Err(Refusal::Irreversible { verb: skep_wire::order::verb(command.action.as_ref()) })
    }

    /// Whether the target may be acted on at this moment.
    fn may(&self, deed: &Deed) -> Result<(), Refusal> {
        deed.act.check(&self.setup.host)?;
        let subject = deed.act.subject();
        let waiting = self.stages.values().filter_map(|stage| match stage {
            Stage::Before(other, _) if other.command.id != deed.command.id => {
                Some((other.command.id.clone(), other.act.subject()))
            }
            _ => None,
        });
        let standing = self.journal.state().standing.values().filter_map(|standing| {
            let deed = Deed::of(standing.command.clone()?).ok()?;
            Some((deed.command.id.clone(), deed.act.subject()))
        });
        match waiting.chain(standing).find(|(_, other)| *other == subject) {
            Some((action, _)) => Err(Refusal::Occupied { subject, action }),
            None => Ok(()),
        }
    }

    fn job(&self, deed: &Arc<Deed>, task: deed::Task) -> Job {
        let (deed, host) = (Arc::clone(deed), self.setup.host.clone());
        Job { action: deed.command.id.clone(), deed, host, task }
    }
}

#[cfg(test)]
mod tests;
