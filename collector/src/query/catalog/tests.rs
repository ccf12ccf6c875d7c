use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use skep_wire::chunk::Builder;
use skep_wire::envelope::Origin;
use skep_wire::tables::{BLOCK_IO, CONNECTIONS, CPU, LOSS, PROCESSES, SOCKETS, SYSCALLS, Table};
use skep_wire::views::{FUNCTIONS, VIEWS};

use super::super::engine::{Engine, Limits};
use crate::buffer::{Snapshot, TableSnapshot, convert, schema};

/// 2026-11-26T02:40:50Z: ten seconds later it is another minute.
const START_US: i64 = 1_795_660_850_000_000;

fn add(snapshot: &mut Snapshot, table: &'static Table, rows: impl Fn(&mut Builder)) {
    let mut builder = Builder::new(table);
    rows(&mut builder);
    let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 };
    let batch = convert::record_batch(&origin, table, &builder.finish().unwrap()).unwrap();
    let of_table: &mut TableSnapshot = snapshot.tables.entry(table.name).or_default();
    of_table.batches.push(batch);
}

fn identity(builder: &mut Builder, at_s: i64, pid: i64, comm: &str) {
    builder.int("time", START_US + at_s * 1_000_000).int("pid", pid).int("start_ns", 9).text("comm", comm);
    builder.text("workload", "unit:x").text("attribution", "exact");
}

/// A row in every minute of two for `sh`, one for `curl`.
fn windows(builder: &mut Builder, fill: impl Fn(&mut Builder, i64)) {
    for (at_s, pid, comm) in [(0, 1, "sh"), (1, 2, "curl"), (10, 1, "sh")] {
        identity(builder, at_s, pid, comm);
        builder.float("window_s", 10.0).float("coverage", 0.9);
        fill(builder, pid);
        builder.end_row().unwrap();
    }
}

fn connection(builder: &mut Builder, at_s: i64, event: &str, direction: &str, socket: i64) {
    identity(builder, at_s, 7, "nginx");
    builder.text("event", event).text("direction", direction).int("socket_id", socket);
    builder.text("local_address", "10.0.0.1").int("local_port", 80 + socket);
    builder.text("remote_address", "10.0.0.2").int("remote_port", 443);
}

fn sample() -> Snapshot {
    let mut all = Snapshot::default();
    add(&mut all, &CPU, |rows| {
        windows(rows, |row, pid| {
            row.int("on_cpu_ns", pid * 1_000_000_000).int("run_queue_delay_count", 2);
            row.int("run_queue_delay_sum_ns", 40).int("run_queue_delay_max_ns", 30);
            row.histogram("run_queue_delay", [(10, 1), (30, 1)]);
        });
    });
    add(&mut all, &SYSCALLS, |rows| {
        windows(rows, |row, pid| {
            row.text("syscall", if pid == 1 { "read" } else { "futex" }).int("count", 4).int("errors", pid);
            row.int("errors_denied", pid).int("latency_sum_ns", 40).int("latency_max_ns", 30);
            row.histogram("latency", [(10, 2), (30, 2)]);
        });
    });
    add(&mut all, &SOCKETS, |rows| {
        windows(rows, |row, pid| {
            row.text("protocol", "tcp").int("sent_bytes", pid * 100).int("resets_sent", 1).int("resets_received", 1);
        });
    });
    add(&mut all, &BLOCK_IO, |rows| {
        windows(rows, |row, _| {
            row.text("device", "vda").text("operation", "read").int("count", 4).int("bytes", 4096);
            row.int("latency_max_ns", 30).histogram("latency", [(10, 2), (30, 2)]);
        });
    });
    add(&mut all, &CONNECTIONS, |rows| {
        for (at_s, event, direction, socket) in
            [(0, "listen", "listen", 1), (1, "listen", "listen", 2), (2, "unlisten", "listen", 1)]
        {
            connection(rows, at_s, event, direction, socket);
            rows.end_row().unwrap();
        }
        connection(rows, 3, "open", "connect", 3);
        rows.int("connect_latency_ns", 5).end_row().unwrap();
        connection(rows, 4, "close", "connect", 3);
        rows.int("sent_bytes", 10).int("received_bytes", 20).int("retransmits", 1).end_row().unwrap();
        connection(rows, 5, "fail", "connect", 4);
        rows.text("failure", "refused").end_row().unwrap();
    });
    add(&mut all, &PROCESSES, |rows| {
        for event in ["fork", "exec"] {
            identity(rows, 0, 5, "curl");
            rows.text("event", event).int("parent_pid", 4).text("exe", "/usr/bin/curl").bool("argv_truncated", false);
            rows.text_list("ancestors", &["/bin/sh", "/sbin/init"]).text_list("argv", &["curl", "-s", "x"]);
            rows.end_row().unwrap();
        }
    });
    add(&mut all, &LOSS, |rows| {
        for (at_s, probe, reason, attempted, delivered) in [
            (0, "cpu", "none", 10, 10),
            (0, "tcp", "none", 9, 9),
            (0, "tcp", "ring_full", 3, 0),
            (0, "exec", "late", 0, 0),
        ] {
            rows.int("time", START_US + at_s * 1_000_000).int("until", START_US + 1).text("probe", probe);
            rows.text("reason", reason).int("attempted", attempted).int("delivered", delivered);
            rows.int("lost", attempted - delivered).end_row().unwrap();
        }
        rows.int("time", START_US).int("until", START_US + 1).text("probe", "agent").text("reason", "absent");
        rows.end_row().unwrap();
    });
    all
}

