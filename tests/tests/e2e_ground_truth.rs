//! What a generator did is what skep answers: live, offline, by Flight SQL, and read by DuckDB from the files.
//!
//! Needs root and the real kernel.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use skep_tests::ledger::assert_ledger;
use skep_tests::truth::{Generator, arguments_sql, assert_arguments, assert_exact, getppid_sql, wait_for_counts};
use skep_tests::{PATIENCE, Skep, binary, eventually, number, query};

fn assert_sleep_quantiles(generator: &Generator, skep: &Skep) {
    let sql = format!(
        "SELECT hist_quantile(latency, 0.5) AS p50, hist_quantile(latency, 0.99) AS p99 FROM syscalls \
         WHERE pid = {} AND syscall = 'clock_nanosleep'",
        generator.pid()
    );
    let rows = skep.query(&sql);
    for (name, truth) in [("p50", "sleep_p50_ns"), ("p99", "sleep_p99_ns")] {
        let (found, truth) = (rows[0][name].as_f64().expect("a number"), generator.truth(truth) as f64);
        let off = (found - truth).abs() / truth;
        assert!(off <= 0.032, "{name}: skep says {found} ns, the generator {truth} ns: {:.2} % off", off * 100.0);
    }
}

#[test]
fn counts_bytes_arguments_and_quantiles_are_exact() {
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "2s"]);
    let mut generator = Generator::finish(Generator::start());
    wait_for_counts(&skep, &generator);
    assert_exact(&generator, &|sql| skep.number(sql));
    assert_arguments(&generator, &skep.query(&arguments_sql(generator.pid())));
    assert_sleep_quantiles(&generator, &skep);
    assert_eq!(adbc(data.path(), &getppid_sql(generator.pid())), generator.truth("getppid"), "by Flight SQL");
    generator.end();
    skep.stop();

    // No collector runs now.
    assert_exact(&generator, &|sql| number(data.path(), sql));
    assert_arguments(&generator, &query(data.path(), &arguments_sql(generator.pid())));
    assert_ledger(&|sql| number(data.path(), sql));

    assert_exact(&generator, &|sql| duckdb(data.path(), sql));
    assert_ledger(&|sql| duckdb(data.path(), sql));
}

#[test]
fn killing_the_collector_in_the_middle_loses_and_doubles_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "1s"]);
    let child = Generator::start();
    let mut pid = 0;
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(700));
        pid = skep.kill("collector");
        pid = skep.restarted("collector", pid);
    }
    assert_ne!(pid, 0);
    let mut generator = Generator::finish(child);
    wait_for_counts(&skep, &generator);
    assert_exact(&generator, &|sql| skep.number(sql));
    generator.end();
    skep.stop();
    assert_exact(&generator, &|sql| number(data.path(), sql));
    assert_arguments(&generator, &query(data.path(), &arguments_sql(generator.pid())));
    assert_ledger(&|sql| number(data.path(), sql));
    assert_exact(&generator, &|sql| duckdb(data.path(), sql));
}

#[test]
fn killing_an_agent_without_pins_leaves_a_gap_with_a_start_and_an_end_and_every_sealed_batch() {
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up_without_bpf_fs(data.path(), &["--window", "1s"]);
    let log = std::fs::read_to_string(data.path().join("log/agent.log")).expect("the agent's log");
    assert!(log.contains("pinned: counting stops with the agent"), "{log}");
    let mut generator = Generator::finish(Generator::start());
    wait_for_counts(&skep, &generator);
    let killed = Instant::now();
    let old = skep.kill("agent");
    skep.restarted("agent", old);
    let down = eventually("the gap to be a row", PATIENCE, || {
        let sql = "SELECT CAST(arrow_cast(until, 'Int64') - arrow_cast(time, 'Int64') AS BIGINT) FROM loss \
                   WHERE reason = 'not_watching' AND time > now() - INTERVAL '10 minutes' ORDER BY time DESC LIMIT 1";
        skep.try_number(sql).filter(|&us| us > 0)
    });
    assert!(
        Duration::from_micros(down as u64) < killed.elapsed() + Duration::from_secs(2),
        "a gap of {down} us is longer than the time since the kill and a window"
    );
    skep.next_window();
    let tables = ["cpu", "syscalls", "connections", "processes", "host", "loss", "canaries", "actions", "audit"];
    let batches: Vec<String> = tables.iter().map(|table| format!("SELECT node, stream, seq FROM {table}")).collect();
    let holes = skep.number(&format!(
        "SELECT count(*) FROM (SELECT stream, max(seq) - count(DISTINCT seq) AS holes FROM ({}) \
         WHERE node <> 'collector' GROUP BY stream) WHERE holes > 0",
        batches.join(" UNION ALL ")
    ));
    assert_eq!(holes, 0, "streams with missing batches");
    assert_exact(&generator, &|sql| skep.number(sql));
    generator.end();
    skep.stop();
    assert_ledger(&|sql| number(data.path(), sql));
}

/// The same SQL through DuckDB over the folder's Parquet files, with a view for each table.
fn duckdb(data: &Path, sql: &str) -> i64 {
    let script = "import duckdb, os, sys\n\
        history = os.path.join(sys.argv[1], 'history')\n\
        db = duckdb.connect()\n\
        for table in os.listdir(history):\n\
        \x20   db.execute(f\"CREATE VIEW {table} AS SELECT * FROM read_parquet('{history}/{table}/date=*/*/*.parquet')\")\n\
        print(db.execute(sys.argv[2]).fetchone()[0] or 0)\n";
    let output = Command::new(interop_python()).args(["-c", script]).arg(data).arg(sql).output().expect("python runs");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

/// A number from the running collector through ADBC's Flight SQL driver, with the certificates `skep up` made.
fn adbc(data: &Path, sql: &str) -> i64 {
    let endpoint = std::fs::read(data.join("endpoint.json")).expect("a collector runs");
    let endpoint: Value = serde_json::from_slice(&endpoint).expect("JSON");
    let url = format!("https://{}", endpoint["grpc"].as_str().expect("an address"));
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../interop/with_adbc.py");
    let output = Command::new(interop_python())
        .args(["-B", recipe, &url])
        .arg(data.join("tls"))
        .arg(sql)
        .output()
        .expect("runs");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let row = said["answers"][0][0].as_object().expect("a row");
    row.values().next().and_then(Value::as_i64).expect("a number")
}

/// The interpreter with DuckDB that `cargo xtask setup` prepares.
fn interop_python() -> std::path::PathBuf {
    let python = binary("skep").with_file_name("").join("../interop/bin/python");
    assert!(python.exists(), "{} is missing: run `cargo xtask setup`", python.display());
    python
}
