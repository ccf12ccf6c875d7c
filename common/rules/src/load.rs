//! Reading rules: our pack, and folders of others.
//!
//! Whatever is wrong with one document, the others load; what was refused is said with its file and why.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rsigma_eval::RuleFieldSet;
use rsigma_parser::{CorrelationRule, FilterRule, LogSource, SigmaCollection, SigmaRule};
use serde::Serialize;

use crate::date::{Date, today};
use crate::facts::Field;
use crate::rule::{About, Level, Rule, techniques};
use crate::view;

/// Largest rule file; the largest of the community are a tenth of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Most files below a folder of rules.
const MAX_FILES: usize = 20_000;

/// Most blocks within blocks in a rule; YAML may be nested until a parser's stack ends.
const MAX_INDENT: usize = 200;

/// Something that was not taken, or taken with a reserve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// The file.
    pub source: String,
    /// The rule, where it is known.
    pub rule: String,
    /// What is wrong.
    pub reason: String,
}

/// A set of rules, read and checked one by one.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What is known of each rule; the index is the rule's number.
    pub rules: Vec<Rule>,
    /// Refused documents.
    pub refused: Vec<Complaint>,
    /// Rules that load and cannot find what they look for, and filters that are over.
    pub warnings: Vec<Complaint>,
    pub(crate) sigma: Vec<(usize, SigmaRule)>,
    pub(crate) correlations: Vec<(usize, CorrelationRule)>,
    pub(crate) filters: Vec<FilterRule>,
    /// Test events in rules, by the rule's number.
    pub(crate) cases: HashMap<usize, Vec<Case>>,
}

/// A test event of a rule.
#[derive(Debug, Clone)]
pub struct Case {
    /// Whether the rule must fire on it.
    pub fires: bool,
    /// The event, in the form of the development corpus.
    pub event: serde_json::Value,
}

impl Loaded {
    /// Reads the pack that comes with skep.
    pub fn pack() -> Self {
        let mut loaded = Self::default();
        for (name, text) in crate::pack::FILES {
            loaded.text(name, text, true);
        }
        loaded
    }

    /// Reads every `.yml` and `.yaml` below a folder, or one file. What cannot be read is among the refused.
    pub fn folder(&mut self, path: &Path) {
        let files = files(path, &mut self.refused);
        for file in files {
            let source = file.display().to_string();
            match read(&file) {
                Ok(text) => self.text(&source, &text, false),
                Err(reason) => self.refuse(&source, "", reason),
            }
        }
    }

    pub(crate) fn refuse(&mut self, source: &str, rule: &str, reason: impl Into<String>) {
        self.refused.push(Complaint { source: source.to_owned(), rule: rule.to_owned(), reason: reason.into() });
    }

    fn warn(&mut self, source: &str, rule: &str, reason: impl Into<String>) {
        self.warnings.push(Complaint { source: source.to_owned(), rule: rule.to_owned(), reason: reason.into() });
    }

    /// Reads the documents of one file.
    pub fn text(&mut self, source: &str, text: &str, built_in: bool) {
        if deepest(text) > MAX_INDENT {
            return self.refuse(source, "", format!("it is nested deeper than {MAX_INDENT} levels"));
        }
        let mut collection = match rsigma_parser::parse_sigma_yaml(text) {
            Ok(collection) => collection,
            Err(error) => return self.refuse(source, "", one_line(&error.to_string())),
        };
        for error in std::mem::take(&mut collection.errors) {
            self.refuse(source, "", one_line(&error));
        }
        if collection.rules.is_empty() && collection.correlations.is_empty() && collection.filters.is_empty() {
            if self.refused.last().is_none_or(|last| last.source != source) {
                self.refuse(source, "", "there is no rule in it");
            }
            return;
        }
        let fields = |rule: &SigmaRule| {
            let one = SigmaCollection { rules: vec![rule.clone()], ..SigmaCollection::new() };
            RuleFieldSet::collect(&one, &[], false).names().map(str::to_owned).collect::<Vec<_>>()
        };
        for rule in collection.rules {
            let named = fields(&rule);
            self.rule(source, rule, &named, built_in);
        }
        for correlation in collection.correlations {
            self.correlation(source, correlation, built_in);
        }
        for filter in collection.filters {
            self.filter(source, filter);
        }
    }

