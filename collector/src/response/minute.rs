//! What the minutes' series say, as rows of `scores` and as findings.
//!
//! All that is new in one workload (or in the node as a whole) in one minute is one finding: what goes wrong shows in many
//! series at once. Beside it what is unlike its siblings, what is beyond its limit, and what will be full soon.

use skep_series::limit::Until;

use super::found::Found;
use super::glance;
use crate::detect::finding::{Finding, Severity, quoted};
use crate::detect::hold::{Key, Verdict};
use crate::detect::series::gallery::Judged;
use crate::detect::series::minute::{NODE, Value};
use crate::detect::series::siblings::Unlike;
use crate::detect::series::track::Signal;

/// Nothing like it was ever seen.
const NOVELTY: &str = "novelty";
/// It is far from what it was in the last hour.
const LEVEL: &str = "level";
/// The same workload on other nodes is not like it now.
const SIBLINGS: &str = "siblings";
/// It is beyond its limit.
const OVER_LIMIT: &str = "over-limit";
/// It will be full.
const FILLING: &str = "filling";

/// Signals that are new at once from which on it is more than a curiosity.
const TOGETHER: usize = 3;

/// Minutes far out, or beyond a limit, that make a finding: one is noise.
const MINUTES: u32 = 2;

/// Days before it is full from which on that is said.
const SOON_DAYS: f64 = 7.0;

/// Signals named in a finding's evidence.
const MOST_EVIDENCE: usize = 12;

