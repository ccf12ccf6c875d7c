//! A pod is evicted or deleted.

use skep_cluster::Cluster;
use skep_cluster::bench::ALL;
use skep_wire::v1::Step;

use crate::start;

fn uid(cluster: &Cluster, pod: &str) -> String {
    let output = cluster.kubectl(&["get", "pod", pod, "-o", "jsonpath={.metadata.uid}"]);
    String::from_utf8(output.stdout).unwrap()
}

fn name(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn a_pod_goes_and_another_comes() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 2, "web:1");
    for verb in ["evict_pod", "delete_pod"] {
        let pod = name(&cluster.pods("web")[0]);
        let before = uid(&cluster, &pod);
        let said = bench.order(verb, verb, &format!("namespace=shop name={pod} uid={before}"));
        assert_eq!(said.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [Step::Applied, Step::Done], "{said:?}");
        assert!(said[1].1.starts_with(&format!("pod shop/{pod} is gone")), "{said:?}");
        assert_ne!(uid(&cluster, &pod), before);
        cluster.eventually("another in its place", || (cluster.pods("web").len() == 2).then_some(()));
        // The same command once more is another's pod by now.
        let said = bench.order(&format!("{verb} again"), verb, &format!("namespace=shop name={pod} uid={before}"));
        assert_eq!(said[0].0, Step::Refused, "{said:?}");
        assert!(cluster.pods("web").len() == 2);
    }
}

#[test]
fn a_disruption_budget_is_kept() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 2, "web:1");
    cluster.state().disruptions = Some(0);
    let pod = name(&cluster.pods("web")[0]);
    let before = uid(&cluster, &pod);
    let said = bench.order("a", "evict_pod", &format!("namespace=shop name={pod}"));
    let why = "not now: Cannot evict pod as it would violate the pod's disruption budget.";
    assert_eq!(said, [(Step::Failed, why.to_owned())]);
    assert_eq!(uid(&cluster, &pod), before);
}

#[test]
fn a_pod_made_again_between_the_look_and_the_act_is_left_alone() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("StatefulSet", "db", 1, "db:1");
    let path = cluster.pods("db").remove(0);
    let pod = cluster.get(&path).unwrap();
    let stale = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    cluster.state().create(&path, pod);
    let said = bench.order("a", "delete_pod", &format!("namespace=shop name=db-0 uid={stale}"));
    let why = "pod shop/db-0 is another one than was meant: it was made again since; it is left alone";
    assert_eq!(said, [(Step::Refused, why.to_owned())]);
    assert!(cluster.state().changes.is_empty());
}

#[test]
fn a_pod_that_nothing_would_replace_is_protected() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 1, "web:1");
    let path = cluster.pods("web").remove(0);
    let mut pod = cluster.get(&path).unwrap();
    pod["metadata"]["name"] = "alone".into();
    pod["metadata"]["ownerReferences"] = serde_json::Value::Null;
    cluster.state().create("/api/v1/namespaces/shop/pods/alone", pod.clone());
    pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "7".into();
    cluster.state().create("/api/v1/namespaces/shop/pods/mirror", pod);
    for (name, why) in [
        ("alone", "pod shop/alone is protected: nothing controls it, so that no other would take its place"),
        ("mirror", "pod shop/mirror is protected: its node runs it from a file"),
        ("nobody", "there is no pod shop/nobody"),
    ] {
        let said = bench.order(name, "delete_pod", &format!("namespace=shop name={name}"));
        assert_eq!(said, [(Step::Refused, why.to_owned())]);
    }
}

#[test]
fn a_lost_answer_is_made_good_by_a_look() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 2, "web:1");
    let pod = name(&cluster.pods("web")[0]);
    let before = uid(&cluster, &pod);
    cluster.state().lost = 1;
    let said = bench.order("a", "delete_pod", &format!("namespace=shop name={pod}"));
    assert!(matches!(said.as_slice(), [(Step::Done, _)]), "{said:?}");
    assert_ne!(uid(&cluster, &pod), before);
    // What can be taken back is.
    cluster.state().lost = 1;
    let said = bench.order("b", "scale", "namespace=shop name=web replicas=3 lease_s=60");
    assert!(matches!(said.as_slice(), [(Step::Failed, _)]), "{said:?}");
    assert_eq!(cluster.says(&["get", "deployment/web", "-o", "jsonpath={.spec.replicas}"]), "2");
    assert!(bench.standing().is_empty());
}
