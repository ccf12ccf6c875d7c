//! What the collector does to its history in the background changes no answer, its own or another engine's.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use support::agent::{ROWS, Uplink};
use support::{Collector, DELTALAKE_COUNT, Ground, eventually};

const STREAM: &str = "0123456789abcdef0123456789abcdef";

/// Sends batches one by one, each of which becomes files of its own.
async fn deliver_and_flush(uplink: &mut Uplink, collector: &Collector<'_>, from: u64, to: u64) {
    for seq in from..=to {
        uplink.deliver(seq, seq).await.expect("the batch is taken");
        collector.flush().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_checkpoints_is_read_by_everybody_when_its_first_commits_are_gone() {
    let ground = Ground::new();
    let config = "[maintain]\ninterval_s = 1\ncheckpoint_commits = 4\nlog_hours = 0\ntier = []\n";
    let collector = ground.serve(config);
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    deliver_and_flush(&mut uplink, &collector, 1, 9).await;
    let first = ground.data().join("history/cpu/_delta_log/00000000000000000000.json");
    tokio::task::block_in_place(|| eventually("old commits to go", || (!first.exists()).then_some(())));
    deliver_and_flush(&mut uplink, &collector, 10, 11).await;
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 11 * ROWS);
    assert_eq!(ground.python(DELTALAKE_COUNT, "cpu"), (11 * ROWS).to_string());
    collector.kill();
    assert_eq!(ground.offline_number("SELECT count(*) FROM cpu"), 11 * ROWS);

    // The other way round: a checkpoint of theirs, and only it.
    let theirs = "import sys, deltalake\ntable = deltalake.DeltaTable(sys.argv[1])\ntable.create_checkpoint()\n\
                  print(table.version())";
    let version = ground.python(theirs, "cpu");
    for file in ground.files("history/cpu/_delta_log", "json") {
        if !file.to_str().unwrap().contains(&format!("{version:0>20}")) {
            std::fs::remove_file(file).unwrap();
        }
    }
    assert_eq!(ground.offline_number("SELECT count(*) FROM cpu"), 11 * ROWS);
    let collector = ground.serve(config);
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    assert_eq!(uplink.durable_seq, 11);
    deliver_and_flush(&mut uplink, &collector, 12, 12).await;
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    assert_eq!(ground.offline_number("SELECT count(*) FROM cpu"), 12 * ROWS);
    assert_eq!(ground.python(DELTALAKE_COUNT, "cpu"), (12 * ROWS).to_string());
}

/// Everything in a table that a merge must not change, in one number.
const SUM: &str =
    "SELECT CAST(sum(seq * 1000 + pid * 7 + on_cpu_ns * 3 + arrow_cast(time, 'Int64') % 997) AS BIGINT) FROM cpu";

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_hour_becomes_one_sorted_file_and_late_rows_join_it() {
    let ground = Ground::new();
    let slow = "[maintain]\ninterval_s = 86400\n";
    let collector = ground.serve(slow);
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    deliver_and_flush(&mut uplink, &collector, 1, 20).await;
    let sum = collector.number(SUM).await;
    assert_eq!(ground.rows_of("cpu").len(), 20);
    assert_eq!(collector.stop(), Some(0));

    let collector = ground.serve("[maintain]\ninterval_s = 1\nclosed_s = 0\ngrace_s = 0\ntier = []\n");
    let files = || ground.rows_of("cpu");
    // 23:59:50 and after midnight: two hours, of two days.
    let two = || (files().len() == 2).then_some(());
    tokio::task::block_in_place(|| eventually("one file an hour", two));
    assert_eq!(collector.number(SUM).await, sum);
    assert_eq!(collector.number("SELECT count(*) FROM processes").await, 20);
    assert_eq!(ground.python(DELTALAKE_COUNT, "cpu"), (20 * ROWS).to_string());
    let unsorted = "import duckdb, sys\n\
        q = \"SELECT count(*) FROM (SELECT pid, lag(pid) OVER (PARTITION BY filename ORDER BY file_row_number) AS before \"\n\
        q += f\"FROM read_parquet('{sys.argv[1]}/date=*/*/*.parquet', filename=true, file_row_number=true)) WHERE before > pid\"\n\
        print(duckdb.sql(q).fetchone()[0])";
    assert_eq!(ground.python(unsorted, "cpu"), "0", "rows are not in the table's order");

    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(21, 22).await.unwrap();
    collector.flush().await;
    tokio::task::block_in_place(|| eventually("late rows to join", two));
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 22 * ROWS);
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    assert_eq!(ground.offline_number("SELECT count(*) FROM cpu"), 22 * ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes_from_the_tables_and_from_the_disk_and_the_ledger_says_so() {
    let ground = Ground::new();
    let collector = ground.serve("[maintain]\ninterval_s = 86400\n");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(1, 20).await.unwrap();
    assert_eq!(collector.stop(), Some(0));
    let age_days = (jiff::Timestamp::now().as_microsecond() - support::agent::START_US) / 86_400_000_000;
    // The batches lie on both sides of a midnight, and are older than this.
    let config = format!(
        "[maintain]\ninterval_s = 1\ngrace_s = 0\ntier = []\n[retention]\ndays = 0\n[retention.tables]\ncpu = {}\n",
        age_days.clamp(2, 36_500) - 1
    );
    let collector = ground.serve(&config);
    let gone = || ground.rows_of("cpu").is_empty().then_some(());
    tokio::task::block_in_place(|| eventually("the files to go", gone));
    assert_eq!(collector.number("SELECT count(*) FROM cpu").await, 0);
    assert_eq!(collector.number("SELECT count(*) FROM processes").await, 20, "kept for ever");
    let told = "SELECT count(*) FROM loss WHERE probe = 'history' AND reason = 'expired' AND detail LIKE 'cpu, hours%'";
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while collector.number(told).await == 0 {
        assert!(std::time::Instant::now() < deadline);
    }
    assert_eq!(collector.number("SELECT sum(lost) FROM loss WHERE reason = 'expired'").await, 20 * ROWS);
    assert_eq!(collector.number("SELECT count(*) FROM loss WHERE attempted <> delivered + lost").await, 0);
    // What comes too late is taken, and goes again.
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(21, 22).await.unwrap();
    collector.flush().await;
    tokio::task::block_in_place(|| eventually("the late files to go", gone));
    assert_eq!(ground.python(DELTALAKE_COUNT, "cpu"), "0");
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_old_hours_become_longer_and_every_count_stays() {
    let ground = Ground::new();
    let collector = ground.serve("[maintain]\ninterval_s = 86400\n");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    deliver_and_flush(&mut uplink, &collector, 1, 20).await;
    assert_eq!(collector.stop(), Some(0));

    let tier = "[[maintain.tier]]\nwindow_s = 60\nafter_h = 0\n";
    let collector = ground.serve(&format!("[maintain]\ninterval_s = 1\nclosed_s = 0\ngrace_s = 0\n{tier}"));
    // 23:59 and 00:00, each with every process once.
    let coarse = || ground.rows_of("cpu").iter().all(|file| file.to_str().unwrap().ends_with("-60s.parquet"));
    tokio::task::block_in_place(|| eventually("longer windows", || coarse().then_some(())));
    let counts = async |last: i64| {
        assert_eq!(collector.number("SELECT count(*) FROM cpu WHERE window_s = 60").await, 2 * ROWS);
        assert_eq!(collector.number("SELECT sum(on_cpu_ns) FROM cpu").await, (1..=last).sum::<i64>() * ROWS);
        assert_eq!(collector.number("SELECT sum(run_queue_delay_count) FROM cpu").await, 3 * last * ROWS);
        let counted = "SELECT CAST(sum(b['count']) AS BIGINT) FROM (SELECT unnest(run_queue_delay) AS b FROM cpu)";
        assert_eq!(collector.number(counted).await, 3 * last * ROWS);
        assert_eq!(collector.number("SELECT hist_quantile(run_queue_delay, 0.5) FROM cpu").await, 20);
        assert_eq!(collector.number("SELECT count(*) FROM processes").await, last);
        assert_eq!(ground.python(DELTALAKE_COUNT, "cpu"), (2 * ROWS).to_string());
    };
    counts(20).await;
    let mut uplink = Uplink::open(&ground, &collector.grpc, "a", STREAM).await.unwrap();
    uplink.deliver(21, 21).await.unwrap();
    collector.flush().await;
    tokio::task::block_in_place(|| eventually("the late window to join", || coarse().then_some(())));
    counts(21).await;
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    assert_eq!(ground.offline_number("SELECT count(*) FROM cpu"), 2 * ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_forgotten_and_the_others_are_not() {
    let ground = Ground::new();
    let collector = ground.serve("[maintain]\ninterval_s = 1\nclosed_s = 0\ntier = []\n");
    for node in ["a", "b"] {
        let mut uplink = Uplink::open(&ground, &collector.grpc, node, &node.repeat(32)).await.unwrap();
        deliver_and_flush(&mut uplink, &collector, 1, 12).await;
    }
    let forget = |node: &str| {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_skep-collector"))
            .args(["forget-node", node, "--data"])
            .arg(ground.data())
            .output()
            .unwrap();
        let said = String::from_utf8(program.stdout).unwrap();
        (program.status.code(), said, String::from_utf8(program.stderr).unwrap())
    };
    let (code, _, said) = forget("a");
    assert!(code == Some(1) && said.contains("in use by a running collector"), "{said}");
    let mut uplink = Uplink::open(&ground, &collector.grpc, "b", &"b".repeat(32)).await.unwrap();
    uplink.deliver(13, 13).await.unwrap();
    collector.kill();
    let (code, _, said) = forget("a");
    assert!(code == Some(1) && said.contains("still in the WAL only"), "{said}");
    assert_eq!(ground.serve("[maintain]\ninterval_s = 86400\n").stop(), Some(0));

    let (code, said, error) = forget("a");
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let done: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(done["rows"].as_i64().unwrap() >= 12 * (ROWS + 2), "{said}");
    assert!(done["files_rewritten"].as_u64().unwrap() + done["files_removed"].as_u64().unwrap() > 0, "{said}");
    for table in ["cpu", "processes", "loss", "host", "findings", "audit"] {
        let rows = format!("SELECT count(*) FROM {table} WHERE node = 'a'");
        assert_eq!(ground.offline_number(&rows), 0, "{table}");
    }
    assert_eq!(ground.offline_number("SELECT count(*) FROM cpu"), 13 * ROWS);
    assert_eq!(ground.python(DELTALAKE_COUNT, "cpu"), (13 * ROWS).to_string());
    let on_disk = "import duckdb, sys\n\
        print(duckdb.sql(f\"SELECT count(*) FROM read_parquet('{sys.argv[1]}/date=*/*/*.parquet') WHERE node = 'a'\").fetchone()[0])";
    assert_eq!(ground.python(on_disk, "cpu"), "0", "not even in files no longer live");
    let (_, said, _) = forget("a");
    assert!(said.contains("\"rows\":0"), "{said}");
    let (code, _, said) = forget("collector");
    assert!(code == Some(1) && said.contains("collector itself"), "{said}");
}
