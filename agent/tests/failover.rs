//! The agent with two collectors over real TLS: it goes on with the other one, comes back, and says what is where.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use skep_agent::app::{self, AppError};
use skep_agent::config::{self, Overrides};
use skep_agent::probe::ProbeReport;
use skep_runtime::shutdown::Shutdown;
use skep_wire::v1;
use support::collector::{Collector, Shelf};
use support::eventually;
use support::pki::{Pki, text};
use support::script::Script;

/// An agent under test, its two collectors' shelves, and what they lie on.
struct Ground {
    pki: Pki,
    dir: tempfile::TempDir,
    one: Arc<Mutex<Shelf>>,
    two: Arc<Mutex<Shelf>>,
}

struct Agent {
    shutdown: Shutdown,
    script: Script,
    task: tokio::task::JoinHandle<Result<(), AppError>>,
}

impl Ground {
    fn new() -> Self {
        // Every test of this process installs it; only the first one can.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { pki: Pki::new(), dir: tempfile::tempdir().unwrap(), one: Arc::default(), two: Arc::default() }
    }

    async fn collector(&self, port: u16, shelf: &Arc<Mutex<Shelf>>) -> Collector {
        Collector::start(&self.pki, "collector", port, Arc::clone(shelf)).await
    }

    fn agent(&self, ports: [u16; 2], return_after: &str) -> Agent {
        let overrides = Overrides {
            collector: ports.map(|port| format!("https://127.0.0.1:{port}")).to_vec(),
            return_after: Some(return_after.to_owned()),
            ca: Some(text(&self.pki.path("ca.pem"))),
            cert: Some(text(&self.pki.path("node-1.pem"))),
            key: Some(text(&self.pki.path("node-1.key"))),
            state_dir: Some(text(self.dir.path())),
            window: Some("1s".to_owned()),
            ..Overrides::default()
        };
        let config = config::load(None, &overrides).unwrap();
        let (shutdown, script) = (Shutdown::new(), Script::new());
        let source = script.clone();
        let run = app::run_with(config, shutdown.clone(), |_, _| Ok((source, ProbeReport::default())));
        Agent { task: tokio::spawn(run), shutdown, script }
    }

    /// How often each number of the stream is on a shelf, and that none was missed by both.
    fn assert_whole(&self) -> BTreeMap<u64, usize> {
        let mut seqs = BTreeMap::new();
        for shelf in [&self.one, &self.two] {
            let shelf = shelf.lock().unwrap();
            assert_eq!(shelf.faults, Vec::<String>::new());
            shelf.stored.iter().for_each(|(_, seq, _)| *seqs.entry(*seq).or_default() += 1);
        }
        let numbers: Vec<u64> = seqs.keys().copied().collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        seqs
    }
}

impl Agent {
    async fn stop(self) {
        self.shutdown.begin();
        self.task.await.unwrap().unwrap();
    }
}

fn has(shelf: &Mutex<Shelf>, argument: &str) -> Option<()> {
    let rows = shelf.lock().unwrap().rows("processes", |row| {
        row.text_list("argv").and_then(|argv| argv.last().map(|last| *last == argument)).unwrap_or(false)
    });
    rows.contains(&true).then_some(())
}

fn hello(shelf: &Mutex<Shelf>) -> v1::Hello {
    shelf.lock().unwrap().hellos.last().expect("a hello").clone()
}

fn ranges(hello: &v1::Hello) -> Vec<(u64, u64)> {
    hello.elsewhere.iter().map(|range| (range.from_seq, range.to_seq)).collect()
}

fn durable(shelf: &Mutex<Shelf>) -> u64 {
    shelf.lock().unwrap().durable.values().copied().next().unwrap_or(0)
}

