//! What deserves a look.

use std::sync::Arc;

pub use skep_policy::Severity;
use skep_wire::chunk::Builder;

/// A row of `findings`.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// 32 hex digits.
    pub id: String,
    /// When it was raised.
    pub time_us: i64,
    /// `event` (a rule), `series` (a score), `check` (a service) or `self` (how well skep itself sees).
    pub kind: &'static str,
    /// Rule or signal.
    pub rule: Arc<str>,
    /// How bad.
    pub severity: Severity,
    /// One line for people.
    pub title: String,
    /// Node it concerns.
    pub node: String,
    /// That node's boot when it happened.
    pub boot: String,
    /// Whom it is about.
    pub workload: String,
    /// Process id and start, where it is about one.
    pub process: Option<(i64, i64)>,
    /// Where an action could aim.
    pub aim: Option<Aim>,
    /// MITRE ATT&CK technique ids.
    pub attack: Vec<String>,
    /// `column=value` of what it rests on.
    pub evidence: Vec<String>,
    /// Returns the rows it rests on.
    pub evidence_sql: String,
    /// 0..1: how much of what happened was seen.
    pub coverage: f64,
    /// Cores the workload used, where that is what the finding is about.
    pub used_cores: Option<f64>,
}

/// A cgroup, by path and by the inode of its directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Aim {
    /// Path in the hierarchy that controls cpu.
    pub cgroup: String,
    /// Inode of that directory.
    pub cgroup_id: i64,
}

impl Finding {
    /// Sets the columns of one row; the caller ends it.
    pub fn write(&self, row: &mut Builder) {
        row.int("time", self.time_us)
            .text("finding", &self.id)
            .text("kind", self.kind)
            .text("rule", &self.rule)
            .text("severity", self.severity.as_str())
            .text("title", &self.title)
            .text("target_node", &self.node)
            .text("workload", &self.workload)
            .maybe_int("pid", self.process.map(|(pid, _)| pid))
            .maybe_int("start_ns", self.process.map(|(_, start_ns)| start_ns))
            .maybe_text("cgroup", self.aim.as_ref().map(|aim| aim.cgroup.as_str()))
            .maybe_int("cgroup_id", self.aim.as_ref().map(|aim| aim.cgroup_id))
            .text_list("attack", &self.attack)
            .text_list("evidence", &self.evidence)
            .text("evidence_sql", &self.evidence_sql)
            .float("coverage", self.coverage);
    }
}

/// A text as a literal of SQL.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_in_order_and_named() {
        assert!(Severity::Critical > Severity::High && Severity::Low > Severity::Info);
        assert_eq!(Severity::High.as_str(), "high");
        assert_eq!(Severity::High.lowered(), Severity::Medium);
        assert_eq!(Severity::Info.lowered(), Severity::Info);
    }

    #[test]
    fn a_quote_does_not_end_the_literal() {
        assert_eq!(quoted("it's"), "'it''s'");
    }
}
