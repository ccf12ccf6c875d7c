//! Views and functions of skep's SQL, defined once: the collector serves them, `skep tables` and docs/TABLES.md list them.
//!
//! Rules for views: one that sums up over time does so by the minute and keeps the minute as `time`, so that a filter on
//! `time` reads only the files it needs; the newest and largest come first, so that LIMIT means
//! something. What two collectors stored after a lost acknowledgement is gone before tables and views are read.

use crate::tables::{Column, Kind, column, maybe};

/// A view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// As in SQL.
    pub name: &'static str,
    /// One line for people.
    pub doc: &'static str,
    /// What it reads.
    pub tables: &'static [&'static str],
    /// Its columns, in order.
    pub columns: &'static [Column],
    /// One SELECT.
    pub sql: &'static str,
}

/// A function of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// As in SQL.
    pub name: &'static str,
    /// How it is called.
    pub usage: &'static str,
    /// One line for people.
    pub doc: &'static str,
}

/// The view of this name.
pub fn find(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|view| view.name == name)
}

use Kind::{Bool, Float, Int, Text, TextList, Time};

const MINUTE: Column = column("time", Time, "the minute");
const NODE: Column = column("node", Text, "node name");
const WORKLOAD: Column = column("workload", Text, "as in the table");
const PID: Column = column("pid", Int, "process id");
const COMM: Column = column("comm", Text, "task name");

