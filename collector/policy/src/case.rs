//! One finding on its way up the ladder.
//!
//! ```text
//!            .-------------------- failed, or did not help ------------------.
//!            v                                                               |
//! Waiting --observe--> over     --ask--> Asked --approved--> Open --applied--> Verifying --well again--> over
//!    |  '--nothing left, given up--> over   '--rejected, expired--> over   '--moot--> over
//!    '--well again--> over
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::SECOND_US;
use crate::finding::Finding;
use crate::quorum::Poll;

/// How long the last events of a process that was ended are on their way.
const LAST_EVENTS_US: i64 = 5 * SECOND_US;

/// One finding on its way up the ladder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// What it is about.
    pub finding: Finding,
    /// Name of its rule.
    pub rule: String,
    /// When it was taken up.
    pub opened_us: i64,
    /// Tries of each rung, by its place.
    pub tried: BTreeMap<usize, u32>,
    /// Rungs that are out of the question, with why.
    pub given_up: BTreeMap<usize, String>,
    /// Where it stands.
    pub stage: Stage,
    /// Why it waits, as it was told last.
    pub told: Option<String>,
    /// Since when the finding is gone, or `None` while it is there; unset where nobody said.
    pub symptom: Option<Symptom>,
    /// Parts of the workload that are not well, where findings have an end; it is well again when none is left.
    #[serde(default)]
    pub parts: BTreeSet<String>,
    /// Peers that are asked about the next action.
    pub poll: Option<Poll>,
    /// How often they did not agree.
    pub refusals: u32,
}

/// The last reading of what the finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Symptom {
    /// It is there.
    Present,
    /// It is gone since then.
    AbsentSince(i64),
}

/// Where a case stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// In the queue, for its next rung.
    Waiting {
        /// When it came there.
        since_us: i64,
        /// Not before.
        from_us: i64,
    },
    /// An operator is asked.
    Asked(Try),
    /// The command is on its way.
    Open(Try),
    /// It was carried out, and is being watched.
    Verifying {
        /// Of what.
        of: Try,
        /// What the executor says: whether its trigger went down.
        said: Option<bool>,
        /// When it is decided.
        until_us: i64,
    },
}

/// One action of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// The action's id.
    pub action: String,
    /// The rung's place in the ladder.
    pub rung: usize,
    /// As in the table.
    pub verb: String,
    /// Whom it is about.
    pub target: String,
    /// How long it may stand.
    pub lease_s: u32,
    /// Whether an operator let it pass.
    pub asked: bool,
    /// When it was sent; when it was asked about before that.
    pub at_us: i64,
}

impl Case {
    /// The action it is waiting for.
    pub fn current(&self) -> Option<&Try> {
        match &self.stage {
            Stage::Waiting { .. } => None,
            Stage::Asked(of) | Stage::Open(of) | Stage::Verifying { of, .. } => Some(of),
        }
    }

    /// Whether what is read of a process now may be of before its end: its last events come after it.
    pub fn is_of_before(&self, now_us: i64) -> bool {
        let Stage::Verifying { of, .. } = &self.stage else { return false };
        self.finding.process.is_some() && of.verb == "kill" && now_us - of.at_us < LAST_EVENTS_US
    }

    /// This case, told from another about the same finding.
    pub fn key(&self) -> String {
        format!("{} {}", self.finding.id, self.opened_us)
    }

    /// The highest rung that was tried.
    pub fn highest(&self) -> Option<usize> {
        self.tried.keys().next_back().copied()
    }
}
