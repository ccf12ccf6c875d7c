//! Other programs read the same rows: seven engines from the files, ADBC from the running collector.
//!
//! The recipes are those of `interop/README.md`. `cargo xtask setup` prepares the Python they run in; what is large runs
//! with `cargo xtask interop --all` only, which sets `SKEP_INTEROP=all`.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Map, Value, json};
use skep_wire::chunk::Builder;
use skep_wire::tables::{CPU, SYSCALLS};
use skep_wire::v1::up;
use skep_wire::{envelope, v1};
use support::agent::{self, Uplink, origin};
use support::{Collector, Ground};

const QUICK: [&str; 5] = ["duckdb", "polars", "pandas", "pyarrow", "deltalake"];
const LARGE: [&str; 2] = ["chdb", "spark"];

/// Batches of each node, a minute apart: three hours on two days.
const BATCHES: u64 = 150;
const MINUTE_US: i64 = 60_000_000;

/// What every engine is asked; see `interop/asked.py`.
const QUESTIONS: [&str; 4] = ["rows", "totals", "latency p99 by call", "delay p99 by process, the hour's top 10"];

/// Numbers without an order that are the same in every run (splitmix64).
fn scatter(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Up to 12 buckets, sometimes none.
fn histogram(seed: u64) -> Vec<(u16, u64)> {
    let first = scatter(seed) % 200;
    (0..scatter(seed + 1) % 13).map(|i| ((first + i * 3) as u16, scatter(seed + i) % 50 + 1)).collect()
}

fn cpu(seq: u64, time: i64) -> Option<v1::Chunk> {
    let mut cpu = Builder::new(&CPU);
    for pid in 1..=15 {
        let delays = histogram(seq * 1000 + pid);
        let count: u64 = delays.iter().map(|(_, count)| count).sum();
        cpu.int("time", time).float("window_s", 60.0).int("pid", pid as i64).int("start_ns", 7).text("comm", "täsk");
        cpu.text("workload", "unit:x").text("attribution", "exact").count("on_cpu_ns", scatter(seq ^ pid) >> 30);
        cpu.int("slices", 1).int("voluntary_switches", 1).int("involuntary_switches", 0).int("migrations", 0);
        cpu.count("run_queue_delay_count", count).int("run_queue_delay_sum_ns", 60);
        cpu.histogram("run_queue_delay", delays).int("off_cpu_count", 0).int("off_cpu_sum_ns", 0);
        cpu.histogram("off_cpu", []).float("coverage", 1.0).end_row().unwrap();
    }
    cpu.finish()
}

fn syscalls(seq: u64, time: i64) -> Option<v1::Chunk> {
    let mut calls = Builder::new(&SYSCALLS);
    for (nr, call) in ["read", "write", "openat", "futex", "epoll_wait"].into_iter().enumerate() {
        let latency = histogram(seq * 7000 + nr as u64);
        let count: u64 = latency.iter().map(|(_, count)| count).sum();
        calls.int("time", time).float("window_s", 60.0).int("pid", 3).int("start_ns", 7).text("comm", "täsk");
        calls
            .text("workload", "unit:x")
            .text("attribution", "exact")
            .text("syscall", call)
            .int("syscall_nr", nr as i64);
        calls.count("count", count).count("timed", count).count("errors", count / 10).int("latency_sum_ns", 9);
        for kind in SYSCALLS.columns().filter(|column| column.name.starts_with("errors_")) {
            calls.int(kind.name, 0);
        }
        calls.histogram("latency", latency).float("coverage", 1.0).end_row().unwrap();
    }
    calls.finish()
}

async fn fill(ground: &Ground, collector: &Collector<'_>) {
    for (node, stream) in [("a", "a".repeat(32)), ("b", "b".repeat(32))] {
        let mut uplink = Uplink::open(ground, &collector.grpc, node, &stream).await.unwrap();
        for seq in 1..=BATCHES {
            let mut batch = agent::batch(seq);
            let time = agent::START_US + seq as i64 * MINUTE_US;
            batch.chunks.retain(|chunk| chunk.table != CPU.name);
            batch.chunks.extend(cpu(seq, time).into_iter().chain(syscalls(seq, time)));
            batch.deliveries.clear();
            let sealed = envelope::seal(origin(node, &stream, seq), &batch).unwrap();
            assert!(uplink.say(up::Message::Batch(sealed)).await);
            if seq % 50 == 0 {
                // The last one again, to hear that all are durable.
                while !matches!(uplink.next().await.unwrap(), Some(v1::down::Message::Ack(ack)) if ack.durable_seq == seq)
                {
                }
                collector.flush().await;
            }
        }
    }
}

fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_BIN_EXE_skep-collector")).with_file_name("../interop/bin/python");
    assert!(python.exists(), "{} is missing: run `cargo xtask setup`", python.display());
    python
}

