//! Whether the agents' canaries arrive whole. Pure.
//!
//! An agent announces each canary before it runs it; the announcement comes first, because a stream is in order. What
//! must follow are the exec with the announced arguments, the exit with the agreed code, and the connection to the
//! announced port. How long to wait is counted in windows of the node's own stream: a spool that comes late, or a
//! collector that was away, is late for both alike.
//!
//! A process is a canary when it carries a marker that its own node has announced and that nobody used before. Any other
//! process, whatever its name, is judged like all.

use std::collections::{HashMap, VecDeque};

use skep_wire::canary;
use skep_wire::chunk::Row;
use skep_wire::envelope::Origin;

/// Windows that may end before a canary is given up: two whole ones, and the one it was announced in.
const PATIENCE_WINDOWS: u32 = 3;

/// Canaries waited for on one node; the oldest is given up for a new one.
const MAX_WAITING: usize = 64;

/// Exits, and connections, kept for one canary until it is known which are its own.
const MAX_CANDIDATES: usize = 16;

/// Nodes remembered. One more than that is not watched over before another is forgotten.
const MAX_NODES: usize = 20_000;

/// What became of the canaries of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// One is given up.
    Broken(Broken),
    /// One arrived whole, for the first time after one that did not.
    Whole {
        /// Which.
        number: i64,
        /// Its marker.
        marker: String,
    },
}

/// A canary that did not arrive whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    /// Its marker.
    pub marker: String,
    /// Which of this life of the agent.
    pub number: i64,
    /// What is missing.
    pub missing: Vec<&'static str>,
    /// What came.
    pub arrived: Vec<&'static str>,
    /// Why the agent could not run it; nothing is missing then.
    pub failed: Option<String>,
    /// The exec came with other arguments than were announced.
    pub altered: bool,
    /// Process id and start, where any row tells.
    pub process: Option<(i64, i64)>,
    /// Its workload, where any row tells.
    pub workload: Option<String>,
}

#[derive(Debug, Default)]
struct Node {
    waiting: VecDeque<Waiting>,
    broken: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    marker: String,
    number: i64,
    port: i64,
    expects: Vec<&'static str>,
    /// Announced before this collector started: known when it comes, not missed when it does not.
    before: bool,
    windows: u32,
    exec: Option<(i64, i64)>,
    altered: bool,
    ran: Option<i64>,
    /// Who connected to the port.
    connects: Vec<(i64, i64)>,
    /// Who ended with the agreed code.
    exits: Vec<(i64, i64)>,
    workload: Option<String>,
}

/// All nodes.
#[derive(Debug, Default)]
pub struct Canaries {
    nodes: HashMap<String, Node>,
}

impl Canaries {
    /// Takes a row of `canaries`.
    pub fn step(&mut self, origin: &Origin, row: &Row<'_>) -> Option<Turn> {
        if row.text("event")? == "off" {
            self.nodes.remove(&origin.node);
            return None;
        }
        if !self.nodes.contains_key(&origin.node) && self.nodes.len() >= MAX_NODES {
            return None;
        }
        let node = self.nodes.entry(origin.node.clone()).or_default();
        let marker = row.text("marker").filter(|marker| !marker.is_empty())?;
        match row.text("event")? {
            "sent" => node.announced(marker, row, false),
            "ran" => {
                node.find(marker)?.ran = row.int("pid");
                node.settle()
            }
            "failed" => node.failed(marker, row.text("detail").unwrap_or("it did not say why")),
            _ => None,
        }
    }

    /// Takes a row of `processes`; whether it is the exec of an announced canary, which rules are to let be, and what
    /// became of that.
    pub fn process(&mut self, origin: &Origin, row: &Row<'_>) -> (bool, Option<Turn>) {
        let Some(node) = self.nodes.get_mut(&origin.node).filter(|node| !node.waiting.is_empty()) else {
            return (false, None);
        };
        match row.text("event") {
            Some("exec") => {
                let genuine = node.exec(row);
                (genuine, node.settle())
            }
            Some("exit") => {
                node.exit(row);
                (false, node.settle())
            }
            _ => (false, None),
        }
    }

    /// Takes a row of `connections`.
    pub fn connection(&mut self, origin: &Origin, row: &Row<'_>) -> Option<Turn> {
        let node = self.nodes.get_mut(&origin.node)?;
        let port = row.int("remote_port")?;
        if row.text("direction") != Some("connect") || row.text("remote_address") != Some("127.0.0.1") {
            return None;
        }
        let process = process(row)?;
        for waiting in node.waiting.iter_mut().filter(|waiting| waiting.port == port) {
            keep(&mut waiting.connects, process);
        }
        node.settle()
    }

    /// A window of this node's stream ended.
    pub fn window(&mut self, origin: &Origin) -> Vec<Turn> {
        let Some(node) = self.nodes.get_mut(&origin.node) else { return Vec::new() };
        node.waiting.iter_mut().for_each(|waiting| waiting.windows += 1);
        let mut turns = Vec::new();
        while let Some(late) = node.waiting.pop_front_if(|waiting| waiting.windows >= PATIENCE_WINDOWS) {
            turns.extend(node.give_up(late, None));
        }
        turns
    }

