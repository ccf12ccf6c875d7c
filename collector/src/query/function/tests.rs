use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::util::pretty::pretty_format_batches;

use super::super::engine::{Engine, Limits};
use crate::buffer::Snapshot;

fn engine() -> Engine {
    Engine::new(Limits { partitions: 3, ..Limits::of_one(64 << 20, Duration::from_secs(20)) }).unwrap()
}

async fn ask(sql: &str) -> Result<Vec<RecordBatch>, String> {
    let mut answer = engine().ask(Snapshot::default(), sql, None).await.map_err(|error| error.to_string())?;
    answer.collect().await.map_err(|error| error.to_string())
}

/// The rows, each as its values joined by blanks.
async fn rows(sql: &str) -> Vec<String> {
    let text = pretty_format_batches(&ask(sql).await.unwrap()).unwrap().to_string();
    let lines = text.lines().filter(|line| line.starts_with('|')).skip(1);
    lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()).collect()
}

/// Histograms of two processes; the second has a value that is no midpoint.
const SAMPLE: &str = "(SELECT * FROM (VALUES
    (1, make_array(named_struct('value_ns', 10, 'count', 1), named_struct('value_ns', 30, 'count', 1))),
    (1, make_array(named_struct('value_ns', 10, 'count', 1), named_struct('value_ns', 20, 'count', 97))),
    (2, make_array(named_struct('value_ns', 7, 'count', 1), named_struct('value_ns', 1000, 'count', 3))),
    (3, NULL)) AS t (pid, h))";

#[tokio::test]
async fn quantiles_are_of_the_merged_histogram() {
    let sql = format!(
        "SELECT pid, hist_quantile(h, 0.5), hist_quantile(h, 0.99), hist_quantile(h, 1), hist_quantile(h, 0)
         FROM {SAMPLE} GROUP BY pid ORDER BY pid"
    );
    assert_eq!(rows(&sql).await, ["1 20 20 30 10", "2 1000 1000 1000 7", "3"]);
    assert_eq!(rows(&format!("SELECT hist_quantile(h, 0.009), hist_quantile(h, 0.02) FROM {SAMPLE}")).await, ["7 10"]);
    assert_eq!(rows(&format!("SELECT hist_quantile(h, 0.5) FROM {SAMPLE} WHERE pid > 5")).await, [""]);
    let filtered =
        format!("SELECT pid, hist_quantile(h, 0.5) FILTER (WHERE pid = 2) FROM {SAMPLE} GROUP BY pid ORDER BY pid");
    assert_eq!(rows(&filtered).await, ["1", "2 1000", "3"]);
}

#[tokio::test]
async fn each_group_may_ask_for_a_quantile_of_its_own() {
    let sql = format!(
        "SELECT q, hist_quantile(h, q) FROM {SAMPLE} AS s, (VALUES (0.0), (0.5), (1.0)) AS qs (q) GROUP BY q ORDER BY q"
    );
    assert_eq!(rows(&sql).await, ["0.0 7", "0.5 20", "1.0 1000"]);
}

#[tokio::test]
async fn a_merged_histogram_is_a_histogram_again() {
    let merged = format!("(SELECT pid, hist_merge(h) AS h FROM {SAMPLE} GROUP BY pid)");
    let sql = format!(
        "SELECT pid, hist_count(h), round(hist_mean(h), 2), hist_quantile_of(h, 0.99), h FROM {merged} ORDER BY pid"
    );
    assert_eq!(
        rows(&sql).await,
        [
            "1 100 19.9 20 [{value_ns: 10, count: 2}, {value_ns: 20, count: 97}, {value_ns: 30, count: 1}]",
            "2 4 751.75 1000 [{value_ns: 7, count: 1}, {value_ns: 1000, count: 3}]",
            "3 0   []",
        ]
    );
    let twice = format!("SELECT hist_count(hist_merge(h)), hist_quantile(h, 0.99) FROM {merged}");
    assert_eq!(rows(&twice).await, ["104 1000"]);
    let of_rows = format!("SELECT pid, hist_count(h), hist_quantile_of(h, 0.5) FROM {SAMPLE} ORDER BY pid, 2");
    assert_eq!(rows(&of_rows).await, ["1 2 10", "1 98 20", "2 4 1000", "3"]);
}