    fn rule(&mut self, source: &str, mut rule: SigmaRule, fields: &[String], built_in: bool) {
        if let Err(error) = rsigma_eval::compile_rule(&rule) {
            return self.refuse(source, &rule.title, one_line(&error.to_string()));
        }
        let about = about(&rule.logsource, fields);
        let name = rule.name.clone().or_else(|| rule.id.clone()).unwrap_or_else(|| rule.title.clone());
        if self.rules.iter().any(|known| *known.name == *name) {
            return self.refuse(source, &name, "another rule of this name was read before");
        }
        let missing: Vec<&str> = fields.iter().map(String::as_str).filter(|field| !is_known(about, field)).collect();
        if about == About::Nothing {
            self.warn(source, &name, format!("nothing of this kind is recorded: {}", kind(&rule.logsource)));
        } else if !missing.is_empty() {
            self.warn(source, &name, format!("these fields are not recorded: {}", missing.join(", ")));
        }
        let number = self.rules.len();
        if let Some(tests) = rule.custom_attributes.remove("tests") {
            match cases(&tests) {
                Ok(cases) => drop(self.cases.insert(number, cases)),
                Err(reason) => return self.refuse(source, &name, reason),
            }
        }
        self.rules.push(Rule {
            name: Arc::from(name),
            id: rule.id.clone().unwrap_or_default(),
            title: rule.title.clone(),
            description: rule.description.clone().unwrap_or_default().trim().to_owned(),
            level: rule.level.map_or(Level::Medium, level),
            techniques: techniques(&rule.tags),
            author: rule.author.clone().unwrap_or_default(),
            license: rule.license.clone().unwrap_or_default(),
            falsepositives: rule.falsepositives.clone(),
            source: source.to_owned(),
            about,
            built_in,
            filters: Vec::new(),
        });
        rule.custom_attributes.insert(NUMBER.to_owned(), (number as u64).into());
        self.sigma.push((number, rule));
    }

    fn correlation(&mut self, source: &str, mut rule: CorrelationRule, built_in: bool) {
        let name = rule.name.clone().or_else(|| rule.id.clone()).unwrap_or_else(|| rule.title.clone());
        let number = self.rules.len();
        self.rules.push(Rule {
            name: Arc::from(name),
            id: rule.id.clone().unwrap_or_default(),
            title: rule.title.clone(),
            description: rule.description.clone().unwrap_or_default().trim().to_owned(),
            level: rule.level.map_or(Level::Medium, level),
            techniques: techniques(&rule.tags),
            author: rule.author.clone().unwrap_or_default(),
            license: String::new(),
            falsepositives: rule.falsepositives.clone(),
            source: source.to_owned(),
            about: About::Correlation,
            built_in,
            filters: Vec::new(),
        });
        rule.custom_attributes.insert(NUMBER.to_owned(), (number as u64).into());
        self.correlations.push((number, rule));
    }

    /// A filter lets something be: it must say who answers for that, and until when.
    fn filter(&mut self, source: &str, filter: FilterRule) {
        let attribute = |name: &str| {
            filter
                .custom_attributes
                .get(name)
                .and_then(|value| value.as_str())
                .map(str::trim)
                .filter(|value| !value.is_empty())
        };
        let Some(owner) = attribute("owner") else {
            return self.refuse(source, &filter.title, "a filter needs an owner: who answers for what it hides");
        };
        let Some(expiry) = attribute("expiry") else {
            return self.refuse(
                source,
                &filter.title,
                "a filter needs an expiry, as in 2027-06-30: nothing is hidden for ever",
            );
        };
        let Some(expiry) = Date::parse(expiry) else {
            return self.refuse(source, &filter.title, format!("the expiry {expiry} is no date like 2027-06-30"));
        };
        if expiry < today() {
            let reason = format!("the filter is over since {expiry} and hides nothing; {owner} may renew it");
            return self.warn(source, &filter.title, reason);
        }
        self.filters.push(filter);
    }

