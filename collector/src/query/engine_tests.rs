use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use arrow::array::{ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use skep_wire::tables::CPU;

use super::*;
use crate::buffer::{TableSnapshot, sample};
use crate::history::parquet_file::Written;
use crate::history::{DataFile, Folders, parquet_file};

/// 2026-11-26T00:00:00Z.
const START_US: i64 = 1_795_651_200_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// Processes in a file, and rows of each: five pages.
const PIDS: i64 = 100;
const ROWS_EACH: i64 = 1000;

fn write(path: &Path, rows: RecordBatch) -> Written {
    parquet_file::write(&Folders::default(), path, &CPU, &rows).unwrap()
}

/// What does not compress.
fn noise(row: i64) -> i64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    (hasher.finish() >> 40) as i64
}

/// A file of one hour, sorted as history's are.
fn hour(folder: &Path, hour: i64) -> DataFile {
    let (rows, first_us) = (PIDS * ROWS_EACH, START_US + hour * HOUR_US);
    let all = take_record_batch(&sample::blank(), &UInt32Array::from(vec![0; rows as usize])).unwrap();
    let mut columns: Vec<ArrayRef> = all.columns().to_vec();
    let mut set = |name: &str, column: ArrayRef| columns[all.schema().index_of(name).unwrap()] = column;
    set("pid", Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row / ROWS_EACH))));
    set("on_cpu_ns", Arc::new(Int64Array::from_iter_values((0..rows).map(noise))));
    let times = (0..rows).map(|row| first_us + row % ROWS_EACH * 3_000_000);
    set("time", Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")));
    let rows = RecordBatch::try_new(all.schema(), columns).unwrap();
    let path = folder.join(format!("{hour}.parquet"));
    let times_us = Some((first_us, first_us + (ROWS_EACH - 1) * 3_000_000));
    let count = Some(rows.num_rows() as u64);
    let written = write(&path, rows);
    DataFile { path, bytes: written.bytes, rows: count, times_us, crc32c: Some(written.crc32c) }
}

fn limits() -> Limits {
    Limits { partitions: 2, ..Limits::of_one(256 << 20, Duration::from_secs(60)) }
}

/// Bytes the scans of a statement read, by its own account.
async fn bytes_scanned(engine: &Engine, snapshot: &Snapshot, sql: &str) -> f64 {
    let mut answer = engine.ask(snapshot.clone(), &format!("EXPLAIN ANALYZE {sql}"), None).await.unwrap();
    let mut total = 0.0;
    for batch in answer.collect().await.unwrap() {
        for plan in batch.column(1).as_string::<i32>().iter().flatten() {
            for found in plan.split("bytes_scanned=").skip(1) {
                let mut words = found.split([' ', ',', ']']);
                let number: f64 = words.next().unwrap().parse().unwrap();
                total += number
                    * match words.next() {
                        Some("K" | "KB") => 1e3,
                        Some("M" | "MB") => 1e6,
                        _ => 1.0,
                    };
            }
        }
    }
    total
}

#[tokio::test]
async fn one_process_reads_few_files_and_few_pages_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<DataFile> = (0..3).map(|n| hour(folder.path(), n)).collect();
    let cpu = TableSnapshot { batches: Vec::new(), files: Arc::new(files) };
    let snapshot = Snapshot { tables: [(CPU.name, cpu)].into() };
    let engine = Engine::new(limits()).unwrap();

    let all = bytes_scanned(&engine, &snapshot, "SELECT sum(on_cpu_ns) FROM cpu WHERE pid >= 0").await;
    let one = bytes_scanned(&engine, &snapshot, "SELECT sum(on_cpu_ns) FROM cpu WHERE pid = 42").await;
    assert!(one > 0.0 && one * 3.0 < all, "one of {PIDS} processes read {one} of {all} bytes");

    let since = "TIMESTAMP '2026-11-26T02:00:00Z'";
    for (sql, files) in [
        (format!("SELECT count(*) FROM cpu WHERE pid = 42 AND time >= {since}"), 1),
        (format!("SELECT count(*) FROM top_cpu WHERE pid = 42 AND time >= {since}"), 1),
        (format!("SELECT count(*) FROM top_cpu WHERE time < {since} AND time >= {since} - INTERVAL '1 hour'"), 2),
        ("SELECT count(*) FROM cpu WHERE pid = 42".to_owned(), 3),
    ] {
        let mut answer = engine.ask(snapshot.clone(), &sql, None).await.unwrap();
        let rows = answer.collect().await.unwrap();
        assert!(rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0) > 0, "{sql}");
        assert_eq!(answer.reading.files().len(), files, "{sql}");
    }
}

