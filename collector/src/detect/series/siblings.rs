//! Who is unlike its siblings: the same workload, or the node itself, on other nodes in the same minute.
//!
//! What all do at once is nothing of one of them, and what one does alone is, however often it did it before. Siblings are
//! values of the same name on other nodes; their median and their spread (scaled median absolute deviation, never below
//! what matters in the signal) say what is usual then. Nodes tell their minutes one after the other, so each is compared by
//! the minute before its last, which all have told. Nodes that never were alike are no siblings: one that was far off
//! before is not told of again.
//!
//! A member is some 40 bytes, and there are at most [`MAX_MEMBERS`]. What was learned is not kept over a restart: it is
//! half an hour.

use std::collections::{BTreeMap, HashMap};

use skep_series::level::{Bounds, MAD_TO_SIGMA, median};

use super::gallery::Name;
use super::minute::Value;

/// Values of all names over all nodes.
pub const MAX_MEMBERS: usize = 131_072;

/// Others that make a crowd.
const LEAST_SIBLINGS: usize = 4;

/// Others that are asked: more would not say it better.
const MOST_SIBLINGS: usize = 63;

/// Spreads from which on a value is far off.
const FAR: f64 = 10.0;

/// Minutes a member is watched before it is far off, or it never was a sibling.
const LEAST_MINUTES: u32 = 30;

/// Of the last hour, minutes before these in which it may have been far off; more, and it never was a sibling.
const SEEN: u32 = 1;

/// After so long a member that was not heard of makes room.
const STALE_US: i64 = 3_600_000_000;

/// How often those are looked for: who finds none would look through all members for every value that comes.
const SEARCH_US: i64 = 60_000_000;

/// How one value stands among its siblings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unlike {
    /// Start of the minute in which it stands so.
    pub time_us: i64,
    /// Its value then.
    pub value: f64,
    /// Their median.
    pub median: f64,
    /// Their spread.
    pub spread: f64,
    /// Spreads between the median and the value.
    pub z: f64,
    /// How many they are.
    pub siblings: usize,
    /// Minutes in a row, this one included, that it has been far off.
    pub minutes: u32,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    /// Start of its last minute, and the value.
    last: (i64, f64),
    /// The same of the one before.
    before: Option<(i64, f64)>,
    /// Minutes it was compared.
    compared: u32,
    /// The last 64 of them, the newest lowest: a one is far off.
    history: u64,
}

/// All values by their names.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    nodes: HashMap<String, u32>,
    named: HashMap<Name, BTreeMap<u32, Member>>,
    members: usize,
    next_node: u32,
    refused: u64,
    /// Start of the minute in which room was looked for last.
    searched_us: Option<i64>,
}

impl Siblings {
    /// Takes a value of a node's minute; where it stands if that is far off, was not so before, and others are there.
    pub(super) fn observe(&mut self, node: &str, time_us: i64, what: &Value, bounds: &Bounds) -> Option<Unlike> {
        let node = self.node(node);
        let name = (what.workload.clone(), what.signal.clone());
        if self.members >= MAX_MEMBERS && !self.named.get(&name).is_some_and(|all| all.contains_key(&node)) {
            self.make_room(time_us);
            if self.members >= MAX_MEMBERS {
                self.refused += 1;
                return None;
            }
        }
        let all = self.named.entry(name).or_default();
        let last = (time_us, what.value);
        let Some(mut own) = all.get(&node).copied() else {
            all.insert(node, Member { last, before: None, compared: 0, history: 0 });
            self.members += 1;
            return None;
        };
        let (time_us, value) = own.last;
        let others = others(all, node, time_us);
        (own.before, own.last) = (Some(own.last), last);
        let mut unlike = None;
        if let Some((median, spread, siblings)) = stands(value, others, bounds) {
            let z = (value - median) / spread;
            own.compared = own.compared.saturating_add(1);
            own.history = own.history << 1 | u64::from(z.abs() >= FAR);
            let minutes = own.history.trailing_ones();
            let earlier = own.history.count_ones() - minutes;
            let before = own.compared.min(u64::BITS) - minutes;
            let is_told = minutes > 0 && earlier <= SEEN && before >= LEAST_MINUTES;
            unlike = is_told.then_some(Unlike { time_us, value, median, spread, z, siblings, minutes });
        }
        all.insert(node, own);
        unlike
    }

