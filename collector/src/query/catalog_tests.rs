use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use skep_wire::chunk::Builder;
use skep_wire::envelope::Origin;
use skep_wire::tables::{BLOCK_IO, CHECKS, CONNECTIONS, CPU, Kind, LOSS, PROCESSES, SOCKETS, SYSCALLS, Table};
use skep_wire::views::{FUNCTIONS, VIEWS};

use super::super::engine::{Engine, Limits};
use crate::buffer::{Snapshot, convert, schema};

/// 2026-11-26T02:40:50Z: ten seconds later it is another minute.
const START_US: i64 = 1_795_660_850_000_000;

/// One row; what is never null and not set is zero, empty or `-`.
struct Row<'a> {
    rows: &'a mut Builder,
    table: &'static Table,
    set: Vec<&'static str>,
}

impl Row<'_> {
    fn int(&mut self, name: &'static str, value: i64) -> &mut Self {
        self.set.push(name);
        self.rows.int(name, value);
        self
    }

    fn bool(&mut self, name: &'static str, value: bool) -> &mut Self {
        self.set.push(name);
        self.rows.bool(name, value);
        self
    }

    fn float(&mut self, name: &'static str, value: f64) -> &mut Self {
        self.set.push(name);
        self.rows.float(name, value);
        self
    }

    fn text(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.set.push(name);
        self.rows.text(name, value);
        self
    }

    fn texts(&mut self, name: &'static str, values: &[&str]) -> &mut Self {
        self.set.push(name);
        self.rows.text_list(name, values);
        self
    }

    fn histogram(&mut self, name: &'static str, buckets: [(u16, u64); 2]) -> &mut Self {
        self.set.push(name);
        self.rows.histogram(name, buckets);
        self
    }

    fn identity(&mut self, at_s: i64, pid: i64, comm: &str) -> &mut Self {
        self.int("time", START_US + at_s * 1_000_000).int("pid", pid).text("comm", comm)
    }

    fn end(self) {
        let Self { rows, table, set } = self;
        for column in table.columns().filter(|column| !column.nullable && !set.contains(&column.name)) {
            match column.kind {
                Kind::Int | Kind::Time | Kind::Bool => rows.int(column.name, 0),
                Kind::Float => rows.float(column.name, 0.0),
                Kind::Text => rows.text(column.name, "-"),
                Kind::TextList => rows.text_list::<&str>(column.name, &[]),
                Kind::Histogram => rows.histogram(column.name, []),
            };
        }
        rows.end_row().unwrap();
    }
}

/// Rows of one table as one batch.
struct Rows {
    table: &'static Table,
    builder: Builder,
}

impl Rows {
    fn of(table: &'static Table) -> Self {
        Self { table, builder: Builder::new(table) }
    }

    fn row(&mut self) -> Row<'_> {
        Row { rows: &mut self.builder, table: self.table, set: Vec::new() }
    }

    /// A row in both minutes for `sh`, one for `curl`.
    fn windows(mut self, fill: impl Fn(&mut Row<'_>, i64)) -> Self {
        for (at_s, pid, comm) in [(0, 1, "sh"), (1, 2, "curl"), (10, 1, "sh")] {
            let mut row = self.row();
            row.identity(at_s, pid, comm).float("window_s", 10.0).float("coverage", 0.9);
            fill(&mut row, pid);
            row.end();
        }
        self
    }

    fn into(self, snapshot: &mut Snapshot) {
        let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 };
        let batch = convert::record_batch(&origin, self.table, &self.builder.finish().unwrap()).unwrap();
        snapshot.tables.entry(self.table.name).or_default().batches.push(batch);
    }
}

fn connections() -> Rows {
    let mut rows = Rows::of(&CONNECTIONS);
    for (at_s, event, direction, socket) in [
        (0, "listen", "listen", 1),
        (1, "listen", "listen", 2),
        (2, "unlisten", "listen", 1),
        (3, "open", "connect", 3),
        (4, "close", "connect", 3),
        (5, "fail", "connect", 4),
    ] {
        let mut row = rows.row();
        row.identity(at_s, 7, "nginx").text("event", event).text("direction", direction).int("socket_id", socket);
        row.int("local_port", 80 + socket).text("remote_address", "10.0.0.2").int("remote_port", 443);
        match event {
            "open" => row.int("connect_latency_ns", 5),
            "close" => row.int("sent_bytes", 10).int("received_bytes", 20).int("retransmits", 1),
            "fail" => row.text("failure", "refused"),
            _ => &mut row,
        };
        row.end();
    }
    rows
}

