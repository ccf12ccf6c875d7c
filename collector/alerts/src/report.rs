//! Something is wrong, or is not any more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a report is known by: `rule`, `severity`, `kind`, `node`, `workload` and what else there is.
pub type Labels = BTreeMap<String, String>;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It began, and its end will be reported.
    Firing,
    /// It happened; there is no end to wait for.
    Happened,
    /// It is over.
    Resolved,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What makes two reports the same trouble: the end names the key of its beginning.
    pub key: String,
    /// How it stands.
    pub state: State,
    /// What it is known by. Of an end, those of its beginning count.
    pub labels: Labels,
    /// One line for people.
    pub title: String,
    /// More lines, `name=value`.
    pub details: Vec<String>,
    /// When, microseconds since the epoch.
    pub time_us: i64,
    /// The finding it comes from; empty where there is none.
    pub finding: String,
}

/// How bad, mildest first.
pub const SEVERITIES: [&str; 5] = ["info", "low", "medium", "high", "critical"];

impl Report {
    /// Its severity as a place in [`SEVERITIES`]; what has none is mild.
    pub fn rank(&self) -> usize {
        let severity = self.labels.get("severity").map_or("", String::as_str);
        SEVERITIES.iter().position(|name| *name == severity).unwrap_or(0)
    }
}

/// One of a notice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// What it says; its state is whether it stands now.
    pub report: Report,
    /// When it began.
    pub since_us: i64,
    /// When it ended, if it did.
    pub until_us: Option<i64>,
}

/// What a channel is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The same each time it is told; different from every other's.
    pub id: String,
    /// Channel.
    pub channel: String,
    /// Which group: stays the same from its beginning to its end.
    pub group: String,
    /// What all of the group have in common.
    pub labels: Labels,
    /// What is new, what is over, and, when it is told again, what stands.
    pub items: Vec<Item>,
    /// It was told before, and stands.
    pub again: bool,
    /// When it was made.
    pub time_us: i64,
}

impl Notice {
    /// Whether nothing of it stands.
    pub fn is_over(&self) -> bool {
        self.items.iter().all(|item| item.report.state == State::Resolved)
    }

    /// The worst of what stands, or of what ended.
    pub fn severity(&self) -> &'static str {
        let stands = |item: &&Item| item.report.state != State::Resolved || self.is_over();
        let rank = self.items.iter().filter(stands).map(|item| item.report.rank()).max();
        SEVERITIES[rank.unwrap_or(0)]
    }

    /// One line for people.
    pub fn headline(&self) -> String {
        let word = if self.is_over() { "resolved" } else { self.severity() };
        let again = if self.again { ", still" } else { "" };
        match self.items.as_slice() {
            [one] => format!("[{word}{again}] {}{}", place(&one.report), one.report.title),
            all => {
                let count =
                    |over: bool| all.iter().filter(|item| (item.report.state == State::Resolved) == over).count();
                let about: Vec<&str> = self.labels.values().map(String::as_str).collect();
                let about = if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
                match (count(false), count(true)) {
                    (0, over) => format!("[{word}] {over} troubles are over{about}"),
                    (wrong, 0) => format!("[{word}{again}] {wrong} troubles{about}"),
                    (wrong, over) => format!("[{word}{again}] {wrong} troubles, {over} are over{about}"),
                }
            }
        }
    }

    /// A line for each item.
    pub fn lines(&self) -> Vec<String> {
        let line = |item: &Item| {
            let word = if item.report.state == State::Resolved { "resolved" } else { SEVERITIES[item.report.rank()] };
            format!("{word}: {}{}", place(&item.report), item.report.title)
        };
        self.items.iter().map(line).collect()
    }
}

/// Where, in front of a title.
fn place(report: &Report) -> String {
    let node = report.labels.get("node").filter(|node| !node.is_empty());
    node.map_or(String::new(), |node| format!("{node}: "))
}

/// A moment as other programs read it.
pub fn rfc3339(time_us: i64) -> String {
    jiff::Timestamp::from_microsecond(time_us).map_or_else(|_| time_us.to_string(), |time| time.to_string())
}
