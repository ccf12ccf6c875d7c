//! Collects the rows of one call.

use skep_wire::chunk::Builder;
use skep_wire::{tables, v1};

use crate::decide::action::{Action, Cause};
use crate::detect::finding::Finding;
use crate::detect::series::Scored;
use crate::detect::series::gallery::Judged;

/// Rows of the collector's own tables.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) scores: Builder,
    findings: Builder,
    actions: Builder,
    audit: Builder,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            scores: Builder::new(&tables::SCORES),
            findings: Builder::new(&tables::FINDINGS),
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
        self.scores
            .int("time", scored.time_us)
            .float("window_s", scored.window_s)
            .text("target_node", node)
            .text("workload", &scored.workload)
            .text("signal", scored.signal.as_str())
            .float("value", scored.score.value)
            .float("baseline", scored.score.baseline)
            .float("spread", scored.score.spread)
            .float("score", scored.score.score)
            .float("coverage", scored.coverage);
        end(&mut self.scores);
    }

    /// What was notable of one series in one minute: a row each for novelty and for level.
    pub(super) fn minute(&mut self, node: &str, judged: &Judged) {
        if judged.novelty.score > 0.0
            && let Some(reason) = judged.novelty.reason
        {
            let (from, to) = reason.expected;
            self.score_of(node, judged, "novelty", [(from + to) / 2.0, (to - from) / 2.0, judged.novelty.score]);
        }
        if let Some(level) = judged.level.filter(|level| level.far || level.over_limit) {
            self.score_of(node, judged, "level", [level.median, level.spread, level.z]);
        }
    }

    fn score_of(&mut self, node: &str, judged: &Judged, kind: &str, [baseline, spread, score]: [f64; 3]) {
        self.scores
            .int("time", judged.time_us)
            .float("window_s", 60.0)
            .text("target_node", node)
            .text("workload", &judged.what.workload)
            .text("signal", &format!("{} {kind}", judged.what.signal))
            .float("value", judged.what.value)
            .float("baseline", baseline)
            .float("spread", spread)
            .float("score", score)
            .float("coverage", judged.what.coverage);
        end(&mut self.scores);
    }

    /// A finding, and that it was raised.
    pub(super) fn finding(&mut self, finding: &Finding) {
        finding.write(&mut self.findings);
        end(&mut self.findings);
        self.audit(finding.time_us, "collector", "raised", &finding.id, &finding.node, &finding.title);
    }

    /// An action's new state, in `actions` and in `audit`.
    pub(super) fn action(&mut self, action: &Action, cause: Cause<'_>) {
        action.write(&mut self.actions, cause);
        end(&mut self.actions);
        let step = action.state.as_str();
        self.audit(action.changed_us, cause.actor, step, &action.id, &action.node, cause.detail);
    }

    /// A step.
    pub(super) fn audit(&mut self, time_us: i64, actor: &str, step: &str, subject: &str, node: &str, detail: &str) {
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
        [&self.findings, &self.actions, &self.audit].iter().all(|rows| rows.rows() == 0)
    }

    /// The chunks that have rows.
    pub(super) fn finish(self) -> Vec<v1::Chunk> {
        [self.scores, self.findings, self.actions, self.audit].into_iter().filter_map(Builder::finish).collect()
    }
}

/// A row of ours that its table refuses is a fault of this program; the log says so and the rows go on.
fn end(builder: &mut Builder) {
    if let Err(error) = builder.end_row() {
        tracing::error!(%error, "a row of the collector's own was refused");
    }
}
