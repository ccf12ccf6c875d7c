//! What is known of a rule besides how it matches.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// How bad it would be if it is what it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For the record.
    Info,
    /// Worth knowing in company of others.
    Low,
    /// Worth a look today.
    Medium,
    /// Worth a look now.
    High,
    /// Almost never benign.
    Critical,
}

impl Level {
    /// All, the least first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// One step less.
    pub fn lowered(self) -> Self {
        Self::ALL[(self as usize).saturating_sub(1)]
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which events a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// Execs as process creations.
    Process,
    /// Execs as auditd's records.
    Audit,
    /// Command lines as text.
    Keyword,
    /// Connections.
    Connection,
    /// Several events in time.
    Correlation,
    /// Nothing that is recorded here; such a rule loads and is never asked.
    Nothing,
}

/// A rule.
#[derive(Debug, Clone, Serialize)]
pub struct Rule {
    /// Name in tables, policies and on the command line: the rule's `name`, else its `id`, else its title.
    pub name: Arc<str>,
    /// The rule's own id.
    pub id: String,
    /// One line for people.
    pub title: String,
    /// What it finds, and why that matters.
    pub description: String,
    /// How bad.
    pub level: Level,
    /// ATT&CK techniques, as in T1059.004.
    pub techniques: Vec<String>,
    /// Whoever wrote it; alerts carry it.
    pub author: String,
    /// Its licence, where it says one.
    pub license: String,
    /// What else looks like it.
    pub falsepositives: Vec<String>,
    /// Where it comes from.
    pub source: String,
    /// Which events it is about.
    pub about: About,
    /// Whether it comes with skep.
    pub built_in: bool,
    /// Filters that apply to it.
    pub filters: Vec<String>,
}

/// The techniques among a rule's tags.
pub(crate) fn techniques(tags: &[String]) -> Vec<String> {
    tags.iter()
        .filter_map(|tag| tag.strip_prefix("attack.t"))
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        .map(|rest| format!("T{rest}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_both_kinds_of_tactics_leave_the_techniques() {
        let tags = [
            "attack.defense-evasion",
            "attack.stealth",
            "attack.t1059.004",
            "attack.t1685",
            "cve.2021-4034",
            "attack.tool",
        ];
        assert_eq!(techniques(&tags.map(str::to_owned)), ["T1059.004", "T1685"]);
    }

    #[test]
    fn levels_are_in_order() {
        assert!(Level::Critical > Level::High && Level::Info.lowered() == Level::Info);
        assert_eq!(Level::High.lowered(), Level::Medium);
    }
}
