//! What happened, and whether it was right.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};

/// Sums over all rounds.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// By name.
    counts: BTreeMap<String, u64>,
    first_seed: u64,
    /// A line each, with the seed of its round.
    pub(crate) violations: Vec<String>,
}

impl Figures {
    /// Nothing yet. `names` are shown even where they stay zero.
    pub(crate) fn new(first_seed: u64, names: &[&str]) -> Self {
        Self { counts: names.iter().map(|name| ((*name).to_owned(), 0)).collect(), first_seed, violations: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: &str, count: u64) {
        *self.counts.entry(name.to_owned()).or_default() += count;
    }

    /// Something that must not be: said at once, since a run may take long.
    pub(crate) fn violation(&mut self, command: &str, what_happened: &str) {
        let line = format!("{what_happened}; repeat it with: cargo xtask chaos {command}");
        eprintln!("VIOLATION: {line}");
        self.violations.push(line);
    }

    /// Adds what `other` counted, with `prefix` before the names.
    pub(crate) fn take(&mut self, other: &Self, prefix: &str) {
        for (name, count) in &other.counts {
            self.add(&format!("{prefix}{name}"), *count);
        }
        self.violations.extend(other.violations.iter().cloned());
    }

    pub(crate) fn json(&self) -> Value {
        let counts = self.counts.iter().map(|(name, count)| (name.clone(), json!(count)));
        let mut object: Map<String, Value> = counts.collect();
        object.insert("seed".to_owned(), json!(self.first_seed));
        object.insert("violations".to_owned(), json!(self.violations));
        Value::Object(object)
    }

    pub(crate) fn lines(&self) -> String {
        let mut text = format!("{:<34}{}\n", "seed", self.first_seed);
        for (name, count) in &self.counts {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<34}{count}");
        }
        let _ = writeln!(text, "{:<34}{}", "violations", self.violations.len());
        text
    }
}
