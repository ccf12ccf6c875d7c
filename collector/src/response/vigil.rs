//! How well skep itself sees, as findings: canaries that do not arrive whole, nodes that fall silent, agents that observe
//! less to keep to their budget.
//!
//! What is wrong is a finding, and so is its end, as one for the record. Between the two nothing is raised again.

use skep_wire::chunk::{self, Row};
use skep_wire::envelope::Origin;
use skep_wire::v1;

use super::rows::Rows;
use crate::detect::canary::{self, Broken, Canaries};
use crate::detect::degraded::{self, Degraded, Depth, Sight};
use crate::detect::finding::{Finding, Severity, quoted};
use crate::detect::hold::{Hold, Key, Verdict};
use crate::detect::silence::{self, Silence};
use crate::dispatch::Draw;

/// A canary did not arrive whole, or none is sent any more.
pub(super) const CANARY_MISSING: &str = "canary-missing";

/// A node that promised to be heard of is not.
pub(super) const NODE_SILENT: &str = "node-silent";

/// An agent observes less than it could.
pub(super) const AGENT_DEGRADED: &str = "agent-degraded";

/// `findings.kind` of them.
pub(super) const KIND: &str = "self";

/// What makes the end of a trouble another finding than the trouble.
const OVER: &str = "over";

/// In front of the state in a finding's evidence.
pub(super) const STATE: &str = "state=";

/// What is known of every node's sight.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    canaries: Canaries,
    silence: Silence,
    degraded: Degraded,
}

/// Something that is to become a finding.
#[derive(Debug)]
pub(super) struct News {
    rule: &'static str,
    /// What is wrong, or [`OVER`].
    state: String,
    severity: Severity,
    title: String,
    node: String,
    boot: String,
    workload: Option<String>,
    process: Option<(i64, i64)>,
    evidence: Vec<String>,
    evidence_sql: String,
}

impl Vigil {
    /// Takes a row of `canaries`.
    pub(super) fn canary(&mut self, origin: &Origin, row: &Row<'_>, now_us: i64) -> Option<News> {
        self.listen(origin, row, now_us);
        self.canaries.step(origin, row).map(|turn| canary_news(origin, turn))
    }

    /// Takes a row of `canaries` of before this start.
    pub(super) fn restore_canary(&mut self, origin: &Origin, row: &Row<'_>, now_us: i64) {
        self.listen(origin, row, now_us);
        self.canaries.restore_step(origin, row);
    }

    /// What a node did since it was last heard of here is with another collector: what its canaries still owed as well.
    pub(super) fn was_elsewhere(&mut self, node: &str) {
        self.canaries.was_elsewhere(node);
    }

    /// A node goes to another collector, and is listened for there.
    pub(super) fn left(&mut self, node: &str) {
        self.silence.off(node);
        self.canaries.was_elsewhere(node);
    }

    fn listen(&mut self, origin: &Origin, row: &Row<'_>, now_us: i64) {
        match row.text("event") {
            Some("sent") => {
                let interval_us = row.float("interval_s").unwrap_or(0.0) * 1e6;
                self.silence.announced(&origin.node, &origin.boot, interval_us as i64, now_us);
            }
            Some("off") => self.silence.off(&origin.node),
            _ => {}
        }
    }

    /// Takes a row of `processes`; whether it is a canary's exec, and what there is to say.
    pub(super) fn process(&mut self, origin: &Origin, row: &Row<'_>) -> (bool, Option<News>) {
        let (genuine, turn) = self.canaries.process(origin, row);
        (genuine, turn.map(|turn| canary_news(origin, turn)))
    }

    /// Takes a row of `connections`.
    pub(super) fn connection(&mut self, origin: &Origin, row: &Row<'_>) -> Option<News> {
        self.canaries.connection(origin, row).map(|turn| canary_news(origin, turn))
    }

