//! Detect, decide, dispatch as one state machine: durable rows in, rows to store and commands to send out.
//!
//! [`Responder`] does no IO and reads no clock: whoever owns it passes the time in, writes [`Output::chunks`] to the
//! WAL and sends [`Output::commands`] down the nodes' sessions. Chunks are to be durable before the commands leave, so
//! that no host is ever changed by an action that history does not know.

use std::collections::HashMap;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use skep_alerts::report::Report;
use skep_policy::{Decision, Engine, Mode};
use skep_rules::detector::Detector;
use skep_rules::load::Loaded;
use skep_wire::chunk::Builder;
use skep_wire::envelope::Origin;
use skep_wire::tables::SCORES;
use skep_wire::{chunk, v1};

use super::output::{Output, Pending};
use super::rows::Rows;
use super::watch::Watch;
use crate::alert::report;
use crate::decide::action::Cause;
use crate::decide::state::Event;
use crate::decide::{Ledger, Policy};
use crate::detect::change::Changed;
use crate::detect::series::minute::NODE;
use crate::dispatch::{Draw, Signer};
use crate::incident::{Book, Member};

/// Node name of the collector's own stream.
pub const OWN_NODE: &str = "collector";

/// Scores that are waited for before they are stored without anything else: a window has a hundred, and what storing them
/// takes does not depend on how many they are.
const SCORES_AT_ONCE: usize = 4096;

pub(super) const RESTARTED: &str = "the node has restarted since";

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

/// Detection and response of one collector.
#[derive(Debug)]
pub struct Responder {
    pub(super) watch: Watch,
    pub(super) ledger: Ledger,
    pub(super) engine: Engine,
    pub(super) incidents: Book,
    /// Decisions that fell before this start had a way to carry them out.
    pub(super) owed: Vec<Decision>,
    pub(super) draw: Draw,
    pub(super) signer: Signer,
    /// What the wall clock was set ahead by since decisions are timed.
    pub(super) ahead_us: i64,
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

    /// The policy's version, for the audit chain.
    pub fn policy_version(&self) -> &str {
        &self.engine.policy().version
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

    pub(super) fn with_scores(&mut self) -> Pending {
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

    /// Incidents that are not over, as reports: whoever should hear of them may have been told nothing before this start.
    pub fn standing(&self) -> Vec<Report> {
        self.incidents.standing().map(report::of_incident).collect()
    }
}
