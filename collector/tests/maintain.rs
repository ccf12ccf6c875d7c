//! What the collector does to its history in the background changes no answer, its own or another engine's.

mod support;

use support::agent::{ROWS, Uplink};
use support::{Collector, DELTALAKE_COUNT, Ground, eventually};

const STREAM: &str = "0123456789abcdef0123456789abcdef";

/// Sends batches one by one, each of which becomes files of its own.
async fn deliver_and_flush(uplink: &mut Uplink, collector: &Collector<'_>, from: u64, to: u64) {
    for seq in from..=to {
        uplink.deliver(seq, seq).await.unwrap();
        collector.flush().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_checkpoints_is_read_by_everybody_when_its_first_commits_are_gone() {
    let ground = Ground::new();
    let config = "[maintain]\ninterval_s = 1\ncheckpoint_commits = 4\nlog_hours = 0\n";
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
    assert_eq!(ground.files("history/cpu", "parquet").len(), 20);
    assert_eq!(collector.stop(), Some(0));

    let collector = ground.serve("[maintain]\ninterval_s = 1\nclosed_s = 0\ngrace_s = 0\n");
    let files = || ground.files("history/cpu", "parquet");
    // 23:59:50 and after midnight: two hours, of two days.
    let two = || (files().len() == 2).then_some(());
    tokio::task::block_in_place(|| eventually("one file an hour", two));
    assert_eq!(collector.number(SUM).await, sum);
    assert_eq!(collector.number("SELECT count(*) FROM processes").await, 20);
    assert_eq!(ground.python(DELTALAKE_COUNT, "cpu"), (20 * ROWS).to_string());
    let unsorted = "import duckdb, sys\n\
        q = \"SELECT count(*) FROM (SELECT pid, lag(pid) OVER (PARTITION BY filename ORDER BY file_row_number) AS before \"\n\
        q += f\"FROM read_parquet('{sys.argv[1]}/**/*.parquet', filename=true, file_row_number=true)) WHERE before > pid\"\n\
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
