//! kill -9 at any moment: nothing acknowledged is lost, nothing is there twice.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skep_wire::v1::down;
use support::Ground;
use support::agent::{ROWS, Uplink};

/// Flushes as often as it can, so that kills fall into every step of one.
const BUSY: &str = "[flush]\ninterval_s = 1\nrows = 300\n";

const ROUNDS: u64 = 6;

/// Numbers that differ from run to run and need no seed: moments to kill at.
fn jitter(up_to_ms: u64) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    Duration::from_millis(RandomState::new().hash_one(0) % up_to_ms)
}

/// Sends everything from 1 on, again and again, until the collector goes; notes the last acknowledgement.
async fn hammer(ground: &Ground, grpc: &str, node: &str, stream: &str, made: &AtomicU64, acked: &AtomicU64) {
    let Ok(mut uplink) = Uplink::open(ground, grpc, node, stream).await else { return };
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
    [maintain]\ninterval_s = 1\nclosed_s = 0\ngrace_s = 0\ncheckpoint_commits = 3\nlog_hours = 0\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_killed_again_and_again_has_every_batch_once() {
    killed_again_and_again(BUSY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_killed_while_it_merges_files_has_every_batch_once() {
    let ground = killed_again_and_again(TIDY).await;
    let log = ground.log();
    assert!(!log.contains("nowhere else") && !log.contains("nothing is lost"), "{log}");
    let names =
        ground.files("history/cpu", "parquet").into_iter().filter_map(|file| Some(file.file_name()?.to_owned()));
    let merged = names.filter(|name| name.to_str().is_some_and(|name| name.contains("-m"))).count();
    assert!(merged > 0, "nothing was merged: {log}");
}

async fn killed_again_and_again(config: &str) -> Ground {
    let ground = Ground::new();
    let nodes = ["a", "b", "c"];
    let streams: Vec<String> = nodes.iter().map(|node| node.repeat(32)).collect();
    let made: Vec<AtomicU64> = nodes.iter().map(|_| AtomicU64::new(0)).collect();
    let acked: Vec<AtomicU64> = nodes.iter().map(|_| AtomicU64::new(0)).collect();
    for round in 0..ROUNDS {
        if round % 2 == 1 {
            // A start may be cut short as well.
            let starting = ground.spawn(config);
            tokio::time::sleep(jitter(400)).await;
            starting.kill();
        }
        let collector = ground.serve(config);
        let grpc = collector.grpc.clone();
        let agents = (0..nodes.len()).map(|i| hammer(&ground, &grpc, nodes[i], &streams[i], &made[i], &acked[i]));
        let killer = async {
            tokio::time::sleep(Duration::from_millis(800 * (round % 3) + 50) + jitter(1500)).await;
            tokio::task::block_in_place(|| collector.kill());
        };
        tokio::join!(futures::future::join_all(agents), killer);
    }
    let collector = ground.serve(config);
    let mut total = 0;
    for (i, node) in nodes.iter().enumerate() {
        let last = made[i].load(Ordering::Relaxed).max(1);
        assert!(acked[i].load(Ordering::Relaxed) > 0, "{node} never got anything through");
        let mut uplink = Uplink::open(&ground, &collector.grpc, node, &streams[i]).await.unwrap();
        assert!(uplink.durable_seq >= acked[i].load(Ordering::Relaxed));
        if uplink.durable_seq < last {
            uplink.deliver(uplink.durable_seq + 1, last).await.unwrap();
        }
        let last = last as i64;
        total += last;
        let exact = format!(
            "SELECT count(*) FROM (SELECT seq FROM cpu WHERE node = '{node}' GROUP BY seq \
             HAVING count(*) = {ROWS} AND count(DISTINCT pid) = {ROWS} AND min(on_cpu_ns) = seq)"
        );
        assert_eq!(collector.number(&exact).await, last, "{node}");
        assert_eq!(collector.number(&format!("SELECT max(seq) FROM cpu WHERE node = '{node}'")).await, last);
    }
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, total * ROWS);
    assert_eq!(collector.number("SELECT count(*) FROM processes").await, total);
    assert_eq!(collector.stop(), Some(0));
    assert_eq!(ground.offline_number("SELECT count(*) FROM cpu"), total * ROWS);
    assert_eq!(ground.offline_number("SELECT count(*) FROM loss WHERE probe = 'cpu'"), total);
    assert!(!ground.log().contains("damaged"), "{}", ground.log());
    assert_eq!(ground.python(support::DELTALAKE_COUNT, "cpu"), (total * ROWS).to_string());
    ground
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
