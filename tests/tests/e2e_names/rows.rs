//! What skep's tables say of a workload.

use serde_json::Value;
use skep_tests::{PATIENCE, Skep, eventually};

/// Tables with a row for a process.
const TABLES: [&str; 3] = ["processes", "cpu", "syscalls"];

/// A process that executed a program, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Executed {
    pid: i64,
    start_ns: i64,
    at_us: i64,
}

/// Waits for rows of `workload` in every table, then returns its processes that executed something.
pub(crate) fn processes_of(skep: &Skep, workload: &str) -> Vec<Executed> {
    for table in TABLES {
        eventually(&format!("rows of {workload} in {table}"), PATIENCE, || {
            let sql = format!("SELECT count(*) FROM {table} WHERE workload = '{workload}'");
            skep.try_number(&sql).filter(|&count| count > 0)
        });
    }
    let sql = format!(
        "SELECT pid, start_ns, max(arrow_cast(time, 'Int64')) AS at_us FROM processes \
         WHERE workload = '{workload}' AND event = 'exec' GROUP BY pid, start_ns"
    );
    let number = |row: &Value, name: &str| row[name].as_i64().expect("a number");
    let executed = |row: &Value| Executed {
        pid: number(row, "pid"),
        start_ns: number(row, "start_ns"),
        at_us: number(row, "at_us"),
    };
    skep.query(&sql).iter().map(executed).collect()
}

/// Every row of a process from its exec on, and every count of it, bears the same name, which the kernel gave.
pub(crate) fn assert_agreed(skep: &Skep, workload: &str, process: Executed) {
    let Executed { pid, start_ns, at_us } = process;
    for table in TABLES {
        // A window that ended before the exec saw the runtime, on its way into the container.
        let after = match table {
            "processes" => format!("event IN ('exec', 'exit') AND arrow_cast(time, 'Int64') >= {at_us}"),
            _ => format!("arrow_cast(time, 'Int64') + window_s * 1000000 > {at_us}"),
        };
        let sql = format!(
            "SELECT DISTINCT workload, attribution FROM {table} \
             WHERE pid = {pid} AND start_ns = {start_ns} AND {after}"
        );
        let rows = skep.query(&sql);
        let names: Vec<_> = rows.iter().map(|row| (row["workload"].as_str(), row["attribution"].as_str())).collect();
        assert!(names.iter().all(|name| *name == (Some(workload), Some("exact"))), "{table}, process {pid}: {names:?}");
        assert!(table != "processes" || !names.is_empty(), "process {pid} of {workload}");
    }
}
