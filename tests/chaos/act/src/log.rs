//! What went to the executor and what came back, as seen on its socket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use prost::Message;
use skep_wire::order;
use skep_wire::v1::{self, Step, command::Action};

/// Everything seen so far, by whoever sees it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Each once, in the order in which the agent passed them on.
    pub(crate) commands: Vec<Seen>,
    /// By their numbers, with the moment each was seen first.
    pub(crate) receipts: BTreeMap<u64, (Instant, v1::Receipt)>,
    /// Highest number the agent said it has.
    pub(crate) acknowledged: u64,
    /// By name: deliveries of each sort.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// A command as the collector signed it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) signed: v1::SignedCommand,
    pub(crate) command: v1::Command,
}

impl Log {
    pub(crate) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    pub(crate) fn see_command(&mut self, signed: &v1::SignedCommand) {
        let Ok(command) = v1::Command::decode(signed.command.as_slice()) else { return };
        if self.commands.iter().all(|seen| seen.command.nonce != command.nonce) {
            self.commands.push(Seen { signed: signed.clone(), command });
        }
    }

    pub(crate) fn see_acknowledged(&mut self, number: u64) {
        self.acknowledged = self.acknowledged.max(number);
    }

    pub(crate) fn see_receipt(&mut self, receipt: &v1::Receipt) {
        self.receipts.entry(receipt.number).or_insert_with(|| (Instant::now(), receipt.clone()));
    }

    /// Until when something may stand on `subject`, by the newest lease there; `None` where nothing ever stood.
    pub(crate) fn stands_until(&self, subject: &str) -> Option<Instant> {
        let leases = self.receipts.values().filter(|(_, receipt)| {
            matches!(receipt.step(), Step::Applied | Step::Extended)
                && receipt.command.as_ref().and_then(subject_of).as_deref() == Some(subject)
        });
        let ends = leases.map(|(at, receipt)| {
            let lease_s = receipt.command.as_ref().map_or(0, |command| command.lease_s);
            *at + Duration::from_secs(lease_s.into())
        });
        ends.max()
    }

    /// How often each action was begun.
    pub(crate) fn begun(&self) -> BTreeMap<&str, u64> {
        let mut begun: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, receipt) in self.receipts.values().filter(|(_, receipt)| receipt.step() == Step::Applied) {
            *begun.entry(&receipt.action_id).or_default() += 1;
        }
        begun
    }

    /// All receipts of an action, in one line.
    pub(crate) fn said_of(&self, action: &str) -> String {
        let of_it = self.receipts.values().filter(|(_, receipt)| receipt.action_id.ends_with(action));
        let words = of_it.map(|(_, receipt)| {
            let verb = order::verb(receipt.command.as_ref().and_then(|command| command.action.as_ref()));
            format!("{} {verb} {:?}: {}", receipt.number, receipt.step(), receipt.detail)
        });
        words.collect::<Vec<_>>().join(" | ")
    }

    /// The most actions that stood at a time, by the executor's own word.
    pub(crate) fn most_at_once(&self) -> usize {
        let (mut standing, mut most) = (BTreeSet::new(), 0);
        for (_, receipt) in self.receipts.values() {
            match receipt.step() {
                Step::Applied => _ = standing.insert(&receipt.action_id),
                Step::Undone | Step::Done => _ = standing.remove(&receipt.action_id),
                // What cannot be undone ends by it; of a lease only an undo says that it is over.
                Step::Failed if receipt.command.as_ref().is_some_and(|command| command.lease_s == 0) => {
                    standing.remove(&receipt.action_id);
                }
                _ => {}
            }
            most = most.max(standing.len());
        }
        most
    }

    /// Whether a number is missing.
    pub(crate) fn missing(&self) -> Option<u64> {
        (1..).zip(self.receipts.keys()).find(|(expected, number)| expected != *number).map(|(expected, _)| expected)
    }
}

/// What of the host an action changes until its lease ends, in one word.
pub(crate) fn subject_of(command: &v1::Command) -> Option<String> {
    let cgroup = || command.target.as_ref().map_or("", |target| &target.cgroup).to_owned();
    match &command.action {
        Some(Action::Freeze(_)) => Some(format!("freeze {}", cgroup())),
        Some(Action::Throttle(_)) => Some(format!("throttle {}", cgroup())),
        Some(Action::Block(block)) => Some(format!("block {}", block.address)),
        _ => None,
    }
}