fn processes() -> Rows {
    let mut rows = Rows::of(&PROCESSES);
    for event in ["fork", "exec"] {
        let mut row = rows.row();
        row.identity(0, 5, "curl").text("event", event).int("parent_pid", 4).text("exe", "/usr/bin/curl");
        row.texts("ancestors", &["/bin/sh", "/sbin/init"]).texts("argv", &["curl", "-s", "x"]);
        row.end();
    }
    rows
}

fn loss() -> Rows {
    let mut rows = Rows::of(&LOSS);
    for (probe, reason, counts) in [
        ("cpu", "none", Some((10, 10))),
        ("tcp", "none", Some((9, 9))),
        ("tcp", "ring_full", Some((3, 0))),
        ("exec", "late", Some((0, 0))),
        ("agent", "absent", None),
    ] {
        let mut row = rows.row();
        row.int("time", START_US).text("probe", probe).text("reason", reason);
        if let Some((attempted, delivered)) = counts {
            row.int("attempted", attempted).int("delivered", delivered).int("lost", attempted - delivered);
        }
        row.end();
    }
    rows
}

/// Of the last minutes: the view is about today. Well; down since the second run; down and explained by another.
fn checks() -> Rows {
    let now_us = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
    let mut rows = Rows::of(&CHECKS);
    for (name, runs) in [("cache", [1, 0, 1]), ("db", [1, 0, 0]), ("shop", [1, 1, 0])] {
        for (at, ok) in (0..).zip(runs) {
            let mut row = rows.row();
            row.int("time", now_us - 300_000_000 + at * 60_000_000).text("name", name).int("latency_ns", at);
            row.bool("ok", ok == 1).bool("down", ok == 0);
            if ok == 0 {
                row.text("error", "refused");
            }
            if name == "shop" {
                row.text("blocked_by", "db");
            }
            row.end();
        }
    }
    rows
}

fn sample() -> Snapshot {
    let mut all = Snapshot::default();
    let cpu = Rows::of(&CPU).windows(|row, pid| {
        row.int("on_cpu_ns", pid * 1_000_000_000).int("run_queue_delay_count", 2).int("run_queue_delay_max_ns", 30);
        row.histogram("run_queue_delay", [(10, 1), (30, 1)]);
    });
    cpu.into(&mut all);
    let syscalls = Rows::of(&SYSCALLS).windows(|row, pid| {
        row.text("syscall", if pid == 1 { "read" } else { "futex" }).int("count", 4).int("errors", pid);
        row.int("errors_denied", pid).int("latency_max_ns", 30).histogram("latency", [(10, 2), (30, 2)]);
    });
    syscalls.into(&mut all);
    let sockets = Rows::of(&SOCKETS).windows(|row, pid| {
        row.text("protocol", "tcp").int("sent_bytes", pid * 100).int("resets_sent", 1).int("resets_received", 1);
    });
    sockets.into(&mut all);
    let block_io = Rows::of(&BLOCK_IO).windows(|row, _| {
        row.text("device", "vda").text("operation", "read").int("count", 4).histogram("latency", [(10, 2), (30, 2)]);
    });
    block_io.into(&mut all);
    connections().into(&mut all);
    processes().into(&mut all);
    loss().into(&mut all);
    checks().into(&mut all);
    all
}

async fn ask(sql: &str) -> Vec<RecordBatch> {
    let limits = Limits { partitions: 2, ..Limits::of_one(64 << 20, Duration::from_secs(20)) };
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
        (
            "SELECT name, state, failed, runs, error, latency_ns, since < error_time FROM check_states",
            vec!["db down 2 3 refused 2 true", "shop blocked 1 3 refused 2 false", "cache ok 1 3 refused 2 false"],
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