    /// Test events of the rules, by name.
    pub fn cases(&self) -> impl Iterator<Item = (&Rule, &[Case])> {
        self.rules
            .iter()
            .enumerate()
            .map(|(number, rule)| (rule, self.cases.get(&number).map_or(&[][..], Vec::as_slice)))
    }
}

/// The attribute that carries a rule's number through the engine.
pub(crate) const NUMBER: &str = "skep.number";

fn level(level: rsigma_parser::Level) -> Level {
    match level {
        rsigma_parser::Level::Informational => Level::Info,
        rsigma_parser::Level::Low => Level::Low,
        rsigma_parser::Level::Medium => Level::Medium,
        rsigma_parser::Level::High => Level::High,
        rsigma_parser::Level::Critical => Level::Critical,
    }
}

/// Which of our events a log source is.
fn about(source: &LogSource, fields: &[String]) -> About {
    let is = |own: &Option<String>, name: &str| own.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
    if source.product.is_some() && !is(&source.product, "linux") && !is(&source.product, "skep") {
        return About::Nothing;
    }
    match (source.category.as_deref(), source.service.as_deref()) {
        (Some("process_creation"), None) => About::Process,
        (Some("network_connection"), None) => About::Connection,
        (None, Some("auditd")) => About::Audit,
        // Rules over any text: they name no field.
        (None, _) if fields.is_empty() => About::Keyword,
        _ => About::Nothing,
    }
}

fn kind(source: &LogSource) -> String {
    let parts = [("product", &source.product), ("category", &source.category), ("service", &source.service)];
    let named: Vec<String> =
        parts.into_iter().filter_map(|(what, value)| Some(format!("{what} {}", value.as_ref()?))).collect();
    if named.is_empty() { "no log source".to_owned() } else { named.join(", ") }
}

fn is_known(about: About, field: &str) -> bool {
    match about {
        About::Process => view::PROCESS_FIELDS.contains(&field) || Field::named(field).is_some(),
        About::Audit => view::AUDIT_FIELDS.contains(&field) || view::argument(field).is_some(),
        About::Connection => view::CONNECTION_FIELDS.contains(&field) || Field::named(field).is_some(),
        About::Keyword | About::Correlation | About::Nothing => true,
    }
}

fn cases(tests: &impl Serialize) -> Result<Vec<Case>, String> {
    let tests = serde_json::to_value(tests).map_err(|error| format!("its tests do not read: {error}"))?;
    let mut found = Vec::new();
    for (key, fires) in [("fires", true), ("silent", false)] {
        let Some(events) = tests.get(key).and_then(serde_json::Value::as_array) else {
            return Err(format!("its tests lack a list under `{key}`"));
        };
        found.extend(events.iter().map(|event| Case { fires, event: event.clone() }));
    }
    Ok(found)
}

/// Files in a fixed order, so that the same folder makes the same set.
fn files(path: &Path, refused: &mut Vec<Complaint>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.is_file() {
            found.push(folder);
            continue;
        }
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let reason = format!("cannot read the folder: {error}");
                refused.push(Complaint { source: folder.display().to_string(), rule: String::new(), reason });
                continue;
            }
        };
        for entry in entries.filter_map(Result::ok) {
            // Links are not followed: they may go in circles.
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            let yaml = path.extension().is_some_and(|end| end == "yml" || end == "yaml");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && yaml && found.len() < MAX_FILES {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    found
}

fn read(file: &Path) -> Result<String, String> {
    let bytes = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(format!("it has {bytes} bytes, a rule file may have {MAX_FILE_BYTES}"));
    }
    std::fs::read_to_string(file).map_err(|error| error.to_string())
}

/// Upper bound of the nesting of a YAML text, by its indentation and its brackets.
fn deepest(text: &str) -> usize {
    let indent =
        text.lines().map(|line| line.len() - line.trim_start_matches([' ', '-', '?']).len()).max().unwrap_or(0);
    let (mut open, mut most) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b'\n' if open < 2 => open = 0,
            _ => {}
        }
        most = most.max(open);
    }
    indent.max(most)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
