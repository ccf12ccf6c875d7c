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
    `loss` with its reason. A probe that could not be attached is named. What skep itself costs is of the last window: its \
    time on a CPU and what its probes take of others' time, its memory and that of its kernel maps, and what it leaves \
    out to keep to its budget. Of a node that has several collectors, the state says which of them this one is, in the order \
    of the node's preference.";

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
    /// Which of its collectors the one asked is to the agent, of how many; zeros where it does not say.
    pub(crate) choice: (u32, u32),
    /// Answers to probes that were refused.
    pub(crate) answers_refused: Option<i64>,
    /// How long its batches waited because it sends more than its part.
    pub(crate) held_us: Option<i64>,
    pub(crate) cost: Cost,
}

/// What the agent of a node costs it and leaves out, in the last window it told of.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Cost {
    /// The agent's own share of a core.
    pub(crate) own_cpu: Option<f64>,
    /// Its probes', where they are measured.
    pub(crate) probes_cpu: Option<f64>,
    pub(crate) rss_bytes: Option<f64>,
    /// Kernel maps.
    pub(crate) map_bytes: Option<f64>,
    pub(crate) budget_cpu: Option<f64>,
    pub(crate) detail_level: Option<i64>,
    pub(crate) one_in: i64,
    pub(crate) off: Vec<String>,
}

impl Cost {
    fn add(&mut self, metric: &str, label: &str, value: f64) {
        match metric {
            "agent_cpu_ratio" => self.own_cpu = Some(value),
            "agent_bpf_cpu_ratio" => *self.probes_cpu.get_or_insert(0.0) += value,
            "agent_rss_bytes" => self.rss_bytes = Some(value),
            "agent_map_bytes" => self.map_bytes = Some(value),
            "agent_budget_cpu_ratio" => self.budget_cpu = Some(value),
            "agent_detail_level" => self.detail_level = Some(value as i64),
            "agent_syscall_one_in" => self.one_in = value as i64,
            "agent_domain_off" => self.off.push(label.to_owned()),
            _ => {}
        }
    }

    /// All of it, as a share of a core.
    fn cpu(&self) -> Option<f64> {
        self.own_cpu.map(|own| own + self.probes_cpu.unwrap_or(0.0))
    }

    /// For people: `full`, or what is left out.
    fn detail(&self) -> String {
        let mut parts: Vec<String> = self.off.iter().map(|domain| format!("no {domain}")).collect();
        if self.one_in > 1 && !self.off.iter().any(|domain| domain == "syscall") {
            parts.insert(0, format!("1 syscall in {}", self.one_in));
        }
        match (self.detail_level, parts.as_slice()) {
            (None, _) => String::new(),
            (Some(_), []) => "full".to_owned(),
            (Some(_), parts) => parts.join(", "),
        }
    }
}

impl Node {
    /// For people: whether it is connected, and which of its collectors this one is.
    fn state(&self) -> String {
        match (self.connected, self.choice) {
            (Some(true), (place, count)) if count > 1 => format!("connected ({place} of {count})"),
            (Some(true), _) => "connected".to_owned(),
            (Some(false), (_, count)) if count > 1 => "away or elsewhere".to_owned(),
            (Some(false), _) => "away".to_owned(),
            (None, _) => "unknown".to_owned(),
        }
    }

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
                choice: (seen.collector_place, seen.collectors),
                answers_refused: i64::try_from(seen.answers_refused).ok(),
                held_us: i64::try_from(seen.held_us).ok(),
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
    for row in rows(&source.ask(OWN_GAUGES).await?.collect().await?) {
        let (Some(metric), Some(value)) = (row.text("metric"), row.float("value")) else { continue };
        if let Some(node) = row.text("node").and_then(|name| nodes.get_mut(&name)) {
            node.cost.add(&metric, &row.text("label").unwrap_or_default(), value);
        }
    }
    Ok(nodes.into_values().collect())
}

/// The agents' gauges of themselves, each node's newest window.
const OWN_GAUGES: &str = "SELECT h.node, h.metric, h.label, h.value FROM host h JOIN \
    (SELECT node, max(time) AS time FROM host GROUP BY node) newest ON h.node = newest.node AND h.time = newest.time \
    WHERE h.metric LIKE 'agent_%' ORDER BY h.node, h.metric, h.label";