    /// The windows of this node's stream that came meanwhile are with another collector, and with them what is waited for.
    pub fn was_elsewhere(&mut self, node: &str) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.waiting.clear();
        }
    }

    /// Takes a row of `canaries` of before this start. The rows of its processes were seen then.
    pub fn restore_step(&mut self, origin: &Origin, row: &Row<'_>) {
        match (row.text("event"), row.text("marker")) {
            (Some("off"), _) => {
                self.nodes.remove(&origin.node);
            }
            (Some("sent"), Some(marker)) if self.nodes.contains_key(&origin.node) || self.nodes.len() < MAX_NODES => {
                let node = self.nodes.entry(origin.node.clone()).or_default();
                drop(node.announced(marker, row, true));
            }
            _ => {}
        }
    }

    /// Whether the last finding about this node's canaries said that one did not arrive.
    pub fn restore(&mut self, node: &str, broken: bool) {
        if self.nodes.contains_key(node) || self.nodes.len() < MAX_NODES {
            self.nodes.entry(node.to_owned()).or_default().broken = broken;
        }
    }
}

impl Node {
    fn announced(&mut self, marker: &str, row: &Row<'_>, before: bool) -> Option<Turn> {
        let number = row.int("number").unwrap_or(0);
        if number <= 1 {
            // Another life of the agent. What the one before still owed, its ledger calls not watched.
            self.waiting.clear();
        }
        let named = row.text_list("expects").unwrap_or_default();
        let expects = canary::PARTS.iter().map(|(part, _)| *part).filter(|part| named.contains(part));
        self.waiting.push_back(Waiting {
            marker: marker.to_owned(),
            number,
            port: row.int("port").unwrap_or(0),
            expects: expects.collect(),
            before,
            ..Waiting::default()
        });
        let oldest = if self.waiting.len() > MAX_WAITING { self.waiting.pop_front() } else { None };
        oldest.and_then(|oldest| self.give_up(oldest, None)).or_else(|| self.settle())
    }

    fn failed(&mut self, marker: &str, detail: &str) -> Option<Turn> {
        let at = self.waiting.iter().position(|waiting| waiting.marker == marker)?;
        let waiting = self.waiting.remove(at)?;
        self.give_up(waiting, Some(detail.to_owned()))
    }

    fn find(&mut self, marker: &str) -> Option<&mut Waiting> {
        self.waiting.iter_mut().find(|waiting| waiting.marker == marker)
    }

    fn exec(&mut self, row: &Row<'_>) -> bool {
        let argv = row.text_list("argv").unwrap_or_default();
        let Some(waiting) = argv.iter().find_map(|argument| self.waiting.iter().position(|w| w.marker == *argument))
        else {
            return false;
        };
        let waiting = &mut self.waiting[waiting];
        if waiting.exec.is_some() {
            // Somebody uses it again.
            return false;
        }
        if argv != canary::argv(&waiting.marker, waiting.port) || row.int("argv_truncated") == Some(1) {
            waiting.altered = true;
            return false;
        }
        waiting.exec = process(row);
        waiting.workload = row.text("workload").map(str::to_owned);
        true
    }

    fn exit(&mut self, row: &Row<'_>) {
        let agreed = row.int("exit_code") == Some(i64::from(canary::EXIT_CODE)) && row.int("exit_signal") == Some(0);
        let Some(process) = process(row).filter(|_| agreed) else { return };
        self.waiting.iter_mut().for_each(|waiting| keep(&mut waiting.exits, process));
    }

    /// Lets go of what is whole.
    fn settle(&mut self) -> Option<Turn> {
        let whole = |waiting: &Waiting| waiting.missing().next().is_none() && !waiting.before;
        let at = self.waiting.iter().position(whole)?;
        let whole = self.waiting.remove(at)?;
        std::mem::take(&mut self.broken).then_some(Turn::Whole { number: whole.number, marker: whole.marker })
    }

    fn give_up(&mut self, waiting: Waiting, failed: Option<String>) -> Option<Turn> {
        if waiting.before {
            return None;
        }
        self.broken = true;
        let missing: Vec<_> = waiting.missing().collect();
        Some(Turn::Broken(Broken {
            arrived: waiting.expects.iter().copied().filter(|part| !missing.contains(part)).collect(),
            missing: if failed.is_some() { Vec::new() } else { missing },
            failed,
            altered: waiting.altered,
            process: waiting.process(),
            marker: waiting.marker,
            number: waiting.number,
            workload: waiting.workload,
        }))
    }
}

impl Waiting {
    fn missing(&self) -> impl Iterator<Item = &'static str> {
        let process = self.process();
        self.expects.iter().copied().filter(move |part| match *part {
            "exec" => self.exec.is_none(),
            "connect" => process.is_none_or(|process| !self.connects.contains(&process)),
            _ => process.is_none_or(|process| !self.exits.contains(&process)),
        })
    }

    /// Who it is: by its exec, or by what the agent says and others saw, or by who was where nobody else goes.
    fn process(&self) -> Option<(i64, i64)> {
        let of_agent = |candidates: &[(i64, i64)]| candidates.iter().copied().find(|(pid, _)| Some(*pid) == self.ran);
        self.exec
            .or_else(|| of_agent(&self.connects))
            .or_else(|| of_agent(&self.exits))
            .or_else(|| self.connects.iter().copied().find(|process| self.exits.contains(process)))
            .or_else(|| self.connects.first().copied())
    }
}

fn keep(candidates: &mut Vec<(i64, i64)>, process: (i64, i64)) {
    if candidates.len() < MAX_CANDIDATES && !candidates.contains(&process) {
        candidates.push(process);
    }
}

fn process(row: &Row<'_>) -> Option<(i64, i64)> {
    row.int("pid").zip(row.int("start_ns"))
}

#[cfg(test)]
#[path = "canary_tests.rs"]
mod tests;
