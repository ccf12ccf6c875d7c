//! The role that is handed out has what the actions ask for, and nothing more.

use std::collections::BTreeSet;

use serde_json::json;
use skep_cluster::bench::ALL;
use skep_wire::v1::Step;

use crate::start;

/// Verbs and resources of all rules: those of the file are one a line.
fn granted() -> BTreeSet<(String, String)> {
    let text = include_str!("../../../../docs/kubernetes-role.yaml");
    let words = |line: &str| -> Vec<String> {
        let list = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
        list.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect()
    };
    let (mut all, mut resources) = (BTreeSet::new(), Vec::new());
    for line in text.lines() {
        match line.trim().split_once(':') {
            Some(("resources", _)) => resources = words(line),
            Some(("verbs", _)) => {
                let verbs = words(line);
                all.extend(resources.iter().flat_map(|of| verbs.iter().map(|verb| (verb.clone(), of.clone()))));
            }
            _ => {}
        }
    }
    all
}

#[test]
fn the_role_grants_what_is_asked_for_and_nothing_more() {
    let (cluster, _dir, mut bench) = start(ALL);
    for (kind, app) in [("Deployment", "web"), ("StatefulSet", "db"), ("DaemonSet", "log")] {
        cluster.rollout(kind, app, 2, "some:1");
    }
    for node in ["one", "two", "three"] {
        cluster.node(node, &json!({}));
    }
    cluster.says(&["set", "image", "deployment/web", "web=web:2"]);
    cluster.eventually("the next release", || {
        let web = cluster.get("/apis/apps/v1/namespaces/shop/deployments/web")?;
        (web["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2").then_some(())
    });
    let pod = |app: &str| cluster.pods(app)[0].rsplit('/').next().unwrap().to_owned();
    for (verb, parameters) in [
        ("undo_rollout", "namespace=shop name=web lease_s=60".to_owned()),
        ("scale", "namespace=shop kind=statefulset name=db replicas=3 lease_s=60".to_owned()),
        ("cordon", "name=one lease_s=60".to_owned()),
    ] {
        assert_eq!(bench.order(verb, verb, &parameters).last().unwrap().0, Step::Improved, "{verb}");
        bench.undo(verb);
        assert_eq!(bench.said()[0].0, Step::Undone, "{verb}");
    }
    cluster.says(&["cordon", "two"]);
    for (at, (verb, parameters)) in [
        ("evict_pod", format!("namespace=shop name={}", pod("db"))),
        ("delete_pod", format!("namespace=shop name={}", pod("log"))),
        ("restart_rollout", format!("namespace=shop kind=pod name={}", pod("web"))),
        ("restart_rollout", "namespace=shop kind=statefulset name=db".to_owned()),
        ("restart_rollout", "namespace=shop kind=daemonset name=log".to_owned()),
        ("scale", "namespace=shop name=web replicas=3 lease_s=60".to_owned()),
        ("uncordon", "name=two".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let said = bench.order(&at.to_string(), verb, &parameters);
        assert!(matches!(said.last().unwrap().0, Step::Done | Step::Improved), "{verb} {parameters}: {said:?}");
    }
    let mut asked = cluster.state().asked.clone();
    // Everybody may ask for the version.
    asked.retain(|(_, resource)| !resource.is_empty());
    assert_eq!(asked, granted());
}
