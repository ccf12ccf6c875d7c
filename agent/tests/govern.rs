//! The agent lowers its detail when its probes cost too much, and its ledger says so.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::sync::{Arc, Mutex};

use skep_agent::app;
use skep_agent::config::{self, Overrides};
use skep_agent::probe::{Feature, ProbeReport};
use skep_runtime::shutdown::Shutdown;
use support::collector::{Collector, Shelf};
use support::eventually;
use support::pki::{Pki, text};
use support::script::Script;

fn report() -> ProbeReport {
    let feature = |name| Feature { name, ok: true, reason: String::new(), figures: Vec::new() };
    ProbeReport { features: ["cpu", "syscall", "process"].map(feature).to_vec() }
}

/// The values of a gauge, oldest first.
fn gauge(shelf: &Mutex<Shelf>, metric: &str) -> Vec<f64> {
    let values =
        shelf.lock().unwrap().rows("host", |row| (row.text("metric") == Some(metric)).then(|| row.float("value")));
    values.into_iter().flatten().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_is_sampled_told_and_over_when_it_is_over() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pki = Pki::new();
    let shelf: Arc<Mutex<Shelf>> = Arc::default();
    let collector = Collector::start(&pki, "collector", 0, Arc::clone(&shelf)).await;
    let state = tempfile::tempdir().unwrap();
    let overrides = Overrides {
        collector: vec![format!("https://127.0.0.1:{}", collector.port)],
        ca: Some(text(&pki.path("ca.pem"))),
        cert: Some(text(&pki.path("node-1.pem"))),
        key: Some(text(&pki.path("node-1.key"))),
        state_dir: Some(text(state.path())),
        window: Some("1s".to_owned()),
        canary_interval: Some("0".to_owned()),
        cpu_budget: Some("0.5".to_owned()),
        ..Overrides::default()
    };
    let config = config::load(None, &overrides).unwrap();
    let (shutdown, script) = (Shutdown::new(), Script::new());
    script.stage.lock().unwrap().syscalls_cost_ns = 5_000_000_000;
    let source = script.clone();
    let run = app::run_with(config, shutdown.clone(), |_, _| Ok((source, report())));
    let task = tokio::spawn(run);

    // Ten times the budget.
    let asked = |one_in| script.stage.lock().unwrap().detail.iter().any(|d| d.syscall_one_in == one_in).then_some(());
    eventually("the probes to be told", || asked(16)).await;
    eventually("a window to say so", || gauge(&shelf, "agent_syscall_one_in").contains(&16.0).then_some(())).await;
    script.stage.lock().unwrap().syscalls_cost_ns = 0;
    eventually("everything to be observed again", || asked(1)).await;
    shutdown.begin();
    task.await.unwrap().unwrap();

    let rows = shelf.lock().unwrap().rows("loss", |row| {
        let told = row.text("reason") == Some("sampled") && row.int("attempted").is_none();
        told.then(|| (row.text("probe").unwrap().to_owned(), row.int("time").unwrap(), row.int("until").unwrap()))
    });
    let spans: Vec<_> = rows.into_iter().flatten().collect();
    assert!(
        spans.len() >= 3 && spans.iter().all(|(probe, from, until)| probe == "syscall" && from < until),
        "{spans:?}"
    );
    assert!(spans.windows(2).all(|pair| pair[0].2 == pair[1].1), "without gaps: {spans:?}");
    assert!(gauge(&shelf, "agent_budget_cpu_ratio").iter().all(|ratio| (ratio - 0.5).abs() < 1e-9));
    assert!(gauge(&shelf, "agent_bpf_cpu_ratio").iter().any(|ratio| *ratio > 0.2));
}
