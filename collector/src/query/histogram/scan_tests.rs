//! Statements over histograms in files answer as they do over the same rows in memory, where this reader is not.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use datafusion::arrow::util::pretty::pretty_format_batches;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use skep_wire::chunk::Builder;
use skep_wire::envelope::Origin;
use skep_wire::tables::{CPU, Kind};

use super::*;
use crate::buffer::{Snapshot, TableSnapshot, convert};
use crate::history::{DataFile, Folders, parquet_file};
use crate::query::Engine;
use crate::query::engine::Limits;

/// 2026-11-26T00:00:00Z.
const START_US: i64 = 1_795_651_200_000_000;

/// Rows a process has in a file; a page has 20,000.
const ROWS_EACH: i64 = 500;

/// Rows of these processes: distributions of every size, many of them empty.
fn rows(pids: Range<i64>) -> RecordBatch {
    let mut rows = Builder::new(&CPU);
    for row in pids.start * ROWS_EACH..pids.end * ROWS_EACH {
        for column in CPU.columns().filter(|column| !column.nullable) {
            let size = (row * 7919 % 23) as u16;
            let buckets = (0..size.saturating_sub(6)).map(|n| (n * 9 + size, (row % 5 + 1) as u64 * u64::from(n + 1)));
            match (column.kind, column.name) {
                (_, "pid") => rows.int("pid", row / ROWS_EACH),
                (_, "start_ns") => rows.int("start_ns", 7),
                (_, "time") => rows.int("time", START_US + row % ROWS_EACH * 1_000_000),
                (Kind::Int | Kind::Time | Kind::Bool, name) => rows.int(name, row % 3),
                (Kind::Float, name) => rows.float(name, 1.0),
                (Kind::Text, name) => rows.text(name, "x"),
                (Kind::TextList, name) => rows.text_list::<&str>(name, &[]),
                (Kind::Histogram, name) => rows.histogram(name, buckets.take(if name == "off_cpu" { 3 } else { 99 })),
            };
        }
        rows.end_row().unwrap();
    }
    let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 };
    convert::record_batch(&origin, &CPU, &rows.finish().unwrap()).unwrap()
}

fn file(folder: &Path, name: &str, rows: &RecordBatch) -> DataFile {
    let path = folder.join(name);
    let written = parquet_file::write(&Folders::default(), &path, &CPU, rows).unwrap();
    DataFile {
        path,
        bytes: written.bytes,
        rows: Some(rows.num_rows() as u64),
        times_us: Some((START_US, START_US + ROWS_EACH * 1_000_000)),
        crc32c: Some(written.crc32c),
    }
}

fn snapshot(batches: Vec<RecordBatch>, files: Vec<DataFile>) -> Snapshot {
    Snapshot { tables: [(CPU.name, TableSnapshot { batches, files: Arc::new(files) })].into() }
}

fn engine() -> Engine {
    Engine::new(Limits { partitions: 2, ..Limits::of_one(256 << 20, Duration::from_secs(60)) }).unwrap()
}

async fn answer(engine: &Engine, snapshot: &Snapshot, sql: &str) -> (String, usize) {
    let mut answer = engine.ask(snapshot.clone(), sql, None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = answer.collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    // An empty batch says as much as none.
    let rows: Vec<RecordBatch> = rows.into_iter().filter(|rows| rows.num_rows() > 0).collect();
    (pretty_format_batches(&rows).unwrap().to_string(), answer.unreadable().len())
}

const STATEMENTS: [&str; 11] = [
    "SELECT pid, hist_quantile(run_queue_delay, 0.9), hist_merge(off_cpu) FROM cpu GROUP BY pid ORDER BY pid",
    "SELECT hist_quantile(off_cpu, 0.5), hist_merge(run_queue_delay) FROM cpu WHERE node = 'n' AND pid >= 57",
    "SELECT time, off_cpu, pid, run_queue_delay FROM cpu WHERE pid = 42 AND time >= '2026-11-26T00:02:00Z' ORDER BY time",
    "SELECT pid, time, run_queue_delay FROM cpu WHERE pid % 7 = 3 AND cardinality(run_queue_delay) > 15 ORDER BY pid, time",
    "SELECT pid, run_queue_delay FROM cpu WHERE time = '2026-11-26T00:03:20Z' ORDER BY pid DESC LIMIT 5",
    "SELECT count(*), sum(hist_count(run_queue_delay)) FROM (SELECT * FROM cpu)",
    "SELECT sum(cardinality(off_cpu)), count(off_cpu) FROM (SELECT off_cpu FROM cpu LIMIT 1000000)",
    "SELECT a.pid, b.off_cpu FROM cpu AS a JOIN cpu AS b USING (pid, time) WHERE a.pid = 3 ORDER BY b.time LIMIT 9",
    "SELECT pid, hist_merge(off_cpu) FROM cpu WHERE node = 'another' GROUP BY pid",
    "SELECT hist_merge(off_cpu) FROM cpu WHERE time >= '2026-11-26T00:00:00Z' AND time < '2026-11-26T01:00:00Z'",
    "SELECT hist_merge(off_cpu), count(*) FROM cpu WHERE time > '2026-11-26T00:00:00Z' AND time <= '2026-11-26T00:07:00Z'",
];

#[tokio::test]
async fn files_answer_as_memory_does() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, third) = (rows(0..50), rows(50..60), rows(60..63));
    let files = vec![file(folder.path(), "a.parquet", &first), file(folder.path(), "b.parquet", &second)];
    let in_files = snapshot(vec![third.clone()], files);
    let in_memory = snapshot(vec![first, second, third], Vec::new());
    let engine = engine();
    for sql in STATEMENTS {
        let expected = answer(&engine, &in_memory, sql).await;
        assert_eq!(answer(&engine, &in_files, sql).await, expected, "{sql}");
        let (plan, _) = answer(&engine, &in_files, &format!("EXPLAIN {sql}")).await;
        assert!(plan.contains("HistogramExec"), "{plan}");
    }
    let (plan, _) = answer(&engine, &in_files, "EXPLAIN SELECT pid FROM cpu WHERE pid = 4").await;
    assert!(!plan.contains("HistogramExec"), "{plan}");
}

