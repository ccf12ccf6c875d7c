//! What a workload usually does: which programs it runs, who starts whom, who it talks to.
//!
//! A workload is learned for a day from its first event; after that, what it never did is told once and learned too. How
//! many nodes know a program tells whether it is rare in the fleet.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use crate::aging::Aging;
use crate::event::{Connection, Exec};
use crate::facts::{Facts, Field};
use crate::names::{base_name, plain_name};
use crate::table::hash;

/// How long a workload is only watched.
pub const LEARN_US: i64 = 24 * 3_600 * 1_000_000;

/// Things remembered, over all workloads.
const MAX_SEEN: usize = 200_000;

/// Workloads remembered.
const MAX_WORKLOADS: usize = 20_000;

/// A program known to so many nodes is nothing new on one more.
pub(crate) const COMMON_NODES: usize = 3;

/// See the module.
#[derive(Debug)]
pub struct Baseline {
    pub(crate) since_us: Aging<u64, i64>,
    pub(crate) seen: Aging<u64, ()>,
    /// Nodes that ran a program, as far as they matter.
    pub(crate) nodes: Aging<u64, Vec<u64>>,
}

impl Default for Baseline {
    fn default() -> Self {
        Self { since_us: Aging::new(MAX_WORKLOADS), seen: Aging::new(MAX_SEEN), nodes: Aging::new(MAX_SEEN) }
    }
}

/// Kinds of what is remembered.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Executable,
    Pair,
    Shell,
    Destination,
}

impl Baseline {
    /// Learns an exec and tells what is new about it.
    pub fn exec(&mut self, exec: &Exec<'_>, facts: &mut Facts<'_>) {
        let node = hash(exec.node);
        let place = joined(&[node, hash(exec.workload)]);
        let learned = self.learned(place, exec.time_us);
        // The node's own time of learning begins with its first event.
        let node_learned = self.learned(node, exec.time_us);
        let program = normal(exec.path());
        let common = self.common(node, program);
        if self.is_new(place, Kind::Executable, program) && learned && !common {
            facts.add(Field::FirstSeen, "executable");
        }
        if exec.parent.is_empty() {
            return;
        }
        let parent = normal(exec.parent);
        if self.is_new(place, Kind::Pair, joined(&[parent, program])) && learned && !common {
            facts.add(Field::FirstSeen, "pair");
        }
        if facts.has(Field::Class, "shell") && self.is_new(node, Kind::Shell, parent) {
            facts.set(Field::FirstSeenShellParent, node_learned);
        }
    }

    /// Learns a connection and tells what is new about it.
    pub fn connection(&mut self, connection: &Connection<'_>, facts: &mut Facts<'_>) {
        if !connection.outgoing {
            return;
        }
        let place = joined(&[hash(connection.node), hash(connection.workload)]);
        let learned = self.learned(place, connection.time_us);
        let destination = joined(&[hash(network(connection.remote_address)), connection.remote_port.unsigned_abs()]);
        if self.is_new(place, Kind::Destination, destination) && learned {
            facts.add(Field::FirstSeen, "destination");
        }
    }

    /// Whether a workload or a node was watched long enough; begins to watch it.
    fn learned(&mut self, place: u64, now_us: i64) -> bool {
        match self.since_us.get(&place) {
            Some(since_us) => now_us - *since_us >= LEARN_US,
            None => {
                self.since_us.put(place, now_us);
                false
            }
        }
    }

    fn is_new(&mut self, place: u64, kind: Kind, what: u64) -> bool {
        let key = joined(&[place, kind as u64, what]);
        if self.seen.get(&key).is_some() {
            return false;
        }
        self.seen.put(key, ());
        true
    }

    fn common(&mut self, node: u64, program: u64) -> bool {
        if self.nodes.get(&program).is_none() {
            self.nodes.put(program, Vec::new());
        }
        let Some(nodes) = self.nodes.get(&program) else { return false };
        if nodes.len() < COMMON_NODES && !nodes.contains(&node) {
            nodes.push(node);
        }
        nodes.len() >= COMMON_NODES
    }
}

fn joined(parts: &[u64]) -> u64 {
    FixedState::default().hash_one(parts)
}

/// A path without what changes with every version, build or run.
fn normal(path: &str) -> u64 {
    let folder = path[..path.len() - base_name(path).len()].trim_end_matches('/');
    let mut hasher = FixedState::default().build_hasher();
    let steady = folder.split('/').filter(|part| !part.bytes().any(|byte| byte.is_ascii_digit()));
    for part in steady.chain([plain_name(path)]) {
        hasher.write(part.as_bytes());
        hasher.write_u8(b'/');
    }
    hasher.finish()
}

/// The /24 or the first half of an address: services move within them.
fn network(address: &str) -> &str {
    match address.rfind('.') {
        Some(at) => &address[..at],
        None => address.match_indices(':').nth(3).map_or(address, |(at, _)| &address[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(baseline: &mut Baseline, node: &str, exe: &str, parent: &str, day: i64) -> Vec<String> {
        let exec = Exec { node, workload: "unit/x", exe, parent, time_us: day * LEARN_US, ..Exec::default() };
        let mut facts = Facts::default();
        if exe.ends_with("sh") {
            facts.add(Field::Class, "shell");
        }
        baseline.exec(&exec, &mut facts);
        let first = facts.get(Field::FirstSeen).iter().map(|what| what.to_string());
        first.chain(facts.has(Field::FirstSeenShellParent, "true").then(|| "shell".to_owned())).collect()
    }

    #[test]
    fn what_is_learned_is_not_new_and_the_rest_is_once() {
        let mut baseline = Baseline::default();
        assert_eq!(ask(&mut baseline, "a", "/usr/bin/sh", "/usr/sbin/cron", 0), [""; 0]);
        assert_eq!(ask(&mut baseline, "a", "/usr/bin/sh", "/usr/sbin/cron", 2), [""; 0]);
        assert_eq!(ask(&mut baseline, "a", "/usr/bin/sh", "/usr/sbin/nginx", 2), ["pair", "shell"]);
        assert_eq!(ask(&mut baseline, "a", "/usr/bin/sh", "/usr/sbin/nginx", 2), [""; 0]);
        assert_eq!(ask(&mut baseline, "a", "/opt/x", "/usr/sbin/cron", 2), ["executable", "pair"]);
    }

    #[test]
    fn what_the_fleet_knows_is_not_rare() {
        let mut baseline = Baseline::default();
        for node in ["a", "b", "c", "d"] {
            ask(&mut baseline, node, "/usr/bin/ls", "/usr/bin/bash", 0);
        }
        for node in ["a", "b", "c"] {
            ask(&mut baseline, node, "/usr/bin/new", "/usr/bin/bash", 2);
        }
        assert_eq!(ask(&mut baseline, "d", "/usr/bin/new", "/usr/bin/bash", 2), [""; 0]);
    }

    #[test]
    fn versions_are_one() {
        assert_eq!(normal("/usr/lib/jvm-17/bin/java17"), normal("/usr/lib/bin/java"));
        assert_ne!(normal("/usr/lib/bin/java"), normal("/usr/lib/java"));
    }
}
