//! Whether an agent observes less than it could, to keep to its budget. Pure.
//!
//! The agent's gauges say how it is at the end of each window, its ledger what was in between.

use std::collections::HashMap;

use skep_wire::chunk::{self, Row};
use skep_wire::v1;

/// Nodes remembered.
const MAX_NODES: usize = 20_000;

/// Reasons in the ledger, of spans that nobody counted.
const REASONS: [(&str, Depth); 3] =
    [("sampled", Depth::Sampled), ("shrunk", Depth::Shrunk), ("switched_off", Depth::SwitchedOff)];

/// How much is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Depth {
    /// Nothing.
    #[default]
    Full,
    /// Fewer processes are known by name.
    Shrunk,
    /// Only some system calls are looked at.
    Sampled,
    /// A domain is not watched.
    SwitchedOff,
}

impl Depth {
    /// As in a finding's evidence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Shrunk => "shrunk",
            Self::Sampled => "sampled",
            Self::SwitchedOff => "switched_off",
        }
    }
}

/// What a node says at the end of a window.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sight {
    /// Every how manieth system call is looked at.
    pub one_in: i64,
    /// Domains that are off.
    pub off: Vec<String>,
    /// Processes known at once, where that is fewer than the settings say.
    pub processes: Option<i64>,
    /// Share of a core the agent and its probes took.
    pub spent: f64,
    /// Share of a core they may take.
    pub budget: Option<f64>,
}

/// Something changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// More is given up than before.
    Lowered(Depth, Sight),
    /// Everything is observed again.
    Restored(Sight),
}

#[derive(Debug, Default)]
struct Node {
    /// What was told last.
    told: Depth,
    /// The deepest of the ledger's rows since the last window.
    between: Depth,
}

/// All nodes that give something up.
#[derive(Debug, Default)]
pub struct Degraded {
    nodes: HashMap<String, Node>,
}

impl Degraded {
    /// Takes a row of `loss`.
    pub fn ledger(&mut self, node: &str, row: &Row<'_>) {
        let reason = row.text("reason").unwrap_or_default();
        let Some((_, depth)) = REASONS.iter().find(|(name, _)| *name == reason) else { return };
        if row.int("attempted").is_some() {
            // A count. Only what nobody counted is a change of what is observed.
            return;
        }
        if let Some(node) = self.node(node) {
            node.between = node.between.max(*depth);
        }
    }

    /// Takes the gauges of a window.
    pub fn window(&mut self, node: &str, host: &v1::Chunk) -> Option<Turn> {
        let sight = Sight::read(host)?;
        let deep = self.nodes.get(node).map_or(Depth::Full, |node| node.between).max(sight.depth());
        if deep == Depth::Full {
            return self.nodes.remove(node).filter(|node| node.told > Depth::Full).map(|_| Turn::Restored(sight));
        }
        let node = self.node(node)?;
        node.between = Depth::Full;
        let deeper = deep > node.told;
        node.told = node.told.max(deep);
        deeper.then_some(Turn::Lowered(deep, sight))
    }

    /// What the last finding about this node said.
    pub fn restore(&mut self, node: &str, state: &str) {
        match REASONS.iter().find(|(name, _)| *name == state) {
            Some((_, depth)) => {
                if let Some(node) = self.node(node) {
                    node.told = *depth;
                }
            }
            None => drop(self.nodes.remove(node)),
        }
    }

    fn node(&mut self, node: &str) -> Option<&mut Node> {
        if !self.nodes.contains_key(node) && self.nodes.len() >= MAX_NODES {
            return None;
        }
        Some(self.nodes.entry(node.to_owned()).or_default())
    }
}

impl Sight {
    /// `None` of an agent that does not say.
    fn read(host: &v1::Chunk) -> Option<Self> {
        let mut sight = Self { one_in: 1, ..Self::default() };
        let mut says = false;
        for row in chunk::rows(host) {
            let Some(value) = row.float("value") else { continue };
            match row.text("metric") {
                Some("agent_detail_level") => says = true,
                Some("agent_syscall_one_in") => sight.one_in = value as i64,
                Some("agent_domain_off") => sight.off.extend(row.text("label").map(str::to_owned)),
                Some("agent_processes_known_limit") => sight.processes = Some(value as i64),
                Some("agent_cpu_ratio" | "agent_bpf_cpu_ratio") => sight.spent += value,
                Some("agent_budget_cpu_ratio") => sight.budget = Some(value),
                _ => {}
            }
        }
        says.then_some(sight)
    }