#[tokio::test]
async fn conditions_reach_the_scan_below() {
    let folder = tempfile::tempdir().unwrap();
    let files = vec![file(folder.path(), "a.parquet", &rows(0..50))];
    let sql = "EXPLAIN SELECT run_queue_delay FROM cpu WHERE pid = 42 AND cardinality(off_cpu) = 2";
    let (plan, _) = answer(&engine(), &snapshot(Vec::new(), files), sql).await;
    let lines: Vec<&str> = plan.lines().collect();
    let of = |operator: &str| lines.iter().position(|line| line.contains(operator)).unwrap();
    assert!(of("FilterExec") < of("HistogramExec"), "{plan}");
    assert!(of("HistogramExec") < of("predicate=pid@"), "{plan}");
}

/// Damages one of two files, in a column of buckets whose number `damage` gets, and expects the rows of the other.
async fn damaged(damage: impl Fn(&mut [u8], &ParquetMetaData, usize)) {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (rows(0..50), rows(50..60));
    let files = vec![file(folder.path(), "a.parquet", &first), file(folder.path(), "b.parquet", &second)];
    let path = files[0].path.clone();
    let footer = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    let footer = footer.parse_and_finish(&fs::File::open(&path).unwrap()).unwrap();
    let columns = footer.row_group(0).columns();
    let column = columns.iter().position(|column| column.column_path().string() == "off_cpu.list.element.count");
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes, &footer, column.unwrap());
    fs::write(&path, bytes).unwrap();
    let engine = engine();
    let sql = "SELECT hist_merge(off_cpu), count(*) FROM cpu";
    let (expected, _) = answer(&engine, &snapshot(vec![second], Vec::new()), sql).await;
    assert_eq!(answer(&engine, &snapshot(Vec::new(), files), sql).await, (expected, 1));
}

#[tokio::test]
async fn a_file_whose_buckets_are_damaged_is_left_out_and_named() {
    damaged(|bytes, footer, column| {
        let (start, length) = footer.row_group(0).column(column).byte_range();
        bytes[start as usize..(start + length) as usize].fill(0xa5);
    })
    .await;
}

#[tokio::test]
async fn damage_that_only_this_reader_sees_is_damage() {
    damaged(|bytes, footer, column| {
        let second = &footer.offset_index().unwrap()[0][column].page_locations()[1];
        // The row at which it begins as the index has it, in zigzag and seven bits a byte; then one more or less.
        let mut rest = second.first_row_index as u64 * 2;
        let mut number = Vec::new();
        while rest >= 0x80 {
            number.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        number.push(rest as u8);
        let start = footer.row_group(0).column(column).offset_index_offset().unwrap() as usize;
        let at = bytes[start..].windows(number.len()).position(|found| found == number).unwrap();
        bytes[start + at] ^= 0b10;
    })
    .await;
}

#[tokio::test]
async fn pages_that_were_read_are_the_statements_memory() {
    let folder = tempfile::tempdir().unwrap();
    let files = snapshot(Vec::new(), vec![file(folder.path(), "a.parquet", &rows(0..50))]);
    let sql = "SELECT sum(cardinality(off_cpu)) FROM cpu";
    let limits =
        Limits { partitions: 1, memory_each_bytes: 1 << 10, ..Limits::of_one(256 << 20, Duration::from_secs(60)) };
    let refused = Engine::new(limits).unwrap().ask(files.clone(), sql, None).await.unwrap_err();
    assert!(refused.to_string().contains("HistogramExec asked for"), "{refused}");
    answer(&engine(), &files, sql).await;
}
