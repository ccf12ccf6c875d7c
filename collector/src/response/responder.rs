//! Detect, decide, dispatch as one state machine: durable rows in, rows to store and commands to send out.
//!
//! [`Responder`] does no IO and reads no clock: whoever owns it passes the time in, writes [`Output::chunks`] to the
//! WAL and sends [`Output::commands`] down the nodes' sessions. Chunks are to be durable before the commands leave, so
//! that no host is ever changed by an action that history does not know.

use std::collections::HashMap;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use skep_alerts::report::Report;
use skep_audit::Record;
use skep_policy::finding::{is_over, part};
use skep_policy::{Begin, Decision, End, Engine, Full, Heard, Mode, pattern};
use skep_rules::detector::Detector;
use skep_rules::load::Loaded;
use skep_wire::chunk::Builder;
use skep_wire::envelope::Origin;
use skep_wire::order::{self, ReadError};
use skep_wire::tables::SCORES;
use skep_wire::{chunk, v1};

use super::rows::Rows;
use super::watch::{Reading, Watch};
use crate::alert::report;
use crate::decide::action::{Action, Cause};
use crate::decide::state::{Event, State};
use crate::decide::{Ledger, Policy, Refusal, seen};
use crate::detect::change::Changed;
use crate::detect::finding::{Aim, Finding, Severity};
use crate::detect::series::keep::KeepError;
use crate::detect::series::minute::NODE;
use crate::dispatch::{Draw, Signer};
use crate::incident::{self, Book, Change, Incident, Member};

/// Node name of the collector's own stream.
pub const OWN_NODE: &str = "collector";

/// Scores that are waited for before they are stored without anything else: a window has a hundred, and what storing them
/// takes does not depend on how many they are.
const SCORES_AT_ONCE: usize = 4096;

const RESTARTED: &str = "the node has restarted since";

/// A command the executor has not begun by then is void.
const COMMAND_VALID_US: i64 = 60_000_000;

/// Everything the responder is made with.
#[derive(Debug)]
pub struct Setup {
    /// What may be done about which finding.
    pub policy: Policy,
    /// Signs commands; every executor trusts its public half.
    pub key: SigningKey,
    /// What is suspicious in an event.
    pub rules: Detector,
    /// 32 bytes of the system's randomness; ids and nonces are drawn from it.
    pub seed: [u8; 32],
}

/// A command for one node's session.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Whose session.
    pub node: String,
    /// For [`Responder::undeliverable`].
    pub action: String,
    /// It takes the action back, for [`Responder::undeliverable`] too.
    pub undo: bool,
    /// What to send.
    pub command: v1::SignedCommand,
}

/// What came of one call.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows of `scores`, `findings`, `incidents`, `actions` and `audit`, for the collector's own stream.
    pub chunks: Vec<v1::Chunk>,
    /// For the audit chain.
    pub records: Vec<Record>,
    /// To be sent once both are durable.
    pub commands: Vec<Outgoing>,
    /// To be sent then too: nodes and what they are to look at.
    pub probes: Vec<(String, v1::Probe)>,
    /// What `chunks` have of findings and incidents, for whoever should hear of them.
    pub reports: Vec<Report>,
}

impl Output {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.records.is_empty() && self.commands.is_empty() && self.probes.is_empty()
    }
}

/// Detection and response of one collector.
#[derive(Debug)]
pub struct Responder {
    watch: Watch,
    pub(super) ledger: Ledger,
    pub(super) engine: Engine,
    incidents: Book,
    /// Decisions that fell before this start had a way to carry them out.
    owed: Vec<Decision>,
    draw: Draw,
    signer: Signer,
    /// What the wall clock was set ahead by since decisions are timed.
    ahead_us: i64,
    /// Boot of every connected node.
    pub(super) connected: HashMap<String, String>,
    /// Boot of every node that ever was: another one tells that it restarted.
    booted: HashMap<String, String>,
    /// Rows of `scores` that are to be stored with what comes next, by the next tick at the latest.
    scores: Builder,
}