/// All views, in the order people read them.
pub const VIEWS: &[View] = &[
    View {
        name: "top_cpu",
        doc: "who used the CPUs, a row for each process and minute",
        tables: &["cpu"],
        columns: &[
            MINUTE,
            NODE,
            WORKLOAD,
            PID,
            column("start_ns", Int, "process start, nanoseconds since boot"),
            COMM,
            maybe("cpu_s", Float, "seconds on a CPU"),
            maybe("cores", Float, "of the time it was there: 1 is one CPU all the time"),
            maybe("coverage", Float, "0..1: the worst of its windows"),
        ],
        sql: "\
SELECT time_bucket('1 minute', time) AS time, node, workload, pid, start_ns, comm,
       sum(on_cpu_ns) / 1e9 AS cpu_s, sum(on_cpu_ns) / 1e9 / sum(window_s) AS cores, min(coverage) AS coverage
FROM cpu
WHERE pid <> 0
GROUP BY time_bucket('1 minute', time), node, boot, workload, pid, start_ns, comm
ORDER BY time DESC, cpu_s DESC",
    },
    View {
        name: "run_queue_delay",
        doc: "who waited for a CPU, and how long, a row for each task name and minute",
        tables: &["cpu"],
        columns: &[
            MINUTE,
            NODE,
            WORKLOAD,
            COMM,
            maybe("waits", Int, "times a thread waited for a CPU"),
            maybe("delay_s", Float, "seconds of waiting, all threads"),
            maybe("p50_ns", Int, "median wait"),
            maybe("p99_ns", Int, "99 of 100 waits were no longer"),
            maybe("max_ns", Int, "longest wait"),
        ],
        sql: "\
SELECT time_bucket('1 minute', time) AS time, node, workload, comm,
       sum(run_queue_delay_count) AS waits, sum(run_queue_delay_sum_ns) / 1e9 AS delay_s,
       hist_quantile(run_queue_delay, 0.5) AS p50_ns, hist_quantile(run_queue_delay, 0.99) AS p99_ns,
       max(run_queue_delay_max_ns) AS max_ns
FROM cpu
WHERE run_queue_delay_count > 0
GROUP BY time_bucket('1 minute', time), node, workload, comm
ORDER BY time DESC, delay_s DESC",
    },
    View {
        name: "slow_syscalls",
        doc: "system calls by latency, a row for each task name, call and minute; without those that are there to wait",
        tables: &["syscalls"],
        columns: &[
            MINUTE,
            NODE,
            WORKLOAD,
            COMM,
            column("syscall", Text, "name of the call"),
            maybe("calls", Int, "calls that returned"),
            maybe("errors", Int, "of these, with an error"),
            maybe("p50_ns", Int, "median latency"),
            maybe("p99_ns", Int, "99 of 100 were no longer"),
            maybe("max_ns", Int, "longest"),
            maybe("total_s", Float, "seconds in the call, all threads"),
        ],
        sql: "\
SELECT time_bucket('1 minute', time) AS time, node, workload, comm, syscall,
       sum(count) AS calls, sum(errors) AS errors,
       hist_quantile(latency, 0.5) AS p50_ns, hist_quantile(latency, 0.99) AS p99_ns,
       max(latency_max_ns) AS max_ns, sum(latency_sum_ns) / 1e9 AS total_s
FROM syscalls
WHERE syscall NOT IN ('accept', 'accept4', 'clock_nanosleep', 'epoll_pwait', 'epoll_pwait2', 'epoll_wait', 'futex',
                      'io_getevents', 'nanosleep', 'pause', 'poll', 'ppoll', 'pselect6', 'restart_syscall',
                      'rt_sigsuspend', 'rt_sigtimedwait', 'select', 'wait4', 'waitid')
GROUP BY time_bucket('1 minute', time), node, workload, comm, syscall
ORDER BY time DESC, p99_ns DESC",
    },
    View {
        name: "failing_syscalls",
        doc: "system calls that return errors, a row for each task name, call and minute",
        tables: &["syscalls"],
        columns: &[
            MINUTE,
            NODE,
            WORKLOAD,
            COMM,
            column("syscall", Text, "name of the call"),
            maybe("calls", Int, "calls that returned"),
            maybe("errors", Int, "of these, with an error"),
            maybe("error_ratio", Float, "0..1: share of the calls"),
            maybe("denied", Int, "of the errors, EPERM, EACCES, EROFS"),
            maybe("not_found", Int, "ENOENT and kin"),
            maybe("network", Int, "ECONNREFUSED and kin"),
            maybe("limit", Int, "ENOMEM, EMFILE, ENOSPC and kin"),
            maybe("io", Int, "EIO and kin"),
        ],
        sql: "\
SELECT time_bucket('1 minute', time) AS time, node, workload, comm, syscall,
       sum(count) AS calls, sum(errors) AS errors, sum(errors) / CAST(sum(count) AS DOUBLE) AS error_ratio,
       sum(errors_denied) AS denied, sum(errors_not_found) AS not_found, sum(errors_network) AS network,
       sum(errors_limit) AS \"limit\", sum(errors_io) AS io
FROM syscalls
GROUP BY time_bucket('1 minute', time), node, workload, comm, syscall
HAVING sum(errors) > 0
ORDER BY time DESC, errors DESC",
    },
    View {
        name: "connections_by_workload",
        doc: "who talks to whom over TCP, a row for each workload, direction, peer, port and minute",
        tables: &["connections"],
        columns: &[
            MINUTE,
            NODE,
            WORKLOAD,
            column("direction", Text, "connect, accept or unknown"),
            column("peer", Text, "address of the other end"),
            column("port", Int, "the service's: the peer's for connect, the own one otherwise"),
            maybe("opened", Int, "connections that opened"),
            maybe("failed", Int, "that could not be opened"),
            maybe("closed", Int, "that closed"),
            maybe("sent_bytes", Int, "by those that closed or failed; null when none did"),
            maybe("received_bytes", Int, "likewise"),
            maybe("retransmits", Int, "segments sent again, likewise"),
            maybe("connect_max_ns", Int, "longest time until one was established; null for accept"),
        ],
        sql: "\
SELECT time_bucket('1 minute', time) AS time, node, workload, direction, remote_address AS peer,
       CASE direction WHEN 'connect' THEN remote_port ELSE local_port END AS port,
       count(*) FILTER (WHERE event = 'open') AS opened, count(*) FILTER (WHERE event = 'fail') AS failed,
       count(*) FILTER (WHERE event = 'close') AS closed, sum(sent_bytes) AS sent_bytes,
       sum(received_bytes) AS received_bytes, sum(retransmits) AS retransmits,
       max(connect_latency_ns) AS connect_max_ns
FROM connections
WHERE event IN ('open', 'fail', 'close')
GROUP BY time_bucket('1 minute', time), node, workload, direction, remote_address,
         CASE direction WHEN 'connect' THEN remote_port ELSE local_port END
ORDER BY time DESC, opened DESC",
    },
    View {
        name: "failed_connects",
        doc: "TCP connections that could not be opened, a row for each",
        tables: &["connections"],
        columns: &[
            column("time", Time, "when it failed"),
            NODE,
            WORKLOAD,
            PID,
            COMM,
            column("remote_address", Text, "whom it wanted"),
            column("remote_port", Int, "and where"),
            maybe("failure", Text, "refused, timed_out, unreachable, reset, abandoned or errno_N"),
        ],
        sql: "\
SELECT time, node, workload, pid, comm, remote_address, remote_port, failure
FROM connections
WHERE event = 'fail'
ORDER BY time DESC",
    },
    View {
        name: "listeners",
        doc: "who listens for TCP connections now, by each node's newest boot",
        tables: &["connections"],
        columns: &[
            column("since", Time, "when it began to listen"),
            NODE,
            WORKLOAD,
            PID,
            COMM,
            maybe("exe", Text, "resolved executable"),
            column("local_address", Text, "where"),
            column("local_port", Int, "on which port"),
        ],
        sql: "\
SELECT l.time AS since, l.node, l.workload, l.pid, l.comm, l.exe, l.local_address, l.local_port
FROM connections AS l
JOIN (SELECT node, last_value(boot ORDER BY time) AS boot FROM connections GROUP BY node) AS newest
  ON newest.node = l.node AND newest.boot = l.boot
LEFT ANTI JOIN (SELECT node, boot, socket_id FROM connections WHERE event = 'unlisten') AS gone
  ON gone.node = l.node AND gone.boot = l.boot AND gone.socket_id = l.socket_id
WHERE l.event = 'listen'
ORDER BY l.node, l.local_port, since",
    },
    View {
        name: "traffic_by_workload",
        doc: "bytes over TCP and UDP, a row for each workload, protocol and minute",
        tables: &["sockets"],
        columns: &[
            MINUTE,
            NODE,
            WORKLOAD,
            column("protocol", Text, "tcp or udp"),
            maybe("sent_bytes", Int, "what its sends returned; null where the kernel does not tell"),
            maybe("received_bytes", Int, "likewise"),
            maybe("retransmits", Int, "segments sent again; null for udp"),
            maybe("resets", Int, "RSTs sent and received; null for udp"),
        ],
        sql: "\
SELECT time_bucket('1 minute', time) AS time, node, workload, protocol,
       sum(sent_bytes) AS sent_bytes, sum(received_bytes) AS received_bytes, sum(retransmits) AS retransmits,
       sum(resets_sent + resets_received) AS resets
FROM sockets
GROUP BY time_bucket('1 minute', time), node, workload, protocol
ORDER BY time DESC, sent_bytes DESC",
    },
    View {
        name: "exec_tree",
        doc: "programs that were started, each with the programs that led to it, a row for each exec",
        tables: &["processes"],
        columns: &[
            column("time", Time, "when it was started"),
            NODE,
            WORKLOAD,
            PID,
            column("parent_pid", Int, "its parent"),
            maybe("depth", Int, "how many ancestors are known, at most 8"),
            maybe("tree", Text, "from the oldest ancestor to the program, with > between"),
            maybe("command", Text, "its arguments, with blanks between"),
            maybe("uid", Int, "real user id"),
            maybe("cwd", Text, "working directory"),
            maybe("flags", TextList, "what deserves a look, as in processes"),
        ],
        sql: "\
SELECT time, node, workload, pid, parent_pid, CAST(coalesce(cardinality(ancestors), 0) AS BIGINT) AS depth,
       array_to_string(array_append(array_reverse(coalesce(ancestors, make_array())), coalesce(exe, comm)), ' > ') AS tree,
       array_to_string(argv, ' ') AS command, uid, cwd, flags
FROM processes
WHERE event = 'exec'
ORDER BY time DESC",
    },
    View {
        name: "block_latency",
        doc: "how fast the disks answer, a row for each device, operation and minute",
        tables: &["block_io"],
        columns: &[
            MINUTE,
            NODE,
            column("device", Text, "disk"),
            column("operation", Text, "read, write, flush, discard or other"),
            maybe("requests", Int, "requests that were done"),
            maybe("errors", Int, "of these, with an error"),
            maybe("bytes", Int, "what they were to move"),
            maybe("p50_ns", Int, "median latency"),
            maybe("p99_ns", Int, "99 of 100 took no longer"),
            maybe("max_ns", Int, "longest"),
        ],
        sql: "\
SELECT time_bucket('1 minute', time) AS time, node, device, operation,
       sum(count) AS requests, sum(errors) AS errors, sum(bytes) AS bytes,
       hist_quantile(latency, 0.5) AS p50_ns, hist_quantile(latency, 0.99) AS p99_ns, max(latency_max_ns) AS max_ns
FROM block_io
GROUP BY time_bucket('1 minute', time), node, device, operation
ORDER BY time DESC, p99_ns DESC",
    },
    View {
        name: "lossy_probes",
        doc: "what was not seen and why, a row for each probe and minute in which something was lost or nobody watched",
        tables: &["loss"],
        columns: &[
            MINUTE,
            NODE,
            column("probe", Text, "which"),
            maybe("attempted", Int, "observations the kernel offered; null when nobody was there to count"),
            maybe("delivered", Int, "of these, in a batch"),
            maybe("lost", Int, "of these, lost"),
            maybe("lost_ratio", Float, "0..1: share that was lost"),
            maybe("reasons", Text, "why, with commas between"),
        ],
        sql: "\
SELECT time_bucket('1 minute', time) AS time, node, probe,
       sum(attempted) AS attempted, sum(delivered) AS delivered, sum(lost) AS lost,
       sum(lost) / nullif(CAST(sum(attempted) AS DOUBLE), 0) AS lost_ratio,
       array_to_string(array_sort(array_agg(DISTINCT reason) FILTER (WHERE reason <> 'none')), ', ') AS reasons
FROM loss
GROUP BY time_bucket('1 minute', time), node, probe
HAVING count(*) FILTER (WHERE reason <> 'none' AND (lost <> 0 OR lost IS NULL)) > 0
ORDER BY time DESC, lost DESC",
    },
    View {
        name: "check_states",
        doc: "how services are, a row for each check of the last day",
        tables: &["checks"],
        columns: &[
            column("time", Time, "when it was looked at last"),
            NODE,
            column("name", Text, "the check"),
            column("kind", Text, "how it asks"),
            column("target", Text, "whom it asks"),
            WORKLOAD,
            maybe("critical", Bool, "whether the settings call it critical"),
            maybe("state", Text, "ok, failing (and it may pass), blocked (what it depends on is down) or down"),
            maybe("since", Time, "since when it is well, or is not; at most a day ago"),
            maybe("latency_ns", Int, "how long the last run took"),
            maybe("runs", Int, "runs of the last day"),
            maybe("failed", Int, "of these, how many failed"),
            maybe("error", Text, "why it is not well, or was not the last time; null when it always was"),
            maybe("error_time", Time, "when that was"),
        ],
        sql: "\
SELECT max(time) AS time, node, name, last_value(kind ORDER BY time) AS kind, last_value(target ORDER BY time) AS target,
       last_value(workload ORDER BY time) AS workload, last_value(critical ORDER BY time) AS critical,
       CASE WHEN last_value(ok ORDER BY time) THEN 'ok'
            WHEN last_value(blocked_by ORDER BY time) IS NOT NULL THEN 'blocked'
            WHEN last_value(down ORDER BY time) THEN 'down' ELSE 'failing' END AS state,
       CASE WHEN last_value(ok ORDER BY time) THEN min(time) FILTER (WHERE failed_last IS NULL OR time > failed_last)
            ELSE min(time) FILTER (WHERE passed_last IS NULL OR time > passed_last) END AS since,
       last_value(latency_ns ORDER BY time) AS latency_ns, count(*) AS runs, count(*) FILTER (WHERE NOT ok) AS failed,
       last_value(error ORDER BY time) FILTER (WHERE NOT ok) AS error, max(failed_last) AS error_time
FROM (SELECT *, max(CASE WHEN ok THEN NULL ELSE time END) OVER (PARTITION BY node, name) AS failed_last,
             max(CASE WHEN ok THEN time ELSE NULL END) OVER (PARTITION BY node, name) AS passed_last
      FROM checks WHERE time > now() - INTERVAL '1 day') AS lately
GROUP BY node, name
ORDER BY state = 'ok', node, name",
    },
];