impl Found<'_> {
    /// What was notable in a minute of the batch's node, in the order of workloads.
    pub(super) fn minute(&mut self, judged: &[Judged]) {
        for judged in judged {
            self.rows.minute(&self.origin.node, judged);
        }
        for of_workload in judged.chunk_by(|a, b| a.what.workload == b.what.workload) {
            let new: Vec<&Judged> = of_workload.iter().filter(|judged| judged.novelty.alarm).collect();
            if !new.is_empty() {
                self.novel(&new);
            }
            let far: Vec<&Judged> = of_workload.iter().filter(|judged| judged.far_minutes == MINUTES).collect();
            if !far.is_empty() {
                self.far(&far);
            }
            let alone = |judged: &&Judged| judged.unlike.is_some_and(|unlike| unlike.minutes == MINUTES);
            let unlike: Vec<&Judged> = of_workload.iter().filter(alone).collect();
            if !unlike.is_empty() {
                self.unlike(&unlike);
            }
        }
        for judged in judged {
            if judged.over_minutes == MINUTES {
                self.over_limit(judged);
            }
            if let Some(Ok(until)) = judged.until
                && until.days < SOON_DAYS
                && until.latest_days.is_some()
                && judged.over_minutes == 0
            {
                self.filling(judged, &until);
            }
        }
    }

    fn novel(&mut self, new: &[&Judged]) {
        let mut new = new.to_vec();
        new.sort_by(|a, b| b.novelty.score.total_cmp(&a.novelty.score));
        let first = new[0];
        let more = more(new.len() - 1);
        let usual = first.novelty.reason.map_or_else(String::new, |reason| {
            let (from, to) = reason.expected;
            format!(", {} to {} is usual against {}", number(from), number(to), reason.stream.compared_with())
        });
        let title = format!("{}: {} is {}{usual}{more}", whom(first), first.what.signal, number(first.what.value));
        let evidence = new.iter().take(MOST_EVIDENCE).map(|judged| evidence(judged)).collect();
        self.say(Said {
            rule: NOVELTY,
            workload: first.what.workload.clone(),
            about: String::new(),
            severity: of_so_many(new.len()),
            title,
            evidence,
            evidence_sql: self.scores_sql(first, NOVELTY),
            coverage: first.what.coverage,
        });
    }

    fn far(&mut self, far: &[&Judged]) {
        let z = |judged: &Judged| judged.level.map_or(0.0, |level| level.z.abs());
        let mut far = far.to_vec();
        far.sort_by(|a, b| z(b).total_cmp(&z(a)));
        let first = far[0];
        let Some(level) = first.level else { return };
        let (what, more) = (&first.what, more(far.len() - 1));
        let value = number(what.value);
        let title =
            format!("{}: {} is {value}, it was {} for an hour{more}", whom(first), what.signal, number(level.median));
        let evidence = far.iter().take(MOST_EVIDENCE).map(|judged| level_evidence(judged)).collect();
        self.say(Said {
            rule: LEVEL,
            workload: what.workload.clone(),
            about: String::new(),
            severity: of_so_many(far.len()),
            title,
            evidence,
            evidence_sql: self.scores_sql(first, LEVEL),
            coverage: what.coverage,
        });
    }

    fn unlike(&mut self, unlike: &[&Judged]) {
        let z = |judged: &Judged| judged.unlike.map_or(0.0, |unlike| unlike.z.abs());
        let mut unlike = unlike.to_vec();
        unlike.sort_by(|a, b| z(b).total_cmp(&z(a)));
        let first = unlike[0];
        let Some(Unlike { value, median, siblings, .. }) = first.unlike else { return };
        let (what, more) = (&first.what, more(unlike.len() - 1));
        let (value, median) = (number(value), number(median));
        let title =
            format!("{}: {} is {value}, and {median} on {siblings} other nodes{more}", whom(first), what.signal);
        let evidence = unlike.iter().take(MOST_EVIDENCE).map(|judged| siblings_evidence(judged)).collect();
        self.say(Said {
            rule: SIBLINGS,
            workload: what.workload.clone(),
            about: String::new(),
            severity: of_so_many(unlike.len()),
            title,
            evidence,
            evidence_sql: self.scores_sql(first, SIBLINGS),
            coverage: what.coverage,
        });
    }

    fn scores_sql(&self, judged: &Judged, kind: &str) -> String {
        format!(
            "SELECT * FROM scores WHERE target_node = {} AND workload = {} AND signal LIKE '% {kind}' ORDER BY time",
            quoted(&self.origin.node),
            quoted(&judged.what.workload),
        )
    }

    fn over_limit(&mut self, judged: &Judged) {
        let Value { workload, signal, value, coverage, .. } = &judged.what;
        self.beyond_limit((workload, signal), *value, *coverage, vec![evidence(judged)]);
    }

    /// Of minutes and of windows alike: the same trouble is told once.
    pub(super) fn beyond_limit(
        &mut self,
        (workload, signal): (&str, &str),
        value: f64,
        coverage: f64,
        evidence: Vec<String>,
    ) {
        self.say(Said {
            rule: OVER_LIMIT,
            workload: workload.to_owned(),
            about: signal.to_owned(),
            severity: Severity::Medium,
            title: format!("{}: {signal} is {}", name(workload), number(value)),
            evidence,
            evidence_sql: gauge_sql(&self.origin.node, workload, signal),
            coverage,
        });
    }

    fn filling(&mut self, judged: &Judged, until: &Until) {
        let severity = match until.days {
            soon if soon < 1.0 / 24.0 => Severity::High,
            soon if soon < 1.0 => Severity::Medium,
            _ => Severity::Low,
        };
        let Value { workload, signal, value, coverage, .. } = &judged.what;
        self.fills((workload, signal), *value, *coverage, until, severity);
    }

    /// Likewise.
    pub(super) fn fills(
        &mut self,
        (workload, signal): (&str, &str),
        value: f64,
        coverage: f64,
        until: &Until,
        severity: Severity,
    ) {
        let latest = until.latest_days.map_or_else(|| "perhaps never".to_owned(), days);
        self.say(Said {
            rule: FILLING,
            workload: workload.to_owned(),
            about: signal.to_owned(),
            severity,
            title: format!(
                "{}: {signal} is {} and full in {} ({} to {latest})",
                name(workload),
                number(value),
                days(until.days),
                days(until.earliest_days),
            ),
            evidence: vec![
                format!("{signal}={}", number(value)),
                format!("pace_per_day={}", number(until.pace_per_day)),
                format!("watched_days={:.4}", until.watched_days),
            ],
            evidence_sql: gauge_sql(&self.origin.node, workload, signal),
            coverage,
        });
    }

    pub(super) fn say(&mut self, said: Said) {
        let Said { rule, workload, about, severity, title, evidence, evidence_sql, coverage } = said;
        let key =
            Key { rule: rule.into(), node: self.origin.node.clone(), workload: workload.clone(), programs: about };
        let Verdict::Raise { held_back } = self.hold.ask(&key, self.now_us) else { return };
        let finding = Finding {
            id: self.draw.hex(),
            time_us: self.now_us,
            kind: "series",
            rule: rule.into(),
            severity,
            title,
            node: self.origin.node.clone(),
            boot: self.origin.boot.clone(),
            workload,
            process: None,
            aim: None,
            attack: Vec::new(),
            evidence,
            evidence_sql,
            coverage,
            used_cores: None,
        };
        self.raise(key, held_back, finding);
    }
}

/// What differs between the findings about series.
pub(super) struct Said {
    pub(super) rule: &'static str,
    pub(super) workload: String,
    /// What else makes it the same finding as another.
    pub(super) about: String,
    pub(super) severity: Severity,
    pub(super) title: String,
    pub(super) evidence: Vec<String>,
    pub(super) evidence_sql: String,
    pub(super) coverage: f64,
}