impl Responder {
    /// A responder that has seen nothing yet.
    pub fn new(setup: Setup) -> Self {
        Self {
            watch: Watch::new(setup.rules),
            ledger: Ledger::default(),
            engine: Engine::new(setup.policy),
            incidents: Book::default(),
            owed: Vec::new(),
            draw: Draw::new(setup.seed),
            signer: Signer::new(setup.key),
            ahead_us: 0,
            connected: HashMap::new(),
            booted: HashMap::new(),
            scores: Builder::new(&SCORES),
        }
    }

    /// The wall clock is so far ahead of `now_us` everywhere else. Executors compare commands with their own wall clocks;
    /// nothing that is waited for and no budget follows it.
    pub fn wall_is_ahead(&mut self, ahead_us: i64) {
        self.ahead_us = ahead_us;
    }

    /// Incidents are over after so long without anything.
    pub fn quiet_after(&mut self, quiet: Duration) {
        self.incidents.quiet_after(quiet);
    }

    /// Learns from a batch that was durable before this start, in order and before anything else: baselines and what
    /// became of actions from the nodes' batches, holds and actions from the collector's own. Raises nothing.
    pub fn restore(&mut self, origin: &Origin, batch: &v1::Batch, now_us: i64) {
        if origin.node != OWN_NODE {
            self.watch.restore_glance(origin, batch);
        }
        for chunk in &batch.chunks {
            if origin.node != OWN_NODE {
                if chunk.table == "connections" {
                    chunk::rows(chunk).for_each(|row| self.incidents.talks().row(&origin.node, &row));
                }
                self.watch.restore_minutes(origin, chunk);
                // It is a peer, though nobody knows yet whether it is there.
                self.engine.peer(&origin.node, false, now_us);
            }
            match chunk.table.as_str() {
                "actions" if origin.node == OWN_NODE => {
                    chunk::rows(chunk).for_each(|row| self.restore_row(&row, now_us));
                }
                "actions" => {
                    // Those that do not count were audited when they came.
                    for row in chunk::rows(chunk) {
                        if let Ok(Word::Receipt { id, state }) = self.judge(&origin.node, &row) {
                            let at_us = row.int("time").map_or(now_us, |time_us| time_us.min(now_us));
                            self.receipt(id, state, &row, at_us);
                        }
                    }
                }
                "incidents" if origin.node == OWN_NODE => chunk::rows(chunk)
                    .filter_map(|row| Incident::read(&row))
                    .for_each(|incident| self.incidents.restore(incident)),
                "findings" if origin.node == OWN_NODE => self.watch.restore_findings(chunk, now_us),
                "processes" if origin.node != OWN_NODE => self.watch.restore_processes(origin, chunk),
                "canaries" if origin.node != OWN_NODE => self.watch.restore_canaries(origin, chunk, now_us),
                "cpu" if origin.node != OWN_NODE => self.watch.restore_cpu(origin, chunk),
                _ => {}
            }
        }
        for Changed { workload, what, time_us } in self.watch.take_changed() {
            self.incidents.happened(Member::new(&origin.node, &workload), &what, time_us);
        }
    }

    /// The policy's version, for the audit chain.
    pub fn policy_version(&self) -> &str {
        &self.engine.policy().version
    }

    /// What goes on by the policy, to survive a restart, if that changed since it was asked for last.
    ///
    /// # Errors
    /// Never for a state of ours.
    pub fn under_way(&mut self) -> Result<Option<Vec<u8>>, serde_json::Error> {
        self.engine.to_keep()
    }

    /// Takes that up, ahead of [`Responder::restore`].
    ///
    /// # Errors
    /// It does not read: what is under way is known by its rows only.
    pub fn go_on(&mut self, kept: &[u8]) -> Result<(), serde_json::Error> {
        self.engine.take_up(kept)
    }

    /// What was learned of the series by the minute, to survive a restart.
    pub fn learned(&self) -> Vec<u8> {
        self.watch.learned()
    }

    /// What was learned of what workloads usually do, likewise.
    pub fn habits(&self) -> Vec<u8> {
        self.watch.habits()
    }

