//! What all panes show, asked together so that they speak of the same window.

use std::time::Duration;

use crate::command::nodes::{Node, gather};
use crate::command::span::{moment, newer_than, now_us};
use crate::connect::{AskError, Source};
use crate::exit::Failure;
use crate::output::{Row, rows};

const CONNECTIONS_SPAN: Duration = Duration::from_secs(300);
const FINDINGS_SPAN: Duration = Duration::from_secs(86_400);
const LOSS_SPAN: Duration = Duration::from_secs(3_600);

/// Rows a pane takes at most; what is not among the busiest so many is not looked at.
const MOST_ROWS: usize = 2_000;

/// One look at everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    /// Newest whole window, if there is any.
    pub(super) window: Option<Window>,
    pub(super) processes: Vec<ProcessRow>,
    pub(super) workloads: Vec<WorkloadRow>,
    pub(super) syscalls: Vec<SyscallRow>,
    pub(super) connections: Vec<ConnectionRow>,
    pub(super) findings: Vec<FindingRow>,
    pub(super) nodes: Vec<Node>,
    pub(super) loss: Vec<LossRow>,
}

/// The window the numbers are of.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Window {
    pub(super) start_us: i64,
    pub(super) length_s: f64,
    pub(super) cores: f64,
    pub(super) syscalls_per_s: f64,
    pub(super) attempted: i64,
    pub(super) lost: i64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ProcessRow {
    pub(super) node: String,
    pub(super) pid: i64,
    pub(super) comm: String,
    pub(super) workload: String,
    pub(super) cores: f64,
    pub(super) delay_p99_ns: Option<f64>,
    pub(super) delay_share: f64,
    pub(super) switches_per_s: f64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct WorkloadRow {
    pub(super) workload: String,
    pub(super) processes: i64,
    pub(super) cores: f64,
    pub(super) delay_p99_ns: Option<f64>,
    pub(super) syscalls_per_s: f64,
    pub(super) errors_per_s: f64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct SyscallRow {
    pub(super) syscall: String,
    pub(super) per_s: f64,
    pub(super) errors_per_s: f64,
    pub(super) p50_ns: Option<f64>,
    pub(super) p99_ns: Option<f64>,
    pub(super) time_share: f64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionRow {
    pub(super) comm: String,
    pub(super) direction: String,
    pub(super) end: String,
    pub(super) opened: i64,
    pub(super) closed: i64,
    pub(super) failed: i64,
    pub(super) sent_bytes: i64,
    pub(super) received_bytes: i64,
    pub(super) connect_ns: Option<f64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct FindingRow {
    pub(super) time_us: i64,
    pub(super) finding: String,
    pub(super) severity: String,
    pub(super) node: String,
    pub(super) workload: String,
    pub(super) title: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct LossRow {
    pub(super) node: String,
    pub(super) probe: String,
    pub(super) reason: String,
    pub(super) lost: i64,
}

/// Looks once.
///
/// # Errors
/// [`Failure`] from the questions; nothing is shown in part.
pub(super) async fn take(source: &Source) -> Result<Snapshot, Failure> {
    let now = now_us();
    let mut snapshot = Snapshot { nodes: gather(source).await?, ..Snapshot::default() };
    // A running collector has the newest window in memory; files are asked however old they are.
    let recent = match source {
        Source::Live(_) => format!(" WHERE {}", newer_than(Duration::from_secs(2 * 3_600), now)),
        Source::Folder(_) => String::new(),
    };
    let newest = ask(source, &format!("SELECT max(time) AS time FROM cpu{recent}"), |row| row.int("time")).await?;
    if let Some(start_us) = newest.into_iter().flatten().next() {
        let window = window(source, start_us).await?;
        snapshot.processes = processes(source, &window).await?;
        snapshot.workloads = workloads(source, &window).await?;
        snapshot.syscalls = syscalls(source, &window).await?;
        snapshot.window = Some(window);
    }
    snapshot.connections = connections(source, now).await?;
    snapshot.findings = findings(source, now).await?;
    snapshot.loss = loss(source, now).await?;
    Ok(snapshot)
}

async fn ask<T>(source: &Source, sql: &str, read: impl Fn(&Row<'_>) -> T) -> Result<Vec<T>, AskError> {
    let batches = source.ask(sql).await?.collect().await?;
    Ok(rows(&batches).map(|row| read(&row)).collect())
}

async fn window(source: &Source, start_us: i64) -> Result<Window, AskError> {
    let at = moment(start_us);
    let sql = format!(
        "SELECT max(window_s) AS length_s, CAST(sum(on_cpu_ns) AS DOUBLE) AS ns FROM cpu WHERE time = {at} AND pid <> 0"
    );
    let cpu = ask(source, &sql, |row| (row.float("length_s"), row.float("ns"))).await?;
    let (length_s, ns) = cpu.into_iter().next().unwrap_or_default();
    let length_s = length_s.filter(|length| *length > 0.0).unwrap_or(1.0);
    let sql = format!("SELECT CAST(sum(count) AS DOUBLE) AS calls FROM syscalls WHERE time = {at}");
    let calls = ask(source, &sql, |row| row.float("calls")).await?.into_iter().flatten().next();
    let end = moment(start_us + (length_s * 1e6) as i64);
    let sql = format!(
        "SELECT CAST(sum(attempted) AS BIGINT) AS attempted, CAST(sum(lost) AS BIGINT) AS lost FROM loss \
         WHERE time >= {at} AND time < {end}"
    );
    let ledger = ask(source, &sql, |row| (row.int("attempted"), row.int("lost"))).await?;
    let (attempted, lost) = ledger.into_iter().next().unwrap_or_default();
    Ok(Window {
        start_us,
        length_s,
        cores: ns.unwrap_or(0.0) / 1e9 / length_s,
        syscalls_per_s: calls.unwrap_or(0.0) / length_s,
        attempted: attempted.unwrap_or(0),
        lost: lost.unwrap_or(0),
    })
}

async fn processes(source: &Source, window: &Window) -> Result<Vec<ProcessRow>, AskError> {
    let sql = format!(
        "SELECT node, pid, comm, workload, on_cpu_ns, voluntary_switches + involuntary_switches AS switches, \
         run_queue_delay_sum_ns, run_queue_delay FROM cpu WHERE time = {} AND pid <> 0 \
         ORDER BY on_cpu_ns DESC LIMIT {MOST_ROWS}",
        moment(window.start_us)
    );
    let length_s = window.length_s;
    ask(source, &sql, |row| {
        let delays = row.distribution("run_queue_delay").unwrap_or_default();
        ProcessRow {
            node: row.text("node").unwrap_or_default(),
            pid: row.int("pid").unwrap_or(0),
            comm: row.text("comm").unwrap_or_default(),
            workload: row.text("workload").unwrap_or_default(),
            cores: row.float("on_cpu_ns").unwrap_or(0.0) / 1e9 / length_s,
            delay_p99_ns: delays.quantile(0.99).map(|ns| ns as f64),
            delay_share: row.float("run_queue_delay_sum_ns").unwrap_or(0.0) / 1e9 / length_s,
            switches_per_s: row.float("switches").unwrap_or(0.0) / length_s,
        }
    })
    .await
}

async fn workloads(source: &Source, window: &Window) -> Result<Vec<WorkloadRow>, AskError> {
    let at = moment(window.start_us);
    let sql = format!(
        "SELECT c.workload AS workload, processes, ns, delay_p99, coalesce(calls, 0) AS calls, \
                coalesce(errors, 0) AS errors \
         FROM (SELECT workload, count(*) AS processes, CAST(sum(on_cpu_ns) AS DOUBLE) AS ns, \
                      hist_quantile(run_queue_delay, 0.99) AS delay_p99 \
               FROM cpu WHERE time = {at} AND pid <> 0 GROUP BY workload) c \
         LEFT JOIN (SELECT workload, CAST(sum(count) AS DOUBLE) AS calls, CAST(sum(errors) AS DOUBLE) AS errors \
                    FROM syscalls WHERE time = {at} GROUP BY workload) s ON c.workload = s.workload \
         ORDER BY ns DESC LIMIT {MOST_ROWS}"
    );
    let length_s = window.length_s;
    ask(source, &sql, |row| WorkloadRow {
        workload: row.text("workload").unwrap_or_default(),
        processes: row.int("processes").unwrap_or(0),
        cores: row.float("ns").unwrap_or(0.0) / 1e9 / length_s,
        delay_p99_ns: row.float("delay_p99"),
        syscalls_per_s: row.float("calls").unwrap_or(0.0) / length_s,
        errors_per_s: row.float("errors").unwrap_or(0.0) / length_s,
    })
    .await
}

async fn syscalls(source: &Source, window: &Window) -> Result<Vec<SyscallRow>, AskError> {
    let sql = format!(
        "SELECT syscall, CAST(sum(count) AS DOUBLE) AS calls, CAST(sum(errors) AS DOUBLE) AS errors, \
         CAST(sum(latency_sum_ns) AS DOUBLE) AS ns, hist_quantile(latency, 0.5) AS p50, \
         hist_quantile(latency, 0.99) AS p99 FROM syscalls WHERE time = {} \
         GROUP BY syscall ORDER BY calls DESC LIMIT {MOST_ROWS}",
        moment(window.start_us)
    );
    let length_s = window.length_s;
    ask(source, &sql, |row| SyscallRow {
        syscall: row.text("syscall").unwrap_or_default(),
        per_s: row.float("calls").unwrap_or(0.0) / length_s,
        errors_per_s: row.float("errors").unwrap_or(0.0) / length_s,
        p50_ns: row.float("p50"),
        p99_ns: row.float("p99"),
        time_share: row.float("ns").unwrap_or(0.0) / 1e9 / length_s,
    })
    .await
}

async fn connections(source: &Source, now: i64) -> Result<Vec<ConnectionRow>, AskError> {
    // A listener is known by its own port, whom it calls by theirs.
    let sql = format!(
        "SELECT comm, direction, peer, \
                count(CASE WHEN event = 'open' THEN 1 END) AS opened, \
                count(CASE WHEN event = 'close' THEN 1 END) AS closed, \
                count(CASE WHEN event = 'fail' THEN 1 END) AS failed, \
                CAST(coalesce(sum(sent_bytes), 0) AS BIGINT) AS sent, \
                CAST(coalesce(sum(received_bytes), 0) AS BIGINT) AS received, \
                avg(connect_latency_ns) AS connect_ns \
         FROM (SELECT *, CASE WHEN direction = 'accept' THEN concat('port ', local_port) \
                              ELSE concat(remote_address, ' port ', remote_port) END AS peer \
               FROM connections WHERE {}) \
         GROUP BY comm, direction, peer ORDER BY opened DESC LIMIT {MOST_ROWS}",
        newer_than(CONNECTIONS_SPAN, now)
    );
    ask(source, &sql, |row| ConnectionRow {
        comm: row.text("comm").unwrap_or_default(),
        direction: row.text("direction").unwrap_or_default(),
        end: row.text("peer").unwrap_or_default(),
        opened: row.int("opened").unwrap_or(0),
        closed: row.int("closed").unwrap_or(0),
        failed: row.int("failed").unwrap_or(0),
        sent_bytes: row.int("sent").unwrap_or(0),
        received_bytes: row.int("received").unwrap_or(0),
        connect_ns: row.float("connect_ns"),
    })
    .await
}

async fn findings(source: &Source, now: i64) -> Result<Vec<FindingRow>, AskError> {
    let sql = format!(
        "SELECT time, finding, severity, target_node, workload, title FROM findings WHERE {} \
         ORDER BY time DESC LIMIT {MOST_ROWS}",
        newer_than(FINDINGS_SPAN, now)
    );
    ask(source, &sql, |row| FindingRow {
        time_us: row.int("time").unwrap_or(0),
        finding: row.text("finding").unwrap_or_default(),
        severity: row.text("severity").unwrap_or_default(),
        node: row.text("target_node").unwrap_or_default(),
        workload: row.text("workload").unwrap_or_default(),
        title: row.text("title").unwrap_or_default(),
    })
    .await
}

async fn loss(source: &Source, now: i64) -> Result<Vec<LossRow>, AskError> {
    let sql = format!(
        "SELECT node, probe, reason, CAST(coalesce(sum(lost), 0) AS BIGINT) AS lost FROM loss \
         WHERE {} AND reason <> 'none' GROUP BY node, probe, reason ORDER BY lost DESC LIMIT {MOST_ROWS}",
        newer_than(LOSS_SPAN, now)
    );
    ask(source, &sql, |row| LossRow {
        node: row.text("node").unwrap_or_default(),
        probe: row.text("probe").unwrap_or_default(),
        reason: row.text("reason").unwrap_or_default(),
        lost: row.int("lost").unwrap_or(0),
    })
    .await
}
