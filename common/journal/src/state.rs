//! What all entries together say; pure.

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest, Sha256};
use skep_wire::v1;
use thiserror::Error;

use super::record::{Entry, Seen, Standing, What};

const HOUR_US: i64 = 3_600_000_000;

const HOUR_NS: u64 = 3_600_000_000_000;

/// Nonces are remembered for so long after the command's own end, whatever the clock does meanwhile. Those that a clock
/// gone wrong has forgotten earlier leave behind that commands of that time are void.
pub const REMEMBER_US: i64 = 86_400_000_000;

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Wall clock, microseconds since the epoch; it may be set.
    pub wall_us: i64,
    /// Nanoseconds since boot.
    pub boot_ns: u64,
    /// Which boot: [`mark`] of its id.
    pub boot: u64,
}

/// A boot's id in short.
pub fn mark(boot: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(boot).into();
    digest.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
}

impl Now {
    /// Whether it was begun within the hour: in this boot by the clock that nobody sets.
    fn is_within_hour_of(&self, seen: &Seen) -> bool {
        if seen.begun_us == 0 {
            return false;
        }
        if seen.begun_boot != 0 && seen.begun_boot == self.boot {
            return self.boot_ns.saturating_sub(seen.begun_boot_ns) < HOUR_NS;
        }
        seen.begun_us > self.wall_us.saturating_sub(HOUR_US)
    }
}

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
    /// When the journal was begun; 0 where it is not yet.
    pub journal_us: i64,
    seen: Vec<Seen>,
    nonces: HashSet<String>,
    commands: HashSet<String>,
    void_until_us: i64,
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
        let (void_until_us, journal_us) = (entry.void_until_us, entry.journal_us);
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
        self.void_until_us = self.void_until_us.max(void_until_us);
        if journal_us != 0 {
            self.journal_us = journal_us;
        }
        Ok(())
    }

    /// The one entry that says all of this, without what need not be remembered now.
    pub fn snapshot(&self, now: Now) -> Entry {
        let is_remembered = |seen: &&Seen| seen.until_us >= now.wall_us || now.is_within_hour_of(seen);
        let (remembered, forgotten): (Vec<&Seen>, Vec<&Seen>) = self.seen.iter().partition(is_remembered);
        let void = forgotten.iter().map(|seen| seen.until_us.saturating_sub(REMEMBER_US)).max();
        let first = self.receipts.keys().next().copied().unwrap_or(self.last_receipt + 1);
        let changes = [What::Clear(true)]
            .into_iter()
            .chain(remembered.into_iter().cloned().map(What::Seen))
            .chain(self.standing.values().cloned().map(What::Standing))
            .chain([What::Acknowledged(first.saturating_sub(1))])
            .chain(self.receipts.values().cloned().map(What::Receipt));
        let void_until_us = void.unwrap_or(0).max(self.void_until_us);
        Entry { void_until_us, journal_us: self.journal_us, ..Entry::of(changes) }
    }

    /// Whether a command with this nonce or id was seen.
    pub fn has_seen(&self, nonce: &str, command: &str) -> bool {
        self.nonces.contains(nonce) || self.commands.contains(command)
    }

    /// Whether a command that was to be begun until then may have been seen and forgotten.
    pub fn may_have_seen(&self, not_after_us: i64) -> bool {
        not_after_us <= self.void_until_us
    }

    /// Actions begun within the hour.
    pub fn begun_in_hour(&self, now: Now) -> usize {
        self.seen.iter().filter(|seen| now.is_within_hour_of(seen)).count()
    }

    fn see(&mut self, seen: Seen) {
        self.nonces.insert(seen.nonce.clone());
        self.commands.insert(seen.command.clone());
        self.seen.push(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(command: &str, until_us: i64, begun_us: i64) -> What {
        let nonce = format!("nonce of {command}");
        What::Seen(Seen { nonce, command: command.to_owned(), until_us, begun_us, ..Seen::default() })
    }

    fn at(wall_us: i64) -> Now {
        Now { wall_us, ..Now::default() }
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
        assert_eq!(state.begun_in_hour(at(8)), 1);
        assert_eq!(state.begun_in_hour(at(8 + HOUR_US)), 0);
        state.apply(Entry::of([What::Closed("a".to_owned())])).unwrap();
        assert!(state.standing.is_empty());
    }

    #[test]
    fn a_snapshot_says_the_same_and_forgets_what_is_over() {
        let mut state = State::default();
        state.apply(Entry::of([seen("old", 100, 0), seen("new", HOUR_US * 3, 0), standing("a"), receipt(9)])).unwrap();
        let mut again = State::default();
        again.apply(Entry::of([standing("gone")])).unwrap();
        again.apply(state.snapshot(at(HOUR_US * 2))).unwrap();
        assert_eq!((again.standing.len(), again.last_receipt, again.receipts.len()), (1, 9, 1));
        assert!(again.has_seen("nonce of new", "") && !again.has_seen("nonce of old", "old"));
        again.apply(Entry::of([What::Acknowledged(9)])).unwrap();
        let mut third = State::default();
        third.apply(again.snapshot(at(HOUR_US * 2))).unwrap();
        assert_eq!(third.last_receipt, 9, "numbers are never given out twice");
    }

    #[test]
    fn what_was_forgotten_is_void() {
        let mut state = State::default();
        let not_after_us = 60_000_000;
        state.apply(Entry::of([seen("a", not_after_us + REMEMBER_US, 1)])).unwrap();
        let mut again = State::default();
        again.apply(state.snapshot(at(2 * REMEMBER_US))).unwrap();
        assert!(!again.has_seen("nonce of a", "a") && again.may_have_seen(not_after_us));
        assert!(!again.may_have_seen(not_after_us + 1), "what is valid for longer is another one");
        let mut third = State::default();
        third.apply(again.snapshot(at(0))).unwrap();
        assert!(third.may_have_seen(not_after_us));
    }

    #[test]
    fn an_hour_is_one_of_the_boot_clock() {
        let begun = Seen { begun_us: 1, begun_boot_ns: 5, begun_boot: mark("b"), ..Seen::default() };
        let mut state = State::default();
        state.apply(Entry::of([What::Seen(begun)])).unwrap();
        let later = |boot_ns, boot| Now { wall_us: 2 * HOUR_US, boot_ns, boot: mark(boot) };
        assert_eq!(state.begun_in_hour(later(6, "b")), 1, "the clock was set ahead");
        assert_eq!(state.begun_in_hour(later(5 + HOUR_NS, "b")), 0);
        assert_eq!(state.begun_in_hour(later(6, "c")), 0);
        let mut again = State::default();
        again.apply(state.snapshot(later(6, "b"))).unwrap();
        assert_eq!(again.begun_in_hour(later(7, "b")), 1, "and it is kept");
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
