//! What all entries together say; pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use skep_wire::v1;
use thiserror::Error;

use super::record::{Entry, Seen, Standing, What};

const HOUR_US: i64 = 3_600_000_000;

/// The journal was written by a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the journal holds a change that this version does not know")]
pub struct UnknownChange;

/// What all entries together say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Action to what stands of it.
    pub standing: BTreeMap<String, Standing>,
    /// Receipts nobody acknowledged, by number.
    pub receipts: BTreeMap<u64, v1::Receipt>,
    /// Highest receipt number ever given out.
    pub last_receipt: u64,
    seen: Vec<Seen>,
    nonces: HashSet<String>,
    commands: HashMap<String, i64>,
}

impl State {
    /// Applies an entry whole, or not at all.
    ///
    /// # Errors
    /// [`UnknownChange`]: open the journal with the version that wrote it.
    pub fn apply(&mut self, entry: Entry) -> Result<(), UnknownChange> {
        if entry.changes.iter().any(|change| change.what.is_none()) {
            return Err(UnknownChange);
        }
        for what in entry.changes.into_iter().filter_map(|change| change.what) {
            match what {
                What::Clear(_) => *self = Self::default(),
                What::Seen(seen) => self.see(seen),
                What::Standing(standing) => {
                    self.standing.insert(standing.action().to_owned(), standing);
                }
                What::Closed(action) => {
                    self.standing.remove(&action);
                }
                What::Receipt(receipt) => {
                    self.last_receipt = self.last_receipt.max(receipt.number);
                    self.receipts.insert(receipt.number, receipt);
                }
                What::Acknowledged(number) => {
                    self.last_receipt = self.last_receipt.max(number);
                    self.receipts = self.receipts.split_off(&(number.saturating_add(1)));
                }
            }
        }
        Ok(())
    }

    /// The one entry that says all of this, without what need not be remembered at `now_us`.
    pub fn snapshot(&self, now_us: i64) -> Entry {
        let remembered = self.seen.iter().filter(|seen| seen.until_us >= now_us || seen.begun_us > now_us - HOUR_US);
        let first = self.receipts.keys().next().copied().unwrap_or(self.last_receipt + 1);
        let changes = [What::Clear(true)]
            .into_iter()
            .chain(remembered.cloned().map(What::Seen))
            .chain(self.standing.values().cloned().map(What::Standing))
            .chain([What::Acknowledged(first.saturating_sub(1))])
            .chain(self.receipts.values().cloned().map(What::Receipt));
        Entry::of(changes)
    }

    /// Whether a command with this nonce or id was seen.
    pub fn has_seen(&self, nonce: &str, command: &str) -> bool {
        self.nonces.contains(nonce) || self.commands.contains_key(command)
    }

    /// Actions begun within the hour before `now_us`.
    pub fn begun_in_hour(&self, now_us: i64) -> usize {
        self.commands.values().filter(|&&begun_us| begun_us > now_us - HOUR_US).count()
    }

    fn see(&mut self, seen: Seen) {
        self.nonces.insert(seen.nonce.clone());
        let begun_us = self.commands.entry(seen.command.clone()).or_insert(seen.begun_us);
        *begun_us = seen.begun_us.max(*begun_us);
        self.seen.push(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(command: &str, until_us: i64, begun_us: i64) -> What {
        What::Seen(Seen { nonce: format!("nonce of {command}"), command: command.to_owned(), until_us, begun_us })
    }

    fn standing(action: &str) -> What {
        let command = v1::Command { id: action.to_owned(), ..Default::default() };
        What::Standing(Standing { command: Some(command), ..Default::default() })
    }

    fn receipt(number: u64) -> What {
        What::Receipt(v1::Receipt { number, ..Default::default() })
    }

    #[test]
    fn entries_add_up() {
        let mut state = State::default();
        state.apply(Entry::of([seen("a", 100, 7), standing("a")])).unwrap();
        state.apply(Entry::of([receipt(1), receipt(2), receipt(3)])).unwrap();
        state.apply(Entry::of([What::Acknowledged(2)])).unwrap();
        assert!(state.standing.contains_key("a"));
        assert_eq!(state.receipts.keys().copied().collect::<Vec<_>>(), [3]);
        assert!(state.has_seen("nonce of a", "z") && state.has_seen("z", "a") && !state.has_seen("z", "z"));
        assert_eq!(state.begun_in_hour(8), 1);
        assert_eq!(state.begun_in_hour(8 + HOUR_US), 0);
        state.apply(Entry::of([What::Closed("a".to_owned())])).unwrap();
        assert!(state.standing.is_empty());
    }

    #[test]
    fn a_snapshot_says_the_same_and_forgets_what_is_over() {
        let mut state = State::default();
        state.apply(Entry::of([seen("old", 100, 0), seen("new", HOUR_US * 3, 0), standing("a"), receipt(9)])).unwrap();
        let mut again = State::default();
        again.apply(Entry::of([standing("gone")])).unwrap();
        again.apply(state.snapshot(HOUR_US * 2)).unwrap();
        assert_eq!((again.standing.len(), again.last_receipt, again.receipts.len()), (1, 9, 1));
        assert!(again.has_seen("nonce of new", "") && !again.has_seen("nonce of old", "old"));
        again.apply(Entry::of([What::Acknowledged(9)])).unwrap();
        let mut third = State::default();
        third.apply(again.snapshot(HOUR_US * 2)).unwrap();
        assert_eq!(third.last_receipt, 9, "numbers are never given out twice");
    }

    #[test]
    fn a_change_of_a_later_version_is_refused_whole() {
        let mut state = State::default();
        let mut entry = Entry::of([standing("a")]);
        entry.changes.push(super::super::record::Change { what: None });
        assert_eq!(state.apply(entry), Err(UnknownChange));
        assert!(state.standing.is_empty());
    }
}
