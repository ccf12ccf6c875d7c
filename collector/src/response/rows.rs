//! Collects the rows of one call.

use std::collections::BTreeMap;

use skep_audit::Record;
use skep_wire::chunk::{Builder, Row};
use skep_wire::{tables, v1};

use crate::decide::action::{Action, Cause};
use crate::decide::state::State;
use crate::detect::finding::Finding;
use crate::detect::series::Scored;
use crate::detect::series::gallery::Judged;
use crate::detect::series::glance::Glimpse;
use crate::detect::series::siblings::Unlike;
use crate::detect::series::track::Score;
use crate::incident::{self, Incident};

/// Longest fact in the audit chain, in characters.
const MAX_FACT: usize = 4_000;

/// How a value stands to what it is compared with.
#[derive(Debug, Clone, Copy)]
struct Figures {
    value: f64,
    baseline: f64,
    spread: f64,
    score: f64,
}

impl Figures {
    fn of(score: &Score) -> Self {
        let Score { value, baseline, spread, score, .. } = *score;
        Self { value, baseline, spread, score }
    }
}

/// Rows of the collector's own tables, and what goes into the audit chain.
#[derive(Debug)]
pub(super) struct Rows {
    records: Vec<Record>,
    pub(super) scores: Builder,
    findings: Builder,
    incidents: Builder,
    actions: Builder,
    audit: Builder,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            scores: Builder::new(&tables::SCORES),
            findings: Builder::new(&tables::FINDINGS),
            incidents: Builder::new(&tables::INCIDENTS),
            actions: Builder::new(&tables::ACTIONS),
            audit: Builder::new(&tables::AUDIT),
        }
    }
}

impl Rows {
    /// To be added to these scores.
    pub(super) fn after(scores: Builder) -> Self {
        Self { scores, ..Self::default() }
    }

    /// A scored window.
    pub(super) fn score(&mut self, node: &str, scored: &Scored) {
        let Scored { time_us, window_s, workload, signal, score, coverage, .. } = scored;
        self.add_score(node, workload, signal.as_str(), (*time_us, *window_s), Figures::of(score), *coverage);
    }

    /// What was notable of one series in one minute: a row each for novelty, for level and among siblings.
    pub(super) fn minute(&mut self, node: &str, judged: &Judged) {
        let Judged { time_us, what, .. } = judged;
        let mut add = |kind: &str, time_us: i64, figures: Figures| {
            let signal = format!("{} {kind}", what.signal);
            self.add_score(node, &what.workload, &signal, (time_us, 60.0), figures, what.coverage);
        };
        if judged.novelty.score > 0.0
            && let Some(reason) = judged.novelty.reason
        {
            let (from, to) = reason.expected;
            let (baseline, spread) = ((from + to) / 2.0, (to - from) / 2.0);
            add("novelty", *time_us, Figures { value: what.value, baseline, spread, score: judged.novelty.score });
        }
        if let Some(level) = judged.level.filter(|level| level.far || level.over_limit) {
            let (baseline, spread) = (level.median, level.spread);
            add("level", *time_us, Figures { value: what.value, baseline, spread, score: level.z });
        }
        if let Some(Unlike { time_us, value, median, spread, z, .. }) = judged.unlike {
            add("siblings", time_us, Figures { value, baseline: median, spread, score: z });
        }
    }

    /// A value that was far from the last ten minutes.
    pub(super) fn glimpse(&mut self, node: &str, glimpse: &Glimpse, score: &Score) {
        let Glimpse { time_us, window_s, workload, signal, coverage, .. } = glimpse;
        self.add_score(node, workload, signal, (*time_us, *window_s), Figures::of(score), *coverage);
    }

    fn add_score(
        &mut self,
        node: &str,
        workload: &str,
        signal: &str,
        (time_us, window_s): (i64, f64),
        figures: Figures,
        coverage: f64,
    ) {
        self.scores
            .int("time", time_us)
            .float("window_s", window_s)
            .text("target_node", node)
            .text("workload", workload)
            .text("signal", signal)
            .float("value", figures.value)
            .float("baseline", figures.baseline)
            .float("spread", figures.spread)
            .float("score", figures.score)
            .float("coverage", coverage);
        end(&mut self.scores);
    }

