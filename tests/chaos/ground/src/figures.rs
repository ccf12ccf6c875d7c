//! What happened, and whether it was right.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};

/// Sums over all rounds.
#[derive(Debug, Default)]
pub struct Figures {
    /// By name.
    counts: BTreeMap<String, u64>,
    /// Likewise.
    most: BTreeMap<&'static str, u64>,
    first_seed: u64,
    /// A line each, with the seed of its round.
    pub violations: Vec<String>,
}

impl Figures {
    /// Nothing yet. `names` are shown even where they stay zero.
    pub fn new(first_seed: u64, names: &[&str]) -> Self {
        Self {
            counts: names.iter().map(|name| ((*name).to_owned(), 0)).collect(),
            most: BTreeMap::new(),
            first_seed,
            violations: Vec::new(),
        }
    }

    /// Adds to a count.
    pub fn add(&mut self, name: &str, count: u64) {
        *self.counts.entry(name.to_owned()).or_default() += count;
    }

    /// The largest of what was seen, instead of a sum.
    pub fn most(&mut self, name: &'static str, value: u64) {
        let most = self.most.entry(name).or_default();
        *most = value.max(*most);
    }

    /// Something that must not be: said at once, since a run may take long.
    pub fn violation(&mut self, command: &str, what_happened: &str) {
        let line = format!("{what_happened}; repeat it with: cargo xtask chaos {command}");
        eprintln!("VIOLATION: {line}");
        self.violations.push(line);
    }

    /// Adds what `other` counted, with `prefix` before the names.
    pub fn take(&mut self, other: &Self, prefix: &str) {
        for (name, count) in &other.counts {
            self.add(&format!("{prefix}{name}"), *count);
        }
        other.most.iter().for_each(|(name, value)| self.most(name, *value));
        self.violations.extend(other.violations.iter().cloned());
    }

    /// One object.
    pub fn json(&self) -> Value {
        let mut object: Map<String, Value> =
            self.numbers().map(|(name, number)| (name.to_owned(), json!(number))).collect();
        object.insert("seed".to_owned(), json!(self.first_seed));
        object.insert("violations".to_owned(), json!(self.violations));
        Value::Object(object)
    }

    fn numbers(&self) -> impl Iterator<Item = (&str, u64)> {
        let sums = self.counts.iter().map(|(name, count)| (name.as_str(), *count));
        sums.chain(self.most.iter().map(|(name, most)| (*name, *most)))
    }

    /// A line each.
    pub fn lines(&self) -> String {
        let mut text = format!("{:<34}{}\n", "seed", self.first_seed);
        for (name, count) in self.numbers() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<34}{count}");
        }
        let _ = writeln!(text, "{:<34}{}", "violations", self.violations.len());
        text
    }
}
