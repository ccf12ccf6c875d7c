//! Detect, decide, dispatch as one state machine: durable rows in, rows to store and commands to send out.
//!
//! [`Responder`] does no IO and reads no clock: whoever owns it passes the time in, writes [`Output::chunks`] to the
//! WAL and sends [`Output::commands`] down the nodes' sessions. Chunks are to be durable before the commands leave, so
//! that no host is ever changed by an action that history does not know.

use std::collections::HashMap;

use ed25519_dalek::SigningKey;
use skep_rules::detector::Detector;
use skep_rules::load::Loaded;
use skep_wire::envelope::Origin;
use skep_wire::order::{self, ReadError};
use skep_wire::{chunk, v1};

use super::rows::Rows;
use super::watch::Watch;
use crate::decide::action::{Action, Cause};
use crate::decide::ledger::Proposal;
use crate::decide::policy::Mode;
use crate::decide::state::{Event, State};
use crate::decide::{Ledger, Policy, Refusal};
use crate::detect::finding::{Aim, Finding};
use crate::detect::series::keep::KeepError;
use crate::dispatch::{Draw, Signer};

/// Node name of the collector's own stream.
pub const OWN_NODE: &str = "collector";

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
    /// Rows of `scores`, `findings`, `actions` and `audit`, for the collector's own stream.
    pub chunks: Vec<v1::Chunk>,
    /// To be sent once `chunks` are durable.
    pub commands: Vec<Outgoing>,
}

impl Output {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.commands.is_empty()
    }
}

/// Detection and response of one collector.
#[derive(Debug)]
pub struct Responder {
    watch: Watch,
    pub(super) ledger: Ledger,
    draw: Draw,
    signer: Signer,
    /// Boot of every connected node.
    connected: HashMap<String, String>,
}

impl Responder {
    /// A responder that has seen nothing yet.
    pub fn new(setup: Setup) -> Self {
        Self {
            watch: Watch::new(setup.rules),
            ledger: Ledger::new(setup.policy),
            draw: Draw::new(setup.seed),
            signer: Signer::new(setup.key),
            connected: HashMap::new(),
        }
    }