    /// A finding, and that it was raised.
    pub(super) fn finding(&mut self, finding: &Finding) {
        finding.write(&mut self.findings);
        end(&mut self.findings);
        self.audit(finding.time_us, "collector", "raised", &finding.id, &finding.node, &finding.title);
        self.fact("rule", &finding.rule);
        self.fact("severity", finding.severity.as_str());
        self.fact("workload", &finding.workload);
        self.fact("coverage", &finding.coverage.to_string());
        self.fact("evidence", &finding.evidence.join("; "));
        self.fact("evidence_sql", &finding.evidence_sql);
    }

    /// What became of an incident. An operator's word on it is audited too.
    pub(super) fn incident(&mut self, incident: &Incident, cause: incident::Cause<'_>) {
        incident.write(&mut self.incidents, cause);
        end(&mut self.incidents);
        if cause.actor != incident::COLLECTOR {
            let step = format!("incident {}", incident.state.as_str());
            self.audit(incident.changed_us, cause.actor, &step, &incident.id, &incident.node, cause.detail);
        }
    }

    /// An action's new state, in `actions` and in `audit`.
    pub(super) fn action(&mut self, action: &Action, cause: Cause<'_>) {
        action.write(&mut self.actions, cause);
        end(&mut self.actions);
        let step = action.state.as_str();
        self.audit(action.changed_us, cause.actor, step, &action.id, &action.node, cause.detail);
        self.fact("finding", &action.finding);
        self.fact("workload", &action.workload);
        self.fact("verb", action.verb());
        self.fact("parameters", &action.parameters());
        self.fact("mode", action.mode.as_str());
        if let Some(aim) = &action.aim {
            self.fact("cgroup", &aim.cgroup);
        }
    }

    /// The executor's word on an action; its row in `actions` and `audit` is the node's own. In its detail are the readings
    /// before and after.
    pub(super) fn receipt(&mut self, now_us: i64, id: &str, node: &str, state: State, row: &Row<'_>) {
        let detail = row.text("detail").unwrap_or_default();
        self.record(now_us, "executor", state.as_str(), id, node, detail);
        for name in ["finding", "workload", "verb", "parameters", "mode"] {
            self.fact(name, row.text(name).unwrap_or_default());
        }
        let times = [("executor_time_us", row.int("time")), ("lease_until_us", row.int("lease_until"))];
        for (name, time_us) in times {
            if let Some(time_us) = time_us {
                self.fact(name, &time_us.to_string());
            }
        }
        if row.int("dry_run") == Some(1) {
            self.fact("dry_run", "true");
        }
    }

    fn record(&mut self, time_us: i64, actor: &str, step: &str, subject: &str, node: &str, detail: &str) {
        let own = |text: &str| text.to_owned();
        self.records.push(Record {
            time_us,
            actor: own(actor),
            step: own(step),
            subject: own(subject),
            node: own(node),
            detail: own(detail),
            facts: BTreeMap::new(),
        });
    }

    /// Something more about the last step; it is in the chain and not in the table.
    pub(super) fn fact(&mut self, name: &str, value: &str) {
        if let Some(record) = self.records.last_mut().filter(|_| !value.is_empty()) {
            record.facts.insert(name.to_owned(), value.chars().take(MAX_FACT).collect());
        }
    }

    /// A step.
    pub(super) fn audit(&mut self, time_us: i64, actor: &str, step: &str, subject: &str, node: &str, detail: &str) {
        self.record(time_us, actor, step, subject, node, detail);
        self.audit
            .int("time", time_us)
            .text("actor", actor)
            .text("step", step)
            .text("subject", subject)
            .text("target_node", node)
            .text("detail", detail);
        end(&mut self.audit);
    }

    /// Whether nothing but scores was said.
    pub(super) fn only_scores(&self) -> bool {
        let tables = [&self.findings, &self.incidents, &self.actions, &self.audit];
        self.records.is_empty() && tables.iter().all(|rows| rows.rows() == 0)
    }

    /// The chunks that have rows, and what goes into the chain.
    pub(super) fn finish(self) -> (Vec<v1::Chunk>, Vec<Record>) {
        let tables = [self.scores, self.findings, self.incidents, self.actions, self.audit];
        (tables.into_iter().filter_map(Builder::finish).collect(), self.records)
    }
}

/// A row of ours that its table refuses is a fault of this program; the log says so and the rows go on.
fn end(builder: &mut Builder) {
    if let Err(error) = builder.end_row() {
        tracing::error!(%error, "a row of the collector's own was refused");
    }
}
