//! Each pane's columns, and a snapshot's rows as their cells.

use super::Pane;
use super::sheet::{Cell, Column, Mood, Sheet};
use super::snapshot::{ConnectionRow, FindingRow, ProcessRow, Snapshot, SyscallRow, WorkloadRow};
use crate::command::span::now_us;
use crate::output::{count, duration_ns, share, since};

const fn name(title: &'static str, field: &'static str, width: u16, optional: u8) -> Column {
    Column { title, field, number: false, width, grows: false, optional }
}

const fn wide(title: &'static str, field: &'static str, width: u16) -> Column {
    Column { title, field, number: false, width, grows: true, optional: 0 }
}

const fn number(title: &'static str, field: &'static str, width: u16, optional: u8) -> Column {
    Column { title, field, number: true, width, grows: false, optional }
}

const PROCESSES: &[Column] = &[
    number("PID", "pid", 8, 0),
    name("COMMAND", "comm", 16, 0),
    number("CORES", "cores", 6, 0),
    number("DELAY P99", "run_queue_delay_p99_ns", 9, 0),
    number("WAITING", "waiting_ratio", 8, 2),
    number("SWITCH/S", "switches_per_s", 9, 3),
    wide("WORKLOAD", "workload", 16),
    name("NODE", "node", 12, 4),
];

const WORKLOADS: &[Column] = &[
    wide("WORKLOAD", "workload", 24),
    number("PROCS", "processes", 6, 3),
    number("CORES", "cores", 6, 0),
    number("DELAY P99", "run_queue_delay_p99_ns", 9, 0),
    number("CALLS/S", "calls_per_s", 10, 0),
    number("ERRORS/S", "errors_per_s", 9, 2),
];

const SYSCALLS: &[Column] = &[
    wide("SYSCALL", "syscall", 18),
    number("CALLS/S", "calls_per_s", 11, 0),
    number("ERRORS/S", "errors_per_s", 9, 0),
    number("P50", "p50_ns", 7, 0),
    number("P99", "p99_ns", 7, 0),
    number("IN CALL", "in_call_ratio", 9, 2),
];

const CONNECTIONS: &[Column] = &[
    name("COMMAND", "comm", 16, 0),
    name("DIR", "direction", 8, 0),
    wide("PEER", "peer", 20),
    number("OPEN", "opened", 6, 0),
    number("CLOSE", "closed", 6, 3),
    number("FAIL", "failed", 5, 0),
    number("SENT", "sent_bytes", 8, 1),
    number("RECEIVED", "received_bytes", 8, 1),
    number("CONNECT", "connect_latency_ns", 8, 4),
];

const FINDINGS: &[Column] = &[
    number("AGE", "age_us", 8, 0),
    name("SEVERITY", "severity", 8, 0),
    wide("TITLE", "title", 40),
    name("WORKLOAD", "workload", 22, 2),
    name("NODE", "node", 12, 3),
    name("FINDING", "finding", 12, 1),
];

const HEALTH: &[Column] = &[
    name("NODE", "node", 14, 0),
    name("WHAT", "what", 12, 0),
    wide("STATE", "state", 24),
    number("LOST", "lost", 12, 0),
    number("COVERAGE", "coverage", 9, 1),
];

/// A pane's columns, in order.
pub(super) fn columns(pane: Pane) -> &'static [Column] {
    match pane {
        Pane::Processes => PROCESSES,
        Pane::Workloads => WORKLOADS,
        Pane::Syscalls => SYSCALLS,
        Pane::Connections => CONNECTIONS,
        Pane::Findings => FINDINGS,
        Pane::Health => HEALTH,
    }
}

/// Column a pane is sorted by at first, and whether downwards.
pub(super) fn first_sort(pane: Pane) -> (usize, bool) {
    match pane {
        Pane::Processes | Pane::Workloads => (2, true),
        Pane::Syscalls => (1, true),
        Pane::Connections => (3, true),
        Pane::Findings => (0, false),
        Pane::Health => (0, false),
    }
}

/// A snapshot as a pane shows it, unsorted.
pub(super) fn sheet(pane: Pane, snapshot: &Snapshot) -> Sheet {
    let rows = match pane {
        Pane::Processes => snapshot.processes.iter().map(process).collect(),
        Pane::Workloads => snapshot.workloads.iter().map(workload).collect(),
        Pane::Syscalls => snapshot.syscalls.iter().map(syscall).collect(),
        Pane::Connections => snapshot.connections.iter().map(connection).collect(),
        Pane::Findings => {
            let now = now_us();
            snapshot.findings.iter().map(|row| finding(row, now)).collect()
        }
        Pane::Health => health(snapshot),
    };
    Sheet { columns: columns(pane), rows }
}

/// From here on a wait for a CPU is felt.
const SLOW_DELAY_NS: f64 = 20e6;

fn process(row: &ProcessRow) -> Vec<Cell> {
    vec![
        Cell::number(row.pid as f64, row.pid.to_string()),
        Cell::text(&row.comm),
        cores(row.cores),
        delay(row.delay_p99_ns),
        Cell::number(row.delay_share, share_of_time(row.delay_share)),
        rate(row.switches_per_s),
        Cell::text(&row.workload),
        Cell::text(&row.node),
    ]
}

fn workload(row: &WorkloadRow) -> Vec<Cell> {
    vec![
        Cell::text(&row.workload),
        whole(row.processes),
        cores(row.cores),
        delay(row.delay_p99_ns),
        rate(row.syscalls_per_s),
        rate(row.errors_per_s),
    ]
}