async fn ask(sql: &str) -> Vec<RecordBatch> {
    let limits = Limits { memory_bytes: 64 << 20, timeout: Duration::from_secs(20), partitions: 2 };
    let mut answer = Engine::new(limits).unwrap().ask(sample(), sql, None).await.unwrap();
    let schema = answer.schema();
    let mut batches = answer.collect().await.unwrap();
    batches.push(RecordBatch::new_empty(schema));
    batches
}

async fn rows(sql: &str) -> Vec<String> {
    let text = pretty_format_batches(&ask(sql).await).unwrap().to_string();
    let lines = text.lines().filter(|line| line.starts_with('|')).skip(1);
    lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()).collect()
}

#[tokio::test]
async fn every_view_has_the_columns_it_is_said_to_have_and_rows() {
    for view in VIEWS {
        let batches = ask(&format!("SELECT * FROM {}", view.name)).await;
        let found: Vec<_> =
            batches[0].schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
        let said: Vec<_> = view.columns.iter().map(|c| (c.name.to_owned(), schema::data_type(c.kind))).collect();
        assert_eq!(found, said, "{}", view.name);
        assert!(batches.iter().any(|batch| batch.num_rows() > 0), "{} has no rows", view.name);
    }
}

#[tokio::test]
async fn views_say_what_happened() {
    for (sql, expected) in [
        (
            "SELECT time, comm, cpu_s, cores FROM top_cpu",
            vec![
                "2026-11-26T02:41:00Z sh 1.0 0.1",
                "2026-11-26T02:40:00Z curl 2.0 0.2",
                "2026-11-26T02:40:00Z sh 1.0 0.1",
            ],
        ),
        ("SELECT sum(waits), min(p50_ns), max(p99_ns), max(max_ns) FROM run_queue_delay", vec!["6 10 30 30"]),
        ("SELECT DISTINCT syscall, calls, p50_ns, p99_ns FROM slow_syscalls", vec!["read 4 10 30"]),
        (
            "SELECT comm, errors, error_ratio, denied FROM failing_syscalls ORDER BY time, comm",
            vec!["curl 2 0.5 2", "sh 1 0.25 1", "sh 1 0.25 1"],
        ),
        (
            "SELECT direction, peer, port, opened, failed, closed, sent_bytes, connect_max_ns FROM connections_by_workload",
            vec!["connect 10.0.0.2 443 1 1 1 10 5"],
        ),
        ("SELECT comm, remote_port, failure FROM failed_connects", vec!["nginx 443 refused"]),
        ("SELECT comm, local_port FROM listeners", vec!["nginx 82"]),
        ("SELECT sum(sent_bytes), sum(resets), count(*) FROM traffic_by_workload", vec!["400 6 2"]),
        ("SELECT depth, tree, command FROM exec_tree", vec!["2 /sbin/init > /bin/sh > /usr/bin/curl curl -s x"]),
        ("SELECT device, sum(requests), min(p50_ns) FROM block_latency GROUP BY device", vec!["vda 12 10"]),
        (
            "SELECT probe, attempted, lost, lost_ratio, reasons FROM lossy_probes ORDER BY probe",
            vec!["agent    absent", "tcp 12 3 0.25 ring_full"],
        ),
    ] {
        assert_eq!(rows(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn views_and_functions_are_listed_where_sql_lists_them() {
    let listed =
        rows("SELECT table_name FROM information_schema.tables WHERE table_type = 'VIEW' AND table_schema = 'public'")
            .await;
    assert!(VIEWS.iter().all(|view| listed.iter().any(|name| name == view.name)), "{listed:?}");
    let shown = rows("SELECT definition FROM information_schema.views WHERE table_name = 'failed_connects'").await;
    assert!(shown.concat().contains("event = 'fail'"), "{shown:?}");
    assert!(rows("DESCRIBE top_cpu").await.iter().any(|column| column.starts_with("cpu_s Float64")));
    for function in FUNCTIONS {
        let name = function.name;
        let sql =
            format!("SELECT DISTINCT routine_name FROM information_schema.routines WHERE routine_name = '{name}'");
        assert_eq!(rows(&sql).await, [name], "{name} is not in information_schema.routines");
    }
}
