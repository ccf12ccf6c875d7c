//! What is judged of a batch, as findings.

use std::sync::Arc;

use skep_rules::budget::{Budget, Say};
use skep_rules::detector::{Alert, Detector};
use skep_rules::score::{Scores, Sum};
use skep_wire::chunk::Row;
use skep_wire::envelope::Origin;

use super::rows::Rows;
use super::service;
use super::vigil::News;
use crate::detect::event::{self, Event};
use crate::detect::finding::{Aim, Finding, Severity, quoted};
use crate::detect::hold::{Hold, Key, Verdict};
use crate::detect::series::Scored;
use crate::detect::series::track::{STREAK, Signal};
use crate::detect::service::Services;
use crate::dispatch::Draw;

/// Below this coverage a finding is a step less severe.
const FULL_CONFIDENCE: f64 = 0.8;

/// The rule of a session that did many small things.
pub(super) const SESSION_SCORE: &str = "session-score";

/// Columns of an exec that a finding carries as evidence, beside the programs.
const EXEC_EVIDENCE: [&str; 6] = ["filename", "argv", "cwd", "uid", "effective_uid", "flags"];

/// Columns of a connection likewise.
const CONNECTION_EVIDENCE: [&str; 4] = ["direction", "remote_address", "remote_port", "local_port"];

/// Longest value in a finding's evidence, in characters.
const MAX_EVIDENCE: usize = 2_000;

pub(super) fn programs(exe: &str, parent: &str) -> String {
    format!("{exe} from {parent}")
}

/// Who judges events.
pub(super) struct Judge<'a> {
    pub(super) rules: &'a mut Detector,
    pub(super) scores: &'a mut Scores,
    pub(super) budget: &'a mut Budget,
}

/// The findings of one batch in the making.
pub(super) struct Found<'a> {
    pub(super) origin: &'a Origin,
    pub(super) now_us: i64,
    pub(super) draw: &'a mut Draw,
    pub(super) rows: &'a mut Rows,
    pub(super) hold: &'a mut Hold,
    pub(super) judge: Judge<'a>,
    pub(super) findings: Vec<Finding>,
}

