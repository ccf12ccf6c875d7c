//! The agent against a collector over real TLS: resume, repeat, acknowledge, reset, and every way to be turned away.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use skep_agent::app::{self, AppError};
use skep_agent::config::{self, Overrides};
use skep_agent::probe::ProbeReport;
use skep_agent::ship::credentials::CredentialPaths;
use skep_agent::ship::{Credentials, connect};
use skep_runtime::shutdown::Shutdown;
use support::collector::{Collector, Shelf};
use support::eventually;
use support::pki::{Pki, text};
use support::script::Script;

/// An agent under test.
struct Agent {
    shutdown: Shutdown,
    script: Script,
    task: tokio::task::JoinHandle<Result<(), AppError>>,
}

impl Agent {
    fn start(pki: &Pki, port: u16, state_dir: &Path) -> Self {
        Self::start_with(pki, port, state_dir, Overrides::default())
    }

    fn start_with(pki: &Pki, port: u16, state_dir: &Path, more: Overrides) -> Self {
        // Every test of this process installs it; only the first one can.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let overrides = Overrides {
            collector: vec![format!("https://127.0.0.1:{port}")],
            ca: Some(text(&pki.path("ca.pem"))),
            cert: Some(text(&pki.path("node-1.pem"))),
            key: Some(text(&pki.path("node-1.key"))),
            state_dir: Some(text(state_dir)),
            window: Some("1s".to_owned()),
            ..more
        };
        let config = config::load(None, &overrides).unwrap();
        let (shutdown, script) = (Shutdown::new(), Script::new());
        let source = script.clone();
        let run = app::run_with(config, shutdown.clone(), |_, _| Ok((source, ProbeReport::default())));
        Self { task: tokio::spawn(run), shutdown, script }
    }

    async fn stop(self) {
        self.shutdown.begin();
        self.task.await.unwrap().unwrap();
    }
}

fn shelf() -> Arc<Mutex<Shelf>> {
    Arc::default()
}

fn execs(shelf: &Mutex<Shelf>) -> Vec<String> {
    let shelf = shelf.lock().unwrap();
    let arguments = shelf.rows("processes", |row| {
        let argv = row.text_list("argv").unwrap_or_default();
        (row.text("event") == Some("exec")).then(|| argv.last().map(|last| (*last).to_owned())).flatten()
    });
    arguments.into_iter().flatten().collect()
}

/// Size of all segments.
fn spooled_bytes(state_dir: &Path) -> u64 {
    let streams = std::fs::read_dir(state_dir.join("spool")).into_iter().flatten().flatten();
    let files = streams.filter_map(|stream| std::fs::read_dir(stream.path()).ok()).flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}