    /// Learns from a batch that was durable before this start, in order and before anything else: baselines and what
    /// became of actions from the nodes' batches, holds and actions from the collector's own. Raises nothing.
    pub fn restore(&mut self, origin: &Origin, batch: &v1::Batch, now_us: i64) {
        for chunk in &batch.chunks {
            if origin.node != OWN_NODE {
                self.watch.restore_minutes(origin, chunk);
            }
            match chunk.table.as_str() {
                "actions" if origin.node == OWN_NODE => chunk::rows(chunk)
                    .filter_map(|row| Action::read(&row))
                    .for_each(|action| self.restore_action(action, now_us)),
                "actions" => {
                    // Those that do not count were audited when they came.
                    for row in chunk::rows(chunk) {
                        if let Ok(Word::Receipt { id, state }) = self.judge(&origin.node, &row) {
                            let at_us = row.int("time").map_or(now_us, |time_us| time_us.min(now_us));
                            self.receipt(id, state, &row, at_us);
                        }
                    }
                }
                "findings" if origin.node == OWN_NODE => self.watch.restore_findings(chunk),
                "processes" if origin.node != OWN_NODE => self.watch.restore_processes(origin, chunk),
                "canaries" if origin.node != OWN_NODE => self.watch.restore_canaries(origin, chunk, now_us),
                "cpu" if origin.node != OWN_NODE => self.watch.restore_cpu(origin, chunk),
                _ => {}
            }
        }
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

    fn restore_action(&mut self, mut action: Action, now_us: i64) {
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
        self.ledger.put(action, now_us);
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
    /// let be.
    pub fn observe(&mut self, origin: &Origin, batch: &v1::Batch, now_us: i64) -> Output {
        let mut out = Pending::default();
        if origin.node == OWN_NODE {
            return out.finish();
        }
        let findings = self.watch.batch(origin, batch, now_us, &mut self.draw, &mut out.rows);
        for finding in findings {
            self.consider(&finding, now_us, &mut out);
        }
        for chunk in batch.chunks.iter().filter(|chunk| chunk.table == "actions") {
            for row in chunk::rows(chunk) {
                self.outcome(&origin.node, &row, now_us, &mut out);
            }
        }
        out.finish()
    }

    /// A node's session began. Pending actions of an earlier boot expire: what they aim at is gone. So do those of
    /// before this collector's start: their boot is not in their rows.
    pub fn connected(&mut self, node: &str, boot: &str, now_us: i64) -> Output {
        let mut out = Pending::default();
        self.connected.insert(node.to_owned(), boot.to_owned());
        for id in self.ledger.of_another_boot(node, boot) {
            let detail = match self.ledger.get(&id).and_then(|action| action.boot.as_ref()) {
                Some(_) => RESTARTED,
                None => "the collector has restarted since, and the node may have",
            };
            let cause = Cause { actor: "collector", detail };
            self.change(&id, Event::Expire, cause, now_us, &mut out);
        }
        out.finish()
    }

    /// What a node did since it was last heard of here is with another collector.
    pub fn was_elsewhere(&mut self, node: &str) {
        self.watch.was_elsewhere(node);
    }

    /// A node's session ended; a node that `left` for another collector is not listened for.
    pub fn disconnected(&mut self, node: &str, left: bool) {
        self.connected.remove(node);
        if left {
            self.watch.left(node);
        }
    }

    /// The command of this action, or the one to undo it, could not be handed to its node's session.
    pub fn undeliverable(&mut self, action: &str, undo: bool, now_us: i64) -> Output {
        let mut out = Pending::default();
        let detail = "the node was not connected; nothing was sent";
        if !undo {
            self.change(action, Event::Undeliverable, Cause { actor: "collector", detail }, now_us, &mut out);
        } else {
            let node = self.ledger.get(action).map_or("", |action| action.node.as_str()).to_owned();
            out.rows.audit(now_us, "collector", "undo undeliverable", action, &node, detail);
        }
        out.finish()
    }

    /// An operator's word on an action. `operator` is the name in its certificate.
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
                self.ledger.afford(now_us)?;
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
            v1::Verb::Order | v1::Verb::Unspecified => return Err(Refusal::UnknownVerb { verb: request.verb }),
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
        let cgroup = if aimed { order.cgroup.as_str() } else { "/-" };
        let about_all = !aimed && order.workload == "host";
        if let Some(pattern) = self.ledger.protects(&order.workload, cgroup).filter(|_| !about_all) {
            return Err(Refusal::Protected { workload: order.workload.clone(), pattern: pattern.to_owned() });
        }
        let Some(boot) = self.connected.get(&order.node).cloned() else {
            return Err(Refusal::NoSuchNode { node: order.node.clone() });
        };
        self.ledger.afford(now_us)?;
        let action = Action {
            id: self.draw.hex(),
            finding: String::new(),
            node: order.node.clone(),
            boot: Some(boot),
            workload: order.workload.clone(),
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
        self.ledger.put(action, now_us);
        self.send(&id, cause, now_us, out);
        Ok(id)
    }

    /// Call about once a second: lets pending actions expire, notices commands that were never answered, and nodes that
    /// fell silent.
    pub fn tick(&mut self, now_us: i64) -> Output {
        let mut out = Pending::default();
        for (id, event) in self.ledger.overdue(now_us) {
            let detail = match event {
                Event::NoAnswer => "no receipt came back; the command is void by now",
                _ => "nobody approved it in time",
            };
            self.change(&id, event, Cause { actor: "collector", detail }, now_us, &mut out);
        }
        let findings = self.watch.tick(now_us, &mut self.draw, &mut out.rows);
        for finding in findings {
            self.consider(&finding, now_us, &mut out);
        }
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

    fn consider(&mut self, finding: &Finding, now_us: i64, out: &mut Pending) {
        let id = self.draw.hex();
        let action = match self.ledger.propose(finding, id, now_us) {
            Proposal::None => return,
            Proposal::Withheld(why) => {
                out.rows.audit(now_us, "policy", "withheld", &finding.id, &finding.node, &why);
                return;
            }
            Proposal::Action(action) => *action,
        };
        let (id, mode) = (action.id.clone(), action.mode);
        let cause = Cause { actor: "policy", detail: &finding.title };
        out.rows.action(&action, cause);
        let gone = matches!(self.reachable(&action), Err(Refusal::Restarted { .. }));
        self.ledger.put(action, now_us);
        if gone {
            // A batch out of the spool, of an earlier boot.
            self.change(&id, Event::Expire, Cause { actor: "collector", detail: RESTARTED }, now_us, out);
            return;
        }
        if mode != Mode::Auto {
            return;
        }
        match self.ledger.afford(now_us) {
            Ok(()) => self.send(&id, Cause { actor: "policy", detail: "mode auto" }, now_us, out),
            Err(refusal) => {
                let detail = refusal.to_string();
                self.change(&id, Event::Expire, Cause { actor: "policy", detail: &detail }, now_us, out);
            }
        }
    }

    /// A row of `actions` that came from `node`.
    fn outcome(&mut self, node: &str, row: &chunk::Row<'_>, now_us: i64, out: &mut Pending) {
        match self.judge(node, row) {
            Ok(Word::Receipt { id, state }) => self.receipt(id, state, row, now_us),
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

    fn receipt(&mut self, id: &str, state: State, row: &chunk::Row<'_>, now_us: i64) {
        let Some(action) = self.ledger.apply(id, Event::Receipt(state), now_us) else { return };
        action.lease_until_us = row.int("lease_until").or(action.lease_until_us);
        action.dry_run |= row.int("dry_run") == Some(1);
    }

    /// The action stands as it did; its history says why it still does.
    fn undo_refused(&mut self, id: &str, row: &chunk::Row<'_>, now_us: i64, out: &mut Pending) {
        let detail = row.text("detail").unwrap_or_default();
        if let Some(mut action) = self.ledger.get(id).cloned() {
            action.changed_us = action.later_than_changed(now_us);
            let detail = format!("{} refused: {detail}", row.text("verb").unwrap_or("undo"));
            out.rows.action(&action, Cause { actor: "collector", detail: &detail });
            self.ledger.put(action, now_us);
        }
    }

    /// Changes an action's state and says so in `actions` and `audit`.
    fn change(&mut self, id: &str, event: Event, cause: Cause<'_>, now_us: i64, out: &mut Pending) {
        if let Some(action) = self.ledger.apply(id, event, now_us) {
            out.rows.action(action, cause);
        }
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
        v1::Command {
            node: action.node.clone(),
            // An executor of a later boot is to refuse it.
            boot: action.boot.as_ref().or_else(|| self.connected.get(&action.node)).cloned().unwrap_or_default(),
            target: Some(action.target()),
            not_after_us: now_us + COMMAND_VALID_US,
            issued_us: now_us,
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
struct Pending {
    rows: Rows,
    commands: Vec<Outgoing>,
}

impl Pending {
    fn finish(self) -> Output {
        Output { chunks: self.rows.finish(), commands: self.commands }
    }
}
