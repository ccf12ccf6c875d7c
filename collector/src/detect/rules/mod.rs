//! What is suspicious in one exec: data and pure functions.
//!
//! * [`origin`]: where the program or its script comes from.
//! * [`shell`]: shells that nobody sits in front of.
//! * [`tamper`]: what the command line does to the host's defences, logs and secrets.
//! * [`foothold`]: what keeps an intruder on the host, or makes one more powerful there.
//!
//! Every rule says in [`Rule::benign`] what else looks like it. The false-positive rate over recorded execs decided the
//! severities: critical and high rules rest on facts that hardly occur in ordinary work.

pub mod origin;

pub mod shell;

pub mod tamper;

pub mod foothold;

use super::exec::Exec;
use super::finding::Severity;

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Name in tables and policies.
    pub id: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// How bad.
    pub severity: Severity,
    /// MITRE ATT&CK technique ids.
    pub attack: &'static [&'static str],
    /// Columns of `processes` it looks at; they are the finding's evidence.
    pub looks_at: &'static [&'static str],
    /// What else looks like it.
    pub benign: &'static str,
    /// Whether an exec is such a case.
    pub matches: fn(&Exec<'_>) -> bool,
}

/// All rules, the gravest first within each file.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    origin::RULES.iter().chain(shell::RULES).chain(tamper::RULES).chain(foothold::RULES)
}

#[cfg(test)]
mod tests;