    /// Takes it up before [`Responder::restore`].
    ///
    /// # Errors
    /// [`skep_rules::keep::KeepError`]: it is learned anew.
    pub fn take_up_habits(&mut self, habits: &[u8]) -> Result<(), skep_rules::keep::KeepError> {
        self.watch.rules().take_up(habits)
    }

    /// Takes up what was learned before this start, ahead of [`Responder::restore`]; how many series are learned anew.
    ///
    /// # Errors
    /// [`KeepError`]: all are.
    pub fn take_up(&mut self, learned: &[u8]) -> Result<usize, KeepError> {
        self.watch.take_up(learned)
    }

    /// A row of the collector's own. What the cluster said goes to the policy as what a host said does.
    fn restore_row(&mut self, row: &chunk::Row<'_>, now_us: i64) {
        let Some(action) = Action::read(row) else { return };
        let said = (row.text("actor") == Some(order::CLUSTER)).then(|| seen::heard(action.state)).flatten();
        let (id, at_us) = (action.id.clone(), action.changed_us.min(now_us));
        self.restore_action(action);
        if let Some(heard) = said {
            self.owed.extend(self.engine.heard(&id, heard, at_us));
        }
    }

    fn restore_action(&mut self, mut action: Action) {
        if let Some(known) = self.ledger.get(&action.id) {
            // Two changes of one moment: the later in life is the newer.
            if (known.changed_us, known.state as u8) > (action.changed_us, action.state as u8) {
                return;
            }
            // One that waits again was not delivered.
            if action.state != State::Pending {
                action.sent_us = known.sent_us.or(action.sent_us);
            }
            action.lease_until_us = action.lease_until_us.or(known.lease_until_us);
        }
        if let Some(sent_us) = action.sent_us.filter(|_| action.state.stands()) {
            self.engine.known(&action.id, &action.node, &action.workload, &action.wanted, sent_us);
        }
        self.ledger.put(action);
    }

    /// Judges by other rules from now on, and says so.
    pub fn reload(&mut self, loaded: &mut Loaded, now_us: i64) -> Output {
        let mut out = Pending::default();
        self.watch.rules().reload(loaded);
        let (rules, refused) = (loaded.rules.len(), loaded.refused.len());
        let detail = format!("{rules} rules, {refused} refused, {} with a reserve", loaded.warnings.len());
        out.rows.audit(now_us, "collector", "rules", "", "", &detail);
        for refused in &loaded.refused {
            let detail = format!("refused {} {}: {}", refused.source, refused.rule, refused.reason);
            out.rows.audit(now_us, "collector", "rules", "", "", &detail);
        }
        out.finish()
    }

    /// Takes a batch that has just become durable (and was not so before). Batches of the collector's own stream are
    /// let be. Scores are given out with the next thing that is, or by [`Responder::tick`].
    pub fn observe(&mut self, origin: &Origin, batch: &v1::Batch, now_us: i64) -> Output {
        if origin.node == OWN_NODE {
            return Output::default();
        }
        self.watch.listen(self.engine.cares());
        let mut out = self.with_scores();
        for chunk in batch.chunks.iter().filter(|chunk| chunk.table == "connections") {
            chunk::rows(chunk).for_each(|row| self.incidents.talks().row(&origin.node, &row));
        }
        let findings = self.watch.batch(origin, batch, now_us, &mut self.draw, &mut out.rows);
        // It comes before what came of it.
        for Changed { workload, what, .. } in self.watch.take_changed() {
            self.tell_change(Member::new(&origin.node, &workload), &what, now_us, &mut out);
        }
        for finding in findings {
            self.consider(&finding, now_us, &mut out);
        }
        if self.engine.counts_instances() {
            for chunk in batch.chunks.iter().filter(|chunk| chunk.table == "checks") {
                chunk::rows(chunk).for_each(|row| self.instance(&origin.node, &row, now_us));
            }
        }
        for chunk in batch.chunks.iter().filter(|chunk| chunk.table == "actions") {
            for row in chunk::rows(chunk) {
                self.outcome(&origin.node, &row, now_us, &mut out);
            }
        }
        self.decide(now_us, &mut out);
        let only_scores = out.commands.is_empty() && out.probes.is_empty() && out.rows.only_scores();
        if only_scores && out.rows.scores.rows() < SCORES_AT_ONCE {
            self.scores = out.rows.scores;
            return Output::default();
        }
        out.finish()
    }

