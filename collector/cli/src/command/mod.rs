//! One file a command: its arguments, its questions, its print-out.

use thiserror::Error;

use crate::args::Command;
use crate::connect::Source;
use crate::exit::Failure;
use crate::place::{PlaceArgs, Process, resolve};

pub mod actions;

pub mod audit;

pub mod order;

pub mod policy;

pub mod checks;

pub mod completions;

pub mod doctor;

pub mod events;

pub mod explain;

pub mod export;

pub mod findings;

pub mod flush;

pub mod forecast;

pub mod health;

pub mod incidents;

pub mod man;

pub mod nodes;

pub mod query;

pub mod rules;

pub mod span;

pub mod tables;

mod listing;

mod word;

/// A command's own reasons to fail.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The arguments parse and still make no sense.
    #[error("{message}")]
    Usage {
        /// One line.
        message: String,
    },
    /// Nothing has that id or name.
    #[error("no {what} {name}{hint}")]
    NotFound {
        /// Kind of thing.
        what: &'static str,
        /// As given.
        name: String,
        /// What to do, with the punctuation in front; may be empty.
        hint: String,
    },
    /// Several ids start like that.
    #[error("{name} is the start of several {what}s: {}", candidates.join(", "))]
    Ambiguous {
        /// Kind of thing.
        what: &'static str,
        /// As given.
        name: String,
        /// Some of them.
        candidates: Vec<String>,
    },
    /// Checks failed, and said so.
    #[error("{failed} of {checks} checks failed")]
    Unhealthy {
        /// How many.
        failed: usize,
        /// Of how many.
        checks: usize,
    },
    /// The audit chain cannot be read.
    #[error(transparent)]
    Audit(#[from] skep_audit::BookError),
    /// The audit chain is not as it was written, and that was said.
    #[error("the audit chain is not as it was written: {faults} faults")]
    Tampered {
        /// How many.
        faults: u64,
    },
    /// A policy is wrong, and that was said.
    #[error("the policy is wrong: {faults} faults")]
    BadPolicy {
        /// How many.
        faults: usize,
    },
    /// The process cannot even start.
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}

impl CommandError {
    pub(crate) fn runtime(source: std::io::Error) -> Failure {
        Failure::Command(Self::Runtime(source))
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::Command(Self::Usage { message: message.into() })
    }
}

/// Runs a command to its end.
///
/// # Errors
/// [`Failure`], which knows its exit code.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(args) => crate::up::run(args).await,
        Command::Top(args) => crate::top::run(args).await,
        Command::Query(args) => query::run(args).await,
        Command::Tables(args) => tables::run(&args),
        Command::Events(args) => events::run(args).await,
        Command::Nodes(args) => nodes::run(args).await,
        Command::Findings(args) => findings::run(args).await,
        Command::Rules(args) => rules::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Incidents(args) => incidents::run(args).await,
        Command::Actions(args) => actions::run(args).await,
        Command::Policy(args) => policy::run(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Checks(args) => checks::run(args).await,
        Command::Health(args) => health::run(args).await,
        Command::Forecast(args) => forecast::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Flush(args) => flush::run(args).await,
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// Who answers for these flags.
async fn open(args: &PlaceArgs) -> Result<Source, Failure> {
    Ok(Source::open(&resolve(args, &Process)?).await?)
}
