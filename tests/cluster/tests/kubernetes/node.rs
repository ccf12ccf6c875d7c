//! Whether a node takes new pods.

use serde_json::json;
use skep_cluster::Cluster;
use skep_cluster::bench::ALL;
use skep_wire::v1::Step;

use crate::start;

fn unschedulable(cluster: &Cluster, node: &str) -> String {
    cluster.says(&["get", "node", node, "-o", "jsonpath={.spec.unschedulable}"])
}

fn nodes(cluster: &Cluster) {
    cluster.node("control", &json!({ "node-role.kubernetes.io/control-plane": "" }));
    for node in ["one", "two", "three"] {
        cluster.node(node, &json!({}));
    }
}

#[test]
fn a_node_is_cordoned_and_uncordoned() {
    let (cluster, _dir, mut bench) = start(ALL);
    nodes(&cluster);
    let said = bench.order("a", "cordon", "name=one lease_s=600");
    assert_eq!(said[0], (Step::Applied, "node one takes no new pods for 600 s".to_owned()));
    assert_eq!(said[1], (Step::Improved, "node one takes no new pods".to_owned()));
    assert_eq!(unschedulable(&cluster, "one"), "true");
    bench.undo("a");
    assert_eq!(bench.said(), [(Step::Undone, "an operator asked for it: node one takes new pods again".to_owned())]);
    assert_eq!(unschedulable(&cluster, "one"), "");
    cluster.says(&["cordon", "two"]);
    let said = bench.order("b", "uncordon", "name=two");
    assert_eq!(said[1], (Step::Done, "node two takes new pods".to_owned()));
    assert_eq!(unschedulable(&cluster, "two"), "");
}

#[test]
fn somebody_elses_cordon_stays() {
    let (cluster, _dir, mut bench) = start(ALL);
    nodes(&cluster);
    bench.order("a", "cordon", "name=one lease_s=60");
    cluster.says(&["uncordon", "one"]);
    bench.pass(61);
    assert_eq!(bench.said(), [(Step::Undone, "the lease has ended: node one takes new pods already".to_owned())]);
    bench.order("b", "cordon", "name=two lease_s=60");
    cluster.says(&["annotate", "--overwrite", "node", "two", "skep-rs.github.io/action=somebody"]);
    bench.pass(61);
    let left = "the lease has ended: somebody else keeps node two from new pods; it is left alone";
    assert_eq!(bench.said().last().unwrap().1, left);
    assert_eq!(unschedulable(&cluster, "two"), "true");
}

#[test]
fn enough_nodes_are_left_for_new_pods() {
    let (cluster, _dir, mut bench) = start(ALL);
    nodes(&cluster);
    cluster.says(&["cordon", "two"]);
    cluster.says(&["cordon", "control"]);
    let said = bench.order("a", "cordon", "name=one lease_s=60");
    let why =
        "not allowed by [kubernetes] of the collector's settings: 1 other nodes would be left for new pods, 2 must be";
    assert_eq!(said, [(Step::Refused, why.to_owned())]);
    let said = bench.order("b", "cordon", "name=control lease_s=60");
    let why = "node control is protected: it is labelled node-role.kubernetes.io/control-plane";
    assert_eq!(said, [(Step::Refused, why.to_owned())]);
    assert_eq!(unschedulable(&cluster, "one"), "");
}