    /// What was not worth storing by itself; call when nothing more comes.
    pub fn rest(&mut self) -> Output {
        self.with_scores().finish()
    }

    fn with_scores(&mut self) -> Pending {
        let scores = std::mem::replace(&mut self.scores, Builder::new(&SCORES));
        Pending { rows: Rows::after(scores), ..Pending::default() }
    }

    /// A node's session began. Pending actions of an earlier boot expire: what they aim at is gone. So do those of
    /// before this collector's start: their boot is not in their rows.
    pub fn connected(&mut self, node: &str, boot: &str, now_us: i64) -> Output {
        let mut out = Pending::default();
        self.connected.insert(node.to_owned(), boot.to_owned());
        let before = self.booted.insert(node.to_owned(), boot.to_owned());
        if before.is_some_and(|before| before != boot) {
            self.tell_change(Member::new(node, NODE), "the node has restarted", now_us, &mut out);
        }
        self.engine.peer(node, true, now_us);
        self.expire_of_another_boot(node, boot, now_us, &mut out);
        out.finish()
    }

    pub(super) fn expire_of_another_boot(&mut self, node: &str, boot: &str, now_us: i64, out: &mut Pending) {
        for id in self.ledger.of_another_boot(node, boot) {
            let detail = match self.ledger.get(&id).and_then(|action| action.boot.as_ref()) {
                Some(_) => RESTARTED,
                None => "the collector has restarted since, and the node may have",
            };
            let cause = Cause { actor: "collector", detail };
            self.change(&id, Event::Expire, cause, now_us, out);
        }
    }

    /// What a node did since it was last heard of here is with another collector.
    pub fn was_elsewhere(&mut self, node: &str) {
        self.watch.was_elsewhere(node);
    }

    /// A node's session ended; a node that `left` for another collector is not listened for.
    pub fn disconnected(&mut self, node: &str, left: bool) {
        self.connected.remove(node);
        self.engine.peer_gone(node);
        if left {
            self.watch.left(node);
        }
    }

    /// The command of this action, or the one to undo it, could not be handed to its node's session.
    pub fn undeliverable(&mut self, action: &str, undo: bool, now_us: i64) -> Output {
        let mut out = Pending::default();
        let detail = "the node was not connected; nothing was sent";
        if !undo {
            let cause = Cause { actor: "collector", detail };
            self.change(action, Event::Undeliverable, cause, now_us, &mut out);
            if self.ledger.get(action).is_some_and(|action| action.mode == Mode::Auto) {
                // Nobody is asked about it; the policy comes back to it.
                self.change(action, Event::Expire, cause, now_us, &mut out);
            }
        } else {
            let node = self.ledger.get(action).map_or("", |action| action.node.as_str()).to_owned();
            out.rows.audit(now_us, "collector", "undo undeliverable", action, &node, detail);
        }
        out.finish()
    }

