//! An incident, and its row.

use skep_wire::chunk::{Builder, Row};

use crate::detect::finding::Severity;

/// Most rules and troubles that an incident names; more of them add nothing to what it is.
pub(super) const MAX_NAMES: usize = 64;

/// Where an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has seen to it.
    Open,
    /// Somebody does.
    Acknowledged,
    /// It is over.
    Closed,
}

impl State {
    const ALL: [Self; 3] = [Self::Open, Self::Acknowledged, Self::Closed];

    /// As in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Closed => "closed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What happened to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// By a finding.
    Opened,
    /// By another finding.
    Joined,
    /// A trouble of it is over.
    Over,
    /// Something else changed on its node.
    Changed,
    /// By an operator.
    Acknowledged,
    /// By an operator, or because it was quiet.
    Closed,
    /// It was closed for being quiet, and was not over.
    Reopened,
}

impl Change {
    /// As in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Joined => "joined",
            Self::Over => "over",
            Self::Changed => "changed",
            Self::Acknowledged => "acknowledged",
            Self::Closed => "closed",
            Self::Reopened => "reopened",
        }
    }
}

/// An incident as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// 32 hex digits.
    pub id: String,
    /// Where it is.
    pub state: State,
    /// When it changed last.
    pub changed_us: i64,
    /// When its first finding was raised.
    pub began_us: i64,
    /// When its last one of medium severity or worse was, or a trouble of it was over.
    pub last_us: i64,
    /// Of the worst.
    pub severity: Severity,
    /// Of the worst.
    pub title: String,
    /// Of the first.
    pub node: String,
    /// Of the first.
    pub workload: String,
    /// How many belong to it.
    pub findings: i64,
    /// Of its findings.
    pub rules: Vec<String>,
    /// Troubles that are not over, by their keys.
    pub standing: Vec<String>,
    /// Who closed it, where somebody did: it is not opened again.
    pub closed_by_hand: bool,
}

/// What a row says besides where an incident is.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// What happened.
    pub change: Change,
    /// Who or what did it.
    pub actor: &'a str,
    /// The finding that did.
    pub finding: Option<&'a str>,
    /// One line for people.
    pub detail: &'a str,
}

/// Who changes incidents when nobody else does.
pub const COLLECTOR: &str = "collector";

impl Incident {
    /// Adds a name, once and as long as there is room.
    pub(super) fn name(names: &mut Vec<String>, name: &str) {
        if names.len() < MAX_NAMES && !names.iter().any(|own| own == name) {
            names.push(name.to_owned());
        }
    }

    /// Sets the columns of one row; the caller ends it.
    pub fn write(&self, row: &mut Builder, cause: Cause<'_>) {
        row.int("time", self.changed_us)
            .text("incident", &self.id)
            .text("state", self.state.as_str())
            .text("change", cause.change.as_str())
            .int("began", self.began_us)
            .int("last", self.last_us)
            .text("severity", self.severity.as_str())
            .text("title", &self.title)
            .text("target_node", &self.node)
            .text("workload", &self.workload)
            .int("findings", self.findings)
            .maybe_text("finding", cause.finding)
            .text_list("rules", &self.rules)
            .text_list("standing", &self.standing)
            .text("actor", cause.actor)
            .text("detail", cause.detail);
    }

    /// Reads a row; `None` for one of a later release that means something else.
    pub fn read(row: &Row<'_>) -> Option<Self> {
        let names = |name: &str| row.text_list(name).unwrap_or_default().into_iter().map(str::to_owned).collect();
        let state = State::parse(row.text("state")?)?;
        Some(Self {
            id: row.text("incident")?.to_owned(),
            state,
            changed_us: row.int("time")?,
            began_us: row.int("began")?,
            last_us: row.int("last")?,
            severity: Severity::parse(row.text("severity")?)?,
            title: row.text("title")?.to_owned(),
            node: row.text("target_node")?.to_owned(),
            workload: row.text("workload")?.to_owned(),
            findings: row.int("findings")?,
            rules: names("rules"),
            standing: names("standing"),
            closed_by_hand: state == State::Closed && row.text("actor") != Some(COLLECTOR),
        })
    }
}
