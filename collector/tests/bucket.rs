//! A history in an object store: stored once, read by everybody, whatever becomes of the store and the collectors.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Command;

use skep_wire::v1;
use support::agent::{ROWS, Uplink};
use support::bucket::Bucket;
use support::{DELTALAKE_COUNT, Ground, eventually};

const STREAM: &str = "0123456789abcdef0123456789abcdef";

const PLACE: &str = "[history]\nlocation = \"s3://skep/history\"\nrefresh_s = 1\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_history_in_a_bucket_is_written_kept_in_order_and_read_by_everybody() {
    let (ground, bucket) = (Ground::new(), Bucket::start());
    let config = format!(
        "{PLACE}[maintain]\ninterval_s = 1\nclosed_s = 0\ngrace_s = 0\ncheckpoint_commits = 4\nlog_hours = 0\ntier = []\n"
    );
    let collector = ground.serve_in("data", &config, &bucket.environment());
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    for seq in 1..=9 {
        uplink.deliver(seq, seq).await.unwrap();
        collector.flush().await;
    }
    let count = "SELECT count(*) FROM cpu";
    assert_eq!(collector.number(count).await, 9 * ROWS);
    let files = || bucket.keys("history/cpu/date=").len();
    tokio::task::block_in_place(|| eventually("one file", || (files() == 1).then_some(())));
    assert_eq!(collector.number("SELECT sum(on_cpu_ns) FROM cpu").await, (1..=9).sum::<i64>() * ROWS);
    collector.kill();
    assert!(ground.files("history", "parquet").is_empty());
    assert_eq!(bucket.python(DELTALAKE_COUNT, "s3://skep/history/cpu"), (9 * ROWS).to_string());

    // The folder knows where its history is.
    let collector = ground.serve_in("data", "", &bucket.environment());
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    assert_eq!(uplink.durable_seq, 9);
    uplink.deliver(10, 12).await.unwrap();
    assert_eq!(collector.number(count).await, 12 * ROWS);
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    assert_eq!(bucket.python(DELTALAKE_COUNT, "s3://skep/history/cpu"), (12 * ROWS).to_string());
    assert_eq!(offline(&bucket, &ground.data(), count), 12 * ROWS);
}

/// What a command says that is given the bucket.
fn run(bucket: &Bucket, arguments: &[&str]) -> Vec<u8> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_skep-collector"));
    let output = program.args(arguments).envs(bucket.environment()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn json(bucket: &Bucket, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_slice(&run(bucket, arguments)).unwrap()
}

fn offline(bucket: &Bucket, data: &Path, sql: &str) -> i64 {
    support::number(&support::batches(&run(bucket, &["query", sql, "--data", data.to_str().unwrap()])))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_in_a_bucket_is_checked_copied_and_cleaned_as_one_in_a_folder() {
    let (ground, bucket) = (Ground::new(), Bucket::start());
    let collector = ground.serve_in("data", PLACE, &bucket.environment());
    for node in ["a", "b"] {
        let mut uplink = Uplink::open(&ground, &collector.grpc, node, &node.repeat(32)).await.unwrap();
        uplink.deliver(1, 12).await.unwrap();
    }
    collector.flush().await;
    let path = |name: &str| ground.path().join(name).to_str().unwrap().to_owned();
    let (data, backup, restored) = (path("data"), path("backup"), path("restored"));
    let made = json(&bucket, &["backup", "--data", &data, "--to", &backup]);
    assert!(made["files"].as_i64().unwrap() > 0 && made["linked"] == 0, "{made}");
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());

    let inspected = json(&bucket, &["inspect", "--data", &data]);
    let cpu = inspected["tables"].as_array().unwrap().iter().find(|table| table["table"] == "cpu").unwrap();
    assert_eq!(cpu["rows"], 24 * ROWS);
    let verified = json(&bucket, &["verify", "--data", &data]);
    assert!(verified["ok"] == true && verified["unreferenced"] == serde_json::json!([]), "{verified}");
    let count = "SELECT count(*) FROM cpu";
    let done = json(&bucket, &["forget-node", "a", "--data", &data]);
    assert!(done["rows"].as_i64().unwrap() >= 12 * (ROWS + 2), "{done}");
    assert_eq!(offline(&bucket, &ground.data(), count), 12 * ROWS);
    assert_eq!(bucket.python(DELTALAKE_COUNT, "s3://skep/history/cpu"), (12 * ROWS).to_string());

    run(&bucket, &["restore", "--from", &backup, "--data", &restored]);
    drop(bucket);
    let nowhere = Bucket::start();
    assert_eq!(offline(&nowhere, Path::new(&restored), count), 24 * ROWS, "it needs no bucket");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_slows_acknowledgements_and_loses_nothing() {
    let (ground, mut bucket) = (Ground::new(), Bucket::start());
    let config = format!("{PLACE}[ingest]\nbuffer_mib = 16\n[flush]\ninterval_s = 1\nrows = 500\n");
    let collector = ground.serve_in("data", &config, &bucket.environment());
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 20).await.unwrap();
    collector.flush().await;
    bucket.trouble("down");
    // What is in memory is acknowledged and found; what would need the store is said.
    uplink.deliver(21, 40).await.unwrap();
    let refused = collector.console().await.flush(v1::FlushRequest {}).await.unwrap_err();
    assert!(refused.message().contains("s3://skep/history"), "{refused}");
    let (rows, ended) = collector.query("SELECT count(*) FROM cpu").await;
    let said = ended.unwrap_err();
    assert!(said.message().contains("the object store does not answer"), "{said}");
    assert_eq!(support::number(&rows), 20 * ROWS, "those in memory");
    bucket.trouble("off");
    uplink.deliver(41, 60).await.unwrap();
    let all = || {
        let (rows, ended) = tokio::runtime::Handle::current().block_on(collector.query("SELECT count(*) FROM cpu"));
        (ended.is_ok() && support::number(&rows) == 60 * ROWS).then_some(())
    };
    tokio::task::block_in_place(|| eventually("the store to be asked again", all));
    assert_eq!(collector.number("SELECT count(*) FROM loss WHERE reason = 'file_missing'").await, 0);
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    assert_eq!(bucket.python(DELTALAKE_COUNT, "s3://skep/history/cpu"), (60 * ROWS).to_string());
    let told = ground.log().matches("rows cannot be written to Parquet for now").count();
    assert_eq!(told, 1, "once: {}", ground.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_the_store_says_so_and_a_history_is_not_left_behind() {
    let (ground, mut bucket) = (Ground::new(), Bucket::start());
    bucket.trouble("down");
    let mut collector = ground.spawn_in("data", PLACE, &bucket.environment());
    assert_eq!(tokio::task::block_in_place(|| collector.wait()), Some(1));
    assert!(ground.log().contains("cannot list s3://skep/history/"), "{}", ground.log());
    bucket.trouble("off");
    let mut plain = bucket.environment();
    plain.retain(|(name, _)| *name != "AWS_ALLOW_HTTP");
    let mut collector = ground.spawn_in("data", "", &plain);
    assert_eq!(tokio::task::block_in_place(|| collector.wait()), Some(1));
    assert!(ground.log().contains("AWS_ALLOW_HTTP=true"), "{}", ground.log());
    let elsewhere = PLACE.replace("skep/history", "skep/other");
    let mut collector = ground.spawn_in("data", &elsewhere, &bucket.environment());
    assert_eq!(tokio::task::block_in_place(|| collector.wait()), Some(1));
    assert!(ground.log().contains("is in s3://skep/history, not in s3://skep/other"), "{}", ground.log());
}