fn spool_is_there(dir: &Path) -> Option<()> {
    dir.join("spool/state").exists().then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_with_the_other_one_and_comes_back() {
    let ground = Ground::new();
    let (first, second) = (ground.collector(0, &ground.one).await, ground.collector(0, &ground.two).await);
    let agent = ground.agent([first.port, second.port], "1s");
    agent.script.exec(4_000_001, "a");
    eventually("the first exec", || has(&ground.one, "a")).await;
    assert_eq!((hello(&ground.one).collector_place, hello(&ground.one).collectors), (1, 2));
    assert!(ground.two.lock().unwrap().hellos.is_empty(), "one at a time");

    let port = first.kill().await;
    let killed = Instant::now();
    agent.script.exec(4_000_002, "b");
    eventually("the second exec", || has(&ground.two, "b")).await;
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
    // The last of what the first one had it may not have acknowledged any more.
    let (had, said) = (durable(&ground.one), hello(&ground.two));
    let acknowledged = ranges(&said).first().map_or(0, |(_, to)| *to);
    assert_eq!((said.acknowledged_seq, said.collector_place), (0, 2));
    assert!(acknowledged > 0 && acknowledged <= had && ranges(&said) == [(1, acknowledged)], "{said:?}");

    let first = ground.collector(port, &ground.one).await;
    eventually("it to come back", || (ground.one.lock().unwrap().hellos.len() == 2).then_some(())).await;
    assert_eq!(ground.two.lock().unwrap().leaves, 1);
    let said = hello(&ground.one);
    assert_eq!(said.acknowledged_seq, acknowledged);
    assert_eq!(ranges(&said), [(acknowledged + 1, durable(&ground.two))]);
    agent.script.exec(4_000_003, "c");
    eventually("the third exec", || has(&ground.one, "c")).await;
    agent.stop().await;
    let seqs = ground.assert_whole();
    let twice = |seq: &u64| *seq > acknowledged && *seq <= had;
    assert!(
        seqs.iter().all(|(seq, count)| *count == 1 + usize::from(twice(seq))),
        "it left the second in order: {seqs:?}"
    );
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_is_sent_to_the_other_one_too() {
    let ground = Ground::new();
    let (first, second) = (ground.collector(0, &ground.one).await, ground.collector(0, &ground.two).await);
    ground.one.lock().unwrap().mute = true;
    let agent = ground.agent([first.port, second.port], "0");
    agent.script.exec(4_000_001, "a");
    eventually("the exec at the first", || has(&ground.one, "a")).await;
    let port = first.kill().await;
    eventually("the exec at the second", || has(&ground.two, "a")).await;
    assert_eq!(ranges(&hello(&ground.two)), [], "nobody acknowledged anything");
    // The first one is back and knows more than it ever acknowledged. It is not gone back to while the second one works.
    let first = ground.collector(port, &ground.one).await;
    agent.script.exec(4_000_002, "b");
    eventually("the other exec at the second", || has(&ground.two, "b")).await;
    assert_eq!(ground.one.lock().unwrap().hellos.len(), 1);
    second.kill().await;
    agent.script.exec(4_000_003, "c");
    ground.one.lock().unwrap().mute = false;
    eventually("the third exec at the first", || has(&ground.one, "c")).await;
    agent.stop().await;
    let seqs = ground.assert_whole();
    assert!(seqs[&1] == 2 && seqs.values().any(|count| *count == 1), "{seqs:?}");
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_answers_and_takes_nothing_is_gone_back_to_ever_less_often() {
    let ground = Ground::new();
    let (first, second) = (ground.collector(0, &ground.one).await, ground.collector(0, &ground.two).await);
    ground.one.lock().unwrap().refusing = true;
    let agent = ground.agent([first.port, second.port], "1s");
    agent.script.exec(4_000_001, "a");
    eventually("the exec", || has(&ground.two, "a")).await;
    // 1, 2, 4 seconds at most, half of it at least.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let tries = ground.one.lock().unwrap().hellos.len();
    assert!((2..=5).contains(&tries), "{tries} tries");
    ground.one.lock().unwrap().refusing = false;
    agent.stop().await;
    ground.assert_whole();
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_remembers_who_has_what() {
    let ground = Ground::new();
    let (first, second) = (ground.collector(0, &ground.one).await, ground.collector(0, &ground.two).await);
    let ports = [first.port, second.port];
    let agent = ground.agent(ports, "0");
    agent.script.exec(4_000_001, "a");
    eventually("the exec", || has(&ground.one, "a")).await;
    agent.stop().await;
    let had = durable(&ground.one);
    first.kill().await;
    let agent = ground.agent(ports, "0");
    agent.script.exec(4_000_002, "b");
    eventually("the other exec", || has(&ground.two, "b")).await;
    let said = hello(&ground.two);
    assert_eq!((said.acknowledged_seq, ranges(&said)), (0, vec![(1, had)]));
    agent.stop().await;
    let seqs = ground.assert_whole();
    assert!(seqs.values().all(|count| *count == 1), "nothing was sent to both: {seqs:?}");
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_none_is_there_batches_wait_and_the_first_to_come_gets_them() {
    let ground = Ground::new();
    let (first, second) = (ground.collector(0, &ground.one).await, ground.collector(0, &ground.two).await);
    let ports = [first.kill().await, second.kill().await];
    let agent = ground.agent(ports, "0");
    agent.script.exec(4_000_001, "a");
    eventually("a spool", || spool_is_there(ground.dir.path())).await;
    let second = ground.collector(ports[1], &ground.two).await;
    eventually("the exec", || has(&ground.two, "a")).await;
    agent.stop().await;
    let seqs = ground.assert_whole();
    assert!(seqs.values().all(|count| *count == 1), "{seqs:?}");
    drop(second);
}