fn more(more: usize) -> String {
    match more {
        0 => String::new(),
        1 => ", and so is one more series".to_owned(),
        more => format!(", and so are {more} more series"),
    }
}

fn of_so_many(series: usize) -> Severity {
    if series >= TOGETHER { Severity::Medium } else { Severity::Low }
}

fn level_evidence(judged: &Judged) -> String {
    let what = format!("{}={}", judged.what.signal, number(judged.what.value));
    let Some(level) = judged.level else { return what };
    let (from, to) = level.expected();
    format!(
        "{what} z={:.1}, expected {} to {}, {} of {} minutes were nearly as far out",
        level.z,
        number(from),
        number(to),
        level.seen,
        level.of,
    )
}

fn siblings_evidence(judged: &Judged) -> String {
    let signal = &judged.what.signal;
    let Some(unlike) = judged.unlike else { return signal.clone() };
    let [value, median, spread] = [unlike.value, unlike.median, unlike.spread].map(number);
    format!("{signal}={value} z={:.1}, {median} on {} other nodes, spread {spread}", unlike.z, unlike.siblings)
}

fn whom(judged: &Judged) -> &str {
    name(&judged.what.workload)
}

/// A workload, or the node, for people.
pub(super) fn name(workload: &str) -> &str {
    if workload == NODE { "the node" } else { workload }
}

/// Which stream, which side, how often seen before, and what was expected.
fn evidence(judged: &Judged) -> String {
    let what = format!("{}={}", judged.what.signal, number(judged.what.value));
    let Some(reason) = judged.novelty.reason else { return what };
    format!(
        "{what} score={:.2} {} {} {} to {} by {}, {:.0} of {:.0} values were nearly as far out, confidence {:.2}",
        judged.novelty.score,
        number(reason.observed),
        reason.side.as_str(),
        number(reason.expected.0),
        number(reason.expected.1),
        reason.stream.as_str(),
        reason.seen,
        reason.of,
        judged.novelty.confidence,
    )
}

fn gauge_sql(node: &str, workload: &str, signal: &str) -> String {
    // One of a workload has that as its label.
    let (metric, label) = signal.split_once('{').unwrap_or((signal, workload));
    format!(
        "SELECT time, value FROM host WHERE node = {} AND metric = {} AND label = {} ORDER BY time",
        quoted(node),
        quoted(metric),
        quoted(label.trim_end_matches('}')),
    )
}

/// Four digits, whatever the size.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 || (size < 1e-3 && size > 0.0) {
        format!("{value:.3e}")
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

fn days(days: f64) -> String {
    match days {
        long if long >= 2.0 => format!("{long:.0} days"),
        middle if middle * 24.0 >= 2.0 => format!("{:.0} hours", middle * 24.0),
        short if short * 1440.0 >= 2.0 => format!("{:.0} minutes", short * 1440.0),
        now => format!("{:.0} seconds", (now * 86_400.0).max(0.0)),
    }
}

/// A finding's title of a kind restored from the table, for the hold: the signal it was about.
pub(super) fn about(rule: &str, title: &str) -> String {
    if rule == Signal::BlockLatency.as_str() {
        return glance::device_in(title).to_owned();
    }
    if rule != OVER_LIMIT && rule != FILLING {
        return String::new();
    }
    let after = title.split_once(": ").map_or(title, |(_, after)| after);
    after.split_once(" is ").map_or(after, |(signal, _)| signal).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_finding_was_about_is_in_its_title() {
        let title = "the node: disk_used_ratio{/} is 0.90 and full in 3 days (2 days to 4 days)";
        assert_eq!(about(FILLING, title), "disk_used_ratio{/}");
        assert_eq!(about(OVER_LIMIT, "the node: memory_used_ratio is 0.98"), "memory_used_ratio");
        assert_eq!(about(NOVELTY, title), "");
        assert_eq!(about("cpu_cores", "web uses 2.00 cores, 0.10 is usual"), "");
    }

    #[test]
    fn numbers_and_spans_are_short() {
        assert_eq!(
            [0.0, 0.25, 12.5, 1234.5, 2.5e9, 0.00001].map(number),
            ["0.000", "0.250", "12.500", "1234", "2.500e9", "1.000e-5"]
        );
        assert_eq!([40.0, 0.5, 0.01].map(days), ["40 days", "12 hours", "14 minutes"]);
    }

    #[test]
    fn the_rows_behind_a_gauge_are_found() {
        assert!(
            gauge_sql("n", "", "disk_used_ratio{/}")
                .ends_with("metric = 'disk_used_ratio' AND label = '/' ORDER BY time")
        );
        assert!(gauge_sql("n", "", "load_1m").contains("label = ''"));
        assert!(gauge_sql("n", "unit:x", "files_used_ratio").contains("label = 'unit:x'"));
    }
}
