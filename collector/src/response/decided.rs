//! What the policy hears of findings, and what it decides is carried out.

use skep_policy::finding::{is_over, part};
use skep_policy::{Begin, Decision, End, Mode};
use skep_wire::order;

use super::output::Pending;
use super::responder::{RESTARTED, Responder};
use super::watch::Reading;
use crate::alert::report;
use crate::decide::action::{Action, Cause};
use crate::decide::state::{Event, State};
use crate::decide::{Refusal, seen};
use crate::detect::finding::{Aim, Finding, Severity};
use crate::incident::Member;

impl Responder {
    /// What the policy makes of a finding comes with the next [`Responder::decide`].
    pub(super) fn consider(&mut self, finding: &Finding, now_us: i64, out: &mut Pending) {
        self.file(finding, now_us, out);
        let decisions = if is_over(&finding.evidence) == Some(true) {
            let whom = (finding.node.as_str(), finding.workload.as_str());
            self.engine.over(&finding.rule, whom, &part(&finding.evidence), now_us)
        } else {
            self.engine.consider(seen::finding(finding), now_us)
        };
        self.carry_out(decisions, now_us, out);
    }

    /// Puts a finding to the incident it belongs to, and reports both.
    fn file(&mut self, finding: &Finding, now_us: i64, out: &mut Pending) {
        let Self { incidents, draw, .. } = self;
        let home = incidents.take(finding, now_us, || draw.hex(), &mut |incident, cause| out.incident(incident, cause));
        out.reports.push(report::in_incident(report::of(finding), home));
    }

    /// What skep itself did to a host is a change of it too.
    pub(super) fn tell_act(&mut self, id: &str, now_us: i64, out: &mut Pending) {
        let Some(action) = self.ledger.get(id).filter(|action| !action.dry_run) else { return };
        let what = format!("action {}: {} {} of {}", short(id), action.verb(), action.parameters(), action.workload);
        let whom = Member::new(&action.node, &action.workload);
        self.tell_change(whom, &what, now_us, out);
    }

    /// Something changed, which may be why something is wrong.
    pub(super) fn tell_change(&mut self, whom: Member, what: &str, now_us: i64, out: &mut Pending) {
        self.incidents.changed(whom, what, now_us, &mut |incident, cause| out.incident(incident, cause));
    }

    /// Tells the policy what was read, and carries out what it decides now.
    pub(super) fn decide(&mut self, now_us: i64, out: &mut Pending) {
        let mut decisions = std::mem::take(&mut self.owed);
        for reading in self.watch.take_readings() {
            let Reading { rule, node, workload, present } = reading;
            decisions.extend(self.engine.symptom(&rule, &node, &workload, present, now_us));
        }
        let draw = &mut self.draw;
        decisions.extend(self.engine.tick(now_us, || draw.hex()));
        self.carry_out(decisions, now_us, out);
    }

    pub(super) fn carry_out(&mut self, decisions: Vec<Decision>, now_us: i64, out: &mut Pending) {
        for decision in decisions {
            match decision {
                Decision::Begin(begin) => self.begin(*begin, now_us, out),
                Decision::Undo { action, why } => self.undo(&action, &why, now_us, out),
                Decision::Withheld { finding, node, why } => {
                    out.rows.audit(now_us, "policy", "withheld", &finding, &node, &why);
                }
                Decision::Poll(poll) => self.poll(*poll, now_us, out),
                Decision::NoQuorum { poll, finding, node, why } => {
                    out.rows.audit(now_us, "policy", "no quorum", &finding, &node, &why);
                    out.rows.fact("poll", &poll);
                }
                Decision::Braked { findings, until_us } => {
                    let seconds = (until_us - now_us) / 1_000_000;
                    let detail = format!("{findings} findings at once: for {seconds} s operators are asked");
                    out.rows.audit(now_us, "policy", "braked", "policy", "", &detail);
                }
                Decision::Ended { end: End::Observed, .. } => {}
                Decision::Ended { finding, end, why } => {
                    out.rows.audit(now_us, "policy", end.as_str(), &finding.id, &finding.node, &why);
                    if end == End::Escalated {
                        tracing::warn!(
                            finding = finding.id,
                            node = finding.node,
                            why,
                            "{} is left to people",
                            finding.title
                        );
                        let escalated = escalated(self.draw.hex(), now_us, &finding, &why);
                        out.rows.finding(&escalated);
                        self.file(&escalated, now_us, out);
                    }
                }
            }
        }
    }

