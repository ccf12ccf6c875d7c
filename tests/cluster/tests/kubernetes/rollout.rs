//! A template is started anew, or one of before put back.

use skep_cluster::Cluster;
use skep_cluster::bench::ALL;
use skep_wire::v1::Step;

use crate::start;

fn image(cluster: &Cluster) -> String {
    cluster.says(&["get", "deployment/web", "-o", "jsonpath={.spec.template.spec.containers[0].image}"])
}

fn uids(cluster: &Cluster, app: &str) -> Vec<String> {
    let format = "jsonpath={.items[*].metadata.uid}";
    let text = cluster.says(&["get", "pods", "-l", &format!("app={app}"), "-o", format]);
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn pods_are_replaced_one_after_another() {
    let (cluster, _dir, mut bench) = start(ALL);
    for (kind, app) in [("Deployment", "web"), ("StatefulSet", "db"), ("DaemonSet", "log")] {
        cluster.rollout(kind, app, 3, "some:1");
        let before = uids(&cluster, app);
        assert_eq!(before.len(), 3);
        let kind = kind.to_lowercase();
        let said = bench.order(app, "restart_rollout", &format!("namespace=shop kind={kind} name={app}"));
        assert_eq!(said[0], (Step::Applied, format!("{kind} shop/{app} begins to replace its pods")));
        assert_eq!(said[1], (Step::Done, "3 of 3 pods are of the new template, 3 available".to_owned()));
        let after = uids(&cluster, app);
        assert!(after.len() == 3 && after.iter().all(|uid| !before.contains(uid)), "{before:?} {after:?}");
    }
    bench.undo("web");
    assert_eq!(bench.said(), [(Step::Refused, "no action web stands".to_owned())]);
}

#[test]
fn a_pods_rollout_is_that_of_what_controls_it() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 2, "web:1");
    let pod = cluster.pods("web")[0].rsplit('/').next().unwrap().to_owned();
    let said = bench.order("a", "restart_rollout", &format!("namespace=shop kind=pod name={pod}"));
    assert_eq!(said[1].0, Step::Done, "{said:?}");
    assert!(said[0].1.starts_with("deployment shop/web "), "{said:?}");
}

#[test]
fn a_bad_release_is_taken_back_and_stays_away() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 3, "web:1");
    cluster.says(&["set", "image", "deployment/web", "web=bad"]);
    let pods = || cluster.says(&["get", "deployment/web", "-o", "jsonpath={.status.updatedReplicas}"]);
    cluster.eventually("the bad release to begin", || (pods() == "1").then_some(()));
    let said = bench.order("a", "undo_rollout", "namespace=shop name=web lease_s=600");
    let began = "deployment shop/web goes back from revision 2 to 1; it can be taken back for 600 s";
    assert_eq!(said[0], (Step::Applied, began.to_owned()));
    assert_eq!(said[1], (Step::Improved, "3 of 3 pods are of the new template, 3 available".to_owned()));
    assert_eq!(image(&cluster), "web:1");
    // As kubectl does it: the template of before is the newest revision now.
    let history = cluster.says(&["rollout", "history", "deployment/web"]);
    let revisions: Vec<&str> = history.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(revisions, ["2", "3"], "{history}");
    bench.pass(601);
    let stays = "the lease has ended: the release of before stays, and is not taken back any more";
    assert_eq!(bench.said(), [(Step::Done, stays.to_owned())]);
    assert_eq!(image(&cluster), "web:1");
    assert!(bench.standing().is_empty());
}

#[test]
fn an_undone_rollout_can_itself_be_undone() {
    let (cluster, _dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 2, "web:1");
    for version in ["web:2", "web:3"] {
        cluster.says(&["set", "image", "deployment/web", &format!("web={version}")]);
        cluster.eventually("the next release", || {
            let shown = cluster.says(&[
                "get",
                "replicasets",
                "-l",
                "app=web",
                "-o",
                "jsonpath={.items[*].spec.template.spec.containers[0].image}",
            ]);
            shown.contains(version).then_some(())
        });
    }
    let none = bench.order("a", "undo_rollout", "namespace=shop name=web revision=9 lease_s=600");
    assert_eq!(none, [(Step::Refused, "deployment shop/web has no revision 9, but 1, 2, 3".to_owned())]);
    bench.order("b", "undo_rollout", "namespace=shop name=web revision=1 lease_s=600");
    assert_eq!(image(&cluster), "web:1");
    bench.undo("b");
    let said = bench.said();
    assert!(said.last().unwrap().1.ends_with("deployment shop/web has the template of revision 3 again"), "{said:?}");
    assert_eq!(image(&cluster), "web:3");
    bench.order("c", "undo_rollout", "namespace=shop name=web lease_s=600");
    cluster.says(&["set", "image", "deployment/web", "web=web:4"]);
    bench.undo("c");
    let said = bench.said();
    assert!(said.last().unwrap().1.ends_with("has another template by now; it is left alone"), "{said:?}");
    assert_eq!(image(&cluster), "web:4");
}