    /// Forgets a node.
    pub(super) fn forget(&mut self, node: &str) {
        if let Some(number) = self.nodes.remove(node) {
            self.retain(|of, _| of != number);
        }
    }

    /// Values that were not compared for want of room, since the call before.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    fn node(&mut self, node: &str) -> u32 {
        if let Some(number) = self.nodes.get(node) {
            return *number;
        }
        let number = self.next_node;
        self.next_node = self.next_node.wrapping_add(1);
        self.nodes.insert(node.to_owned(), number);
        number
    }

    fn make_room(&mut self, now_us: i64) {
        if self.searched_us.is_some_and(|searched_us| now_us < searched_us + SEARCH_US) {
            return;
        }
        self.searched_us = Some(now_us);
        self.retain(|_, member| member.last.0 > now_us - STALE_US);
        let used: std::collections::HashSet<u32> = self.named.values().flat_map(BTreeMap::keys).copied().collect();
        self.nodes.retain(|_, number| used.contains(number));
    }

    fn retain(&mut self, keep: impl Fn(u32, &Member) -> bool) {
        for all in self.named.values_mut() {
            all.retain(|node, member| keep(*node, member));
        }
        self.named.retain(|_, all| !all.is_empty());
        self.members = self.named.values().map(BTreeMap::len).sum();
    }
}

impl Member {
    fn at(&self, time_us: i64) -> Option<f64> {
        [Some(self.last), self.before]
            .into_iter()
            .flatten()
            .find(|(at_us, _)| *at_us == time_us)
            .map(|(_, value)| value)
    }
}

/// Values of others in a minute: those that stand after the node, around to it.
fn others(all: &BTreeMap<u32, Member>, node: u32, time_us: i64) -> Vec<f64> {
    let around = all.range(node..).chain(all.range(..node)).filter(|(other, _)| **other != node);
    around.filter_map(|(_, member)| member.at(time_us)).take(MOST_SIBLINGS).collect()
}

