//! Why a command was refused; nothing was changed.

use thiserror::Error;

use crate::act::hierarchy::CgroupError;

/// Why a command was refused. The text goes to the operator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not signed by a trusted key.
    #[error("signed by key {key_id}, which is not trusted here")]
    UnknownKey {
        /// As the command names it.
        key_id: String,
    },
    /// The signature does not fit the bytes.
    #[error("the signature does not fit the command")]
    BadSignature,
    /// The bytes are no command, or one without an action or target.
    #[error("the command cannot be understood: {what}")]
    Malformed {
        /// What is missing or wrong.
        what: &'static str,
    },
    /// For another node.
    #[error("the command is for node {node}")]
    OtherNode {
        /// The one it is for.
        node: String,
    },
    /// For an earlier or later life of this host.
    #[error("the command is for another boot of this host")]
    OtherBoot,
    /// Too late.
    #[error("the command expired {seconds} s ago")]
    Expired {
        /// By how much.
        seconds: i64,
    },
    /// Valid for longer than any command should be.
    #[error("the command is valid for {seconds} s, at most {allowed} are allowed")]
    ValidTooLong {
        /// From now.
        seconds: i64,
        /// Bound.
        allowed: i64,
    },
    /// Its nonce or its id was seen before.
    #[error("the command was carried out or refused before")]
    Replay,
    /// The executor's own policy does not allow it.
    #[error("not allowed by this executor's policy: {why}")]
    Policy {
        /// Which line of it.
        why: String,
    },
    /// The target is, or holds, something nobody may touch.
    #[error("{subject} is protected: {why}")]
    Protected {
        /// Target.
        subject: String,
        /// What it holds.
        why: String,
    },
    /// The target is not what was meant.
    #[error(transparent)]
    Target(#[from] CgroupError),
    /// Another action stands on it.
    #[error("action {action} stands on {subject} already")]
    Occupied {
        /// Target.
        subject: String,
        /// The action that stands.
        action: String,
    },
    /// The limit would be none.
    #[error("the cgroup is limited to {cores:.3} cores already")]
    LimitedAlready {
        /// Thousandths of a core.
        cores: Cores,
    },
    /// The number of the process belongs to another one by now.
    #[error("process {pid} is another one than was meant: it began at another time; it is left alone")]
    OtherProcess {
        /// The number.
        pid: u32,
    },
    /// systemd knows no such unit.
    #[error("there is no unit {unit}")]
    NoUnit {
        /// Its name.
        unit: String,
    },
    /// The unit was started anew.
    #[error("unit {unit} was started anew since; it is left alone")]
    OtherInvocation {
        /// Its name.
        unit: String,
    },
    /// The runtime knows no such container.
    #[error("there is no container {container}")]
    NoContainer {
        /// Its name or id.
        container: String,
    },
    /// The container was started anew.
    #[error("container {container} was started anew since; it is left alone")]
    OtherStart {
        /// Its name.
        container: String,
    },
    /// A limit as low stands already.
    #[error("it is limited to {to} already")]
    LimitedBefore {
        /// What stands.
        to: String,
    },
    /// There is no reason any more: the command ends as moot.
    #[error("trigger gone: {reading}")]
    Moot {
        /// What was read.
        reading: String,
    },
    /// This host cannot do that.
    #[error("this host cannot do that: {what}")]
    Unsupported {
        /// What it lacks.
        what: String,
    },
    /// The target cannot be looked at.
    #[error("the target cannot be read: {why}")]
    Unreadable {
        /// Why.
        why: String,
    },
    /// Issued later than now, by more than clocks may differ.
    #[error(
        "the command was issued {seconds} s from now: the clocks of collector and host differ by more than {allowed} s"
    )]
    ClockSkew {
        /// By how much.
        seconds: i64,
        /// Bound.
        allowed: i64,
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
    /// Taken back before it was applied.
    #[error("withdrawn before it was applied")]
    Withdrawn,
    /// This program is about to end.
    #[error("the executor is stopping")]
    Stopping,
}

impl Refusal {
    /// A target's file that does not read.
    pub fn unreadable(why: impl std::fmt::Display) -> Self {
        Self::Unreadable { why: why.to_string() }
    }
}

/// Cores, compared by thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores(i64);

impl Cores {
    /// Rounded to thousandths.
    pub fn new(cores: f64) -> Self {
        Self((cores * 1000.0).round() as i64)
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cores = self.0 as f64 / 1000.0;
        match f.precision() {
            Some(precision) => write!(f, "{cores:.precision$}"),
            None => write!(f, "{cores}"),
        }
    }
}