/// All functions of ours.
pub const FUNCTIONS: &[Function] = &[
    Function {
        name: "hist_quantile",
        usage: "hist_quantile(histogram, q)",
        doc: "aggregate: merges histograms and gives the value that q (0..1) of the observations do not exceed",
    },
    Function {
        name: "hist_merge",
        usage: "hist_merge(histogram)",
        doc: "aggregate: merges histograms into one, ascending by value_ns",
    },
    Function {
        name: "hist_quantile_of",
        usage: "hist_quantile_of(histogram, q)",
        doc: "the same as hist_quantile of one histogram, row by row",
    },
    Function { name: "hist_count", usage: "hist_count(histogram)", doc: "observations in one histogram" },
    Function {
        name: "hist_mean",
        usage: "hist_mean(histogram)",
        doc: "mean of one histogram, at most 3.2 % off; null when it is empty",
    },
    Function {
        name: "time_bucket",
        usage: "time_bucket(width, time [, origin])",
        doc: "start of the bucket that holds a time; width is an interval or text such as '1 minute', weeks begin on Mondays",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tables;

    #[test]
    fn names_are_unique_and_what_views_read_is_there() {
        let mut names: BTreeSet<&str> = tables::TABLES.iter().map(|table| table.name).collect();
        for view in VIEWS {
            assert!(names.insert(view.name), "{} twice", view.name);
            let mut columns = BTreeSet::new();
            assert!(view.columns.iter().all(|column| columns.insert(column.name)), "{}: a column twice", view.name);
            for table in view.tables {
                assert!(tables::find(table).is_some(), "{} reads {table}, which is not there", view.name);
                assert!(view.sql.contains(&format!("FROM {table}")), "{} does not read {table}", view.name);
            }
            assert!(view.sql.starts_with("SELECT ") && !view.sql.ends_with(';'), "{}", view.name);
        }
    }
}