    /// An operator's word on an action or an incident. `operator` is the name in its certificate.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was changed; the text is for the operator.
    pub fn operator(
        &mut self,
        request: &v1::ActRequest,
        operator: &str,
        now_us: i64,
    ) -> Result<(v1::ActReply, Output), Refusal> {
        let mut out = Pending::default();
        let reason = if request.reason.is_empty() { "no reason given" } else { &request.reason };
        match request.verb() {
            v1::Verb::Acknowledge => {
                return self.word_on_incident(request, Change::Acknowledged, (operator, reason), now_us);
            }
            v1::Verb::Close => return self.word_on_incident(request, Change::Closed, (operator, reason), now_us),
            _ => {}
        }
        let ordered = match (request.verb(), &request.order) {
            (v1::Verb::Order, Some(order)) => Some(self.order(order, operator, reason, now_us, &mut out)?),
            _ => None,
        };
        let action = self.ledger.find(ordered.as_ref().unwrap_or(&request.action_id))?.clone();
        let cause = Cause { actor: operator, detail: reason };
        let detail = match request.verb() {
            v1::Verb::Approve => {
                self.may(&action, "approve", action.state == State::Pending)?;
                self.reachable(&action)?;
                let whom = (action.node.as_str(), action.workload.as_str());
                self.engine.approve(&action.id, whom, &action.wanted, now_us).map_err(used_up)?;
                out.rows.audit(now_us, operator, "approve", &action.id, &action.node, reason);
                self.send(&action.id, cause, now_us, &mut out);
                format!("{} on {}", action.parameters(), action.node)
            }
            v1::Verb::Reject => {
                self.may(&action, "reject", action.state == State::Pending)?;
                self.change(&action.id, Event::Reject, cause, now_us, &mut out);
                "nothing was changed on the host".to_owned()
            }
            v1::Verb::Undo => {
                // Of one that failed something may stand: nobody answered, or it could not be undone.
                self.may(&action, "undo", action.state.stands() || action.state == State::Failed)?;
                self.reachable(&action)?;
                out.rows.audit(now_us, operator, "undo", &action.id, &action.node, reason);
                self.send_undo(&action, operator, now_us, &mut out);
                format!("undo sent to {}", action.node)
            }
            v1::Verb::Order if ordered.is_some() => {
                format!("{} {} on {}", action.verb(), action.parameters(), action.node)
            }
            v1::Verb::Extend => {
                self.may(&action, "extend", action.state.stands() && action.state != State::Sent)?;
                self.reachable(&action)?;
                out.rows.audit(now_us, operator, "extend", &action.id, &action.node, reason);
                self.send_extension(&action, request.lease_s, operator, now_us, &mut out);
                format!("{} more seconds asked of {}", request.lease_s, action.node)
            }
            v1::Verb::Order | v1::Verb::Unspecified | v1::Verb::Acknowledge | v1::Verb::Close => {
                return Err(Refusal::UnknownVerb { verb: request.verb });
            }
        };
        let state = self.ledger.get(&action.id).map_or(action.state, |action| action.state);
        let reply = v1::ActReply { state: state.as_str().to_owned(), detail, action_id: action.id };
        Ok((reply, out.finish()))
    }

    /// An operator's own action, sent at once; its id.
    fn order(
        &mut self,
        order: &v1::Order,
        operator: &str,
        reason: &str,
        now_us: i64,
        out: &mut Pending,
    ) -> Result<String, Refusal> {
        let wanted = order::read(&order.verb, &order.parameters)?;
        let verb = order::verb(wanted.action.as_ref());
        if !order::VERBS.contains(&verb) {
            return Err(ReadError::Verb { verb: verb.to_owned() }.into());
        }
        let aimed = order::aims_at_cgroup(&wanted);
        if aimed && order.cgroup.is_empty() {
            return Err(Refusal::NoAim { verb });
        }
        if order::is_for_cluster(verb) != (order.node == order::CLUSTER) {
            return Err(Refusal::Misplaced { verb, node: order.node.clone() });
        }
        let named = order::named(&wanted).filter(|_| order.node == order::CLUSTER || order.workload == "host");
        let workload = named.unwrap_or_else(|| order.workload.clone());
        let cgroup = if aimed { order.cgroup.as_str() } else { "/-" };
        let about_all = !aimed && workload == "host";
        let protected = &self.engine.policy().protected;
        if let Some(pattern) = pattern::pattern_for(protected, &workload, cgroup).filter(|_| !about_all) {
            return Err(Refusal::Protected { workload, pattern: pattern.to_owned() });
        }
        let Some(boot) = self.connected.get(&order.node).cloned() else {
            return Err(Refusal::NoSuchNode { node: order.node.clone() });
        };
        let id = self.draw.hex();
        self.engine.order(&id, (&order.node, &workload), &wanted, now_us).map_err(used_up)?;
        let action = Action {
            id,
            finding: String::new(),
            node: order.node.clone(),
            boot: Some(boot),
            workload,
            aim: aimed.then(|| Aim { cgroup: order.cgroup.clone(), cgroup_id: order.cgroup_id }),
            wanted,
            mode: Mode::Ask,
            state: State::Pending,
            changed_us: now_us,
            sent_us: None,
            lease_until_us: None,
            dry_run: false,
        };
        let (id, cause) = (action.id.clone(), Cause { actor: operator, detail: reason });
        out.rows.action(&action, cause);
        self.ledger.put(action);
        self.send(&id, cause, now_us, out);
        Ok(id)
    }

