//! The collector, the nodes and what they saw lately.

use skep_wire::order;

use super::Check;
use crate::command::nodes::{Node, gather};
use crate::command::span::now_us;
use crate::connect::Source;
use crate::exit::one_line;
use crate::output::{count, share, since};
use crate::place::Place;

/// Coverage below this deserves a look.
const COVERED: f64 = 0.99;

/// A node that was not heard of for longer than this is stale, whatever its connection says.
const STALE_US: i64 = 60_000_000;

/// Asks whoever answers at `place`.
pub(super) async fn run(place: &Place) -> Vec<Check> {
    let source = match Source::open(place).await {
        Ok(source) => source,
        // The folder's own check has said it.
        Err(crate::connect::ConnectError::NoFolder { .. }) => return Vec::new(),
        Err(error) => return vec![Check::fail("collector", one_line(&error))],
    };
    let mut checks = vec![match &source {
        Source::Live(live) => Check::ok("collector", format!("answers at {}", live.url())),
        Source::Folder(_) => {
            Check::warn("collector", "none runs on this folder: its files answer, nothing new comes in")
        }
    }];
    match gather(&source).await {
        Ok(nodes) if nodes.is_empty() => checks.push(Check::warn("nodes", "no node has reported yet")),
        Ok(nodes) => {
            let live = matches!(source, Source::Live(_));
            let now = now_us();
            checks.extend(nodes.iter().flat_map(|node| of_node(node, live, now)));
        }
        Err(failure) => checks.push(Check::fail("history", failure.line())),
    }
    checks
}

fn of_node(node: &Node, live: bool, now: i64) -> Vec<Check> {
    let title = |what: &str| format!("{what} {}", node.node);
    let heard = since(node.last_seen_us, now);
    let mut checks = Vec::new();
    checks.push(match node.connected {
        Some(true) if now.saturating_sub(node.last_seen_us) > STALE_US => {
            Check::warn(title("node"), format!("connected, but last heard of {heard}"))
        }
        Some(true) => {
            let version = node.agent_version.as_deref().unwrap_or("unknown");
            Check::ok(title("node"), format!("connected, agent {version}, heard of {heard}"))
        }
        Some(false) => Check::fail(title("node"), format!("not connected, last heard of {heard}")),
        // A collector that was started again has not met the node yet; files know no connections.
        None if live => {
            Check::warn(title("node"), format!("has not connected since the collector started, last heard of {heard}"))
        }
        None => Check::ok(title("node"), format!("last heard of {heard}")),
    });
    if !node.missing.is_empty() {
        checks.push(Check::warn(title("probes"), format!("missing: {}", node.missing.join("; "))));
    }
    // A cluster is acted on and not observed.
    if node.node == order::CLUSTER {
        return checks;
    }
    let coverage = node.coverage();
    let detail = format!(
        "{} of {} observations of the last hour arrived, {} lost",
        share(coverage),
        count(node.attempted.unsigned_abs()),
        count(node.lost.unsigned_abs())
    );
    let detail = if node.attempted == 0 { "nothing observed in the last hour".to_owned() } else { detail };
    checks.push(if coverage < COVERED || (live && node.attempted == 0) {
        Check::warn(title("coverage"), detail)
    } else {
        Check::ok(title("coverage"), detail)
    });
    checks
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn statuses(node: &Node, live: bool) -> Vec<Status> {
        of_node(node, live, 100_000_000).iter().map(|check| check.status).collect()
    }

    #[test]
    fn a_node_that_is_away_fails_and_a_silent_one_warns() {
        let node = Node { connected: Some(true), last_seen_us: 99_000_000, attempted: 100, ..Node::default() };
        assert_eq!(statuses(&node, true), [Status::Ok, Status::Ok]);
        let silent = Node { last_seen_us: 1_000_000, ..node.clone() };
        assert_eq!(statuses(&silent, true), [Status::Warn, Status::Ok]);
        let away = Node { connected: Some(false), ..node.clone() };
        assert_eq!(statuses(&away, true), [Status::Fail, Status::Ok]);
        let blind = Node { missing: vec!["tcp: no BTF".to_owned()], lost: 10, ..node };
        assert_eq!(statuses(&blind, true), [Status::Ok, Status::Warn, Status::Warn]);
    }

    #[test]
    fn files_without_a_collector_are_no_fault_of_the_node() {
        assert_eq!(statuses(&Node::default(), false), [Status::Ok, Status::Ok]);
    }
}
