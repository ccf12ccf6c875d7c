//! What a workload usually does: which programs it runs, who starts whom, who it talks to.
//!
//! A workload is learned for a day from its first event; after that, what it never did is told once and learned too. How
//! many nodes know a program tells whether it is rare in the fleet.

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
const COMMON_NODES: usize = 3;

/// See the module.
#[derive(Debug)]
pub struct Baseline {
    since_us: Aging<u64, i64>,
    seen: Aging<u64, ()>,
    /// Nodes that ran a program, as far as they matter.
    nodes: Aging<u64, Vec<u64>>,
}

impl Default for Baseline {
    fn default() -> Self {
        Self { since_us: Aging::new(MAX_WORKLOADS), seen: Aging::new(MAX_SEEN), nodes: Aging::new(MAX_SEEN) }
    }
}

impl Baseline {
    /// Learns an exec and tells what is new about it.
    pub fn exec(&mut self, exec: &Exec<'_>, facts: &mut Facts<'_>) {
        let place = (exec.node, exec.workload);
        let learned = self.learned(place, exec.time_us);
        let program = normal(exec.path());
        let common = self.common(exec.node, &program);
        if self.is_new(place, "exe", &program) && learned && !common {
            facts.add(Field::FirstSeen, "executable");
        }
        if exec.parent.is_empty() {
            return;
        }
        let pair = format!("{} {program}", normal(exec.parent));
        if self.is_new(place, "pair", &pair) && learned && !common {
            facts.add(Field::FirstSeen, "pair");
        }
        if facts.has(Field::Class, "shell") && self.is_new(("", exec.node), "shell", &normal(exec.parent)) {
            facts.set(Field::FirstSeenShellParent, self.learned(("", exec.node), exec.time_us));
        } else {
            // The node's own time of learning begins with its first event.
            self.learned(("", exec.node), exec.time_us);
        }
    }

    /// Learns a connection and tells what is new about it.
    pub fn connection(&mut self, connection: &Connection<'_>, facts: &mut Facts<'_>) {
        if !connection.outgoing {
            return;
        }
        let place = (connection.node, connection.workload);
        let learned = self.learned(place, connection.time_us);
        let destination = format!("{} {}", network(connection.remote_address), connection.remote_port);
        if self.is_new(place, "destination", &destination) && learned {
            facts.add(Field::FirstSeen, "destination");
        }
    }

    /// Whether a workload was watched long enough; begins to watch it.
    fn learned(&mut self, place: (&str, &str), now_us: i64) -> bool {
        let key = hash(&format!("{} {}", place.0, place.1));
        match self.since_us.get(key) {
            Some(since_us) => now_us - *since_us >= LEARN_US,
            None => {
                self.since_us.put(key, now_us);
                false
            }
        }
    }

    fn is_new(&mut self, place: (&str, &str), kind: &str, what: &str) -> bool {
        let key = hash(&format!("{} {} {kind} {what}", place.0, place.1));
        if self.seen.get(key).is_some() {
            return false;
        }
        self.seen.put(key, ());
        true
    }

    fn common(&mut self, node: &str, program: &str) -> bool {
        let (key, node) = (hash(program), hash(node));
        if self.nodes.get(key).is_none() {
            self.nodes.put(key, Vec::new());
        }
        let Some(nodes) = self.nodes.get(key) else { return false };
        if nodes.len() < COMMON_NODES && !nodes.contains(&node) {
            nodes.push(node);
        }
        nodes.len() >= COMMON_NODES
    }
}

/// A path without what changes with every version, build or run.
fn normal(path: &str) -> String {
    let name = plain_name(path);
    let folder = path[..path.len() - base_name(path).len()].trim_end_matches('/');
    if folder.is_empty() {
        return name.to_owned();
    }
    let steady = folder.split('/').filter(|part| !part.bytes().any(|byte| byte.is_ascii_digit()));
    steady.chain([name]).collect::<Vec<_>>().join("/")
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
        assert_eq!(normal("/usr/lib/jvm-17/bin/java17"), "/usr/lib/bin/java");
        assert_eq!(normal("x"), "x");
    }
}
