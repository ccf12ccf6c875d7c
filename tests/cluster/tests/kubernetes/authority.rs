//! What is not carried out, each for its own reason, and what is said when the API server does not let us.

use skep_cluster::bench::{ALL, Bench};
use skep_wire::v1::Step;

use crate::start;

const NOT_ALLOWED: &str = "not allowed by [kubernetes] of the collector's settings: ";

#[test]
fn nothing_is_done_that_the_settings_do_not_name() {
    let narrow = "act = true\nactions = [\"scale\", \"delete_pod\"]\nmodes = [\"ask\"]\nallowed = [\"shop/deployment/web*\", \"kube-system/*\"]\n\
                  protected = [\"shop/deployment/web-db\"]\nmax_lease_s = 900\nmax_replicas = 6\nmax_per_hour = 1\n";
    let (cluster, _dir, mut bench) = start(narrow);
    cluster.rollout("Deployment", "web", 2, "web:1");
    cluster.rollout("Deployment", "web-db", 2, "web:1");
    cluster.rollout("Deployment", "other", 2, "web:1");
    let mut state = cluster.get("/apis/apps/v1/namespaces/shop/deployments/web").unwrap();
    state["metadata"]["namespace"] = "kube-system".into();
    cluster.state().create("/apis/apps/v1/namespaces/kube-system/deployments/web", state);
    let changes = cluster.state().changes.len();
    for (at, (verb, parameters, why)) in [
        ("restart_rollout", "namespace=shop name=web", format!("{NOT_ALLOWED}restart_rollout is not among actions")),
        (
            "scale",
            "namespace=shop name=other replicas=3 lease_s=60",
            format!("{NOT_ALLOWED}shop/deployment/other is not among allowed"),
        ),
        ("scale", "namespace=shop name=web replicas=7 lease_s=60", format!("{NOT_ALLOWED}7 replicas, 1 to 6 are")),
        ("scale", "namespace=shop name=web replicas=0 lease_s=60", format!("{NOT_ALLOWED}0 replicas, 1 to 6 are")),
        (
            "scale",
            "namespace=shop name=web replicas=3 lease_s=901",
            format!("{NOT_ALLOWED}a lease of 901 s, the longest is 900 s"),
        ),
        ("scale", "namespace=shop name=web replicas=3", "the command cannot be understood: it has no lease".to_owned()),
        (
            "scale",
            "namespace=shop name=web-db replicas=3 lease_s=60",
            "deployment shop/web-db is protected: the settings protect shop/deployment/web-db".to_owned(),
        ),
        (
            "scale",
            "namespace=kube-system name=web replicas=3 lease_s=60",
            "deployment kube-system/web is protected: the namespace kube-system is always".to_owned(),
        ),
        (
            "scale",
            "namespace=shop name=../pods/x replicas=3 lease_s=60",
            "the command cannot be understood: its target has no name that an object can have".to_owned(),
        ),
        (
            "scale",
            "namespace=shop kind=daemonset name=web replicas=3 lease_s=60",
            "there is no daemonset shop/web".to_owned(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(bench.order(&at.to_string(), verb, parameters), [(Step::Refused, why)], "{verb} {parameters}");
    }
    assert_eq!(cluster.state().changes.len(), changes);
    let mut auto = bench.command("m", "scale", "namespace=shop name=web replicas=3 lease_s=60");
    auto.mode = "auto".to_owned();
    bench.execute(&auto);
    assert_eq!(bench.said()[0].1, format!("{NOT_ALLOWED}auto is not among modes"));
    bench.execute(&auto);
    assert_eq!(bench.said()[0].1, "the command was carried out or refused before");
    let mut other = bench.command("n", "scale", "namespace=shop name=web replicas=3 lease_s=60");
    other.boot = "another".to_owned();
    bench.execute(&other);
    assert_eq!(bench.said()[0].1, "the command is for another cluster than the one that answers now");
    let late = bench.command("o", "scale", "namespace=shop name=web replicas=3 lease_s=60");
    bench.pass(65);
    bench.execute(&late);
    assert_eq!(bench.said()[0].1, "the command expired 5 s ago");
    assert_eq!(cluster.state().changes.len(), changes);
    bench.order("p", "scale", "namespace=shop name=web replicas=3 lease_s=60");
    bench.undo("p");
    bench.said();
    let full = bench.order("q", "scale", "namespace=shop name=web replicas=3 lease_s=60");
    assert_eq!(full, [(Step::Refused, "the budget is used up: 1 of 1 actions an hour".to_owned())]);
}

#[test]
fn without_leave_to_act_nothing_is_changed() {
    let (cluster, _dir, mut bench) = start(&ALL.replace("act = true", "act = false"));
    cluster.rollout("Deployment", "web", 2, "web:1");
    let said = bench.order("a", "scale", "namespace=shop name=web replicas=3 lease_s=60");
    assert_eq!(said[0].1, "dry run: deployment shop/web scaled from 2 to 3 for 60 s");
    assert_eq!(said[1], (Step::Undone, "dry run: nothing was changed".to_owned()));
    assert!(cluster.state().changes.is_empty());
}

#[test]
fn what_the_api_server_refuses_says_what_to_do() {
    let (cluster, dir, mut bench) = start(ALL);
    cluster.rollout("Deployment", "web", 2, "web:1");
    cluster.state().forbidden.insert(("patch".to_owned(), "deployments/scale".to_owned()));
    let said = bench.order("a", "scale", "namespace=shop name=web replicas=3 lease_s=60");
    let [(Step::Failed, why)] = said.as_slice() else { panic!("{said:?}") };
    assert!(why.contains("cannot patch resource \"deployments/scale\"; give the collector's role that verb"), "{why}");
    assert!(bench.standing().is_empty(), "it was looked at and nothing of it stands");
    cluster.state().forbidden.clear();
    // Busy for a moment is no reason to give up.
    cluster.state().busy = 2;
    let said = bench.order("b", "scale", "namespace=shop name=web replicas=3 lease_s=60");
    assert_eq!(said.last().unwrap().0, Step::Improved, "{said:?}");
    // An undo that is refused is told once, and tried until it works.
    cluster.state().forbidden.insert(("patch".to_owned(), "deployments/scale".to_owned()));
    bench.pass(61);
    bench.pass(6);
    let said = bench.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].1.starts_with("could not be undone: the API server refuses: "), "{said:?}");
    cluster.state().forbidden.clear();
    bench.pass(6);
    assert_eq!(bench.said()[0].0, Step::Undone);
    drop(bench);
    let config = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let stranger = cluster.kubeconfig().with_file_name("stranger");
    std::fs::write(&stranger, config.replace("a-token", "no-token")).unwrap();
    let settings = skep_cluster::bench::settings(ALL, &stranger);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(async {
        let cluster = skep_kubernetes::cluster::Cluster::of(&settings).await.unwrap();
        cluster.identity().await.unwrap_err().to_string()
    });
    assert!(error.contains("renew the token or certificate of the kubeconfig"), "{error}");
    // Somebody who is not of this authority.
    let file = cluster.kubeconfig().with_file_name("unknown");
    let other = skep_cluster::Cluster::start();
    std::fs::copy(other.kubeconfig().with_file_name("ca.pem"), cluster.kubeconfig().with_file_name("other.pem"))
        .unwrap();
    std::fs::write(&file, config.replace("ca.pem", "other.pem")).unwrap();
    let settings = skep_cluster::bench::settings(ALL, &file);
    let error = runtime.block_on(async {
        let cluster = skep_kubernetes::cluster::Cluster::of(&settings).await.unwrap();
        cluster.identity().await.unwrap_err().to_string()
    });
    assert!(error.contains("does not answer") && error.contains("certificate"), "{error}");
    let again = Bench::over(&cluster.kubeconfig(), dir.path(), ALL);
    assert!(again.standing().is_empty());
}
