//! The busiest processes of the hour, asked of others: engines that read the collector's own files, and a server that
//! was fed the same numbers. Their answers must be the collector's.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::{Filled, QueryArguments, fill, of_readings};
use crate::ground::{self, Ground};
use crate::peers;
use crate::peers::remote_write::Request;
use crate::peers::victoria::Victoria;
use crate::rows::cpu::NUMBERS;

const SCRIPT: &str = include_str!("engines.py");

/// Windows in one request.
const WINDOWS_A_REQUEST: usize = 20;

/// How long a server may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Figures by peer.
pub(super) fn all(
    arguments: &QueryArguments,
    ground: &Ground,
    filled: &Filled,
    busiest: &[Value],
) -> Result<Map<String, Value>> {
    let expected = busiest.iter().map(|row| row["p99_ns"].as_f64().context("a row without p99_ns"));
    let expected = expected.collect::<Result<Vec<_>>>()?;
    let mut figures = Map::new();
    eprintln!("victoria_metrics ...");
    let (readings, found) = victoria(arguments, filled)?;
    same("victoria_metrics", &expected, &found)?;
    figures.insert("victoria_metrics".to_owned(), readings);
    let table = ground.table("cpu");
    let of_hour = format!("{}/", filled.hour_folder());
    let live = ground::live_files(&table)?;
    let names: Vec<&str> = live.keys().filter_map(|path| path.strip_prefix(&of_hour)).collect();
    let files = format!("{}/{of_hour}{{{}}}", table.display(), names.join(","));
    let listed: Vec<String> = names.iter().map(|name| format!("'{}/{of_hour}{name}'", table.display())).collect();
    let listed = listed.join(", ");
    let node = fill::HOUR_NODE;
    let sqls = [
        (
            "duckdb",
            format!(
                "SELECT pid, start_ns, quantile_cont(on_cpu_ns, 0.99) AS p99_ns FROM read_parquet([{listed}]) \
                 WHERE node = '{node}' GROUP BY ALL ORDER BY p99_ns DESC LIMIT 10"
            ),
        ),
        (
            "chdb",
            format!(
                "SELECT pid, start_ns, quantileExactInclusive(0.99)(on_cpu_ns) AS p99_ns FROM file('{files}', Parquet) \
                 WHERE node = '{node}' GROUP BY pid, start_ns ORDER BY p99_ns DESC LIMIT 10"
            ),
        ),
    ];
    for (engine, sql) in sqls {
        eprintln!("{engine} ...");
        let (readings, found) = python(engine, &sql, arguments.times)?;
        same(engine, &expected, &found)?;
        figures.insert(engine.to_owned(), readings);
    }
    Ok(figures)
}

/// Fails unless a peer's answer is ours.
fn same(peer: &str, expected: &[f64], found: &[f64]) -> Result<()> {
    let close = |(ours, theirs): (&f64, &f64)| (ours - theirs).abs() <= ours.abs() * 1e-6;
    let same = expected.len() == found.len() && expected.iter().zip(found).all(close);
    ensure!(same, "{peer} answers {found:?}, skep {expected:?}");
    Ok(())
}

fn python(engine: &str, sql: &str, times: u32) -> Result<(Value, Vec<f64>)> {
    let mut command = Command::new(peers::program("python/bin/python")?);
    command.args(["-c", SCRIPT, engine, sql, &times.to_string()]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output()?;
    ensure!(output.status.success(), "{engine} failed: {sql}");
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let numbers =
        |key: &str| -> Vec<f64> { answer[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
    let rows = answer["rows"].as_array().context("no rows")?;
    let found = rows.iter().filter_map(|row| row[2].as_f64().or_else(|| row[2].as_str()?.parse().ok())).collect();
    let mut readings = of_readings(&numbers("cpu_ms"), &numbers("wall_ms"));
    readings["version"] = answer["version"].clone();
    Ok((readings, found))
}

/// Feeds VictoriaMetrics the one column that is asked for, and asks.
fn victoria(arguments: &QueryArguments, filled: &Filled) -> Result<(Value, Vec<f64>)> {
    let temp = ground::folder()?;
    let mut server = Victoria::start(&temp.path().join("data"))?;
    let mut request = Request::default();
    for (index, (time_us, rows)) in fill::hour(arguments)?.enumerate() {
        request.add_number(fill::HOUR_NODE, &rows, 0, time_us);
        if index % WINDOWS_A_REQUEST == WINDOWS_A_REQUEST - 1 {
            std::mem::take(&mut request).send(&mut server.client)?;
        }
    }
    request.send(&mut server.client)?;
    server.client.get("/internal/force_flush")?;
    let query = format!("topk(10,quantile_over_time(0.99,{}[{}s]))", NUMBERS[0], arguments.minutes * 60);
    let path = format!("/api/v1/query?nocache=1&time={}&query={query}", filled.last_second());
    let mut body = server.client.get(&path)?;
    let (mut cpu_ms, mut wall_ms) = (Vec::new(), Vec::new());
    for _ in 0..arguments.times {
        std::thread::sleep(Duration::from_millis(5));
        let (cpu, start) = (server.process.cpu()?, Instant::now());
        body = server.client.get(&path)?;
        wall_ms.push(start.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(5));
        cpu_ms.push((server.process.cpu()? - cpu).as_secs_f64() * 1e3);
    }
    server.process.stop(PATIENCE)?;
    let answer: Value = serde_json::from_slice(&body)?;
    let results = answer["data"]["result"].as_array().context("no result")?;
    let mut found: Vec<f64> = results.iter().filter_map(|result| result["value"][1].as_str()?.parse().ok()).collect();
    found.sort_unstable_by(|a, b| b.total_cmp(a));
    Ok((of_readings(&cpu_ms, &wall_ms), found))
}
