//! Backup under load, restore, verify, inspect.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use support::Ground;
use support::agent::{ROWS, Uplink};

/// Flushes as often as it can, so that a backup falls into one.
const BUSY: &str = "[flush]\ninterval_s = 1\nrows = 200\n";

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_skep-collector")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn verify(data: &Path) -> (Option<i32>, Value) {
    let output = run(&["verify", "--data", text(data)]);
    (output.status.code(), json(&output))
}

/// Batches stored and flushed, and the collector stopped.
async fn stored(ground: &Ground, batches: u64) {
    let collector = ground.serve("");
    let mut uplink = Uplink::open(ground, &collector.grpc, "a", &"a".repeat(32)).await.unwrap();
    uplink.deliver(1, batches).await.unwrap();
    collector.flush().await;
    assert_eq!(collector.stop(), Some(0));
}

/// Delivers batches without end; says how far they are acknowledged.
async fn load(mut uplink: Uplink, acknowledged: Arc<AtomicU64>) {
    while let Ok(durable_seq) = uplink.deliver(uplink.durable_seq + 1, uplink.durable_seq + 8).await {
        uplink.durable_seq = durable_seq;
        acknowledged.store(durable_seq, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_under_load_hold_everything_acknowledged_before_and_nothing_twice() {
    let ground = Ground::new();
    let collector = ground.serve(BUSY);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let uplink = Uplink::open(&ground, &collector.grpc, "a", &"a".repeat(32)).await.unwrap();
    let loading = tokio::spawn(load(uplink, Arc::clone(&acknowledged)));
    let mut before = Vec::new();
    for n in 0..5 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let (from, to) = (ground.data(), ground.path().join(format!("backup-{n}")));
        before.push(acknowledged.load(Ordering::SeqCst));
        let taken = tokio::task::spawn_blocking(move || run(&["backup", "--data", text(&from), "--to", text(&to)]));
        // One in two falls into a flush.
        let flushing = async { if n % 2 == 0 { collector.flush().await } else { Default::default() } };
        let (taken, _) = tokio::join!(taken, flushing);
        let taken = taken.unwrap();
        assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    }
    loading.abort();
    collector.kill();
    for (n, before) in before.into_iter().enumerate() {
        let (backup, data) = (ground.path().join(format!("backup-{n}")), ground.path().join(format!("restored-{n}")));
        assert_eq!(verify(&backup).0, Some(0), "{}", verify(&backup).1);
        let restored = run(&["restore", "--from", text(&backup), "--data", text(&data)]);
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        let number = |sql| support::number(&support::batches(&run(&["query", "--data", text(&data), sql]).stdout));
        let whole = number("SELECT count(*) FROM (SELECT seq FROM cpu GROUP BY seq HAVING count(*) = 20)");
        assert!(before > 0 && whole >= before as i64, "backup {n} has {whole} batches, {before} were acknowledged");
        assert_eq!(number("SELECT count(*) FROM cpu"), whole * ROWS, "backup {n}");
        let inspected = json(&run(&["inspect", "--data", text(&data)]));
        let streams = inspected["wal"]["streams"].as_array().unwrap();
        let ours = streams.iter().find(|stream| stream["node"] == "a").unwrap();
        assert_eq!(ours["durable_seq"].as_i64(), Some(whole), "backup {n}: {inspected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_folder_goes_on_where_the_backup_was_taken() {
    let ground = Ground::new();
    stored(&ground, 10).await;
    let (backup, aside) = (ground.path().join("backup"), ground.path().join("aside"));
    let taken = json(&run(&["backup", "--data", text(&ground.data()), "--to", text(&backup)]));
    assert!(taken["linked"].as_u64().unwrap() > 0, "{taken}");
    assert_eq!(taken["files"], taken["linked"], "{taken}");
    fs::rename(ground.data(), &aside).unwrap();
    let restored = run(&["restore", "--from", text(&backup), "--data", text(&ground.data())]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let collector = ground.serve("");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", &"a".repeat(32)).await.unwrap();
    assert_eq!(uplink.durable_seq, 10);
    uplink.deliver(11, 12).await.unwrap();
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 12 * ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_flipped_bit_is_found_and_its_file_is_named() {
    let ground = Ground::new();
    stored(&ground, 10).await;
    let (code, whole) = verify(&ground.data());
    assert_eq!((code, &whole["ok"]), (Some(0), &Value::Bool(true)), "{whole}");
    let cpu = whole["tables"].as_array().unwrap().iter().find(|table| table["table"] == "cpu").unwrap();
    assert_eq!((cpu["rows"].as_i64(), cpu["without_checksum"].as_i64()), (Some(10 * ROWS), Some(0)));
    let mut files = ground.files("history/cpu", "parquet");
    files.extend(ground.files("wal", "seg"));
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for at in [0, bytes.len() / 3, bytes.len() / 2, bytes.len() - 9] {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            fs::write(&file, bad).unwrap();
            let (code, report) = verify(&ground.data());
            let torn = report["wal"]["torn_bytes"].as_u64().unwrap() > 0;
            let named =
                report["faults"].as_array().unwrap().iter().any(|fault| fault["file"] == file.to_str().unwrap());
            assert!((code == Some(1) && named) || torn, "byte {at} of {}: {report}", file.display());
        }
        fs::write(&file, bytes).unwrap();
    }
    assert_eq!(verify(&ground.data()).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said() {
    let ground = Ground::new();
    let said = |output: Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let absent = run(&["backup", "--data", text(&ground.data()), "--to", text(&ground.path().join("b"))]);
    assert!(said(absent).contains("there is no data folder"));
    let collector = ground.serve("");
    let full = run(&["backup", "--data", text(&ground.data()), "--to", text(ground.path())]);
    assert!(said(full).contains("is not empty"));
    let busy = run(&["verify", "--data", text(&ground.data())]);
    assert!(said(busy).contains("in use by a running collector"));
    drop(collector);
    let none = run(&["restore", "--from", text(&ground.data()), "--data", text(&ground.path().join("x"))]);
    assert!(said(none).contains("no finished backup"));
}
