//! Why an operator's word was refused.

use skep_wire::order::ReadError;
use thiserror::Error;

use super::state::State;

/// Why an operator's word was refused; nothing was changed. The text is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No action has this id.
    #[error("no action {action}; `skep actions list` shows them")]
    UnknownAction {
        /// What was asked for.
        action: String,
    },
    /// A shortened id fits more than one action.
    #[error("{action} could be any of {candidates} actions; give more digits")]
    Ambiguous {
        /// What was asked for.
        action: String,
        /// How many fit.
        candidates: usize,
    },
    /// The action is past that.
    #[error("cannot {verb} action {action}: it is {}", state.as_str())]
    WrongState {
        /// Its id.
        action: String,
        /// What was asked for.
        verb: &'static str,
        /// Where it stands.
        state: State,
    },
    /// No incident that is not long over has this id.
    #[error("no incident {incident} that is not long over; `skep incidents list` shows them")]
    UnknownIncident {
        /// What was asked for.
        incident: String,
    },
    /// The incident is past that.
    #[error("cannot {verb} incident {incident}: it is {state}")]
    PastIncident {
        /// Its id.
        incident: String,
        /// What was asked for.
        verb: &'static str,
        /// Where it stands.
        state: &'static str,
    },
    /// No session with the node.
    #[error("node {node} is not connected; action {action} stays as it is")]
    NotConnected {
        /// Its id.
        action: String,
        /// The node.
        node: String,
    },
    /// The host has started anew since; what the action aims at is gone.
    #[error("node {node} has restarted since action {action} was proposed; it expires")]
    Restarted {
        /// Its id.
        action: String,
        /// The node.
        node: String,
    },
    /// As many actions as the policy allows.
    #[error("the policy's budget is used up: {used} of {allowed} {what}")]
    Budget {
        /// Which budget.
        what: &'static str,
        /// Used.
        used: usize,
        /// Allowed.
        allowed: usize,
    },
    /// An order that is none.
    #[error(transparent)]
    Order(#[from] ReadError),
    /// An order that lacks its cgroup.
    #[error("{verb} is aimed at a cgroup, and none was given")]
    NoAim {
        /// What was asked for.
        verb: &'static str,
    },
    /// A verb for hosts sent to the cluster, or the other way round.
    #[error(
        "{verb} is not for {node}: what is done to the cluster is ordered from node {cluster}, what is done to a host from that host",
        cluster = skep_wire::order::CLUSTER
    )]
    Misplaced {
        /// What was asked for.
        verb: &'static str,
        /// Of whom.
        node: String,
    },
    /// Nobody connected is called that.
    #[error("node {node} is not connected")]
    NoSuchNode {
        /// The node.
        node: String,
    },
    /// Whom the policy protects.
    #[error("{workload} is protected by {pattern}")]
    Protected {
        /// The target.
        workload: String,
        /// By which line.
        pattern: String,
    },
    /// A verb of a later command line.
    #[error("unknown verb {verb}")]
    UnknownVerb {
        /// Its number.
        verb: i32,
    },
}