fn for_people(nodes: &[Node]) -> Result<RecordBatch, Failure> {
    let now = span::now_us();
    let text = |value: &dyn Fn(&Node) -> String| listing::texts(nodes.iter().map(value));
    listing::batch([
        ("node", text(&|node| node.node.clone())),
        ("state", text(&Node::state)),
        ("last seen", text(&|node| since(node.last_seen_us, now))),
        ("coverage", text(&|node| share(node.coverage()))),
        ("lost", numbers(nodes.iter().map(|node| Some(node.lost)))),
        ("own cpu", text(&|node| node.cost.cpu().map(percent).unwrap_or_default())),
        ("rss", text(&|node| node.cost.rss_bytes.map(mebibytes).unwrap_or_default())),
        ("maps", text(&|node| node.cost.map_bytes.map(mebibytes).unwrap_or_default())),
        ("detail", text(&|node| node.cost.detail())),
        ("agent", text(&|node| node.agent_version.clone().unwrap_or_default())),
        ("kernel", text(&|node| node.kernel.clone().unwrap_or_default())),
        ("probes", text(&|node| node.probes.join(" "))),
        ("missing", text(&|node| node.missing.join("; "))),
    ])
}

fn for_programs(nodes: &[Node]) -> Result<RecordBatch, Failure> {
    let text = |value: &dyn Fn(&Node) -> String| listing::texts(nodes.iter().map(value));
    let connected: ArrayRef = Arc::new(nodes.iter().map(|node| node.connected).collect::<BooleanArray>());
    let ratios = |value: &dyn Fn(&Cost) -> Option<f64>| -> ArrayRef {
        Arc::new(nodes.iter().map(|node| value(&node.cost)).collect::<Float64Array>())
    };
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
        ("own_cpu_ratio", ratios(&|cost| cost.own_cpu)),
        ("probes_cpu_ratio", ratios(&|cost| cost.probes_cpu)),
        ("budget_cpu_ratio", ratios(&|cost| cost.budget_cpu)),
        ("rss_bytes", numbers(nodes.iter().map(|node| node.cost.rss_bytes.map(|bytes| bytes as i64)))),
        ("map_bytes", numbers(nodes.iter().map(|node| node.cost.map_bytes.map(|bytes| bytes as i64)))),
        ("detail_level", numbers(nodes.iter().map(|node| node.cost.detail_level))),
        ("detail", text(&|node| node.cost.detail())),
        ("collector_place", numbers(nodes.iter().map(|node| said(node.choice.0)))),
        ("collectors", numbers(nodes.iter().map(|node| said(node.choice.1)))),
        ("answers_refused", numbers(nodes.iter().map(|node| node.answers_refused))),
        ("held_us", numbers(nodes.iter().map(|node| node.held_us))),
    ])
}

/// What an agent that does not say so leaves at 0.
fn said(number: u32) -> Option<i64> {
    (number > 0).then_some(i64::from(number))
}

fn percent(ratio: f64) -> String {
    format!("{:.2}%", ratio * 100.0)
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

fn numbers(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_costs_is_its_own_and_its_probes_and_what_it_leaves_out_is_named() {
        let mut cost = Cost::default();
        assert_eq!((cost.cpu(), cost.detail()), (None, String::new()), "an agent that does not say");
        for (metric, label, value) in [
            ("agent_cpu_ratio", "", 0.002),
            ("agent_bpf_cpu_ratio", "cpu", 0.001),
            ("agent_bpf_cpu_ratio", "syscall", 0.003),
            ("agent_map_bytes", "", 2097152.0),
            ("agent_detail_level", "", 0.0),
            ("agent_syscall_one_in", "", 1.0),
        ] {
            cost.add(metric, label, value);
        }
        assert_eq!(cost.cpu().map(percent), Some("0.60%".to_owned()));
        assert_eq!(cost.map_bytes.map(mebibytes), Some("2 MiB".to_owned()));
        assert_eq!(cost.detail(), "full");
        for (metric, label, value) in
            [("agent_detail_level", "", 9.0), ("agent_syscall_one_in", "", 256.0), ("agent_domain_off", "cpu", 1.0)]
        {
            cost.add(metric, label, value);
        }
        assert_eq!(cost.detail(), "1 syscall in 256, no cpu");
    }

    #[test]
    fn of_several_collectors_it_is_said_which_this_one_is() {
        let state = |connected, choice| Node { connected, choice, ..Node::default() }.state();
        assert_eq!(state(Some(true), (0, 0)), "connected");
        assert_eq!(state(Some(true), (1, 1)), "connected");
        assert_eq!(state(Some(true), (2, 3)), "connected (2 of 3)");
        assert_eq!(state(Some(false), (2, 3)), "away or elsewhere");
        assert_eq!((state(Some(false), (1, 1)), state(None, (0, 0))), ("away".to_owned(), "unknown".to_owned()));
    }

    #[test]
    fn coverage_is_what_arrived_of_what_was_offered() {
        let node = Node { attempted: 200, lost: 50, ..Node::default() };
        assert!((node.coverage() - 0.75).abs() < 1e-12);
        assert!((Node::default().coverage() - 1.0).abs() < 1e-12);
    }
}