    fn begin(&mut self, begin: Begin, now_us: i64, out: &mut Pending) {
        let Begin { action: id, finding, mut wanted, mode, rule, rung, attempt, choice, lowered, quorum } = begin;
        let state = if mode == Mode::Observe { State::Observed } else { State::Pending };
        // Signed with the rest of the command.
        wanted.quorum = quorum.unwrap_or_default();
        let aim = finding.cgroup.clone().map(|(cgroup, cgroup_id)| Aim { cgroup, cgroup_id });
        // The cluster is acted on from here, whichever node the finding is of.
        let (node, boot) = if order::is_for_cluster(order::verb(wanted.action.as_ref())) {
            (order::CLUSTER.to_owned(), self.connected.get(order::CLUSTER).cloned())
        } else {
            (finding.node.clone(), Some(finding.boot.clone()))
        };
        let action = Action {
            id: id.clone(),
            finding: finding.id.clone(),
            node,
            boot,
            workload: finding.workload.clone(),
            aim: aim.filter(|_| order::aims_at_cgroup(&wanted)),
            wanted,
            mode,
            state,
            changed_us: now_us,
            sent_us: None,
            lease_until_us: None,
            dry_run: false,
        };
        let lowered = lowered.map_or_else(String::new, |why| format!(", {} because {why}", mode.as_str()));
        let why = format!("rule {rule}, rung {rung}, try {attempt}{lowered}; {choice}");
        out.rows.audit(now_us, "policy", "chosen", &id, &finding.node, &why);
        if !action.wanted.quorum.is_empty() {
            out.rows.audit(now_us, "policy", "quorum", &id, &finding.node, &action.wanted.quorum);
        }
        out.rows.action(&action, Cause { actor: "policy", detail: &finding.title });
        let gone = matches!(self.reachable(&action), Err(Refusal::Restarted { .. }));
        self.ledger.put(action);
        if gone {
            // A batch out of the spool, of an earlier boot.
            self.change(&id, Event::Expire, Cause { actor: "collector", detail: RESTARTED }, now_us, out);
        } else if mode == Mode::Auto {
            self.send(&id, Cause { actor: "policy", detail: "mode auto" }, now_us, out);
        }
    }

    /// It stands in the way of the next; where it cannot be sent its lease ends it.
    fn undo(&mut self, id: &str, why: &str, now_us: i64, out: &mut Pending) {
        let Some(action) = self.ledger.get(id).cloned() else { return };
        if self.reachable(&action).is_ok() {
            out.rows.audit(now_us, "policy", "undo", id, &action.node, why);
            self.send_undo(&action, "policy", now_us, out);
        }
    }
}

/// Nothing more is tried about a finding: people are needed, and that is a finding too.
fn escalated(id: String, now_us: i64, about: &skep_policy::Finding, why: &str) -> Finding {
    Finding {
        id,
        time_us: now_us,
        kind: "event",
        rule: "action-escalated".into(),
        severity: Severity::High,
        title: format!("nothing more is tried, people are needed: {}", about.title),
        node: about.node.clone(),
        boot: about.boot.clone(),
        workload: about.workload.clone(),
        process: None,
        aim: None,
        attack: Vec::new(),
        evidence: vec![format!("finding={}", about.id), format!("why={why}")],
        evidence_sql: format!("SELECT * FROM actions WHERE finding = '{}' ORDER BY time", about.id),
        coverage: about.coverage,
        used_cores: None,
    }
}

/// As much of an id as is shown.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
