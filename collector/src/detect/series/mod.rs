//! What is abnormal in a workload's numbers: one online robust score a series.
//!
//! A series is (node, workload, signal). Each window's value is compared with the median of the windows before it, in
//! units of their spread (scaled median absolute deviation, never below a floor). For cpu a window in which the
//! workload did not exist while its node was watched counts as zero, so a new busy workload stands out against the
//! nothing it used before; for waiting times such a window says nothing and is left out.
//!
//! A value is abnormal when it is far out, when the difference matters at all, and when hardly any earlier window came
//! near it. Two abnormal windows in a row are a finding: one is noise.
//!
//! * [`usage`]: sums the rows of one window by workload.
//! * [`track`]: one series: its values and its score.
//! * [`node`]: one node's windows: order, gaps, warm-up.
//!
//! * [`glance`]: likewise what saturates: the run queue, disks, connections, and what is about to be full.
//!
//! Beside this quick look window by window, everything that is measured is looked at by the minute:
//!
//! * [`minute`]: rows to values, for each workload and for the node.
//! * [`gallery`]: all series, judged by `skep-series`; bounded.
//! * [`siblings`]: the same on other nodes in the same minute.
//! * [`keep`]: what was learned, as bytes.

pub mod usage;

pub mod track;

pub mod node;

pub mod glance;

mod columns;

mod distribution;

pub mod minute;

pub mod gallery;

pub mod siblings;

pub mod keep;

#[cfg(test)]
mod minute_tests;

use std::collections::HashMap;

use node::Node;
pub use node::Scored;
use usage::WindowUsage;

/// Workloads tracked over all nodes (some 1 KB each); beyond it the ones seen longest ago go.
pub const MAX_WORKLOADS: usize = 20_000;

/// All series of all nodes.
#[derive(Debug)]
pub struct Series {
    nodes: HashMap<String, Node>,
    max_workloads: usize,
    evicted: u64,
}

impl Default for Series {
    fn default() -> Self {
        Self { nodes: HashMap::new(), max_workloads: MAX_WORKLOADS, evicted: 0 }
    }
}

impl Series {
    /// Takes one window of a node; returns a score for each series, but none for what was there from the
    /// start while the node warms up.
    pub fn window(&mut self, node: &str, boot: &str, usage: &WindowUsage) -> Vec<Scored> {
        let entry = match self.nodes.get_mut(node) {
            Some(entry) => entry,
            None => self.nodes.entry(node.to_owned()).or_default(),
        };
        let scored = entry.window(boot, usage);
        self.make_room();
        scored
    }

    /// Workloads dropped for want of room since the call before.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    fn make_room(&mut self) {
        let tracked: usize = self.nodes.values().map(Node::workloads).sum();
        if tracked <= self.max_workloads {
            return;
        }
        let mut ages: Vec<i64> = self.nodes.values().flat_map(Node::last_seen).collect();
        ages.sort_unstable();
        // A tenth more than needed, so that this is not done again for every new workload.
        let excess = (tracked - self.max_workloads + self.max_workloads / 10).min(ages.len());
        let newest_to_go = ages[excess - 1];
        let mut left = excess;
        for node in self.nodes.values_mut() {
            left -= node.evict(newest_to_go, left);
        }
        self.nodes.retain(|_, node| node.workloads() > 0);
        self.evicted += (excess - left) as u64;
    }
}

#[cfg(test)]
mod tests;
