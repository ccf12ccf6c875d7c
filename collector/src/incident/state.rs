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

/// A node, or a workload of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// Which node.
    pub node: String,
    /// Empty for all of it.
    pub workload: String,
}

impl Member {
    /// A workload of a node.
    pub fn new(node: &str, workload: &str) -> Self {
        Self { node: node.to_owned(), workload: workload.to_owned() }
    }

    fn text(&self) -> String {
        format!("{} {}", self.node, self.workload)
    }

    fn parse(text: &str) -> Option<Self> {
        text.split_once(' ').map(|(node, workload)| Self::new(node, workload))
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
    /// Whom its findings are about, the first in front.
    pub members: Vec<Member>,
    /// How many belong to it.
    pub findings: i64,
    /// Changes told of while it goes on, since this start.
    pub changes: usize,
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

    /// Adds whom a finding is about, likewise.
    pub(super) fn meet(&mut self, member: Member) {
        if self.members.len() < MAX_NAMES && !self.members.contains(&member) {
            self.members.push(member);
        }
    }

    /// Nodes that its findings are about.
    pub(super) fn nodes(&self) -> usize {
        let nodes: std::collections::BTreeSet<&str> = self.members.iter().map(|member| member.node.as_str()).collect();
        nodes.len()
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
            .text_list("members", &self.members.iter().map(Member::text).collect::<Vec<_>>())
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
        let (node, workload) = (row.text("target_node")?, row.text("workload")?);
        // A release before this one did not say.
        let members = match row.text_list("members") {
            Some(members) if !members.is_empty() => members.into_iter().filter_map(Member::parse).collect(),
            _ => vec![Member::new(node, workload)],
        };
        Some(Self {
            id: row.text("incident")?.to_owned(),
            state,
            changed_us: row.int("time")?,
            began_us: row.int("began")?,
            last_us: row.int("last")?,
            severity: Severity::parse(row.text("severity")?)?,
            title: row.text("title")?.to_owned(),
            node: node.to_owned(),
            workload: workload.to_owned(),
            members,
            findings: row.int("findings")?,
            changes: 0,
            rules: names("rules"),
            standing: names("standing"),
            closed_by_hand: state == State::Closed && row.text("actor") != Some(COLLECTOR),
        })
    }
}