/// Median, spread and number of those who are there, if they are enough.
fn stands(value: f64, mut others: Vec<f64>, bounds: &Bounds) -> Option<(f64, f64, usize)> {
    if others.len() < LEAST_SIBLINGS || !value.is_finite() {
        return None;
    }
    let usual = median(&mut others);
    others.iter_mut().for_each(|other| *other = (*other - usual).abs());
    let least = bounds.least_spread.max(bounds.least_spread_ratio * usual.abs());
    Some((usual, (median(&mut others) * MAD_TO_SIGMA).max(least), others.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_US: i64 = 60_000_000;
    const BOUNDS: Bounds = Bounds { least_spread: 0.1, least_spread_ratio: 0.05, limit: None };

    fn value(value: f64) -> Value {
        let (workload, signal) = ("unit:web.service".to_owned(), "cpu_cores".to_owned());
        Value { workload, signal, value, coverage: 1.0, rate: true }
    }

    /// What was said of `n0` in each minute, when the others of so many nodes have `rest`.
    fn minutes(
        siblings: &mut Siblings,
        minutes: std::ops::Range<i64>,
        nodes: usize,
        of: impl Fn(i64) -> f64,
        rest: impl Fn(i64) -> f64,
    ) -> Vec<Option<Unlike>> {
        let mut said = Vec::new();
        for minute in minutes {
            for node in 1..nodes {
                let one = value(rest(minute) + 0.01 * node as f64);
                let name = format!("n{node}");
                assert_eq!(siblings.observe(&name, minute * MINUTE_US, &one, &BOUNDS), None, "{name} in {minute}");
            }
            said.push(siblings.observe("n0", minute * MINUTE_US, &value(of(minute)), &BOUNDS));
        }
        said
    }

    #[test]
    fn one_that_leaves_the_others_is_told_of_with_what_they_do() {
        let mut siblings = Siblings::default();
        let said = minutes(&mut siblings, 0..60, 6, |minute| if minute < 50 { 0.4 } else { 3.0 }, |_| 0.4);
        assert!(said[..51].iter().all(Option::is_none), "{said:?}");
        let told: Vec<Unlike> = said[51..].iter().map(|unlike| unlike.unwrap()).collect();
        assert_eq!((told[0].minutes, told[1].minutes, told[1].siblings), (1, 2, 5));
        assert!((told[1].median - 0.43).abs() < 1e-9 && (told[1].z - 25.7).abs() < 1e-6, "{:?}", told[1]);
    }

    #[test]
    fn what_all_do_at_once_is_nothing_of_one_of_them() {
        let load = |minute: i64| if minute < 50 { 0.4 } else { 8.0 };
        let said = minutes(&mut Siblings::default(), 0..60, 6, load, load);
        assert!(said.iter().all(Option::is_none), "{said:?}");
        // And who stays behind is told of.
        let said = minutes(&mut Siblings::default(), 0..60, 6, |_| 0.4, load);
        assert!(said[52].is_some_and(|unlike| unlike.z < -10.0), "{:?}", said[52]);
    }

    #[test]
    fn too_few_too_new_and_never_alike_are_let_be() {
        let (high, low) = (|_| 9.0, |_| 0.4);
        let leaves = |minute: i64| if minute < 50 { 0.4 } else { 9.0 };
        let said = minutes(&mut Siblings::default(), 0..60, LEAST_SIBLINGS, leaves, low);
        assert!(said.iter().all(Option::is_none), "three others: {said:?}");
        let said = minutes(&mut Siblings::default(), 0..200, 6, high, low);
        assert!(said.iter().all(Option::is_none), "{said:?}");
        let soon = |minute: i64| if minute < 20 { 0.4 } else { 9.0 };
        let said = minutes(&mut Siblings::default(), 0..60, 6, soon, low);
        assert!(said.iter().all(Option::is_none), "{said:?}");
    }

    #[test]
    fn one_that_comes_and_goes_is_told_of_once() {
        let flaps = |minute: i64| if minute >= 50 && minute % 10 < 3 { 9.0 } else { 0.4 };
        let said = minutes(&mut Siblings::default(), 0..100, 6, flaps, |_| 0.4);
        let begins = said.iter().flatten().filter(|unlike| unlike.minutes == 2).count();
        assert_eq!(begins, 1, "{said:?}");
    }

    #[test]
    fn a_node_that_is_forgotten_is_nobodys_sibling_and_old_ones_make_room() {
        let mut siblings = Siblings::default();
        minutes(&mut siblings, 0..1, 6, |_| 0.4, |_| 0.4);
        assert_eq!(siblings.members, 6);
        siblings.forget("n3");
        assert_eq!((siblings.members, siblings.nodes.len()), (5, 5));
        assert_eq!(siblings.observe("n0", 2 * STALE_US, &value(0.4), &BOUNDS), None);
        siblings.make_room(2 * STALE_US);
        assert_eq!((siblings.members, siblings.nodes.len()), (1, 1));
        siblings.observe("n1", 0, &value(0.4), &BOUNDS);
        siblings.make_room(2 * STALE_US + SEARCH_US - 1);
        assert_eq!(siblings.members, 2, "it was looked for a moment ago");
        siblings.make_room(2 * STALE_US + SEARCH_US);
        assert_eq!(siblings.members, 1);
    }
}
