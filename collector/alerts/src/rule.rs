//! Rows of a statement become reports. Pure.
//!
//! A rule's statement returns a row for each thing that is wrong now. One has to be wrong for a while before it is reported
//! (`for`), and is over when it has not been wrong for a while (`keep_firing`), so that what comes and goes is one trouble.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::report::{Labels, Report, State};

/// Rows of one rule that are remembered.
const MAX_INSTANCES: usize = 1000;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name, the label `rule`.
    pub name: String,
    /// The statement.
    pub sql: String,
    /// How often it is asked.
    pub every: Duration,
    /// How long a row must be there.
    pub lasts: Duration,
    /// How long it counts after it went.
    pub keep_firing: Duration,
    /// The label `severity`.
    pub severity: String,
    /// Labels on top of the row's.
    pub labels: Labels,
    /// One line, with `{column}` for what a row says.
    pub title: String,
}

/// A row: texts are labels, numbers are what is measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Columns of text.
    pub labels: Labels,
    /// Columns of numbers.
    pub values: BTreeMap<String, f64>,
}

#[derive(Debug)]
struct Instance {
    since_us: i64,
    seen_us: i64,
    told: bool,
    row: Row,
}

/// A rule and what it found so far.
#[derive(Debug)]
pub struct Watcher {
    rule: Rule,
    instances: BTreeMap<Labels, Instance>,
    /// Rows for which there was no room.
    dropped: u64,
}

impl Watcher {
    /// One that has found nothing yet.
    pub fn new(rule: Rule) -> Self {
        Self { rule, instances: BTreeMap::new(), dropped: 0 }
    }

    /// The rule.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Rows for which there was no room, since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Keys of all it found and that may stand.
    pub fn keys(&self) -> Vec<String> {
        self.instances.values().map(|instance| key(&self.rule, &instance.row)).collect()
    }

    /// Takes what the statement returned.
    pub fn take(&mut self, rows: Vec<Row>, now_us: i64) -> Vec<Report> {
        for row in rows {
            let is_full = self.instances.len() >= MAX_INSTANCES;
            match self.instances.get_mut(&row.labels) {
                Some(instance) => (instance.seen_us, instance.row) = (now_us, row),
                None if is_full => self.dropped += 1,
                None => {
                    let instance = Instance { since_us: now_us, seen_us: now_us, told: false, row: row.clone() };
                    self.instances.insert(row.labels, instance);
                }
            }
        }
        let (lasts_us, keep_us) = (micros(self.rule.lasts), micros(self.rule.keep_firing));
        let mut reports = Vec::new();
        for instance in self.instances.values_mut() {
            if instance.seen_us == now_us && !instance.told && now_us - instance.since_us >= lasts_us {
                instance.told = true;
                reports.push(report(&self.rule, &instance.row, State::Firing, now_us));
            }
        }
        // One that was not reported has to begin anew.
        self.instances.retain(|_, instance| {
            let is_over = instance.seen_us < now_us && (!instance.told || now_us - instance.seen_us >= keep_us);
            if is_over && instance.told {
                reports.push(report(&self.rule, &instance.row, State::Resolved, now_us));
            }
            !is_over
        });
        reports
    }
}

fn report(rule: &Rule, row: &Row, state: State, now_us: i64) -> Report {
    let own =
        [("rule", &rule.name), ("severity", &rule.severity)].map(|(name, value)| (name.to_owned(), value.clone()));
    let mut labels: Labels = row.labels.clone();
    labels.extend(rule.labels.clone());
    labels.extend(own);
    labels.entry("kind".to_owned()).or_insert_with(|| "rule".to_owned());
    Report {
        key: key(rule, row),
        state,
        title: filled(&rule.title, row),
        details: row.values.iter().map(|(name, value)| format!("{name}={}", rounded(*value))).collect(),
        labels,
        time_us: now_us,
        finding: String::new(),
    }
}

/// In front of the keys of all that a rule reports.
pub fn key_prefix(rule: &str) -> String {
    format!("rule {rule}: ")
}

fn key(rule: &Rule, row: &Row) -> String {
    let labels: Vec<String> = row.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    key_prefix(&rule.name) + &labels.join(", ")
}

/// The title with what the row says in it.
fn filled(title: &str, row: &Row) -> String {
    let texts = row.labels.iter().map(|(name, value)| (name, value.clone()));
    let numbers = row.values.iter().map(|(name, value)| (name, rounded(*value).to_string()));
    texts.chain(numbers).fold(title.to_owned(), |title, (name, value)| title.replace(&format!("{{{name}}}"), &value))
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    fn watcher(lasts_s: u64, keep_s: u64) -> Watcher {
        Watcher::new(Rule {
            name: "full".to_owned(),
            sql: String::new(),
            every: Duration::from_secs(10),
            lasts: Duration::from_secs(lasts_s),
            keep_firing: Duration::from_secs(keep_s),
            severity: "high".to_owned(),
            labels: Labels::from([("team".to_owned(), "base".to_owned())]),
            title: "{label} is {value} full".to_owned(),
        })
    }

    fn row(label: &str) -> Row {
        Row {
            labels: Labels::from([("label".to_owned(), label.to_owned())]),
            values: BTreeMap::from([("value".to_owned(), 0.912_34)]),
        }
    }

    /// At which seconds the row is there; when what is reported.
    fn told(watcher: &mut Watcher, there: impl Fn(i64) -> bool) -> Vec<(i64, State)> {
        let steps = (0..100).step_by(10);
        let take = |at: i64| {
            let rows = if there(at) { vec![row("/")] } else { Vec::new() };
            watcher.take(rows, at * S).into_iter().map(move |report| (at, report.state)).collect::<Vec<_>>()
        };
        steps.flat_map(take).collect()
    }

    #[test]
    fn a_row_must_last_and_may_be_away_for_a_while() {
        let always = told(&mut watcher(0, 0), |at| at < 50);
        assert_eq!(always, [(0, State::Firing), (50, State::Resolved)]);
        assert_eq!(told(&mut watcher(20, 0), |at| at < 50), [(20, State::Firing), (50, State::Resolved)]);
        assert_eq!(told(&mut watcher(20, 0), |at| at % 20 == 0), [], "never twice in a row");
        let flaps = told(&mut watcher(0, 30), |at| at < 40 && at % 20 == 0);
        assert_eq!(flaps, [(0, State::Firing), (50, State::Resolved)]);
    }

    #[test]
    fn a_report_has_the_labels_of_row_and_rule_and_a_title_that_says_the_numbers() {
        let mut watcher = watcher(0, 0);
        let reports = watcher.take(vec![row("/"), row("/var")], 0);
        assert_eq!(reports.len(), 2);
        assert_eq!(watcher.keys(), ["rule full: label=/", "rule full: label=/var"]);
        assert_eq!(reports[1].title, "/var is 0.912 full");
        assert_eq!(reports[1].details, ["value=0.912"]);
        let labels: Vec<_> = reports[1].labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(labels, ["kind=rule", "label=/var", "rule=full", "severity=high", "team=base"]);
        let over = watcher.take(vec![row("/")], S);
        assert_eq!((over.len(), over[0].state, &over[0].key), (1, State::Resolved, &reports[1].key));
    }

    #[test]
    fn rows_without_end_are_counted() {
        let mut watcher = watcher(0, 0);
        let rows = (0..MAX_INSTANCES + 5).map(|at| row(&at.to_string())).collect();
        assert_eq!(watcher.take(rows, 0).len(), MAX_INSTANCES);
        assert_eq!(watcher.take_dropped(), 5);
    }
}
