//! How many pods there are.

use skep_cluster::Cluster;
use skep_cluster::bench::ALL;
use skep_wire::v1::Step;

use crate::start;

const WEB: &str = "namespace=shop name=web";

fn replicas(cluster: &Cluster, what: &str) -> String {
    cluster.says(&["get", what, "-o", "jsonpath={.spec.replicas}/{.status.readyReplicas}"])
}

#[test]
fn a_deployment_is_scaled_and_back() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 3, "web:1");
    assert_eq!(replicas(&cluster, "deployment/web"), "3/3");
    let said = bench.order("a", "scale", &format!("{WEB} replicas=5 lease_s=600"));
    assert_eq!(said[0], (Step::Applied, "deployment shop/web scaled from 3 to 5 for 600 s".to_owned()));
    assert_eq!(said[1], (Step::Improved, "5 of 5 pods are ready".to_owned()));
    assert_eq!(replicas(&cluster, "deployment/web"), "5/5");
    let again = bench.order("b", "scale", &format!("{WEB} replicas=6 lease_s=600"));
    assert_eq!(again, [(Step::Refused, "action a stands on deployment shop/web already".to_owned())]);
    bench.undo("a");
    let undone = "an operator asked for it: deployment shop/web has 3 replicas again";
    assert_eq!(bench.said(), [(Step::Undone, undone.to_owned())]);
    cluster.eventually("three again", || (replicas(&cluster, "deployment/web") == "3/3").then_some(()));
    assert!(bench.standing().is_empty());
    let moot = bench.order("c", "scale", &format!("{WEB} replicas=3 lease_s=600"));
    assert_eq!(moot, [(Step::Moot, "trigger gone: deployment shop/web has 3 replicas already".to_owned())]);
}

#[test]
fn a_lease_ends_and_can_be_made_longer() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("StatefulSet", "db", 2, "db:1");
    let said = bench.order("a", "scale", "namespace=shop kind=statefulset name=db replicas=1 lease_s=60");
    assert_eq!(said.last().unwrap().0, Step::Improved, "{said:?}");
    bench.extend("a", 600);
    assert_eq!(bench.said()[0].0, Step::Extended);
    bench.pass(300);
    assert_eq!((bench.said(), bench.standing()), (Vec::new(), vec!["a".to_owned()]));
    bench.pass(301);
    assert_eq!(
        bench.said(),
        [(Step::Undone, "the lease has ended: statefulset shop/db has 2 replicas again".to_owned())]
    );
    cluster.eventually("two again", || (replicas(&cluster, "statefulset/db") == "2/2").then_some(()));
}

#[test]
fn what_somebody_else_did_meanwhile_stays() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 3, "web:1");
    bench.order("a", "scale", &format!("{WEB} replicas=5 lease_s=600"));
    cluster.says(&["scale", "deployment/web", "--replicas=7"]);
    bench.undo("a");
    let said = bench.said();
    assert!(said[0].1.ends_with("somebody scaled deployment shop/web to another number; it is left alone"), "{said:?}");
    assert!(replicas(&cluster, "deployment/web").starts_with("7/"));
    // Made again under its name: another one.
    bench.order("b", "scale", &format!("{WEB} replicas=5 lease_s=600"));
    cluster.says(&["delete", "deployment/web", "--wait=false"]);
    cluster.rollout("Deployment", "web", 2, "web:2");
    bench.undo("b");
    let said = bench.said();
    assert!(said.last().unwrap().1.ends_with("deployment shop/web was made again since; it is left alone"), "{said:?}");
    assert!(replicas(&cluster, "deployment/web").starts_with("2/"));
}

#[test]
fn what_does_not_become_ready_is_taken_back() {
    let (cluster, _dir, mut bench) = start(&ALL.replace("within_s = 20", "within_s = 2"));
    let path = cluster.rollout("Deployment", "web", 1, "bad");
    let said = bench.order("a", "scale", &format!("{WEB} replicas=4 lease_s=600"));
    let steps: Vec<Step> = said.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [Step::Applied, Step::Failed, Step::Undone], "{said:?}");
    assert_eq!(said[1].1, "not within 2 s: 0 of 4 pods are ready");
    assert_eq!(cluster.get(&path).unwrap()["spec"]["replicas"], 1);
}

#[test]
fn what_an_autoscaler_scales_is_left_to_it() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 2, "web:1");
    let scaler = serde_json::json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "by-load", "namespace": "shop" },
        "spec": { "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" }, "maxReplicas": 9 },
    });
    cluster.state().create("/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/by-load", scaler);
    let said = bench.order("a", "scale", &format!("{WEB} replicas=3 lease_s=60"));
    let why = "deployment shop/web is scaled by horizontalpodautoscaler by-load: change its bounds instead";
    assert_eq!(said, [(Step::Refused, why.to_owned())]);
}
