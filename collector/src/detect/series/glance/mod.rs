//! A quick look, window by window, at what saturates: the queue for CPUs, disks, connections, and what is about to be full.
//!
//! The minutes' series know more and take ten of them before they say anything. Here a value is compared with the last ten
//! minutes as soon as one was watched, and two windows that are far out are enough; what can be full is told by its limit,
//! or by its course when that ends soon.
//!
//! * [`window`]: rows of one window to values.
//! * [`node`]: what one node's values are compared with.

mod window;

mod node;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use skep_series::limit::Until;
use skep_wire::v1;

use self::node::Node;
use super::track::{Score, Signal};
use super::usage::WindowUsage;

/// Series over all nodes (some 1 KiB each); beyond it new ones are let be, counted.
pub const MAX_SERIES: usize = 20_000;

/// What one value is worth a word for.
#[derive(Debug, Clone, PartialEq)]
pub struct Glimpse {
    /// Start of its window.
    pub time_us: i64,
    /// Length of that.
    pub window_s: f64,
    /// Whom it is about, or [`super::minute::NODE`].
    pub workload: String,
    /// What was measured, with a label in braces.
    pub signal: String,
    /// The value.
    pub value: f64,
    /// 0..1, of the window.
    pub coverage: f64,
    /// Whose part in it is the largest, where it has parts.
    pub most_by: Option<String>,
    /// Why.
    pub why: Why,
}

/// Why a value is worth a word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// It is far from the last ten minutes.
    Far(Signal, Score),
    /// It is beyond this limit, for so many windows in a row.
    OverLimit(f64, u32),
    /// It will be full.
    Filling(Until),
}

/// What is known of all nodes.
#[derive(Debug)]
pub struct Glance {
    nodes: HashMap<String, Node>,
    series: usize,
    max_series: usize,
    refused: u64,
}

impl Default for Glance {
    fn default() -> Self {
        Self { nodes: HashMap::new(), series: 0, max_series: MAX_SERIES, refused: 0 }
    }
}

impl Glance {
    /// Takes what workloads used in a window.
    pub fn usage(&mut self, node: &str, usage: &WindowUsage) {
        self.node(node).window.usage(usage);
    }

    /// Takes a checked chunk of a node's batch.
    pub fn chunk(&mut self, node: &str, chunk: &v1::Chunk) {
        match chunk.table.as_str() {
            "block_io" => self.node(node).window.block(chunk),
            "connections" => self.node(node).window.connections(chunk),
            "host" => self.node(node).window.host(chunk),
            _ => {}
        }
    }

    /// The window that was taken is over: gauges come at its end.
    pub fn end(&mut self, node: &str, boot: &str) -> Vec<Glimpse> {
        let room = self.max_series.saturating_sub(self.series);
        let known = self.node(node);
        let before = known.series();
        let (glimpses, refused) = known.end(boot, room);
        let after = known.series();
        self.series = self.series + after - before;
        self.refused += refused;
        glimpses
    }

    /// Series for which there was no room, since the call before.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    fn node(&mut self, node: &str) -> &mut Node {
        self.nodes.entry(node.to_owned()).or_default()
    }
}
