//! `kill -9` at every step of every action that can be undone: whatever the step, the next life either has the cluster as
//! it was before, or the action complete and with its lease; never neither.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use serde_json::{Value, json};
use skep_cluster::Cluster;
use skep_cluster::bench::{ALL, Bench};
use skep_kubernetes::fault::{ENVIRONMENT, POINTS};

struct Case<'a> {
    verb: &'a str,
    parameters: &'a str,
    /// Where it changes something, and what of that.
    path: String,
    pointer: &'a str,
}

fn at(cluster: &Cluster, case: &Case<'_>) -> Value {
    cluster.get(&case.path).unwrap().pointer(case.pointer).cloned().unwrap_or_default()
}

/// Dies at every point, one after another.
fn run(cluster: &Cluster, case: &Case<'_>) {
    let before = at(cluster, case);
    let mut changed = Vec::new();
    for point in POINTS {
        let dir = tempfile::tempdir().unwrap();
        let then = if matches!(point, "undoing" | "undone" | "closed") { "undo" } else { "" };
        let status = Command::new(env!("CARGO_BIN_EXE_skep-cluster-life"))
            .arg(cluster.kubeconfig())
            .arg(dir.path())
            .args(["a", case.verb, case.parameters, then])
            .env(ENVIRONMENT, point)
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9), "{} at {point}", case.verb);
        let between = at(cluster, case);
        if between != before {
            changed.push(point);
        }
        let mut bench = Bench::over(&cluster.kubeconfig(), dir.path(), ALL);
        bench.settle();
        if bench.standing().is_empty() {
            assert_eq!(at(cluster, case), before, "{} at {point}", case.verb);
        } else {
            assert_eq!((point, at(cluster, case)), ("told", between), "{} complete and leased", case.verb);
            bench.undo("a");
            assert_eq!(at(cluster, case), before, "{} at {point}, undone", case.verb);
        }
        let again = bench.command("a", case.verb, case.parameters);
        bench.said();
        bench.execute(&again);
        // Of what was not admitted yet nobody knows.
        let replayed = bench.said().iter().any(|(_, detail)| detail.contains("carried out or refused before"));
        assert_eq!(replayed, point != "admitted", "{} at {point}", case.verb);
        if !replayed {
            bench.undo("a");
        }
        assert_eq!(at(cluster, case), before);
    }
    assert!(changed.contains(&"applied") && changed.contains(&"told"), "{}: {changed:?}", case.verb);
    assert!(!changed.contains(&"journalled") && !changed.contains(&"undone"), "{}: {changed:?}", case.verb);
}

#[test]
fn a_scale_survives_every_death() {
    let cluster = Cluster::start();
    let path = cluster.rollout("Deployment", "web", 2, "web:1");
    let parameters = "namespace=shop name=web replicas=4 lease_s=600";
    run(&cluster, &Case { verb: "scale", parameters, path, pointer: "/spec/replicas" });
}

#[test]
fn an_undone_rollout_survives_every_death() {
    let cluster = Cluster::start();
    let path = cluster.rollout("Deployment", "web", 2, "web:1");
    cluster.says(&["set", "image", "deployment/web", "web=web:2"]);
    cluster.eventually("the next release", || {
        let web = cluster.get(&path)?;
        (web["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2").then_some(())
    });
    let parameters = "namespace=shop name=web lease_s=600";
    let pointer = "/spec/template/spec/containers/0/image";
    run(&cluster, &Case { verb: "undo_rollout", parameters, path, pointer });
}

#[test]
fn a_cordon_survives_every_death() {
    let cluster = Cluster::start();
    for node in ["two", "three"] {
        cluster.node(node, &json!({}));
    }
    let path = cluster.node("one", &json!({}));
    run(&cluster, &Case { verb: "cordon", parameters: "name=one lease_s=600", path, pointer: "/spec/unschedulable" });
}

#[test]
fn what_cannot_be_undone_is_looked_at_and_not_begun_again() {
    let cluster = Cluster::start();
    cluster.rollout("Deployment", "web", 2, "web:1");
    for (at, (point, expected)) in [
        ("journalled", "deployment shop/web has another template by now"),
        ("applied", "2 of 2 pods are of the new template"),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new(env!("CARGO_BIN_EXE_skep-cluster-life"))
            .arg(cluster.kubeconfig())
            .arg(dir.path())
            .args([&format!("r{at}"), "restart_rollout", "namespace=shop name=web", ""])
            .env(ENVIRONMENT, point)
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9), "at {point}");
        let changes = cluster.state().changes.len();
        let mut bench = Bench::over(&cluster.kubeconfig(), dir.path(), ALL);
        bench.settle();
        let said = bench.said();
        assert!(said.last().unwrap().1.starts_with(expected), "after {point}: {said:?}");
        assert_eq!(cluster.state().changes.len(), changes);
        assert!(bench.standing().is_empty());
    }
}
