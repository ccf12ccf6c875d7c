//! A finding leads to an action on a cluster, operators order others, and a collector that is killed goes on with what
//! stands. The API server is one in memory; kubectl looks at it before and after. Needs root, as `skep up` does.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use serde_json::Value;
use skep_cluster::Cluster;
use skep_tests::{PATIENCE, Skep, UNLIMITED, eventually};

/// Nothing listens at the port, so that the check is down from the start.
const AGENT: &str = "[[check]]\nname = \"shop\"\nkind = \"tcp\"\ntarget = \"127.0.0.1:1\"\ninterval = \"1s\"\nretries = 1\n\
                     unit = \"shop.service\"\n";

const POLICY: &str = "[[rule]]\nname = \"shop\"\nfinding = \"check-failed\"\nmode = \"auto\"\naction = \"restart_rollout\"\n\
                      parameters = \"namespace=shop name=web\"\nquorum = 0\nverify_s = 3\n[budget]\nmax_per_hour = 100\n\
                      node_per_hour = 100\ntarget_per_hour = 100\ncool_down_s = 0\n";

fn wait_for(skep: &Skep, action: &str, state: &str) -> Value {
    eventually(&format!("action {action} to be {state}"), PATIENCE, || {
        let sql = format!("SELECT * FROM actions WHERE action LIKE '{action}%' AND state = '{state}'");
        let output = skep.skep(&["query", "--format", "json", &sql]);
        output.status.success().then(|| skep_tests::json_rows(&output.stdout).into_iter().next()).flatten()
    })
}

/// Orders an action of the cluster; its id.
fn order(skep: &Skep, arguments: &[&str]) -> String {
    let words = [&["actions", "order", "kubernetes"], arguments, &["--format", "json"]].concat();
    let output = skep.skep(&words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let rows = skep_tests::json_rows(&output.stdout);
    rows[0]["action"].as_str().expect("its id").to_owned()
}

fn say(skep: &Skep, words: &[&str]) {
    let output = skep.skep(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_finding_and_an_operator_act_on_the_cluster_and_a_killed_collector_goes_on() {
    let cluster = Cluster::start();
    cluster.rollout("Deployment", "web", 2, "web:1");
    cluster.rollout("StatefulSet", "db", 2, "db:1");
    let uids = || cluster.says(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.uid}"]);
    let replicas = || cluster.says(&["get", "statefulset/db", "-o", "jsonpath={.spec.replicas}"]);
    let before = uids();
    let data = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| {
        let path = data.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a plain path").to_owned()
    };
    let collector = put(
        "collector.toml",
        &format!(
            "[kubernetes]\nenabled = true\nact = true\nkubeconfig = \"{}\"\nactions = [\"restart_rollout\", \"scale\"]\n\
             allowed = [\"shop/*\"]\nmax_replicas = 5\nmax_concurrent = 3\n",
            cluster.kubeconfig().display()
        ),
    );
    let (agent, policy) = (put("agent.toml", AGENT), put("policy.toml", POLICY));
    let variables = [UNLIMITED, ("SKEP_AGENT_CONFIG", agent.as_str()), ("SKEP_CONFIG", collector.as_str())];
    let skep = Skep::up_with(data.path(), &["--window", "1s", "--policy", &policy], &variables);

    let done = eventually("the finding's action to be done", PATIENCE, || {
        let sql = "SELECT * FROM actions WHERE verb = 'restart_rollout' AND state = 'done'";
        skep.query(sql).into_iter().next()
    });
    assert_eq!((done["target_node"].as_str(), done["actor"].as_str()), (Some("kubernetes"), Some("kubernetes")));
    assert_eq!(done["parameters"], "namespace=shop kind=deployment name=web");
    assert_eq!(done["detail"], "2 of 2 pods are of the new template, 2 available");
    let after = uids();
    assert!(after.split(' ').count() == 2 && after.split(' ').all(|uid| !before.contains(uid)), "{before} {after}");

    let db = ["namespace=shop", "kind=statefulset", "name=db"];
    let refused = order(&skep, &[&["scale"], &db[..], &["replicas=6", "lease_s=600"]].concat());
    let refused = wait_for(&skep, &refused, "refused");
    assert!(refused["detail"].as_str().is_some_and(|why| why.ends_with("6 replicas, 1 to 5 are")), "{refused}");
    let misplaced = skep.skep(&["actions", "order", "kubernetes", "run", "name=x"]);
    assert_eq!(misplaced.status.code(), Some(4), "{}", String::from_utf8_lossy(&misplaced.stderr));
    assert_eq!(replicas(), "2");

    let scale = order(&skep, &[&["scale"], &db[..], &["replicas=4", "lease_s=600"]].concat());
    let improved = wait_for(&skep, &scale, "improved");
    assert_eq!((improved["workload"].as_str(), replicas().as_str()), (Some("statefulset:shop/db"), "4"));
    let old = skep.kill("collector");
    skep.restarted("collector", old);
    eventually("the collector to know the cluster again", PATIENCE, || {
        let output = skep.skep(&["actions", "extend", &scale, "--lease", "20m"]);
        output.status.success().then_some(())
    });
    wait_for(&skep, &scale, "extended");
    assert_eq!(replicas(), "4", "what stands goes on");
    say(&skep, &["actions", "undo", &scale, "--reason", "enough"]);
    let undone = wait_for(&skep, &scale, "undone");
    assert_eq!(undone["detail"], "an operator asked for it: statefulset shop/db has 2 replicas again");
    assert_eq!(replicas(), "2");
    let listed = skep.skep(&["actions", "list", "--state", "undone", "--format", "json"]);
    assert!(skep_tests::json_rows(&listed.stdout).iter().any(|row| row["action"] == scale.as_str()));
    skep.stop();
    say_alone(data.path(), &scale);
}

/// The chain of the collector that stopped.
fn say_alone(data: &std::path::Path, action: &str) {
    let path = data.to_str().expect("a plain path");
    let verified = skep_tests::skep(data, &["audit", "verify", path, "--format", "json"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let listed = skep_tests::skep(data, &["audit", "list", "--about", action, "--format", "json"]);
    let rows = skep_tests::json_rows(&listed.stdout);
    let steps: Vec<&str> = rows.iter().filter_map(|row| row["step"].as_str()).collect();
    for step in ["pending", "sent", "applied", "improved", "extend", "extended", "undo", "undone"] {
        assert!(steps.contains(&step), "{step} is not in the chain: {steps:?}");
    }
}