fn syscall(row: &SyscallRow) -> Vec<Cell> {
    vec![
        Cell::text(&row.syscall),
        rate(row.per_s),
        rate(row.errors_per_s),
        Cell::maybe(row.p50_ns, duration_ns),
        Cell::maybe(row.p99_ns, duration_ns),
        Cell::number(row.time_share, format!("{:.2}", row.time_share)),
    ]
}

fn connection(row: &ConnectionRow) -> Vec<Cell> {
    let failed = whole(row.failed).with_mood(if row.failed > 0 { Mood::Warn } else { Mood::Calm });
    vec![
        Cell::text(&row.comm),
        Cell::text(&row.direction),
        Cell::text(&row.end),
        whole(row.opened),
        whole(row.closed),
        failed,
        bytes(row.sent_bytes),
        bytes(row.received_bytes),
        Cell::maybe(row.connect_ns, duration_ns),
    ]
}

fn finding(row: &FindingRow, now: i64) -> Vec<Cell> {
    let mood = match row.severity.as_str() {
        "critical" | "high" => Mood::Bad,
        "medium" => Mood::Warn,
        _ => Mood::Calm,
    };
    vec![
        Cell::number(now.saturating_sub(row.time_us) as f64, since(row.time_us, now).replace(" ago", "")),
        Cell::text(&row.severity).with_mood(mood),
        Cell::text(&row.title),
        Cell::text(&row.workload),
        Cell::text(&row.node),
        Cell::text(&row.finding),
    ]
}

/// Nodes first, then what they lost and why.
fn health(snapshot: &Snapshot) -> Vec<Vec<Cell>> {
    let now = now_us();
    let nodes = snapshot.nodes.iter().map(|node| {
        let (state, mood) = match node.connected {
            Some(true) => (format!("connected, heard of {}", since(node.last_seen_us, now)), Mood::Calm),
            Some(false) => (format!("away, last heard of {}", since(node.last_seen_us, now)), Mood::Bad),
            None => (format!("last heard of {}", since(node.last_seen_us, now)), Mood::Calm),
        };
        let coverage = node.coverage();
        let seen = if coverage < 0.99 { Mood::Warn } else { Mood::Calm };
        vec![
            Cell::text(&node.node),
            Cell::text("node"),
            Cell::text(state).with_mood(mood),
            whole(node.lost),
            Cell::number(coverage, share(coverage)).with_mood(seen),
        ]
    });
    let missing = snapshot.nodes.iter().flat_map(|node| {
        node.missing.iter().map(|missing| {
            vec![
                Cell::text(&node.node),
                Cell::text("missing"),
                Cell::text(missing).with_mood(Mood::Warn),
                Cell::maybe(None, |_| String::new()),
                Cell::maybe(None, |_| String::new()),
            ]
        })
    });
    let loss = snapshot.loss.iter().map(|row| {
        vec![
            Cell::text(&row.node),
            Cell::text(&row.probe),
            Cell::text(&row.reason).with_mood(if row.lost > 0 { Mood::Warn } else { Mood::Calm }),
            whole(row.lost),
            Cell::maybe(None, |_| String::new()),
        ]
    });
    nodes.chain(missing).chain(loss).collect()
}

fn cores(value: f64) -> Cell {
    Cell::number(value, if value >= 0.005 || value == 0.0 { format!("{value:.2}") } else { "<.01".to_owned() })
}

fn delay(ns: Option<f64>) -> Cell {
    let slow = ns.is_some_and(|ns| ns >= SLOW_DELAY_NS);
    Cell::maybe(ns, duration_ns).with_mood(if slow { Mood::Warn } else { Mood::Calm })
}

/// Share of the window, as a percentage; more than all with several threads.
fn share_of_time(value: f64) -> String {
    format!("{:.1}%", value * 100.0)
}

fn rate(value: f64) -> Cell {
    let text = if value >= 9.95 || value == 0.0 { count(value.round() as u64) } else { format!("{value:.1}") };
    Cell::number(value, text)
}

fn whole(value: i64) -> Cell {
    Cell::number(value as f64, count(value.unsigned_abs()))
}

fn bytes(value: i64) -> Cell {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let digits = if unit > 0 && scaled < 10.0 { 1 } else { 0 };
    Cell::number(value as f64, format!("{scaled:.digits$}{}", UNITS.get(unit).unwrap_or(&"B")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_cell_for_each_column() {
        let snapshot = Snapshot {
            processes: vec![ProcessRow::default()],
            workloads: vec![WorkloadRow::default()],
            syscalls: vec![SyscallRow::default()],
            connections: vec![ConnectionRow::default()],
            findings: vec![FindingRow::default()],
            nodes: vec![crate::command::nodes::Node { missing: vec!["tcp: no BTF".to_owned()], ..Default::default() }],
            loss: vec![super::super::snapshot::LossRow::default()],
            ..Snapshot::default()
        };
        for pane in Pane::ALL {
            let sheet = sheet(pane, &snapshot);
            assert!(!sheet.rows.is_empty(), "{pane:?}");
            assert!(sheet.rows.iter().all(|row| row.len() == sheet.columns.len()), "{pane:?}");
            assert!(first_sort(pane).0 < sheet.columns.len(), "{pane:?}");
        }
    }

    #[test]
    fn what_is_always_shown_fits_eighty_columns() {
        for pane in Pane::ALL {
            let always: Vec<&Column> = columns(pane).iter().filter(|column| column.optional == 0).collect();
            let width: u16 = always.iter().map(|column| column.width + 1).sum();
            assert!(width <= 78, "{pane:?} needs {width}");
        }
    }

    #[test]
    fn sizes_have_one_unit() {
        assert_eq!(bytes(512).text, "512B");
        assert_eq!(bytes(1536).text, "1.5KiB");
        assert_eq!(bytes(50 << 20).text, "50MiB");
    }
}