#[tokio::test]
async fn bounds_on_time_hold_and_cost_nothing_where_whole_files_are_within_them() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<DataFile> = (0..3).map(|n| hour(folder.path(), n)).collect();
    // One more row, in memory, at the epoch.
    let cpu = TableSnapshot { batches: vec![sample::cpu("s", 1..=1)], files: Arc::new(files) };
    let snapshot = Snapshot { tables: [(CPU.name, cpu)].into() };
    let engine = Engine::new(limits()).unwrap();
    let times = || (0..3).flat_map(|hour| (0..ROWS_EACH).map(move |row| START_US + hour * HOUR_US + row * 3_000_000));
    let (start, minute) = (START_US, 60_000_000);
    for (from, to) in [
        (start, start + 3 * HOUR_US),
        (start, start + 2_997_000_000),
        (start + 1, start + HOUR_US),
        (start + 30 * minute, start + HOUR_US + 30 * minute),
        (start + HOUR_US, start + HOUR_US),
        (start + 2 * HOUR_US - 3_000_000, start + 9 * HOUR_US),
        (-1, start),
    ] {
        let in_memory = i64::from(from <= 0);
        for (low, high, within) in [
            (">=", "<", times().filter(|us| *us >= from && *us < to).count()),
            (">", "<=", times().filter(|us| *us > from && *us <= to).count()),
        ] {
            let time = |us: i64| format!("to_timestamp_micros({us})");
            let condition =
                format!("time {low} {} AND {} {} time", time(from), time(to), if high == "<" { ">" } else { ">=" });
            for select in
                ["SELECT count(*) FROM cpu", "SELECT count(pid) FROM cpu", "SELECT count(*) FROM (SELECT * FROM cpu)"]
            {
                let sql = format!("{select} WHERE {condition}");
                let rows = engine.ask(snapshot.clone(), &sql, None).await.unwrap().collect().await.unwrap();
                let found = rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0);
                assert_eq!(found, within as i64 * PIDS + in_memory, "{sql}");
            }
        }
    }
    let all =
        "EXPLAIN SELECT sum(on_cpu_ns) FROM cpu WHERE time >= '2026-11-26T00:00:00Z' AND time < '2026-11-27T00:00:00Z'";
    let rows = engine.ask(snapshot, all, None).await.unwrap().collect().await.unwrap();
    let plans: Vec<&str> = rows.iter().flat_map(|rows| rows.column(1).as_string::<i32>().iter().flatten()).collect();
    let scan = plans.iter().flat_map(|plan| plan.lines()).find(|line| line.contains("file_type=parquet")).unwrap();
    assert!(!scan.contains("predicate=") && scan.contains("projection=[on_cpu_ns]"), "{scan}");
}

#[tokio::test]
async fn what_two_collectors_stored_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, seqs| {
        let (path, rows) = (folder.path().join("date=1970-01-01/hour=00").join(name), sample::cpu("s", seqs));
        let count = Some(rows.num_rows() as u64);
        let written = write(&path, rows);
        DataFile { path, bytes: written.bytes, rows: count, times_us: Some((0, 0)), crc32c: Some(written.crc32c) }
    };
    let files = vec![file("bb-1-1.parquet", 4..=8), file("aa-1-1.parquet", 1..=5), file("aa-2-2.parquet", 12..=13)];
    let cpu =
        TableSnapshot { batches: vec![sample::cpu("s", 8..=10), sample::cpu("s", 13..=14)], files: Arc::new(files) };
    let snapshot = Snapshot { tables: [(CPU.name, cpu)].into() };
    let engine = Engine::new(limits()).unwrap();
    for (sql, expected) in [
        ("SELECT sum(on_cpu_ns) FROM cpu", (1..=10).chain(12..=14).sum::<i64>()),
        ("SELECT count(*) FROM cpu", 13),
        ("SELECT count(DISTINCT seq) FROM cpu WHERE stream = 's'", 13),
        ("SELECT CAST(round(sum(cpu_s) * 1e9) AS BIGINT) FROM top_cpu", (1..=10).chain(12..=14).sum::<i64>()),
        ("SELECT count(*) FROM (SELECT * FROM cpu WHERE pid = 4)", 1),
    ] {
        let rows = engine.ask(snapshot.clone(), sql, None).await.unwrap().collect().await.unwrap();
        let found = rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0);
        assert_eq!(found, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_greedy_statement_fails_by_itself_and_gives_back_what_it_had() {
    let engine = Engine::new(Limits { memory_each_bytes: 8 << 20, ..limits() }).unwrap();
    let greedy = "SELECT v, count(*) AS n FROM (SELECT unnest(range(0, 3000000)) AS v) GROUP BY v ORDER BY n";
    let error = match engine.ask(Snapshot::default(), greedy, None).await {
        Ok(mut answer) => answer.collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, QueryError::Memory { .. }), "{error}");
    assert!(error.to_string().contains("more memory than it may have"), "{error}");
    assert_eq!(engine.runtime.memory_pool.reserved(), 0);
    engine.ask(Snapshot::default(), "SELECT 1", None).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_dropped_makes_room_for_the_next() {
    let engine = Engine::new(limits()).unwrap();
    let endless =
        "SELECT a.v FROM (SELECT unnest(range(0, 100000)) AS v) AS a, (SELECT unnest(range(0, 100000)) AS v) AS b";
    let running = engine.ask(Snapshot::default(), endless, None).await.unwrap();
    let refused = engine.ask(Snapshot::default(), "SELECT 1", Some(Duration::from_millis(50))).await;
    assert!(matches!(refused, Err(QueryError::Busy { at_once: 1 })), "{refused:?}");
    drop(running);
    engine.ask(Snapshot::default(), "SELECT 1", Some(Duration::from_secs(30))).await.unwrap();
}

#[tokio::test]
async fn nothing_outside_the_tables_can_be_named() {
    let engine = Engine::new(limits()).unwrap();
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'x.parquet'",
        "SELECT * INTO x FROM cpu",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "RESET datafusion.execution.batch_size",
        "EXPLAIN COPY cpu TO '/tmp/x.csv'",
        "TRUNCATE TABLE cpu",
        "DEALLOCATE p",
    ] {
        assert!(engine.ask(Snapshot::default(), sql, None).await.is_err(), "{sql}");
    }
    let mut answer =
        engine.ask(Snapshot::default(), "SELECT table_name FROM information_schema.tables", None).await.unwrap();
    assert!(answer.collect().await.unwrap().iter().any(|batch| batch.num_rows() > 0));
}