fn recipe(name: &str) -> Command {
    let file = format!("{}/../interop/with_{name}.py", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python());
    command.args(["-B", &file]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn answer(name: &str, child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What every engine says of the history.
fn engines(ground: &Ground) -> Vec<(&'static str, Value)> {
    let all = std::env::var_os("SKEP_INTEROP").is_some_and(|which| which == "all");
    let names: Vec<_> = QUICK.iter().chain(LARGE.iter().filter(|_| all)).copied().collect();
    let started: Vec<_> = names
        .into_iter()
        .map(|name| (name, recipe(name).arg(ground.data().join("history")).spawn().unwrap()))
        .collect();
    started.into_iter().map(|(name, child)| (name, answer(name, child))).collect()
}

/// `skep query`, its rows as lists.
fn skep(place: &[&str], sql: &str) -> Vec<Value> {
    let program = Path::new(env!("CARGO_BIN_EXE_skep-collector")).with_file_name("skep");
    assert!(program.exists(), "{} is not built: run `cargo build -p skep`", program.display());
    let output = Command::new(program).args(["query", "--format", "json", sql]).args(place).output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What `skep query` says to [`QUESTIONS`].
fn expected(ground: &Ground, hour: &Value) -> Value {
    let data = ground.data();
    let place = ["--data", data.to_str().unwrap()];
    let number = |sql: &str| skep(&place, sql)[0].as_object().unwrap().values().next().unwrap().clone();
    let mut rows = Map::new();
    for folder in std::fs::read_dir(data.join("history")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        rows.insert(name.clone(), number(&format!("SELECT count(*) FROM {name}")));
    }
    let totals: Map<_, _> = [("cpu", "on_cpu_ns"), ("syscalls", "count"), ("syscalls", "errors"), ("loss", "lost")]
        .map(|(table, column)| {
            (format!("{table}.{column}"), number(&format!("SELECT CAST(sum({column}) AS BIGINT) FROM {table}")))
        })
        .into_iter()
        .collect();
    let calls = "SELECT syscall, hist_quantile(latency, 0.99) AS p99 FROM syscalls GROUP BY syscall \
                 HAVING hist_quantile(latency, 0.99) IS NOT NULL ORDER BY p99 DESC, syscall";
    let calls: Vec<Value> = skep(&place, calls).iter().map(|row| json!([row["syscall"], row["p99"]])).collect();
    let from = format!("{}T{:02}:00:00Z", hour[0].as_str().unwrap(), hour[1].as_i64().unwrap());
    let slowest = format!(
        "SELECT node, pid, start_ns, comm, hist_quantile(run_queue_delay, 0.99) AS p99 FROM cpu \
         WHERE time >= '{from}' AND time < TIMESTAMP '{from}' + INTERVAL '1 hour' GROUP BY node, pid, start_ns, comm \
         HAVING hist_quantile(run_queue_delay, 0.99) IS NOT NULL ORDER BY p99 DESC, node, pid LIMIT 10"
    );
    let list = |row: &Value| json!([row["node"], row["pid"], row["start_ns"], row["comm"], row["p99"]]);
    let slowest: Vec<Value> = skep(&place, &slowest).iter().map(list).collect();
    json!({ QUESTIONS[0]: rows, QUESTIONS[1]: totals, QUESTIONS[2]: calls, QUESTIONS[3]: slowest })
}

/// Prints who agrees with `skep query` on what; fails if one does not.
fn compare(ground: &Ground, answers: &[(&str, Value)], ways: &[&str]) {
    let expected = expected(ground, &answers[0].1["hour"]);
    assert_eq!(expected[QUESTIONS[3]].as_array().unwrap().len(), 10, "{expected}");
    println!("{:<10} {:<6} {}", "engine", "reads", QUESTIONS.join(" | "));
    let mut wrong = Vec::new();
    for (engine, answer) in answers {
        for way in ways.iter().filter(|way| answer[**way].is_object()) {
            let verdicts = QUESTIONS.map(|question| {
                let (said, skep) = (&answer[*way][question], &expected[question]);
                if said != skep {
                    wrong.push(format!("{engine} ({way}), {question}: it says {said}, skep query {skep}"));
                }
                format!("{:^width$}", if said == skep { "agrees" } else { "DIFFERS" }, width = question.len())
            });
            println!("{engine:<10} {way:<6} {}", verdicts.join(" | "));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Writes the rows of one file of a table into another and says so in the log, as a compaction does. The old file stays
/// where it is, as it does until a vacuum. Returns its rows.
fn rewrite_a_file(ground: &Ground, table: &str) -> i64 {
    let folder = ground.data().join("history").join(table);
    let log = folder.join("_delta_log");
    let mut commits: Vec<_> = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).collect();
    commits.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    commits.sort();
    let text = std::fs::read_to_string(&commits[0]).unwrap();
    let actions = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut add = actions.into_iter().find_map(|action| action.get("add").cloned()).unwrap();
    let old = add["path"].as_str().unwrap().to_owned();
    let new = old.replace(".parquet", "-rewritten.parquet");
    std::fs::copy(folder.join(&old), folder.join(&new)).unwrap();
    let remove = json!({ "remove": { "path": old, "deletionTimestamp": 1_795_400_000_000_i64, "dataChange": false,
        "extendedFileMetadata": true, "partitionValues": add["partitionValues"], "size": add["size"] } });
    add["path"] = json!(new);
    add["dataChange"] = json!(false);
    let next = log.join(format!("{:020}.json", commits.len()));
    std::fs::write(next, format!("{remove}\n{}\n", json!({ "add": add }))).unwrap();
    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    stats["numRecords"].as_i64().unwrap()
}

#[tokio::test]
async fn every_engine_agrees_with_skep_query() {
    let ground = Ground::new();
    // Nothing is merged meanwhile: the test rewrites files itself.
    let collector = ground.serve("[maintain]\ninterval_s = 3600\n");
    fill(&ground, &collector).await;
    assert_eq!(collector.stop(), Some(0), "{}", ground.log());
    assert!(ground.files("history/cpu", "parquet").len() >= 6);
    compare(&ground, &engines(&ground), &["log", "files"]);

    // Once files were rewritten, the logs still say what is there, and the folders say it twice.
    let doubled = rewrite_a_file(&ground, "cpu");
    rewrite_a_file(&ground, "syscalls");
    let answers = engines(&ground);
    compare(&ground, &answers, &["log"]);
    for (engine, answer) in answers.iter().filter(|(_, answer)| answer["files"].is_object()) {
        let rows = |way: &str| answer[way]["rows"]["cpu"].as_i64().unwrap();
        assert_eq!(rows("files"), rows("log") + doubled, "{engine}");
    }
}

#[tokio::test]
async fn adbc_agrees_with_skep_query() {
    let ground = Ground::new();
    let collector = ground.serve("");
    fill(&ground, &collector).await;
    let url = format!("https://{}", collector.grpc);
    let tls = ground.tls("");
    let place = ["--collector", &url, "--tls", tls.to_str().unwrap()];
    let statements = [
        "SELECT count(*) AS n, CAST(sum(on_cpu_ns) AS BIGINT) AS total FROM cpu",
        "SELECT pid, comm, hist_quantile(run_queue_delay, 0.99) AS p99 FROM cpu \
         WHERE time >= '2026-11-22T01:00:00Z' AND time < '2026-11-22T02:00:00Z' \
         GROUP BY node, boot, pid, start_ns, comm ORDER BY p99 DESC, node, pid LIMIT 10",
        "SELECT node, argv, event, exe IS NULL AS nameless FROM processes WHERE seq <= 3 ORDER BY node, seq",
    ];
    let child = recipe("adbc").arg(&url).arg(&tls).args(statements).spawn().unwrap();
    let said = tokio::task::spawn_blocking(move || answer("adbc", child)).await.unwrap();
    for (statement, rows) in statements.iter().zip(said["answers"].as_array().unwrap()) {
        let ours = skep(&place, statement);
        assert!(!ours.is_empty());
        assert_eq!(rows.as_array().unwrap(), &ours, "{statement}");
    }
    assert_eq!(said["server"]["vendor_name"], "skep");
    for table in skep_wire::tables::TABLES {
        let columns: Vec<_> = table.stored_columns().map(|column| column.name).collect();
        assert_eq!(said["tables"][table.name], json!(columns), "{}", table.name);
    }
}
