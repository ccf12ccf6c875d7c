//! kill -9 at any moment: nothing acknowledged is lost, nothing is there twice.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skep_wire::v1::down;
use support::agent::{ROWS, START_US, Uplink};
use support::{Collector, Ground, eventually};

/// Flushes as often as it can, so that kills fall into every step of one.
const BUSY: &str = "[flush]\ninterval_s = 1\nrows = 300\n";

const NODES: [&str; 3] = ["a", "b", "c"];

fn stream(node: &str) -> String {
    node.repeat(32)
}

/// Numbers that differ from run to run and need no seed: moments to kill at.
fn jitter(up_to_ms: u64) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    Duration::from_millis(RandomState::new().hash_one(0) % up_to_ms)
}

/// Sends everything from 1 on, again and again, until the collector goes; notes the last acknowledgement.
async fn hammer(ground: &Ground, grpc: &str, agent: usize, made: &AtomicU64, acked: &AtomicU64) {
    let node = NODES[agent];
    let Ok(mut uplink) = Uplink::open(ground, grpc, node, &stream(node)).await else { return };
    assert!(uplink.durable_seq >= acked.load(Ordering::Relaxed), "{node}: an acknowledged batch is gone");
    let mut seq = 0;
    let mut in_flight = 0u32;
    loop {
        if in_flight < 16 {
            seq += 1;
            made.fetch_max(seq, Ordering::Relaxed);
            if !uplink.send(seq).await {
                return;
            }
            in_flight += 1;
            continue;
        }
        match uplink.next().await {
            Ok(Some(down::Message::Ack(ack))) => {
                in_flight -= 1;
                acked.fetch_max(ack.durable_seq, Ordering::Relaxed);
            }
            Ok(Some(other)) => panic!("{node}: {other:?}"),
            Ok(None) | Err(_) => return,
        }
    }
}