    fn depth(&self) -> Depth {
        if !self.off.is_empty() {
            Depth::SwitchedOff
        } else if self.one_in > 1 {
            Depth::Sampled
        } else if self.processes.is_some() {
            Depth::Shrunk
        } else {
            Depth::Full
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_wire::chunk::Builder;
    use skep_wire::tables::{HOST, LOSS};

    use super::*;

    fn host(gauges: &[(&str, &str, f64)]) -> v1::Chunk {
        let mut row = Builder::new(&HOST);
        for (metric, label, value) in [("agent_detail_level", "", 0.0)].iter().chain(gauges) {
            row.int("time", 1).float("window_s", 1.0).text("metric", metric).text("label", label);
            row.float("value", *value).end_row().unwrap();
        }
        row.finish().unwrap()
    }

    fn ledger(degraded: &mut Degraded, reason: &str, attempted: Option<i64>) {
        let mut row = Builder::new(&LOSS);
        row.int("time", 1).int("until", 2).text("probe", "syscall").text("reason", reason);
        row.maybe_int("attempted", attempted).end_row().unwrap();
        let chunk = row.finish().unwrap();
        chunk::rows(&chunk).for_each(|row| degraded.ledger("n", &row));
    }

    fn depth(turn: Option<Turn>) -> Option<Depth> {
        turn.map(|turn| match turn {
            Turn::Lowered(depth, _) => depth,
            Turn::Restored(_) => Depth::Full,
        })
    }

    #[test]
    fn going_down_is_told_step_by_step_and_coming_back_once() {
        let mut degraded = Degraded::default();
        let full = host(&[]);
        let sampled = host(&[("agent_syscall_one_in", "", 16.0)]);
        let off = host(&[("agent_domain_off", "cpu", 1.0), ("agent_bpf_cpu_ratio", "tcp", 0.01)]);
        assert_eq!(degraded.window("n", &full), None);
        assert_eq!(depth(degraded.window("n", &sampled)), Some(Depth::Sampled));
        assert_eq!(degraded.window("n", &sampled), None);
        let Some(Turn::Lowered(Depth::SwitchedOff, sight)) = degraded.window("n", &off) else { panic!() };
        assert_eq!((sight.off.as_slice(), sight.spent), (&["cpu".to_owned()][..], 0.01));
        assert_eq!(degraded.window("n", &sampled), None, "half way back is not news");
        assert_eq!(depth(degraded.window("n", &full)), Some(Depth::Full));
        assert_eq!(degraded.window("n", &full), None);
        assert!(degraded.nodes.is_empty());
    }

    #[test]
    fn what_was_over_before_the_window_was_is_told_too() {
        let mut degraded = Degraded::default();
        ledger(&mut degraded, "sampled", None);
        assert_eq!(depth(degraded.window("n", &host(&[]))), Some(Depth::Sampled));
        assert_eq!(depth(degraded.window("n", &host(&[]))), Some(Depth::Full));
    }

    #[test]
    fn counts_and_other_losses_are_not_a_change_of_detail() {
        let mut degraded = Degraded::default();
        ledger(&mut degraded, "sampled", Some(5));
        ledger(&mut degraded, "ring_full", Some(5));
        ledger(&mut degraded, "not_watching", None);
        assert_eq!(degraded.window("n", &host(&[])), None);
    }

    #[test]
    fn fewer_processes_are_the_least_of_it() {
        let mut degraded = Degraded::default();
        let shrunk = host(&[("agent_processes_known_limit", "", 1024.0)]);
        assert_eq!(depth(degraded.window("n", &shrunk)), Some(Depth::Shrunk));
    }

    #[test]
    fn what_was_told_before_the_start_is_not_told_again() {
        let mut degraded = Degraded::default();
        degraded.restore("n", "sampled");
        assert_eq!(degraded.window("n", &host(&[("agent_syscall_one_in", "", 2.0)])), None);
        assert_eq!(depth(degraded.window("n", &host(&[]))), Some(Depth::Full));
        degraded.restore("n", "sampled");
        degraded.restore("n", "over");
        assert_eq!(degraded.window("n", &host(&[])), None);
    }
}