#[tokio::test]
async fn merging_in_parts_is_merging() {
    // Enough groups and rows for several partitions, partial sums and early emission.
    let sql = "SELECT count(*), sum(n), min(p), max(p) FROM (
        SELECT v % 5000 AS g, hist_count(hist_merge(make_array(named_struct('value_ns', v % 32, 'count', 2)))) AS n,
               hist_quantile(make_array(named_struct('value_ns', v % 32, 'count', 1)), 1) AS p
        FROM (SELECT unnest(range(0, 100000)) AS v) GROUP BY g)";
    assert_eq!(rows(sql).await, ["5000 200000 24 31"]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_one_line() {
    for (sql, said) in [
        (
            "SELECT hist_quantile(pid, 0.5) FROM cpu",
            "hist_quantile takes a histogram, list<struct<value_ns, count>>, not Int64",
        ),
        ("SELECT hist_quantile(off_cpu) FROM cpu", "a histogram column and a number between 0 and 1"),
        ("SELECT hist_merge(comm) FROM cpu", "hist_merge takes a histogram"),
        ("SELECT hist_count(1)", "hist_count takes a histogram"),
        ("SELECT time_bucket('1 minit', time) FROM cpu", "minit"),
        ("SELECT time_bucket(60, time) FROM cpu", "an interval such as '1 minute'"),
        ("SELECT time_bucket('0 s', TIMESTAMP '2020-01-01')", "longer than nothing"),
        ("SELECT time_bucket('1 minute', 5)", "takes a time, not Int64"),
    ] {
        let error = ask(sql).await.unwrap_err();
        assert!(error.contains(said) && error.lines().count() == 1, "{sql}: {error}");
    }
    let error = ask(&format!("SELECT hist_quantile(h, 1.5) FROM {SAMPLE}")).await.unwrap_err();
    assert!(error.contains("hist_quantile: 1.5 is not between 0 and 1"), "{error}");
}

#[tokio::test]
async fn buckets_of_time_begin_where_people_expect() {
    for (call, expected) in [
        ("'1 minute', TIMESTAMP '2026-11-26T02:39:25Z'", "2026-11-26T02:39:00"),
        ("INTERVAL '10 seconds', TIMESTAMP '2026-11-26T02:39:25.5Z'", "2026-11-26T02:39:20"),
        ("'15 minutes', TIMESTAMP '1969-12-31T23:59:59.999999Z'", "1969-12-31T23:45:00"),
        ("'1 hour', TIMESTAMP '1969-12-31T23:00:00Z'", "1969-12-31T23:00:00"),
        ("'1 week', TIMESTAMP '2026-11-26T02:39:25Z'", "2026-11-23T00:00:00"),
        ("'1 week', TIMESTAMP '1960-01-01T00:00:00Z'", "1959-12-28T00:00:00"),
        ("'1 month', TIMESTAMP '1969-12-31T23:59:59Z'", "1969-12-01T00:00:00"),
        ("'3 months', TIMESTAMP '2026-11-26T02:39:25Z'", "2026-10-01T00:00:00"),
        ("'1 day', TIMESTAMP '2026-11-26T02:39:25Z', TIMESTAMP '2000-01-01T06:00:00Z'", "2026-11-25T06:00:00"),
        ("'1 hour', TIMESTAMP '2026-11-26T02:39:25Z', TIMESTAMP '2030-01-01T00:20:00Z'", "2026-11-26T02:20:00"),
    ] {
        let found = rows(&format!("SELECT time_bucket({call})")).await;
        assert!(found[0].starts_with(expected), "time_bucket({call}) is {found:?}, not {expected}");
    }
}

#[tokio::test]
async fn a_bucket_has_the_type_of_its_time() {
    let batches = ask("SELECT time_bucket('1 hour', t) AS t, count(*) AS n FROM
             (SELECT arrow_cast(v, 'Timestamp(Microsecond, Some(\"UTC\"))') AS t
              FROM (SELECT unnest(make_array(-1, 0, 1, 3599999999, 3600000000)) AS v)) GROUP BY 1 ORDER BY 1");
    let mut found = Vec::new();
    for batch in batches.await.unwrap() {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        let counts = batch.column(1).as_primitive::<Int64Type>();
        found.extend(times.values().iter().copied().zip(counts.values().iter().copied()));
    }
    assert_eq!(found, [(-3_600_000_000, 1), (0, 3), (3_600_000_000, 1)]);
}