/// And merges files, and removes those merged and the log's old commits, as soon as it can.
const TIDY: &str = "[flush]\ninterval_s = 1\nrows = 300\n\
    [maintain]\ninterval_s = 1\nclosed_s = 0\ngrace_s = 0\ncheckpoint_commits = 3\nlog_hours = 0\ntier = []\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_killed_again_and_again_has_every_batch_once() {
    let (ground, lasts) = killed_again_and_again(BUSY, 6).await;
    let collector = ground.serve(BUSY);
    assert_every_batch_once(&ground, &collector, &lasts).await;
    assert_eq!(collector.stop(), Some(0));
    let total: i64 = lasts.iter().sum();
    assert_eq!(ground.offline_number("SELECT count(*) FROM cpu"), total * ROWS);
    assert_eq!(ground.offline_number("SELECT count(*) FROM loss WHERE probe = 'cpu'"), total);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_killed_while_it_merges_files_has_every_batch_once() {
    let (ground, lasts) = killed_again_and_again(TIDY, 6).await;
    let collector = ground.serve(TIDY);
    assert_every_batch_once(&ground, &collector, &lasts).await;
    // All of it becomes one file for each of the two hours.
    let files = || ground.rows_of("cpu").len();
    tokio::task::block_in_place(|| eventually("two files", || (files() <= 2).then_some(())));
    assert_every_batch_once(&ground, &collector, &lasts).await;
    assert_eq!(collector.stop(), Some(0));
    let total: i64 = lasts.iter().sum();
    assert_eq!(ground.python(support::DELTALAKE_COUNT, "cpu"), (total * ROWS).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_killed_while_it_makes_windows_longer_and_rows_expire_counts_everything_once() {
    let age_days = (jiff::Timestamp::now().as_microsecond() - START_US) / 86_400_000_000;
    let fade = format!(
        "{}[[maintain.tier]]\nwindow_s = 60\nafter_h = 0\n[retention]\ndays = 0\n[retention.tables]\nprocesses = {}\n",
        TIDY.replace("tier = []\n", ""),
        age_days.clamp(2, 36_500) - 1
    );
    let (ground, lasts) = killed_again_and_again(&fade, 4).await;
    let collector = ground.serve(&fade);
    let is_coarse = |file: std::path::PathBuf| file.to_str().is_some_and(|file| file.ends_with("-60s.parquet"));
    let coarse = || ground.rows_of("cpu").into_iter().all(is_coarse).then_some(());
    tokio::task::block_in_place(|| eventually("longer windows", coarse));
    let gone = || ground.rows_of("processes").is_empty().then_some(());
    tokio::task::block_in_place(|| eventually("the events to go", gone));
    for (node, &last) in NODES.iter().zip(&lasts) {
        let of = |what: &str| format!("SELECT CAST(sum({what}) AS BIGINT) FROM cpu WHERE node = '{node}'");
        assert_eq!(collector.number(&of("on_cpu_ns")).await, last * (last + 1) / 2 * ROWS, "{node}");
        assert_eq!(collector.number(&of("run_queue_delay_count")).await, 3 * last * ROWS, "{node}");
        let counted =
            "SELECT CAST(sum(b['count']) AS BIGINT) FROM (SELECT unnest(run_queue_delay) AS b, node FROM cpu)";
        assert_eq!(collector.number(&format!("{counted} WHERE node = '{node}'")).await, 3 * last * ROWS, "{node}");
    }
    let rows = collector.number("SELECT count(*) FROM cpu").await;
    assert_eq!(
        collector.number("SELECT count(*) FROM (SELECT node FROM cpu GROUP BY node, pid, time)").await,
        rows,
        "a window twice"
    );
    assert_eq!(collector.number("SELECT count(*) FROM processes").await, 0);
    let told = "SELECT coalesce(sum(lost), 0) FROM loss WHERE reason = 'expired'";
    // A kill between the commit and the ledger leaves some untold; nothing is told twice.
    assert!(collector.number(told).await <= lasts.iter().sum::<i64>());
    assert_eq!(collector.stop(), Some(0));
    assert_eq!(ground.python(support::DELTALAKE_COUNT, "cpu"), rows.to_string());
}

/// A collector with this configuration is killed `rounds` times under load and then given what it lacks. The folder it
/// all is in, and the last batch of each of [`NODES`].
async fn killed_again_and_again(config: &str, rounds: u64) -> (Ground, Vec<i64>) {
    let ground = Ground::new();
    let made: Vec<AtomicU64> = NODES.iter().map(|_| AtomicU64::new(0)).collect();
    let acked: Vec<AtomicU64> = NODES.iter().map(|_| AtomicU64::new(0)).collect();
    for round in 0..rounds {
        if round % 2 == 1 {
            // A start may be cut short as well.
            let starting = ground.spawn(config);
            tokio::time::sleep(jitter(400)).await;
            starting.kill();
        }
        let collector = ground.serve(config);
        let grpc = collector.grpc.clone();
        let agents = (0..NODES.len()).map(|i| hammer(&ground, &grpc, i, &made[i], &acked[i]));
        let killer = async {
            tokio::time::sleep(Duration::from_millis(800 * (round % 3) + 50) + jitter(1500)).await;
            tokio::task::block_in_place(|| collector.kill());
        };
        tokio::join!(futures::future::join_all(agents), killer);
    }
    let collector = ground.serve(config);
    let mut lasts = Vec::new();
    for (i, node) in NODES.iter().enumerate() {
        let last = made[i].load(Ordering::Relaxed).max(1);
        assert!(acked[i].load(Ordering::Relaxed) > 0, "{node} never got anything through");
        let mut uplink = Uplink::open(&ground, &collector.grpc, node, &stream(node)).await.unwrap();
        assert!(uplink.durable_seq >= acked[i].load(Ordering::Relaxed));
        if uplink.durable_seq < last {
            uplink.deliver(uplink.durable_seq + 1, last).await.unwrap();
        }
        lasts.push(last as i64);
    }
    assert_eq!(collector.stop(), Some(0));
    let log = ground.log();
    for fault in ["damaged", "nowhere else", "nothing is lost"] {
        assert!(!log.contains(fault), "{log}");
    }
    (ground, lasts)
}

async fn assert_every_batch_once(ground: &Ground, collector: &Collector<'_>, lasts: &[i64]) {
    for (node, &last) in NODES.iter().zip(lasts) {
        let exact = format!(
            "SELECT count(*) FROM (SELECT seq FROM cpu WHERE node = '{node}' GROUP BY seq \
             HAVING count(*) = {ROWS} AND count(DISTINCT pid) = {ROWS} AND min(on_cpu_ns) = seq)"
        );
        assert_eq!(collector.number(&exact).await, last, "{node}: {}", ground.log());
        assert_eq!(collector.number(&format!("SELECT max(seq) FROM cpu WHERE node = '{node}'")).await, last);
    }
    let total: i64 = lasts.iter().sum();
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, total * ROWS);
    assert_eq!(collector.number("SELECT count(*) FROM processes").await, total);
    assert_eq!(collector.number("SELECT count(*) FROM loss WHERE probe = 'cpu'").await, total);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_sees_every_row_once_while_flushes_go_on() {
    let ground = Ground::new();
    let collector = ground.serve(BUSY);
    let stream = "d".repeat(32);
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", &stream).await.unwrap();
    for step in 1..=12 {
        uplink.deliver(step * 10 - 9, step * 10).await.unwrap();
        let (flushed, counts) = tokio::join!(collector.flush(), async {
            let mut counts = Vec::new();
            for _ in 0..4 {
                counts.push(collector.number("SELECT count(*) FROM cpu").await);
            }
            counts
        });
        assert_eq!(counts, vec![step as i64 * 10 * ROWS; 4], "{flushed:?}");
    }
}
