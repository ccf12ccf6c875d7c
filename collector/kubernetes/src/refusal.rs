//! Why a command was refused; nothing was changed.

use thiserror::Error;

use crate::cluster::ClusterError;

/// Why a command was refused. The text goes to the operator.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Lacks what it needs.
    #[error("the command cannot be understood: {what}")]
    Malformed {
        /// What is missing or wrong.
        what: &'static str,
    },
    /// For another cluster than the one that answers now.
    #[error("the command is for another cluster than the one that answers now")]
    OtherCluster,
    /// Too late.
    #[error("the command expired {seconds} s ago")]
    Expired {
        /// By how much.
        seconds: i64,
    },
    /// Carried out or refused before.
    #[error("the command was carried out or refused before")]
    Replay,
    /// The settings do not allow it.
    #[error("not allowed by [kubernetes] of the collector's settings: {why}")]
    Policy {
        /// Which line of it.
        why: String,
    },
    /// As many actions as are allowed.
    #[error("the budget is used up: {used} of {allowed} {what}")]
    Budget {
        /// Which.
        what: &'static str,
        /// Used.
        used: usize,
        /// Allowed.
        allowed: usize,
    },
    /// Nobody may touch it.
    #[error("{subject} is protected: {why}")]
    Protected {
        /// What.
        subject: String,
        /// Why.
        why: String,
    },
    /// It is not there.
    #[error("there is no {subject}")]
    Gone {
        /// What.
        subject: String,
    },
    /// Made again under the same name.
    #[error("{subject} is another one than was meant: it was made again since; it is left alone")]
    Other {
        /// What.
        subject: String,
    },
    /// It has nothing of the sort.
    #[error("{subject} {lacks}")]
    Lacks {
        /// What.
        subject: String,
        /// What it lacks.
        lacks: String,
    },
    /// Another action stands on it.
    #[error("action {action} stands on {subject} already")]
    Occupied {
        /// What.
        subject: String,
        /// The one that stands.
        action: String,
    },
    /// There is no reason any more: the command ends as moot.
    #[error("trigger gone: {reading}")]
    Moot {
        /// What was read.
        reading: String,
    },
    /// There is nothing to undo or to extend.
    #[error("no action {action} stands")]
    NothingStands {
        /// The one named.
        action: String,
    },
    /// It stands, but cannot be undone.
    #[error("{verb} cannot be undone; it is under way")]
    Irreversible {
        /// What it is.
        verb: &'static str,
    },
    /// The API server does not say what is asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}