    /// Takes the gauges that come with each window's end.
    pub(super) fn window(&mut self, origin: &Origin, host: &v1::Chunk, now_us: i64) -> Vec<News> {
        let window_us = chunk::rows(host).next().and_then(|row| row.float("window_s")).unwrap_or(0.0) * 1e6;
        let heard = self.silence.window(&origin.node, window_us as i64, now_us);
        let heard = heard.map(|turn| silence_news(&origin.node, &origin.boot, &turn));
        let broken = self.canaries.window(origin).into_iter().map(|turn| canary_news(origin, turn));
        let sight = self.degraded.window(&origin.node, host).map(|turn| sight_news(origin, turn));
        heard.into_iter().chain(broken).chain(sight).collect()
    }

    /// Takes a row of `loss`.
    pub(super) fn ledger(&mut self, origin: &Origin, row: &Row<'_>) {
        self.degraded.ledger(&origin.node, row);
    }

    /// To be called every second.
    pub(super) fn tick(&mut self, now_us: i64) -> Vec<News> {
        let turns = self.silence.tick(now_us);
        turns.iter().map(|(node, boot, turn)| silence_news(node, boot, turn)).collect()
    }

    /// Takes up where the findings raised before left off.
    pub(super) fn restore(&mut self, rule: &str, node: &str, state: &str) {
        let trouble = state != OVER;
        match rule {
            CANARY_MISSING => self.canaries.restore(node, trouble),
            NODE_SILENT => self.silence.restore(node, trouble),
            AGENT_DEGRADED => self.degraded.restore(node, state),
            _ => {}
        }
    }
}

impl News {
    /// Raises it, unless it is held back. What it is the end of, or the beginning, is no longer held back.
    pub(super) fn raise(self, now_us: i64, draw: &mut Draw, hold: &mut Hold, rows: &mut Rows) -> Option<Finding> {
        let workload = self.workload.unwrap_or_else(|| "host".to_owned());
        let key =
            Key { rule: self.rule.into(), node: self.node.clone(), workload: workload.clone(), programs: self.state };
        hold.release(|held| {
            held.rule == key.rule && held.node == key.node && (held.programs == OVER) != (key.programs == OVER)
        });
        let Verdict::Raise { held_back } = hold.ask(&key, now_us) else { return None };
        let mut evidence = vec![format!("{STATE}{}", key.programs)];
        evidence.extend(self.evidence);
        if held_back > 0 {
            evidence.push(format!("repeats_held_back={held_back}"));
        }
        let finding = Finding {
            id: draw.hex(),
            time_us: now_us,
            kind: KIND,
            rule: self.rule.into(),
            severity: self.severity,
            title: self.title,
            node: self.node,
            boot: self.boot,
            workload,
            process: self.process,
            aim: None,
            attack: if self.severity >= Severity::High { vec!["T1562.006".to_owned()] } else { Vec::new() },
            evidence,
            evidence_sql: self.evidence_sql,
            coverage: 1.0,
            used_cores: None,
        };
        hold.raised(key, &finding.id, now_us);
        rows.finding(&finding);
        Some(finding)
    }
}

fn canary_news(origin: &Origin, turn: canary::Turn) -> News {
    let (node, boot) = (origin.node.clone(), origin.boot.clone());
    let sql = |marker: &str| {
        format!(
            "SELECT * FROM canaries WHERE node = {} AND marker = {} ORDER BY time",
            quoted(&origin.node),
            quoted(marker)
        )
    };
    match turn {
        canary::Turn::Whole { number, marker } => News {
            rule: CANARY_MISSING,
            state: OVER.to_owned(),
            severity: Severity::Info,
            title: format!("canaries arrive whole again: number {number} did"),
            workload: None,
            process: None,
            evidence: vec![format!("marker={marker}"), format!("number={number}")],
            evidence_sql: sql(&marker),
            node,
            boot,
        },
        canary::Turn::Broken(broken) => {
            let (severity, title) = told(&broken);
            let state = if broken.failed.is_some() { "failed".to_owned() } else { broken.missing.join(",") };
            News {
                rule: CANARY_MISSING,
                state,
                severity,
                title,
                evidence: vec![
                    format!("marker={}", broken.marker),
                    format!("number={}", broken.number),
                    format!("missing={}", broken.missing.join(",")),
                    format!("arrived={}", broken.arrived.join(",")),
                ],
                evidence_sql: sql(&broken.marker),
                workload: broken.workload,
                process: broken.process,
                node,
                boot,
            }
        }
    }
}