    /// Call about once a second: lets pending actions expire, notices commands that were never answered, and nodes that
    /// fell silent.
    pub fn tick(&mut self, now_us: i64) -> Output {
        let mut out = self.with_scores();
        for (id, event) in self.ledger.overdue(self.engine.policy().pending_expires_s, now_us) {
            let detail = match event {
                Event::NoAnswer => "no receipt came back; the command is void by now",
                _ => "nobody approved it in time",
            };
            self.change(&id, event, Cause { actor: "collector", detail }, now_us, &mut out);
        }
        self.uncounted(now_us, &mut out);
        let findings = self.watch.tick(now_us, &mut self.draw, &mut out.rows);
        for finding in findings {
            self.consider(&finding, now_us, &mut out);
        }
        self.incidents.tick(now_us, &mut |incident, cause| out.incident(incident, cause));
        self.decide(now_us, &mut out);
        out.finish()
    }

    fn may(&self, action: &Action, verb: &'static str, allowed: bool) -> Result<(), Refusal> {
        if allowed {
            return Ok(());
        }
        Err(Refusal::WrongState { action: action.id.clone(), verb, state: action.state })
    }

    fn reachable(&self, action: &Action) -> Result<(), Refusal> {
        let (id, node) = (action.id.clone(), action.node.clone());
        match (self.connected.get(&action.node), &action.boot) {
            (None, _) => Err(Refusal::NotConnected { action: id, node }),
            (Some(now), Some(then)) if now != then => Err(Refusal::Restarted { action: id, node }),
            _ => Ok(()),
        }
    }

