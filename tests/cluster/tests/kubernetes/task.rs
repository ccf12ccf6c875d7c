//! The task as the collector runs it: commands in, receipts out, each stored before the next.

use std::path::Path;
use std::time::Duration;

use skep_cluster::Cluster;
use skep_cluster::bench::{self, ALL};
use skep_kubernetes::{Task, Word};
use skep_runtime::clock::Clock;
use skep_wire::order;
use skep_wire::v1::command::Action;
use skep_wire::v1::{self, Step};
use tokio::sync::mpsc;

/// A task that runs, and which cluster it acts on.
struct Running {
    words: mpsc::Receiver<Word>,
    commands: mpsc::Sender<v1::Command>,
    handle: tokio::task::JoinHandle<()>,
    identity: String,
}

impl Running {
    async fn start(kubeconfig: &Path, dir: &Path) -> Self {
        let (said, words) = mpsc::channel(1);
        let (commands, to_do) = mpsc::channel(1);
        let settings = bench::settings(ALL, kubeconfig);
        let task = Task { settings, dir: dir.to_owned(), clock: Clock::system(), words: said, commands: to_do };
        let handle = tokio::spawn(task.run());
        let mut running = Self { words, commands, handle, identity: String::new() };
        running.identity = match running.word().await {
            Word::Connected { identity, version } => {
                assert_eq!(version, "v1.33.0-in-memory");
                identity
            }
            other => unreachable!("{other:?} before it is connected"),
        };
        running
    }

    async fn word(&mut self) -> Word {
        tokio::time::timeout(Duration::from_secs(20), self.words.recv()).await.unwrap().unwrap()
    }

    async fn send(&self, id: &str, of: v1::Command) {
        let now_us = Clock::system().wall_us();
        let command = v1::Command {
            id: id.to_owned(),
            nonce: format!("nonce of {id}"),
            node: order::CLUSTER.to_owned(),
            boot: self.identity.clone(),
            issued_us: now_us,
            not_after_us: now_us + 60_000_000,
            ..of
        };
        self.commands.send(command).await.unwrap();
    }

    /// The next receipt, which is said to be stored or not.
    async fn receipt(&mut self, store: bool) -> (Step, String) {
        loop {
            if let Word::Receipt { receipt, stored } = self.word().await {
                if store {
                    stored.send(()).unwrap();
                }
                return (receipt.step(), receipt.detail);
            }
        }
    }
}

fn replicas(cluster: &Cluster) -> String {
    cluster.says(&["get", "deployment/web", "-o", "jsonpath={.spec.replicas}"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_stored_is_said_again_by_the_next_life_and_what_stands_goes_on() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    tokio::task::block_in_place(|| cluster.rollout("Deployment", "web", 2, "web:1"));
    let mut first = Running::start(&cluster.kubeconfig(), dir.path()).await;
    let scale = order::read("scale", "namespace=shop name=web replicas=4 lease_s=600").unwrap();
    first.send("a", scale).await;
    assert_eq!(first.receipt(true).await.0, Step::Applied);
    // Nobody says that this one is stored.
    assert_eq!(first.receipt(false).await.0, Step::Improved);
    drop(first.words);
    first.handle.await.unwrap();
    assert_eq!(tokio::task::block_in_place(|| replicas(&cluster)), "4");

    let mut second = Running::start(&cluster.kubeconfig(), dir.path()).await;
    assert_eq!(second.receipt(true).await.0, Step::Improved);
    let undo = Action::Undo(v1::Undo { action_id: "a".to_owned() });
    second.send("b", v1::Command { action: Some(undo), ..Default::default() }).await;
    let mut said = second.receipt(true).await;
    // It looks once more at what it did not see come about.
    if said.0 == Step::Improved {
        said = second.receipt(true).await;
    }
    assert_eq!(said.1, "an operator asked for it: deployment shop/web has 2 replicas again");
    assert_eq!(tokio::task::block_in_place(|| replicas(&cluster)), "2");
    drop(second.commands);
    second.handle.await.unwrap();
    tokio::task::spawn_blocking(|| drop(cluster)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_is_waited_for() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let late = dir.path().join("kubeconfig");
    let (said, mut words) = mpsc::channel(1);
    let (_commands, to_do) = mpsc::channel(1);
    let settings = bench::settings(ALL, &late);
    let journal = dir.path().join("journal");
    let task = Task { settings, dir: journal, clock: Clock::system(), words: said, commands: to_do };
    let handle = tokio::spawn(task.run());
    assert!(tokio::time::timeout(Duration::from_millis(700), words.recv()).await.is_err(), "nobody can be asked");
    std::fs::copy(cluster.kubeconfig().with_file_name("ca.pem"), dir.path().join("ca.pem")).unwrap();
    std::fs::copy(cluster.kubeconfig(), &late).unwrap();
    let word = tokio::time::timeout(Duration::from_secs(20), words.recv()).await.unwrap();
    assert!(matches!(word, Some(Word::Connected { .. })), "{word:?}");
    handle.abort();
    tokio::task::spawn_blocking(|| drop(cluster)).await.unwrap();
}