fn assert_in_order(shelf: &Mutex<Shelf>) {
    let shelf = shelf.lock().unwrap();
    assert_eq!(shelf.faults, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_is_at_the_collector_within_a_second_and_the_ledger_agrees() {
    let (pki, dir, shelf) = (Pki::new(), tempfile::tempdir().unwrap(), shelf());
    let collector = Collector::start(&pki, "collector", 0, Arc::clone(&shelf)).await;
    let agent = Agent::start(&pki, collector.port, dir.path());
    eventually("the hello", || (!shelf.lock().unwrap().hellos.is_empty()).then_some(())).await;
    let before = Instant::now();
    agent.script.exec(4_000_001, "first");
    eventually("the exec", || (execs(&shelf) == ["first"]).then_some(())).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    agent.script.lose_execs(7);
    agent.script.slices(11);
    agent.script.exec(4_000_002, "second");
    agent.stop().await;
    assert_in_order(&shelf);
    assert_eq!(execs(&shelf), ["first", "second"]);
    let shelf = shelf.lock().unwrap();
    assert_eq!(shelf.ledger("exec"), (9, 2, 7));
    assert_eq!(shelf.ledger("cpu"), (11, 11, 0));
    assert_eq!(shelf.hellos[0].node, "node-1");
    let host = shelf.rows("host", |row| row.text("metric").unwrap_or_default().to_owned());
    assert!(host.iter().any(|metric| metric == "agent_rss_bytes"));
    let running = shelf.rows("processes", |row| (row.text("event") == Some("running")).then(|| row.int("pid")));
    assert!(running.into_iter().flatten().flatten().any(|pid| pid == i64::from(std::process::id())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_collector_is_away_arrives_once_in_order() {
    let (pki, dir, shelf) = (Pki::new(), tempfile::tempdir().unwrap(), shelf());
    let collector = Collector::start(&pki, "collector", 0, Arc::clone(&shelf)).await;
    let agent = Agent::start(&pki, collector.port, dir.path());
    agent.script.exec(4_000_001, "a");
    eventually("the first exec", || (execs(&shelf).len() == 1).then_some(())).await;
    let port = collector.kill().await;
    for (pid, argument) in [(4_000_002, "b"), (4_000_003, "c")] {
        let before = spooled_bytes(dir.path());
        agent.script.exec(pid, argument);
        eventually("the exec in the spool", || (spooled_bytes(dir.path()) > before).then_some(())).await;
    }
    let collector = Collector::start(&pki, "collector", port, Arc::clone(&shelf)).await;
    eventually("the other execs", || (execs(&shelf) == ["a", "b", "c"]).then_some(())).await;
    agent.stop().await;
    assert_in_order(&shelf);
    assert_eq!(shelf.lock().unwrap().ledger("exec"), (3, 3, 0));
    drop(collector);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_acknowledgement_was_lost_is_sent_again_and_stored_once() {
    let (pki, dir, shelf) = (Pki::new(), tempfile::tempdir().unwrap(), shelf());
    let collector = Collector::start(&pki, "collector", 0, Arc::clone(&shelf)).await;
    shelf.lock().unwrap().mute = true;
    let agent = Agent::start(&pki, collector.port, dir.path());
    agent.script.exec(4_000_001, "a");
    eventually("the exec", || (execs(&shelf).len() == 1).then_some(())).await;
    let port = collector.kill().await;
    shelf.lock().unwrap().mute = false;
    let collector = Collector::start(&pki, "collector", port, Arc::clone(&shelf)).await;
    agent.script.exec(4_000_002, "b");
    eventually("the second exec", || (execs(&shelf).len() == 2).then_some(())).await;
    agent.stop().await;
    assert_in_order(&shelf);
    // The welcome said what was durable, so not even a repeat was sent.
    assert_eq!(shelf.lock().unwrap().repeats, 0);
    assert_eq!(execs(&shelf), ["a", "b"]);
    drop(collector);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_and_a_broken_connection_lose_nothing() {
    let (pki, dir, shelf) = (Pki::new(), tempfile::tempdir().unwrap(), shelf());
    let collector = Collector::start(&pki, "collector", 0, Arc::clone(&shelf)).await;
    let agent = Agent::start(&pki, collector.port, dir.path());
    shelf.lock().unwrap().reset_at_next = true;
    agent.script.exec(4_000_001, "a");
    eventually("the exec after the reset", || (execs(&shelf).len() == 1).then_some(())).await;
    shelf.lock().unwrap().break_at_next = true;
    agent.script.exec(4_000_002, "b");
    eventually("the exec after the break", || (execs(&shelf).len() == 2).then_some(())).await;
    assert!(shelf.lock().unwrap().hellos.len() >= 3);
    agent.stop().await;
    assert_in_order(&shelf);
    assert_eq!(execs(&shelf), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_goes_on_with_its_stream_and_owns_up_to_the_time_between() {
    let (pki, dir, shelf) = (Pki::new(), tempfile::tempdir().unwrap(), shelf());
    let first = Agent::start(&pki, 1, dir.path());
    first.script.exec(4_000_001, "a");
    eventually("a spool", || (spooled_bytes(dir.path()) > 0).then_some(())).await;
    first.stop().await;
    let stopped_us = skep_runtime::clock::Clock::system().wall_us();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let collector = Collector::start(&pki, "collector", 0, Arc::clone(&shelf)).await;
    let second = Agent::start(&pki, collector.port, dir.path());
    second.script.exec(4_000_002, "b");
    eventually("both execs", || (execs(&shelf) == ["a", "b"]).then_some(())).await;
    second.stop().await;
    assert_in_order(&shelf);
    let shelf = shelf.lock().unwrap();
    assert_eq!(shelf.durable.len(), 1, "one stream");
    assert_eq!(shelf.ledger("exec"), (2, 2, 0));
    let away = shelf.rows("loss", |row| {
        let away = row.text("reason") == Some("not_watching");
        away.then(|| (row.int("time").unwrap(), row.int("until").unwrap(), row.int("attempted")))
    });
    let away: Vec<_> = away.into_iter().flatten().collect();
    assert_eq!(away.len(), 1);
    let (from, until, attempted) = away[0];
    assert_eq!(attempted, None);
    assert!(from <= stopped_us + 1_000 && until >= stopped_us + 300_000, "{from} {stopped_us} {until}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_gets_nothing_and_the_real_one_everything() {
    let (pki, other, dir) = (Pki::new(), Pki::new(), tempfile::tempdir().unwrap());
    let (trap, shelf) = (shelf(), shelf());
    let impostor = Collector::start(&other, "collector", 0, Arc::clone(&trap)).await;
    let agent = Agent::start(&pki, impostor.port, dir.path());
    agent.script.exec(4_000_001, "a");
    eventually("a spool", || (spooled_bytes(dir.path()) > 0).then_some(())).await;
    let port = impostor.kill().await;
    let collector = Collector::start(&pki, "collector", port, Arc::clone(&shelf)).await;
    eventually("the exec at the real one", || (execs(&shelf).len() == 1).then_some(())).await;
    agent.stop().await;
    assert!(trap.lock().unwrap().hellos.is_empty());
    drop(collector);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let (pki, dir, shelf) = (Pki::new(), tempfile::tempdir().unwrap(), shelf());
    pki.issue("node-1", "agent", true);
    let collector = Collector::start(&pki, "collector", 0, Arc::clone(&shelf)).await;
    let agent = Agent::start(&pki, collector.port, dir.path());
    agent.script.exec(4_000_001, "a");
    eventually("a spool", || (spooled_bytes(dir.path()) > 0).then_some(())).await;
    assert!(shelf.lock().unwrap().hellos.is_empty());
    pki.issue("node-1", "agent", false);
    eventually("the exec", || (execs(&shelf).len() == 1).then_some(())).await;
    agent.stop().await;
}

/// What an operator reads when the agent with `credentials_of` cannot connect to the port.
async fn trouble(credentials_of: &Pki, port: u16) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let paths = CredentialPaths {
        ca: credentials_of.path("ca.pem"),
        cert: credentials_of.path("node-1.pem"),
        key: credentials_of.path("node-1.key"),
    };
    let credentials = Credentials::load(&paths).unwrap();
    let uri = format!("https://127.0.0.1:{port}").parse().unwrap();
    let error = connect::connect(&uri, &credentials).await.expect_err("no connection");
    let line = connect::explain(&uri, &error);
    assert!(!line.contains('\n'), "{line}");
    line.strip_prefix(&format!("127.0.0.1:{port}: ")).expect("the place in front").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_be_turned_away_has_its_own_line() {
    let (pki, other) = (Pki::new(), Pki::new());
    let expired = Pki::new();
    expired.issue("collector", "collector", true);

    let impostor = Collector::start(&other, "collector", 0, shelf()).await;
    assert_eq!(
        trouble(&pki, impostor.port).await,
        "this is not our collector: its certificate is not from our authority"
    );
    let late = Collector::start(&expired, "collector", 0, shelf()).await;
    assert_eq!(trouble(&expired, late.port).await, "the collector's certificate has expired");
    // Bound and not listening: nobody else gets the port between its end and our try.
    let deaf = tokio::net::TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = deaf.local_addr().unwrap().port();
    assert_eq!(trouble(&pki, port).await, "collector is not reachable: Connection refused (os error 111)");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_do_not_share_a_folder() {
    let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
    let first = Agent::start(&pki, 1, dir.path());
    eventually("a spool", || (spooled_bytes(dir.path()) > 0).then_some(())).await;
    let second = Agent::start(&pki, 1, dir.path());
    assert!(matches!(second.task.await.unwrap(), Err(AppError::InUse { .. })));
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_takes_the_hello_and_says_nothing_does_not_hold_up_the_stop() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf();
    shelf.lock().unwrap().silent = true;
    let collector = Collector::start(&pki, "collector", 0, Arc::clone(&shelf)).await;
    let agent = Agent::start(&pki, collector.port, dir.path());
    eventually("a hello", || (!shelf.lock().unwrap().hellos.is_empty()).then_some(())).await;
    agent.stop().await;
    assert_eq!(shelf.lock().unwrap().stored.len(), 0);
    assert!(spooled_bytes(dir.path()) > 0, "the last window waits for the next start");
    collector.kill().await;
}
