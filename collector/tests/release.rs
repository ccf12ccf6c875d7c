//! A data folder of the release before: this collector answers what that one did, goes on with it, and keeps it in order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::process::{Command, Stdio};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use serde_json::Value;
use support::agent::{ROWS, Uplink};
use support::{Collector, Ground, batches, eventually};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/release-0.1.0");

/// Leaves everything as it is.
const LEAVING: &str = "[maintain]\ninterval_s = 86400\n";

/// Merges and lengthens windows at once; keeps rows of any age, since those of the fixture only get older.
const KEEPING: &str = "[maintain]\ninterval_s = 1\nclosed_s = 0\ngrace_s = 0\ncheckpoint_commits = 3\nlog_hours = 0\n\
    [retention]\ndays = 0\n";

/// The folder, unpacked, and what its writer answered.
fn unpacked() -> (Ground, Value) {
    let ground = Ground::new();
    fs::create_dir(ground.data()).unwrap();
    let packed = fs::File::open(format!("{FIXTURE}/data.tar.zst")).unwrap();
    let mut tar = Command::new("tar")
        .args(["--extract", "--directory"])
        .arg(ground.data())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    zstd::stream::copy_decode(packed, tar.stdin.take().unwrap()).unwrap();
    assert!(tar.wait().unwrap().success());
    let expected = fs::read(format!("{FIXTURE}/expected.json")).unwrap();
    (ground, serde_json::from_slice(&expected).unwrap())
}

fn verify(ground: &Ground) -> Value {
    let mut verify = Command::new(env!("CARGO_BIN_EXE_skep-collector"));
    let output = verify.args(["verify", "--data"]).arg(ground.data()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every value as text, as in the fixture.
fn texts(rows: &[RecordBatch]) -> Value {
    let mut texts = Vec::new();
    for batch in rows {
        let columns: Vec<_> = batch.columns().iter().map(|column| cast(column, &DataType::Utf8).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|column| column.as_string::<i32>().iter().nth(row).flatten());
            texts.push(Value::from(values.map(Value::from).collect::<Vec<_>>()));
        }
    }
    Value::from(texts)
}

/// The statements with their answers; without those that longer windows change, if `lasting`.
fn answers(expected: &Value, lasting: bool) -> impl Iterator<Item = (&str, &Value)> {
    let answers = expected["answers"].as_array().unwrap().iter();
    let answers = answers.filter(move |answer| !lasting || answer["lasting"] == Value::Bool(true));
    answers.map(|answer| (answer["sql"].as_str().unwrap(), &answer["rows"]))
}

async fn assert_answers(collector: &Collector<'_>, expected: &Value, lasting: bool) {
    for (sql, rows) in answers(expected, lasting) {
        let (found, ended) = collector.query(sql).await;
        ended.unwrap();
        assert_eq!(texts(&found), *rows, "{sql}");
    }
}

#[test]
fn a_folder_of_the_release_before_is_sound_and_says_the_same() {
    let (ground, expected) = unpacked();
    let verified = verify(&ground);
    assert_eq!(verified["ok"], Value::Bool(true), "{verified:#}");
    for (sql, rows) in answers(&expected, false) {
        let output = ground.offline(sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(texts(&batches(&output.stdout)), *rows, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_the_release_before_goes_on() {
    let (ground, expected) = unpacked();
    let collector = ground.serve(LEAVING);
    assert_answers(&collector, &expected, false).await;
    let before = collector.number("SELECT count(*) FROM cpu").await;
    let streams = expected["streams"].as_array().unwrap();
    for known in streams {
        let text = |name: &str| known[name].as_str().unwrap();
        let mut uplink = Uplink::open(&ground, &collector.grpc, text("node"), text("stream")).await.unwrap();
        let last = known["seq"].as_u64().unwrap();
        assert_eq!(uplink.durable_seq, last, "{known}");
        uplink.deliver(last + 1, last + 4).await.unwrap();
    }
    let more = 4 * ROWS * streams.len() as i64;
    collector.flush().await;
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, before + more);
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    assert_eq!(verify(&ground)["ok"], Value::Bool(true));
    assert_eq!(ground.offline_number("SELECT count(*) FROM cpu"), before + more);
    assert!(!ground.files("quarantine", "envelope").is_empty(), "what was put aside is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_the_release_before_is_kept_in_order() {
    let (ground, expected) = unpacked();
    let short = "SELECT count(*) FROM cpu WHERE window_s = 10";
    let before = ground.offline_number(short);
    let collector = ground.serve(KEEPING);
    collector.flush().await;
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while collector.number(short).await > 0 {
        assert!(std::time::Instant::now() < deadline, "{before} short windows stay: {}", ground.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(before > 0, "there was something to do");
    let hours = collector.number("SELECT count(DISTINCT date_trunc('hour', time)) FROM cpu").await;
    tokio::task::block_in_place(|| {
        eventually("one file an hour", || (ground.rows_of("cpu").len() as i64 == hours).then_some(()));
    });
    assert_answers(&collector, &expected, true).await;
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    let verified = verify(&ground);
    assert_eq!(verified["ok"], Value::Bool(true), "{verified:#}");
    let (sql, rows) = answers(&expected, true).next().unwrap();
    assert_eq!(texts(&batches(&ground.offline(sql).stdout)), *rows);
}