fn told(broken: &Broken) -> (Severity, String) {
    let number = broken.number;
    if let Some(why) = &broken.failed {
        return (Severity::Medium, format!("canary {number} could not be run: {why}"));
    }
    let missing = broken.missing.join(" and ");
    let verb = if broken.missing.len() == 1 { "is" } else { "are" };
    let altered = if broken.altered { "; an exec came with other arguments than were announced" } else { "" };
    let arrived = match broken.arrived.as_slice() {
        [] => "nothing of it came".to_owned(),
        parts => format!("{} came", parts.join(" and ")),
    };
    let title = format!("canary {number} did not arrive whole: {missing} {verb} missing, {arrived}{altered}");
    (Severity::High, title)
}

fn silence_news(node: &str, boot: &str, turn: &silence::Turn) -> News {
    let seconds = |us: i64| us / 1_000_000;
    let (rule, state, severity, title, lasted_us) = match turn {
        silence::Turn::Silent { for_us } => (
            NODE_SILENT,
            "silent",
            Severity::High,
            format!("nothing was heard of the node for {} s: nobody watches it", seconds(*for_us)),
            *for_us,
        ),
        silence::Turn::Unproven { for_us } => (
            CANARY_MISSING,
            "none",
            Severity::High,
            format!("the node reports, and has sent no canary for {} s", seconds(*for_us)),
            *for_us,
        ),
        silence::Turn::Heard { after_us } => (
            NODE_SILENT,
            OVER,
            Severity::Info,
            format!("the node is heard of again after {} s", seconds(*after_us)),
            *after_us,
        ),
    };
    News {
        rule,
        state: state.to_owned(),
        severity,
        title,
        node: node.to_owned(),
        boot: boot.to_owned(),
        workload: None,
        process: None,
        evidence: vec![format!("lasted_s={}", seconds(lasted_us))],
        evidence_sql: format!(
            "SELECT time, until, probe, reason, detail FROM loss WHERE node = {} ORDER BY until DESC LIMIT 20",
            quoted(node)
        ),
    }
}

fn sight_news(origin: &Origin, turn: degraded::Turn) -> News {
    let (state, severity, title, sight) = match turn {
        degraded::Turn::Restored(sight) => {
            (OVER, Severity::Info, "everything is observed again: it fits the budget".to_owned(), sight)
        }
        degraded::Turn::Lowered(depth, sight) => {
            let severity = if depth == Depth::SwitchedOff { Severity::Medium } else { Severity::Low };
            (depth.as_str(), severity, given_up(depth, &sight), sight)
        }
    };
    let mut evidence = vec![
        format!("syscall_one_in={}", sight.one_in),
        format!("off={}", sight.off.join(",")),
        format!("spent_ratio={:.4}", sight.spent),
    ];
    evidence.extend(sight.budget.map(|budget| format!("budget_ratio={budget}")));
    News {
        rule: AGENT_DEGRADED,
        state: state.to_owned(),
        severity,
        title,
        evidence,
        evidence_sql: format!(
            "SELECT time, until, probe, reason, detail FROM loss WHERE node = {} AND reason IN ('sampled', \
             'switched_off', 'shrunk') AND attempted IS NULL ORDER BY until DESC LIMIT 100",
            quoted(&origin.node)
        ),
        node: origin.node.clone(),
        boot: origin.boot.clone(),
        workload: None,
        process: None,
    }
}

fn given_up(depth: Depth, sight: &Sight) -> String {
    let mut parts = Vec::new();
    if !sight.off.is_empty() {
        parts.push(format!("{} not watched", sight.off.join(" and ")));
    }
    if sight.one_in > 1 && !sight.off.iter().any(|domain| domain == "syscall") {
        parts.push(format!("1 system call in {} looked at", sight.one_in));
    }
    if let Some(processes) = sight.processes {
        parts.push(format!("only {processes} processes known"));
    }
    if parts.is_empty() {
        parts.push(format!("{} for a part of the window", depth.as_str().replace('_', " ")));
    }
    let budget = sight.budget.map_or(String::new(), |budget| format!(" of {} % of a core", budget * 100.0));
    format!("the agent observes less to keep to its budget{budget}: {}", parts.join(", "))
}
