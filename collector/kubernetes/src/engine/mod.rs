//! Carries a command through check, journal, apply, verify and undo. It owns all state; one task calls it.
//!
//! Every step is idempotent by the command's id and written to the journal before it is taken. What a change comes to is
//! looked at again and again by [`Engine::look`] until it is over; meanwhile other commands and leases are served.
//!
//! * `begin`: from a command to the change.
//! * `end`: from a change to its outcome, and back.

mod begin;

mod end;

use std::collections::BTreeMap;

use skep_journal::fault::Fault;
use skep_journal::record::What;
use skep_journal::state::REMEMBER_US;
use skep_journal::{Journal, JournalError, Now, Seen, Standing};
use skep_runtime::clock::Clock;
use skep_seglog::{Disk, Storage};
use skep_wire::order;
use skep_wire::v1::{self, Step};

use crate::act::Captured;
use crate::cluster::Cluster;
use crate::refusal::Refusal;
use crate::settings::Settings;

const SECOND_US: i64 = 1_000_000;

/// An undo that failed is tried again after this time.
const RETRY_US: i64 = 5 * SECOND_US;

/// What an engine is made with.
#[derive(Debug)]
pub struct Setup {
    /// What may be done.
    pub settings: Settings,
    /// The API server.
    pub cluster: Cluster,
    /// Which cluster that is.
    pub identity: String,
    /// Clocks.
    pub clock: Clock,
    /// Which boot of this host it is: [`skep_journal::state::mark`] of its id, 0 where that is not known.
    pub boot: u64,
    /// For tests.
    pub fault: Fault,
}

/// A change that is not over.
#[derive(Debug, Clone, Copy)]
struct Following {
    /// By the wall clock.
    until_us: i64,
}

/// When an action is taken back, and why.
#[derive(Debug, Clone, Copy)]
struct Due {
    at_us: i64,
    why: &'static str,
    /// The failure to undo was told already.
    told: bool,
}

/// Carries commands out.
#[derive(Debug)]
pub struct Engine<S: Storage + Clone = Disk> {
    setup: Setup,
    journal: Journal<S>,
    following: BTreeMap<String, Following>,
    due: BTreeMap<String, Due>,
}

impl<S: Storage + Clone> Engine<S> {
    /// An engine over a journal. What was known to stand goes on to the end of its lease; what may have been half done is
    /// taken back, or looked at where it cannot be.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn start(setup: Setup, journal: Journal<S>) -> Result<Self, JournalError> {
        for fault in journal.damage() {
            tracing::error!(%fault, "the journal of the cluster's actions is damaged");
        }
        let mut engine = Self { setup, journal, following: BTreeMap::new(), due: BTreeMap::new() };
        let standing: Vec<(String, Standing)> =
            engine.journal.state().standing.iter().map(|(id, standing)| (id.clone(), standing.clone())).collect();
        for (action, standing) in standing {
            if standing.boot != engine.setup.identity {
                engine.close(&action, Step::Undone, "another cluster answers now; nothing of it is here".to_owned())?;
                continue;
            }
            let leased = is_leased(&standing);
            if !leased || standing.lease_until_us > 0 {
                engine.follow(&action);
            }
            if leased && standing.lease_until_us > 0 {
                engine.lease(&action, standing.lease_until_us);
            } else if leased {
                engine.undo(&action, "the collector had ended while it was begun").await?;
            }
        }
        Ok(engine)
    }

    /// Receipts nobody acknowledged, in order.
    pub fn receipts(&self) -> Vec<v1::Receipt> {
        self.journal.state().receipts.values().cloned().collect()
    }

    /// Receipts up to here are stored.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn acknowledge(&mut self, number: u64) -> Result<(), JournalError> {
        self.record(vec![What::Acknowledged(number)], Vec::new())
    }

    /// What stands now.
    pub fn standing(&self) -> Vec<String> {
        self.journal.state().standing.keys().cloned().collect()
    }

    /// Whether changes are under way that are to be looked at.
    pub fn is_following(&self) -> bool {
        !self.following.is_empty()
    }

    /// When [`Engine::run_due`] is to be called, on the wall clock.
    pub fn next_due_us(&self) -> Option<i64> {
        self.due.values().map(|due| due.at_us).min()
    }

    fn now(&self) -> Now {
        let Setup { clock, boot, .. } = &self.setup;
        clock.reanchor();
        Now { wall_us: clock.wall_us(), boot_ns: clock.boot_ns(), boot: *boot }
    }

    fn now_us(&self) -> i64 {
        self.now().wall_us
    }

    fn follow(&mut self, action: &str) {
        let until_us = self.now_us() + i64::from(self.setup.settings.within_s) * SECOND_US;
        self.following.insert(action.to_owned(), Following { until_us });
    }

    fn lease(&mut self, action: &str, until_us: i64) {
        self.due.insert(action.to_owned(), Due { at_us: until_us, why: "the lease has ended", told: false });
    }

    /// The command that stands and what is in the journal of it.
    fn known(&self, action: &str) -> Option<(v1::Command, Option<Captured>)> {
        let standing = self.journal.state().standing.get(action)?;
        Some((standing.command.clone()?, serde_json::from_str(&standing.previous).ok()))
    }

    fn receipt(&self, command: &v1::Command, step: Step, detail: String) -> v1::Receipt {
        v1::Receipt {
            number: 0,
            time_us: self.now_us(),
            action_id: command.id.clone(),
            step: step.into(),
            detail,
            command: Some(command.clone()),
            dry_run: false,
            lease_until_us: 0,
            journal_us: 0,
        }
    }

    fn seen(&self, command: &v1::Command, begins: bool) -> What {
        let now = self.now();
        What::Seen(Seen::of(command, command.not_after_us.max(now.wall_us) + REMEMBER_US, begins, now))
    }

    /// Nothing of it stands any more.
    fn close(&mut self, action: &str, step: Step, detail: String) -> Result<(), JournalError> {
        let command = self.known(action).map(|(command, _)| command).unwrap_or_default();
        let receipt = self.receipt(&command, step, detail);
        self.record(vec![What::Closed(action.to_owned())], vec![receipt])?;
        self.following.remove(action);
        self.due.remove(action);
        Ok(())
    }

    /// Writes changes and receipts as one step.
    fn record(&mut self, changes: Vec<What>, receipts: Vec<v1::Receipt>) -> Result<(), JournalError> {
        let now = self.now();
        tokio::task::block_in_place(|| self.journal.record(changes, receipts, now))
    }

    /// A refusal is a receipt. One of an undo, or of a command seen before, does not speak for the action itself.
    fn refuse(&mut self, command: &v1::Command, refusal: &Refusal) -> Result<(), JournalError> {
        tracing::warn!(action = command.id, %refusal, "refused");
        let step = if matches!(refusal, Refusal::Moot { .. }) { Step::Moot } else { Step::Refused };
        let mut receipt = self.receipt(command, step, refusal.to_string());
        receipt.dry_run = !self.setup.settings.act;
        let replay = matches!(refusal, Refusal::Replay);
        if replay {
            receipt.action_id = format!("replay:{}", command.id);
        }
        let changes = if replay { Vec::new() } else { vec![self.seen(command, false)] };
        self.record(changes, vec![receipt])
    }
}

fn is_leased(standing: &Standing) -> bool {
    let action = standing.command.as_ref().and_then(|command| command.action.as_ref());
    order::is_leased(order::verb(action))
}