    /// What the policy makes of a finding comes with the next [`Responder::decide`].
    fn consider(&mut self, finding: &Finding, now_us: i64, out: &mut Pending) {
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
    fn tell_act(&mut self, id: &str, now_us: i64, out: &mut Pending) {
        let Some(action) = self.ledger.get(id).filter(|action| !action.dry_run) else { return };
        let what = format!("action {}: {} {} of {}", short(id), action.verb(), action.parameters(), action.workload);
        let whom = Member::new(&action.node, &action.workload);
        self.tell_change(whom, &what, now_us, out);
    }

    /// Something changed, which may be why something is wrong.
    fn tell_change(&mut self, whom: Member, what: &str, now_us: i64, out: &mut Pending) {
        self.incidents.changed(whom, what, now_us, &mut |incident, cause| out.incident(incident, cause));
    }

    /// Incidents that are not over, as reports: whoever should hear of them may have been told nothing before this start.
    pub fn standing(&self) -> Vec<Report> {
        self.incidents.standing().map(report::of_incident).collect()
    }

    /// An operator's word on an incident.
    fn word_on_incident(
        &mut self,
        request: &v1::ActRequest,
        change: Change,
        word: (&str, &str),
        now_us: i64,
    ) -> Result<(v1::ActReply, Output), Refusal> {
        let mut out = Pending::default();
        let tell = &mut |incident: &Incident, cause: incident::Cause<'_>| out.incident(incident, cause);
        let incident = self.incidents.operator(&request.action_id, change, word, now_us, tell)?;
        let (state, detail) = (incident.state.as_str().to_owned(), incident.title.clone());
        let reply = v1::ActReply { state, detail, action_id: incident.id.clone() };
        Ok((reply, out.finish()))
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

    /// A row of `actions` that came from `node`.
    fn outcome(&mut self, node: &str, row: &chunk::Row<'_>, now_us: i64, out: &mut Pending) {
        match self.judge(node, row) {
            Ok(Word::Receipt { id, state }) => {
                if self.receipt(id, state, row, now_us) {
                    out.rows.receipt(now_us, id, node, state, row);
                    if state == State::Applied {
                        self.tell_act(id, now_us, out);
                    }
                }
            }
            Ok(Word::UndoRefused { action }) => self.undo_refused(action, row, now_us, out),
            Ok(Word::Nothing) => {}
            Err(Unfounded { step, detail }) => {
                let id = row.text("action").unwrap_or_default();
                tracing::warn!(node, action = id, step, "a row of actions is not believed: {detail}");
                out.rows.audit(now_us, "collector", step, id, node, detail);
            }
        }
    }

    /// What a row that came from `node` says. A node speaks for itself alone, and only of what it was sent.
    fn judge<'a>(&self, node: &str, row: &chunk::Row<'a>) -> Result<Word<'a>, Unfounded> {
        let unfounded = |step, detail| Err(Unfounded { step, detail });
        let (Some(id), Some(state)) = (row.text("action"), row.text("state").and_then(State::parse)) else {
            return Ok(Word::Nothing);
        };
        if !state.is_executors() {
            return unfounded("claimed_state", "only the collector brings this state about; the row is ignored");
        }
        let word = row.text("verb").filter(|verb| matches!(*verb, "undo" | "extend"));
        let undo = word.map(|_| row.text("parameters").unwrap_or_default());
        // A refused or lost command to undo or to extend has an id of its own and names the action it was for.
        let about = undo.map_or(Some(id), |parameters| parameters.strip_prefix("action=")?.split(' ').next());
        let known = about.and_then(|about| self.ledger.get(about));
        match (known, about) {
            // Refusals of what this collector never sent, or has forgotten, are only rows.
            (None, _) | (_, None) if state == State::Refused => Ok(Word::Nothing),
            (None, _) | (_, None) => unfounded("unknown_action", "no such action is known here; the row is ignored"),
            (Some(action), _) if action.node != node => {
                unfounded("foreign_action", "the action is on another node; the row is ignored")
            }
            (Some(_), _) if row.text("target_node") != Some(node) => {
                unfounded("foreign_action", "the row is about another node; it is ignored")
            }
            (Some(action), _) if action.sent_us.is_none() => {
                unfounded("unknown_action", "the action was never sent; the row is ignored")
            }
            (Some(_), Some(action)) if undo.is_some() => Ok(match state {
                State::Refused | State::Failed => Word::UndoRefused { action },
                _ => Word::Nothing,
            }),
            (Some(_), Some(id)) => Ok(Word::Receipt { id, state }),
        }
    }

    /// Whether it says anything new.
    fn receipt(&mut self, id: &str, state: State, row: &chunk::Row<'_>, now_us: i64) -> bool {
        let Some(action) = self.ledger.apply(id, Event::Receipt(state), now_us) else { return false };
        action.lease_until_us = row.int("lease_until").or(action.lease_until_us);
        action.dry_run |= row.int("dry_run") == Some(1);
        if let Some(heard) = seen::heard(state) {
            // Carried out with the next decisions: a receipt may be read back at a start.
            self.owed.extend(self.engine.heard(id, heard, now_us));
        }
        true
    }

    /// The action stands as it did; its history says why it still does.
    fn undo_refused(&mut self, id: &str, row: &chunk::Row<'_>, now_us: i64, out: &mut Pending) {
        let detail = row.text("detail").unwrap_or_default();
        self.not_undone(id, row.text("verb").unwrap_or("undo"), detail, now_us, out);
    }

    pub(super) fn not_undone(&mut self, id: &str, verb: &str, detail: &str, now_us: i64, out: &mut Pending) {
        if let Some(mut action) = self.ledger.get(id).cloned() {
            action.changed_us = action.later_than_changed(now_us);
            let detail = format!("{verb} refused: {detail}");
            out.rows.action(&action, Cause { actor: "collector", detail: &detail });
            self.ledger.put(action);
        }
    }

    /// Changes an action's state and says so in `actions` and `audit`.
    fn change(&mut self, id: &str, event: Event, cause: Cause<'_>, now_us: i64, out: &mut Pending) {
        let Some(action) = self.ledger.apply(id, event, now_us) else { return };
        out.rows.action(action, cause);
        let heard = match event {
            Event::Reject => Heard::Rejected,
            Event::Expire => Heard::Expired,
            Event::Undeliverable => Heard::Undeliverable,
            Event::NoAnswer => Heard::NoAnswer,
            Event::Approve | Event::Receipt(_) => return,
        };
        self.owed.extend(self.engine.heard(id, heard, now_us));
    }

