//! What every kind of action can do: check, capture, apply, verify, undo.
//!
//! The engine calls them in this order and writes the journal between [`Act::capture`] and [`Act::apply`]. None of them
//! is called twice for one command, and each may be the last: the next life knows only the command and the two texts of
//! [`Captured`].

use std::fmt::Debug;

use skep_wire::v1::{self, Step, command::Action};
use thiserror::Error;

use super::clean::Clean;
use super::container::ChangeContainer;
use super::freeze::Freeze;
use super::gauge::{Gauge, Reading};
use super::hierarchy::{CgroupError, Held};
use super::host::Host;
use super::io::LimitIo;
use super::kill::Kill;
use super::limit::LimitError;
use super::memory::LimitMemory;
use super::network::Block;
use super::run::Run;
use super::throttle::Throttle;
use super::unit::ChangeUnit;
use crate::verify::Refusal;

/// Why an act could not be carried out, or not taken back; to be tried again.
#[derive(Debug, Error)]
pub enum ActError {
    /// The target cannot be looked at.
    #[error("cannot look at the target: {0}")]
    Target(#[from] CgroupError),
    /// A cgroup's limit cannot be read or written.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The journal does not say how to go on.
    #[error("the journal does not say what was there before")]
    Journal,
    /// The host has not what this needs, or did not do what it was asked.
    #[error("{0}")]
    Host(String),
}

/// How the host was before, and how it is to be: in the journal before the act.
#[derive(Debug, Default)]
pub struct Captured {
    /// As it was.
    pub previous: String,
    /// As it will be.
    pub ours: String,
    /// The target, held between this and the act: the act hits this very one or none.
    pub held: Option<Held>,
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Improved, unchanged, worse or failed; done for what cannot be undone.
    pub step: Step,
    /// One line for people.
    pub detail: String,
}

impl Outcome {
    /// An outcome.
    pub fn of(step: Step, detail: impl Into<String>) -> Self {
        Self { step, detail: detail.into() }
    }
}

/// One action on this host.
pub trait Act: Debug + Send + Sync {
    /// What it acts on. Two actions with one subject exclude each other.
    fn subject(&self) -> String;

    /// Whether it is undone when its lease ends; the others cannot be undone.
    fn is_leased(&self) -> bool {
        true
    }

    /// Whether the target is there, is the one that was meant, and may be acted on; changes nothing.
    ///
    /// # Errors
    /// The first reason against it.
    fn check(&self, host: &Host) -> Result<(), Refusal>;

    /// What is measured before and after even where the command names no trigger.
    fn gauge(&self, _host: &Host) -> Option<Gauge> {
        None
    }

    /// Why the reading of [`Act::gauge`] is no reason to act.
    fn moot(&self, _before: &Reading) -> Option<String> {
        None
    }

    /// How it is now, and how it will be.
    ///
    /// # Errors
    /// Why it cannot be done.
    fn capture(&self, host: &Host) -> Result<Captured, Refusal>;

    /// Changes the host. Quick: what takes time is for [`Act::follow`].
    ///
    /// # Errors
    /// [`ActError`]; what was half done is taken back by [`Act::undo`].
    fn apply(&self, host: &Host, captured: &Captured) -> Result<(), ActError>;

    /// One line about what was done, or what a dry run would do.
    fn told(&self, before: Option<&Reading>) -> String;

    /// Waits for what was begun, measures, and says what came of it. May take as long as the action takes.
    fn follow(&self, host: &Host, before: Option<&Reading>) -> Outcome;

    /// Takes it back and says how. Nothing of somebody else's is touched.
    ///
    /// # Errors
    /// [`ActError`]: it may still stand; try again.
    fn undo(&self, host: &Host, captured: &Captured) -> Result<String, ActError>;

    /// Lets the kernel's own end of it come later, where the kernel knows of one.
    ///
    /// # Errors
    /// [`ActError`]: it ends when it would have.
    fn extend(&self, _host: &Host, _lease_s: u32) -> Result<(), ActError> {
        Ok(())
    }
}

/// The act a command asks for.
///
/// # Errors
/// [`Refusal::Malformed`].
pub fn of(command: &v1::Command) -> Result<Box<dyn Act>, Refusal> {
    let target = || command.target.clone().ok_or(Refusal::Malformed { what: "it has no target" });
    let lease_s = command.lease_s;
    Ok(match &command.action {
        Some(Action::Throttle(throttle)) => Box::new(Throttle::new(target()?, throttle.cpu_millicores, lease_s)),
        Some(Action::LimitMemory(limit)) => Box::new(LimitMemory::new(target()?, limit.high_bytes, lease_s)),
        Some(Action::LimitIo(limit)) => Box::new(LimitIo::new(target()?, *limit, lease_s)),
        Some(Action::Freeze(_)) => Box::new(Freeze::new(target()?, lease_s)),
        Some(Action::Kill(kill)) => Box::new(Kill::new(target()?, kill)),
        Some(Action::ChangeUnit(change)) => {
            let unit = target()?.unit.ok_or(Refusal::Malformed { what: "it has no target unit" })?;
            Box::new(ChangeUnit::new(unit, change.verb(), lease_s))
        }
        Some(Action::ChangeContainer(change)) => {
            let container = target()?.container.ok_or(Refusal::Malformed { what: "it has no target container" })?;
            Box::new(ChangeContainer::new(container, change.verb(), lease_s))
        }
        Some(Action::ChangeObject(_)) => {
            return Err(Refusal::Malformed { what: "it is for a cluster, not for a host" });
        }
        Some(Action::Block(block)) => Box::new(Block::new(block, lease_s)?),
        Some(Action::Isolate(_)) => Box::new(Block::isolation(lease_s)),
        Some(Action::Clean(clean)) => Box::new(Clean::new(clean)),
        Some(Action::Run(run)) => Box::new(Run::new(&run.name, &command.id)),
        Some(Action::Undo(_) | Action::Extend(_)) | None => {
            return Err(Refusal::Malformed { what: "it asks for an action this version does not know" });
        }
    })
}

/// What there is to say where nothing is to be put back; `None` where what is there is ours.
pub fn describe_undo(is_previous: bool, is_ours: bool, theirs: String) -> Option<String> {
    match (is_previous, is_ours) {
        (true, _) => Some("the limit of before stands already".to_owned()),
        (false, true) => None,
        (false, false) => Some(theirs),
    }
}
