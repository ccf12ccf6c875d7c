//! `skep nodes`: hosts that report, and how well they are seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};
use clap::Args;

use super::{listing, span};
use crate::connect::Source;
use crate::exit::Failure;
use crate::output::{ListFormat, rows, share, since};
use crate::place::PlaceArgs;

/// Coverage and loss are of this much of the recent past.
const RECENT: Duration = Duration::from_secs(3600);

/// What `skep nodes --help` says above its options.
pub(crate) const ABOUT: &str = "Hosts that report, and how well they are seen.\n\n\
    Coverage is the share of what the kernel offered in the last hour that arrived; what did not is in the table \
    `loss` with its reason. A probe that could not be attached is named.";

/// Arguments of `skep nodes`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep nodes
  skep nodes --format json | jq -r '.[] | select(.connected | not) | .node'")]
pub struct NodesArgs {
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What is known of a node; what only a running collector knows is `None` without one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) node: String,
    pub(crate) connected: Option<bool>,
    pub(crate) last_seen_us: i64,
    pub(crate) agent_version: Option<String>,
    pub(crate) kernel: Option<String>,
    pub(crate) probes: Vec<String>,
    pub(crate) missing: Vec<String>,
    pub(crate) attempted: i64,
    pub(crate) lost: i64,
    pub(crate) spooled_batches: Option<i64>,
}

impl Node {
    /// Share of what the kernel offered that arrived; all of nothing is all.
    pub(crate) fn coverage(&self) -> f64 {
        if self.attempted > 0 { 1.0 - self.lost as f64 / self.attempted as f64 } else { 1.0 }
    }
}

pub(super) async fn run(args: NodesArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let nodes = gather(&source).await?;
    let batch = if args.format == ListFormat::Table { for_people(&nodes)? } else { for_programs(&nodes)? };
    listing::write(&batch.schema(), &[batch], args.format, "no node has reported yet")
}

/// The collector's own view joined with the ledger.
pub(crate) async fn gather(source: &Source) -> Result<Vec<Node>, Failure> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    if let Source::Live(live) = source {
        for seen in live.nodes().await? {
            let node = Node {
                node: seen.node.clone(),
                connected: Some(seen.connected),
                last_seen_us: seen.last_seen_us,
                agent_version: Some(seen.agent_version),
                kernel: Some(seen.kernel_release),
                probes: seen.probes,
                missing: seen.missing,
                spooled_batches: i64::try_from(seen.spooled_batches).ok(),
                ..Node::default()
            };
            nodes.insert(seen.node, node);
        }
    }
    // Without a collector the newest host row of each node says when it was last heard of, however long ago.
    let last = source.ask("SELECT node, max(time) AS last FROM host GROUP BY node").await?.collect().await?;
    for row in rows(&last) {
        let Some(name) = row.text("node") else { continue };
        let node = nodes.entry(name.clone()).or_insert_with(|| Node { node: name, ..Node::default() });
        node.last_seen_us = node.last_seen_us.max(row.int("last").unwrap_or(0));
    }
    let sql = format!(
        "SELECT node, CAST(coalesce(sum(attempted), 0) AS BIGINT) AS attempted, \
         CAST(coalesce(sum(lost), 0) AS BIGINT) AS lost FROM loss WHERE {} GROUP BY node",
        span::newer_than(RECENT, span::now_us())
    );
    for row in rows(&source.ask(&sql).await?.collect().await?) {
        if let Some(node) = row.text("node").and_then(|name| nodes.get_mut(&name)) {
            node.attempted = row.int("attempted").unwrap_or(0);
            node.lost = row.int("lost").unwrap_or(0);
        }
    }
    Ok(nodes.into_values().collect())
}

fn for_people(nodes: &[Node]) -> Result<RecordBatch, Failure> {
    let now = span::now_us();
    let state = |node: &Node| match node.connected {
        Some(true) => "connected",
        Some(false) => "away",
        None => "unknown",
    };
    let text = |value: &dyn Fn(&Node) -> String| listing::texts(nodes.iter().map(value));
    listing::batch([
        ("node", text(&|node| node.node.clone())),
        ("state", text(&|node| state(node).to_owned())),
        ("last seen", text(&|node| since(node.last_seen_us, now))),
        ("coverage", text(&|node| share(node.coverage()))),
        ("lost", numbers(nodes.iter().map(|node| Some(node.lost)))),
        ("agent", text(&|node| node.agent_version.clone().unwrap_or_default())),
        ("kernel", text(&|node| node.kernel.clone().unwrap_or_default())),
        ("probes", text(&|node| node.probes.join(" "))),
        ("missing", text(&|node| node.missing.join("; "))),
    ])
}

fn for_programs(nodes: &[Node]) -> Result<RecordBatch, Failure> {
    let text = |value: &dyn Fn(&Node) -> String| listing::texts(nodes.iter().map(value));
    let connected: ArrayRef = Arc::new(nodes.iter().map(|node| node.connected).collect::<BooleanArray>());
    let coverage: ArrayRef = Arc::new(nodes.iter().map(|node| Some(node.coverage())).collect::<Float64Array>());
    listing::batch([
        ("node", text(&|node| node.node.clone())),
        ("connected", connected),
        ("last_seen", text(&|node| crate::output::rfc3339_us(node.last_seen_us))),
        ("coverage", coverage),
        ("attempted", numbers(nodes.iter().map(|node| Some(node.attempted)))),
        ("lost", numbers(nodes.iter().map(|node| Some(node.lost)))),
        ("spooled_batches", numbers(nodes.iter().map(|node| node.spooled_batches))),
        ("agent_version", text(&|node| node.agent_version.clone().unwrap_or_default())),
        ("kernel_release", text(&|node| node.kernel.clone().unwrap_or_default())),
        ("probes", text(&|node| node.probes.join(" "))),
        ("missing", text(&|node| node.missing.join("; "))),
    ])
}

fn numbers(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_is_what_arrived_of_what_was_offered() {
        let node = Node { attempted: 200, lost: 50, ..Node::default() };
        assert!((node.coverage() - 0.75).abs() < 1e-12);
        assert!((Node::default().coverage() - 1.0).abs() < 1e-12);
    }
}
