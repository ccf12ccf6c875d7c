//! One fault from its beginning to what is said of it.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::FindArguments;
use super::fault::Fault;
use super::job::Running;
use crate::neighbour::tool;
use crate::round::now_us;
use crate::skep::{Reader, Skep};

/// How often what is known is read.
const LOOK: Duration = Duration::from_millis(700);

/// How long a number of windows may take beyond their own length.
const PATIENCE_S: u64 = 60;

/// Findings since a moment, each with the incident it belongs to.
const FOUND: &str = "SELECT DISTINCT arrow_cast(f.time, 'Int64') AS time_us, f.kind, f.rule, f.severity, f.workload, f.title, \
                     array_to_string(f.evidence, '; ') AS evidence, i.incident FROM findings f LEFT JOIN incidents i \
                     ON i.finding = f.finding WHERE f.severity <> 'info' ORDER BY 1";

/// Breaks it and tells what came of that.
pub(crate) fn take(fault: Fault, arguments: &FindArguments) -> Result<Value> {
    tool("ip link set lo up")?;
    let programs = std::env::current_exe()?;
    let beside = programs.parent().map(std::path::Path::to_owned).unwrap_or_default();
    let folder = tempfile::Builder::new().prefix("finding-").tempdir_in(beside.canonicalize()?)?;
    let mut running = Running::start(fault, folder.path())?;
    let skep = Skep::up(&folder.path().join("data"), &["--window", &arguments.window], &[])?;
    let reader = skep.reader();
    eprintln!("{}: {} windows in which all is well ...", fault.name(), arguments.healthy_windows);
    wait_for_windows(&reader, arguments)?;
    let before = reader.query(FOUND)?.len();
    let began_us = now_us();
    running.break_it(folder.path())?;
    let mut rows = Vec::new();
    let mut lingered_s = None;
    loop {
        thread::sleep(LOOK);
        ensure!(!crate::is_told_to_stop(), "told to stop");
        rows = reader.query(FOUND).unwrap_or(rows);
        let passed_s = (now_us() - began_us) as u64 / 1_000_000;
        let explained = rows.iter().any(|row| explains(fault, row, began_us));
        if explained && lingered_s.is_none() {
            lingered_s = Some(passed_s);
        }
        let enough = lingered_s.is_some_and(|since_s| passed_s >= since_s + arguments.linger_s);
        if enough || lingered_s.is_none() && passed_s > arguments.within_s {
            break;
        }
    }
    rows.retain(|row| row["time_us"].as_i64().is_some_and(|time_us| time_us >= began_us));
    Ok(figures(fault, began_us, before, &rows))
}

fn wait_for_windows(reader: &Reader, arguments: &FindArguments) -> Result<()> {
    let windows = "SELECT count(DISTINCT time) AS n, max(window_s) AS s FROM cpu";
    let wanted = arguments.healthy_windows;
    let mut waited_s = 0.0;
    loop {
        thread::sleep(LOOK);
        waited_s += LOOK.as_secs_f64();
        ensure!(!crate::is_told_to_stop(), "told to stop");
        let rows = reader.query(windows).unwrap_or_default();
        let (seen, length_s) =
            rows.first().map_or((0, 0.0), |row| (row["n"].as_u64().unwrap_or(0), row["s"].as_f64().unwrap_or(0.0)));
        if seen >= wanted {
            return Ok(());
        }
        let patience_s = PATIENCE_S as f64 + length_s.max(10.0) * wanted as f64;
        ensure!(waited_s < patience_s, "{seen} of {wanted} windows came");
    }
}

fn explains(fault: Fault, row: &Value, began_us: i64) -> bool {
    let since = row["time_us"].as_i64().is_some_and(|time_us| time_us >= began_us);
    let evidence = row["evidence"].as_str().unwrap_or_default();
    let is_of_it = |item: &str| fault.series().iter().any(|series| item.starts_with(series));
    since && evidence.split("; ").any(is_of_it)
}

fn figures(fault: Fault, began_us: i64, before: usize, rows: &[Value]) -> Value {
    let after_s = |row: &Value| {
        let passed_us = row["time_us"].as_i64().unwrap_or(began_us) - began_us;
        (passed_us as f64 / 1e5).round() / 10.0
    };
    let explained = rows.iter().find(|row| explains(fault, row, began_us));
    // What else this host does is not what was broken.
    let (rows, others): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| row["kind"] == "series");
    let incidents: BTreeSet<&str> = rows.iter().filter_map(|row| row["incident"].as_str()).collect();
    let text = |name: &str| explained.map_or(Value::Null, |row| row[name].clone());
    let findings: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "after_s": after_s(row), "rule": row["rule"], "severity": row["severity"], "workload": row["workload"],
                "title": row["title"], "incident": row["incident"],
            })
        })
        .collect();
    json!({
        "fault": fault.name(),
        "began_us": began_us,
        "first_finding_after_s": rows.first().map(|row| after_s(row)),
        "found_after_s": explained.map(after_s),
        "kind": text("kind"),
        "rule": text("rule"),
        "severity": text("severity"),
        "workload": text("workload"),
        "title": text("title"),
        "evidence": text("evidence"),
        "incident": text("incident"),
        "incidents": incidents.len(),
        "in_no_incident": rows.iter().filter(|row| row["incident"].is_null()).count(),
        "findings_before": before,
        "other_findings": others.len(),
        "findings": findings,
    })
}
