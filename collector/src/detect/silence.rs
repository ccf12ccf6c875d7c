//! Nodes that promised to be heard of and are not. Pure.
//!
//! A node that announced a canary has said how often it will be heard of. When it sends no window for three times as
//! long, or windows and no canary, nothing that follows can be taken for health.

use std::collections::{HashMap, HashSet};

/// Intervals without a word that are too many.
const INTERVALS: i64 = 3;

/// For the way, on top of that.
const GRACE_US: i64 = 10_000_000;

/// A pause between two ticks longer than this was the collector's own: nobody was there to hear.
const OWN_PAUSE_US: i64 = 5_000_000;

/// Nodes listened for.
const MAX_NODES: usize = 20_000;

/// What is wrong, or no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// No window came.
    Silent {
        /// For so long.
        for_us: i64,
    },
    /// Windows come, canaries do not.
    Unproven {
        /// For so long.
        for_us: i64,
    },
    /// It is heard of again.
    Heard {
        /// After so long.
        after_us: i64,
    },
}

#[derive(Debug)]
struct Node {
    boot: String,
    interval_us: i64,
    window_us: i64,
    /// When a window came last, by the collector's clock.
    heard_us: i64,
    /// When a canary was announced last, by the collector's clock.
    announced_us: i64,
    silent: bool,
    unproven: bool,
}

impl Node {
    fn patience_us(&self) -> i64 {
        INTERVALS.saturating_mul(self.interval_us.max(self.window_us)).saturating_add(GRACE_US)
    }
}

/// All nodes that announced canaries.
#[derive(Debug, Default)]
pub struct Silence {
    nodes: HashMap<String, Node>,
    /// Found silent before this collector started, and not heard of since.
    silent_before: HashSet<String>,
    ticked_us: Option<i64>,
}

impl Silence {
    /// A node announced a canary, to be followed by another after `interval_us`.
    pub fn announced(&mut self, node: &str, boot: &str, interval_us: i64, now_us: i64) {
        if !self.nodes.contains_key(node) && self.nodes.len() >= MAX_NODES {
            return;
        }
        let entry = self.nodes.entry(node.to_owned()).or_insert(Node {
            boot: String::new(),
            interval_us,
            window_us: 0,
            heard_us: now_us,
            announced_us: now_us,
            silent: self.silent_before.remove(node),
            unproven: false,
        });
        boot.clone_into(&mut entry.boot);
        (entry.interval_us, entry.announced_us, entry.unproven) = (interval_us.max(0), now_us, false);
    }