    fn send(&mut self, id: &str, cause: Cause<'_>, now_us: i64, out: &mut Pending) {
        let Some(action) = self.ledger.apply(id, Event::Approve, now_us) else { return };
        out.rows.action(action, cause);
        let action = action.clone();
        let command = v1::Command {
            id: action.id.clone(),
            lease_s: action.wanted.lease_s,
            action: action.wanted.action.clone(),
            trigger: action.wanted.trigger,
            quorum: action.wanted.quorum.clone(),
            ..self.command(&action, cause.actor, now_us)
        };
        self.dispatch(&action, false, &command, out);
    }

    fn send_undo(&mut self, action: &Action, operator: &str, now_us: i64, out: &mut Pending) {
        let undo = v1::Undo { action_id: action.id.clone() };
        let command = v1::Command {
            id: self.draw.hex(),
            action: Some(v1::command::Action::Undo(undo)),
            ..self.command(action, operator, now_us)
        };
        self.dispatch(action, true, &command, out);
    }

    fn send_extension(&mut self, action: &Action, lease_s: u32, operator: &str, now_us: i64, out: &mut Pending) {
        let extend = v1::Extend { action_id: action.id.clone() };
        let command = v1::Command {
            id: self.draw.hex(),
            lease_s,
            action: Some(v1::command::Action::Extend(extend)),
            ..self.command(action, operator, now_us)
        };
        self.dispatch(action, true, &command, out);
    }

    fn command(&mut self, action: &Action, approved_by: &str, now_us: i64) -> v1::Command {
        let wall_us = now_us + self.ahead_us;
        v1::Command {
            node: action.node.clone(),
            // An executor of a later boot is to refuse it.
            boot: action.boot.as_ref().or_else(|| self.connected.get(&action.node)).cloned().unwrap_or_default(),
            target: Some(action.target()),
            not_after_us: wall_us + COMMAND_VALID_US,
            issued_us: wall_us,
            nonce: self.draw.hex(),
            finding: action.finding.clone(),
            approved_by: approved_by.to_owned(),
            mode: action.mode.as_str().to_owned(),
            ..v1::Command::default()
        }
    }

    fn dispatch(&self, action: &Action, undo: bool, command: &v1::Command, out: &mut Pending) {
        let command = self.signer.sign(command);
        out.commands.push(Outgoing { node: action.node.clone(), action: action.id.clone(), undo, command });
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

/// A budget of the policy is used up.
fn used_up(Full { what, used, allowed }: Full) -> Refusal {
    Refusal::Budget { what, used, allowed }
}

/// What a node's row of `actions` comes to.
#[derive(Debug, Clone, Copy)]
enum Word<'a> {
    /// The executor's word on an action it was sent.
    Receipt { id: &'a str, state: State },
    /// The command to undo this action was refused, or got lost.
    UndoRefused { action: &'a str },
    /// Only a row.
    Nothing,
}

/// Why a row is not believed, for the audit log.
#[derive(Debug, Clone, Copy)]
struct Unfounded {
    step: &'static str,
    detail: &'static str,
}

/// An [`Output`] in the making.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) rows: Rows,
    commands: Vec<Outgoing>,
    pub(super) probes: Vec<(String, v1::Probe)>,
    reports: Vec<Report>,
}

impl Pending {
    /// What became of an incident: a row, and a report where it begins, ends or is worse than it was.
    fn incident(&mut self, incident: &Incident, cause: incident::Cause<'_>) {
        self.rows.incident(incident, cause);
        // Whether it is worse is seen by whoever was told of it.
        if !matches!(cause.change, Change::Changed | Change::Over | Change::Acknowledged) {
            self.reports.push(report::of_incident(incident));
        }
    }

    pub(super) fn finish(self) -> Output {
        let (chunks, records) = self.rows.finish();
        Output { chunks, records, commands: self.commands, probes: self.probes, reports: self.reports }
    }
}
