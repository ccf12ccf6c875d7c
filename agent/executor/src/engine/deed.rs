//! A command together with the act it asks for, and what is done beside the engine because it takes time.

use std::sync::Arc;

use skep_wire::v1;

use crate::act::gauge::{Gauge, Reading};
use crate::act::host::Host;
use crate::act::kind::{self, Act, Outcome};
use crate::verify::Refusal;

/// A command and its act.
#[derive(Debug)]
pub struct Deed {
    /// As it was signed.
    pub command: v1::Command,
    /// What it asks for.
    pub act: Box<dyn Act>,
}

impl Deed {
    /// Of a command.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn of(command: v1::Command) -> Result<Self, Refusal> {
        let act = kind::of(&command)?;
        Ok(Self { command, act })
    }

    /// What is to be read before the act, if anything.
    ///
    /// # Errors
    /// The command's trigger cannot be read here.
    pub fn gauge(&self, host: &Host) -> Result<Option<Gauge>, Refusal> {
        match &self.command.trigger {
            Some(trigger) => Gauge::of_signal(trigger.signal(), &self.command, host).map(Some),
            None => Ok(self.act.gauge(host)),
        }
    }

    /// Why this reading is no reason to act.
    pub fn moot(&self, gauge: &Gauge, reading: &Reading) -> Option<String> {
        match &self.command.trigger {
            Some(trigger) if reading.value < trigger.at_least && matches!(gauge, Gauge::UnitDown(_)) => {
                Some(gauge.words(reading.value))
            }
            Some(trigger) if reading.value < trigger.at_least => {
                let (found, least) = (gauge.words(reading.value), gauge.words(trigger.at_least));
                Some(format!("{found} now, the command is for {least} or more"))
            }
            Some(_) => None,
            None => self.act.moot(reading),
        }
    }
}

/// Something that takes time, done beside the engine; what it found goes to [`super::Engine::found`].
#[derive(Debug, Clone)]
pub struct Job {
    /// Action it is for.
    pub action: String,
    pub(super) deed: Arc<Deed>,
    pub(super) host: Host,
    pub(super) task: Task,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Task {
    /// Look whether there still is a reason.
    Observe(Gauge),
    /// Wait for what was begun, and see what came of it.
    Follow(Option<Reading>),
}

/// What a job found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The trigger's reading; `None` where nothing could be read.
    Observed(Option<Reading>),
    /// What came of the act.
    Followed(Outcome),
}

impl Job {
    /// Does it. Blocks.
    pub fn run(&self) -> Found {
        match &self.task {
            Task::Observe(gauge) => Found::Observed(gauge.read_before(&self.host)),
            Task::Follow(before) => Found::Followed(self.deed.act.follow(&self.host, before.as_ref())),
        }
    }
}