    /// A node announced that there will be no more canaries, or that it goes to another collector: it is no longer listened
    /// for.
    pub fn off(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// A window of a node came.
    pub fn window(&mut self, node: &str, window_us: i64, now_us: i64) -> Option<Turn> {
        let node = self.nodes.get_mut(node)?;
        // A short one at the start or the end says nothing of the usual length.
        node.window_us = node.window_us.max(window_us);
        let after_us = now_us - std::mem::replace(&mut node.heard_us, now_us);
        std::mem::take(&mut node.silent).then_some(Turn::Heard { after_us })
    }

    /// To be called every second; returns nodes with their boot and what is wrong since.
    pub fn tick(&mut self, now_us: i64) -> Vec<(String, String, Turn)> {
        let pause_us = now_us - self.ticked_us.replace(now_us).unwrap_or(now_us);
        if !(0..=OWN_PAUSE_US).contains(&pause_us) {
            for node in self.nodes.values_mut() {
                node.heard_us += pause_us;
                node.announced_us += pause_us;
            }
        }
        let mut turns = Vec::new();
        for (name, node) in &mut self.nodes {
            let patience_us = node.patience_us();
            let (quiet_us, unproven_us) = (now_us - node.heard_us, now_us - node.announced_us);
            let turn = if quiet_us > patience_us {
                (!std::mem::replace(&mut node.silent, true)).then_some(Turn::Silent { for_us: quiet_us })
            } else if unproven_us > patience_us && quiet_us <= node.window_us.saturating_mul(2) + GRACE_US {
                (!std::mem::replace(&mut node.unproven, true)).then_some(Turn::Unproven { for_us: unproven_us })
            } else {
                None
            };
            turns.extend(turn.map(|turn| (name.clone(), node.boot.clone(), turn)));
        }
        turns.sort_by(|a, b| a.0.cmp(&b.0));
        turns
    }

    /// Whether the last finding about this node's silence said that it is silent.
    pub fn restore(&mut self, node: &str, silent: bool) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.silent = silent;
        } else if !silent {
            self.silent_before.remove(node);
        } else if self.silent_before.len() < MAX_NODES {
            self.silent_before.insert(node.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    /// Ticks every second from `from_s` to `until_s`.
    fn listen(silence: &mut Silence, from_s: i64, until_s: i64) -> Vec<(i64, Turn)> {
        let ticks = from_s..=until_s;
        ticks.flat_map(|at| silence.tick(at * S).into_iter().map(move |(_, _, turn)| (at, turn))).collect()
    }

    #[test]
    fn a_node_that_is_heard_of_is_fine() {
        let mut silence = Silence::default();
        for at in 0..1000 {
            if at % 60 == 0 {
                silence.announced("n", "b", 60 * S, at * S);
            }
            if at % 10 == 0 {
                assert_eq!(silence.window("n", 10 * S, at * S), None);
            }
            assert_eq!(silence.tick(at * S), []);
        }
    }

    #[test]
    fn silence_is_told_once_and_so_is_its_end() {
        let mut silence = Silence::default();
        silence.announced("n", "b", 60 * S, 0);
        silence.window("n", 10 * S, S);
        assert_eq!(listen(&mut silence, 1, 1000), [(192, Turn::Silent { for_us: 191 * S })]);
        assert_eq!(silence.window("n", 10 * S, 1001 * S), Some(Turn::Heard { after_us: 1000 * S }));
        assert_eq!(silence.window("n", 10 * S, 1002 * S), None);
    }

    #[test]
    fn windows_longer_than_the_interval_are_waited_for() {
        let mut silence = Silence::default();
        silence.announced("n", "b", 2 * S, 0);
        silence.window("n", 600 * S, 0);
        assert_eq!(listen(&mut silence, 0, 1800), []);
    }

    #[test]
    fn a_node_that_never_promised_or_took_it_back_is_not_waited_for() {
        let mut silence = Silence::default();
        assert_eq!(silence.window("n", 10 * S, 0), None);
        assert_eq!(listen(&mut silence, 0, 500), []);
        silence.announced("n", "b", S, 500 * S);
        silence.off("n");
        assert_eq!(listen(&mut silence, 500, 1000), []);
    }

    #[test]
    fn windows_alone_prove_nothing() {
        let mut silence = Silence::default();
        silence.announced("n", "b", 10 * S, 0);
        let mut turns = Vec::new();
        for at in 0..100 {
            silence.window("n", S, at * S);
            turns.extend(silence.tick(at * S));
        }
        assert_eq!(turns, [("n".to_owned(), "b".to_owned(), Turn::Unproven { for_us: 41 * S })]);
    }

    #[test]
    fn what_was_silent_before_the_start_is_not_told_again_and_its_end_is() {
        let mut silence = Silence::default();
        for node in ["n", "m"] {
            silence.restore(node, true);
        }
        silence.restore("m", false);
        silence.announced("n", "b", 10 * S, 0);
        silence.announced("m", "b", 10 * S, 0);
        assert_eq!(silence.window("m", S, 1), None);
        assert!(listen(&mut silence, 0, 39).is_empty());
        assert_eq!(listen(&mut silence, 40, 60).len(), 1, "only m");
        assert_eq!(silence.window("n", S, 61 * S), Some(Turn::Heard { after_us: 61 * S }));
    }

    #[test]
    fn a_pause_of_the_collector_is_nobodys_silence() {
        let mut silence = Silence::default();
        silence.announced("n", "b", 10 * S, 0);
        assert_eq!(listen(&mut silence, 0, 5), []);
        assert_eq!(silence.tick(10_000 * S), []);
        assert_eq!(listen(&mut silence, 10_001, 10_100).len(), 1, "from here on it counts again");
    }
}