impl Found<'_> {
    pub(super) fn news(&mut self, news: impl IntoIterator<Item = News>) {
        for news in news {
            self.findings.extend(news.raise(self.now_us, self.draw, self.hold, self.rows));
        }
    }

    pub(super) fn check(&mut self, services: &mut Services, row: &Row<'_>) {
        self.findings.extend(service::row(services, self.origin, row, self.now_us, self.draw, self.rows));
    }

    pub(super) fn exec(&mut self, row: &Row<'_>, coverage: f64) {
        if row.text("event") == Some("exec") {
            self.judge.budget.exec(&self.origin.node, self.now_us);
        }
        if let Some((event, alerts)) = event::exec(self.judge.rules, &self.origin.node, row) {
            self.judged("processes", row, &event, &alerts, coverage);
        }
    }

    pub(super) fn connection(&mut self, row: &Row<'_>, coverage: f64) {
        if let Some((event, alerts)) = event::connection(self.judge.rules, &self.origin.node, row) {
            self.judged("connections", row, &event, &alerts, coverage);
        }
    }

    /// One event is one finding, by the gravest rule it matched; the others are named in it.
    fn judged(&mut self, table: &str, row: &Row<'_>, event: &Event, alerts: &[Alert], coverage: f64) {
        let workload = row.text("workload").unwrap_or_default();
        if let Some(session) = event::session(row, workload)
            && let Some(sum) = self.judge.scores.add(&format!("{} {session}", self.origin.node), alerts, self.now_us)
        {
            self.session(row, &session, &sum, coverage);
        }
        let told: Vec<&Alert> = alerts.iter().filter(|alert| self.is_told(alert)).collect();
        // The first of equals: rules about facts stand before rules about words.
        let Some(gravest) = told.into_iter().rev().max_by_key(|alert| alert.level) else { return };
        let key = Key {
            rule: Arc::clone(&gravest.rule.name),
            node: self.origin.node.clone(),
            workload: workload.to_owned(),
            programs: programs(&event.exe, &event.parent),
        };
        let Verdict::Raise { held_back } = self.hold.ask(&key, self.now_us) else { return };
        let process = row.int("pid").zip(row.int("start_ns"));
        let (pid, start_ns) = process.unwrap_or_default();
        let evidence_sql = format!(
            "SELECT * FROM {table} WHERE node = {} AND boot = {} AND pid = {pid} AND start_ns = {start_ns}",
            quoted(&self.origin.node),
            quoted(&self.origin.boot),
        );
        let finding = Finding {
            id: self.draw.hex(),
            time_us: self.now_us,
            kind: "event",
            rule: Arc::clone(&gravest.rule.name),
            severity: event::severity(gravest.level),
            title: format!("{}: {}", gravest.rule.title, shortened(&event.line, 120)),
            node: self.origin.node.clone(),
            boot: self.origin.boot.clone(),
            workload: workload.to_owned(),
            process,
            aim: aim(row),
            attack: techniques(gravest, alerts),
            evidence: evidence(table, row, event, gravest, alerts),
            evidence_sql,
            coverage,
            used_cores: None,
        };
        self.raise(key, held_back, finding);
    }

    /// Whether a match becomes a finding, or is one of too many by its rule.
    fn is_told(&mut self, alert: &Alert) -> bool {
        match self.judge.budget.fires(&self.origin.node, &alert.rule.name, alert.level, self.now_us) {
            Say::Aloud => true,
            Say::Softly(news) => {
                if let Some((fired, execs)) = news {
                    let detail = format!(
                        "it fired {fired} times among {execs} execs of the last hour, and only counts for sessions in \
                         this one; a filter says what of that is known"
                    );
                    self.rows.audit(self.now_us, "collector", "noisy", &alert.rule.name, &self.origin.node, &detail);
                }
                false
            }
        }
    }

    /// Many things of one session.
    fn session(&mut self, row: &Row<'_>, session: &str, sum: &Sum, coverage: f64) {
        let workload = row.text("workload").unwrap_or_default();
        let key = Key {
            rule: Arc::from(SESSION_SCORE),
            node: self.origin.node.clone(),
            workload: workload.to_owned(),
            programs: session.to_owned(),
        };
        let Verdict::Raise { held_back } = self.hold.ask(&key, self.now_us) else { return };
        let mut evidence = vec![format!("session={session}"), format!("points={:.0}", sum.points)];
        evidence.extend(sum.rules.iter().map(|rule| format!("rule={rule}")));
        let finding = Finding {
            id: self.draw.hex(),
            time_us: self.now_us,
            kind: "event",
            rule: Arc::from(SESSION_SCORE),
            severity: Severity::High,
            title: format!("{session} did {} suspicious things", sum.rules.len()),
            node: self.origin.node.clone(),
            boot: self.origin.boot.clone(),
            workload: workload.to_owned(),
            process: row.int("pid").zip(row.int("start_ns")),
            aim: aim(row),
            attack: Vec::new(),
            evidence,
            evidence_sql: format!(
                "SELECT * FROM findings WHERE target_node = {} AND workload = {} ORDER BY time DESC LIMIT 100",
                quoted(&self.origin.node),
                quoted(workload),
            ),
            coverage,
            used_cores: None,
        };
        self.raise(key, held_back, finding);
    }

    pub(super) fn scored(&mut self, scored: &Scored) {
        self.rows.score(&self.origin.node, scored);
        if scored.score.streak != STREAK {
            return;
        }
        let key = Key {
            rule: Arc::from(scored.signal.as_str()),
            node: self.origin.node.clone(),
            workload: scored.workload.clone(),
            programs: String::new(),
        };
        let Verdict::Raise { held_back } = self.hold.ask(&key, self.now_us) else { return };
        let (severity, title, used_cores) = match scored.signal {
            Signal::CpuCores => (
                Severity::Medium,
                format!(
                    "{} uses {:.2} cores, {:.2} is usual",
                    scored.workload, scored.score.value, scored.score.baseline
                ),
                Some(scored.score.value),
            ),
            _ => (
                Severity::Low,
                format!(
                    "{} waits {:.1} ms for a CPU, {:.1} ms is usual",
                    scored.workload,
                    scored.score.value / 1e6,
                    scored.score.baseline / 1e6
                ),
                None,
            ),
        };
        let evidence = vec![
            format!("{}={:.3}", scored.signal.as_str(), scored.score.value),
            format!("baseline={:.3}", scored.score.baseline),
            format!("spread={:.3}", scored.score.spread),
            format!("score={:.1}", scored.score.score),
            format!("windows_abnormal={}", scored.score.streak),
            format!("windows_before={}", scored.score.rests_on),
            format!("share_in_cgroup={:.2}", scored.aim_share),
        ];
        let evidence_sql = self.score_sql(&scored.workload, scored.signal.as_str());
        let id = self.draw.hex();
        self.raise(
            key,
            held_back,
            Finding {
                id,
                time_us: self.now_us,
                kind: "series",
                rule: Arc::from(scored.signal.as_str()),
                severity,
                title,
                node: self.origin.node.clone(),
                boot: self.origin.boot.clone(),
                workload: scored.workload.clone(),
                process: None,
                aim: scored.aim.clone(),
                attack: Vec::new(),
                evidence,
                evidence_sql,
                coverage: scored.coverage,
                used_cores,
            },
        );
    }

    /// The scores of one series.
    pub(super) fn score_sql(&self, workload: &str, signal: &str) -> String {
        format!(
            "SELECT * FROM scores WHERE target_node = {} AND workload = {} AND signal = {} ORDER BY time",
            quoted(&self.origin.node),
            quoted(workload),
            quoted(signal),
        )
    }

    pub(super) fn raise(&mut self, key: Key, held_back: u64, mut finding: Finding) {
        if finding.coverage < FULL_CONFIDENCE {
            finding.severity = finding.severity.lowered();
            finding.title = format!("{} ({:.0} % of what happened was seen)", finding.title, finding.coverage * 100.0);
        }
        if held_back > 0 {
            finding.evidence.push(format!("repeats_held_back={held_back}"));
        }
        self.hold.raised(key, &finding.id, self.now_us);
        self.rows.finding(&finding);
        self.findings.push(finding);
    }
}

