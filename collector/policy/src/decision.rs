//! What the engine decides, and what it is told.

use serde::{Deserialize, Serialize};
use skep_wire::v1;

use crate::choice::Choice;
use crate::finding::Finding;
use crate::policy::Mode;
use crate::quorum::Checked;

/// What is to be done, or to be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// An action.
    Begin(Box<Begin>),
    /// An action that did not help is to be taken back before the next.
    Undo {
        /// Which.
        action: String,
        /// One line.
        why: String,
    },
    /// Nothing yet, or nothing at all.
    Withheld {
        /// The finding.
        finding: String,
        /// Its node.
        node: String,
        /// One line.
        why: String,
    },
    /// Peers are to be asked.
    Poll(Box<Poll>),
    /// They do not agree: the action is not done for now.
    NoQuorum {
        /// Which poll.
        poll: String,
        /// The finding.
        finding: String,
        /// Its node.
        node: String,
        /// Who was asked and what each said, in one line.
        why: String,
    },
    /// A case is over.
    Ended {
        /// What it was about.
        finding: Box<Finding>,
        /// How it ended.
        end: End,
        /// One line.
        why: String,
    },
    /// So much goes wrong at once that nothing is done by itself for a while.
    Braked {
        /// How much.
        findings: usize,
        /// Until when.
        until_us: i64,
    },
}

/// An action that is to begin: to be recorded in mode observe, to be asked about, or to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Begin {
    /// Its id.
    pub action: String,
    /// What asks for it.
    pub finding: Finding,
    /// Action, process or unit, lease and trigger.
    pub wanted: v1::Command,
    /// Whether to send it.
    pub mode: Mode,
    /// By which rule.
    pub rule: String,
    /// Which rung, from 1.
    pub rung: usize,
    /// Which try of it, from 1.
    pub attempt: u32,
    /// Why this one.
    pub choice: Choice,
    /// Why it is not done by itself, where the rule says auto.
    pub lowered: Option<String>,
    /// Which peers were asked and what each said, in one line, where any were.
    pub quorum: Option<String>,
}

/// Peers that are to look at a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Poll {
    /// For their answers; also the id of the action, if it comes to that.
    pub id: String,
    /// The finding.
    pub finding: String,
    /// Its node.
    pub node: String,
    /// What they are to look at.
    pub checked: Checked,
    /// Whom.
    pub peers: Vec<String>,
    /// How many should have been asked.
    pub of: usize,
    /// How many must see it down.
    pub needed: usize,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It is well again.
    Recovered,
    /// Nothing says whether it is.
    Unproven,
    /// Nothing is left to be tried: people are needed.
    Escalated,
    /// Somebody decided otherwise, or it waited too long.
    Dropped,
    /// It was only to be said.
    Observed,
}

impl End {
    /// As in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Unproven => "unproven",
            Self::Escalated => "escalated",
            Self::Dropped => "dropped",
            Self::Observed => "observed",
        }
    }
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It stands.
    Applied,
    /// It stands for longer.
    Extended,
    /// Its trigger went down.
    Improved,
    /// It did what it was to do.
    Done,
    /// It did not help.
    Unchanged,
    /// It made things worse, and is being undone.
    Worse,
    /// The host is as it was.
    Undone,
    /// The executor does not do such things.
    Refused,
    /// There was no reason any more.
    Moot,
    /// It could not be done.
    Failed,
    /// Nobody said anything.
    NoAnswer,
    /// It could not be sent.
    Undeliverable,
    /// An operator said no.
    Rejected,
    /// Nobody said yes in time, or the host started anew.
    Expired,
}