/// Techniques of the gravest rule, then of the others.
fn techniques(gravest: &Alert, alerts: &[Alert]) -> Vec<String> {
    let mut found: Vec<String> = gravest.rule.techniques.clone();
    for technique in alerts.iter().flat_map(|alert| &alert.rule.techniques) {
        if !found.contains(technique) {
            found.push(technique.clone());
        }
    }
    found
}

/// What a finding about an event rests on; the rule's author goes wherever its alert goes.
fn evidence(table: &str, row: &Row<'_>, event: &Event, gravest: &Alert, alerts: &[Alert]) -> Vec<String> {
    let mut evidence = vec![format!("exe={}", event.exe), format!("parent_exe={}", event.parent)];
    let columns = if table == "processes" { &EXEC_EVIDENCE[..] } else { &CONNECTION_EVIDENCE[..] };
    evidence.extend(columns.iter().filter_map(|column| column_text(row, column)));
    evidence.extend(gravest.facts.iter().map(|fact| shortened(fact, MAX_EVIDENCE)));
    evidence.extend(gravest.trusted.as_ref().map(|kind| format!("lowered_below_trusted={kind}")));
    let others = alerts.iter().filter(|alert| alert.rule.name != gravest.rule.name);
    evidence.extend(others.map(|alert| format!("also={} ({})", alert.rule.name, alert.level)));
    evidence.push(format!("rule_author={}", gravest.rule.author));
    evidence
}

fn aim(row: &Row<'_>) -> Option<Aim> {
    Some(Aim { cgroup: row.text("cgroup")?.to_owned(), cgroup_id: row.int("cgroup_id")? })
}

fn column_text(row: &Row<'_>, column: &str) -> Option<String> {
    let value = match (row.text(column), row.int(column), row.text_list(column)) {
        (Some(text), ..) => text.to_owned(),
        (None, Some(number), _) => number.to_string(),
        (None, None, Some(items)) => items.join(" "),
        (None, None, None) => return None,
    };
    Some(format!("{column}={}", shortened(&value, MAX_EVIDENCE)))
}

fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
