//! What a generator says it did, against what skep answers.

#![expect(clippy::expect_used, clippy::panic, reason = "test support fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::generator::{self, FULL};
use crate::{PATIENCE, Skep, binary, eventually};

/// A generator that has done its work and still exists.
#[derive(Debug)]
pub struct Generator {
    child: Child,
    truth: Value,
}

impl Generator {
    /// Starts one.
    pub fn start() -> Child {
        Command::new(binary("skep-generator"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the generator starts")
    }

    /// Waits until it has done its work.
    pub fn finish(mut child: Child) -> Self {
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("one line");
        let truth = serde_json::from_str(&line).expect("the truth as JSON");
        Self { child, truth }
    }

    /// Its process id.
    pub fn pid(&self) -> i64 {
        self.truth["pid"].as_i64().expect("a pid")
    }

    /// A number it says.
    pub fn truth(&self, name: &str) -> i64 {
        self.truth[name].as_i64().unwrap_or_else(|| panic!("no {name} in the truth"))
    }

    /// Lets it end.
    pub fn end(&mut self) {
        self.child.stdin.take().expect("its input").write_all(b"\n").expect("it still listens");
        assert!(self.child.wait().expect("it ends").success());
    }
}

/// How many `getppid` calls of a process are stored.
pub fn getppid_sql(pid: i64) -> String {
    format!("SELECT sum(count) FROM syscalls WHERE pid = {pid} AND comm = 'skep-generator' AND syscall = 'getppid'")
}

/// Every count, byte and argument vector, asked through `ask`.
pub fn assert_exact(generator: &Generator, ask: &dyn Fn(&str) -> i64) {
    let pid = generator.pid();
    assert_eq!(ask(&getppid_sql(pid)), generator.truth("getppid"), "getppid calls");
    for (direction, sent, received) in
        [("connect", "sent_bytes", "received_bytes"), ("accept", "received_bytes", "sent_bytes")]
    {
        let rows = format!("FROM connections WHERE pid = {pid} AND direction = '{direction}'");
        assert_eq!(
            ask(&format!("SELECT count(*) {rows} AND event = 'open'")),
            generator.truth("connects"),
            "{direction} opens"
        );
        assert_eq!(
            ask(&format!("SELECT count(*) {rows} AND event = 'close'")),
            generator.truth("connects"),
            "{direction} closes"
        );
        let closed = format!("{rows} AND event = 'close'");
        assert_eq!(
            ask(&format!("SELECT CAST(sum(sent_bytes) AS BIGINT) {closed}")),
            generator.truth(sent),
            "{direction} {sent}"
        );
        assert_eq!(
            ask(&format!("SELECT CAST(sum(received_bytes) AS BIGINT) {closed}")),
            generator.truth(received),
            "{direction} {received}"
        );
        assert_eq!(ask(&format!("SELECT count(DISTINCT socket_id) {closed}")), generator.truth("connects"));
    }
    assert_traffic(generator, ask);
    assert_eq!(
        ask(&format!("SELECT count(*) FROM processes WHERE parent_pid = {pid} AND event = 'exec'")),
        generator.truth("execs"),
        "execs"
    );
}

/// Both ends of everything are the generator's.
fn assert_traffic(generator: &Generator, ask: &dyn Fn(&str) -> i64) {
    let sum = |column: &str, protocol: &str| {
        let pid = generator.pid();
        ask(&format!("SELECT CAST(sum({column}) AS BIGINT) FROM sockets WHERE pid = {pid} AND protocol = '{protocol}'"))
    };
    for (column, truth) in [
        ("sent_messages", "datagrams"),
        ("received_messages", "datagrams"),
        ("sent_bytes", "datagram_bytes"),
        ("received_bytes", "datagram_bytes"),
    ] {
        assert_eq!(sum(column, "udp"), generator.truth(truth), "udp {column}");
    }
    let carried = generator.truth("sent_bytes") + generator.truth("received_bytes");
    for column in ["sent_bytes", "received_bytes"] {
        assert_eq!(sum(column, "tcp"), carried, "tcp {column}");
    }
}

/// The argument vectors are the ones the generator used.
pub fn assert_arguments(generator: &Generator, rows: &[Value]) {
    let expected: Vec<Vec<String>> = (0..FULL.execs).map(generator::argv).collect();
    let found: Vec<Vec<String>> =
        rows.iter().map(|row| serde_json::from_value(row["argv"].clone()).expect("a list of texts")).collect();
    assert_eq!(found, expected, "argument vectors of the children of {}", generator.pid());
}

/// The argument vectors of the children of a process, in order.
pub fn arguments_sql(pid: i64) -> String {
    format!("SELECT argv FROM processes WHERE parent_pid = {pid} AND event = 'exec' ORDER BY time")
}

/// Waits until everything the generator did is stored.
pub fn wait_for_counts(skep: &Skep, generator: &Generator) {
    let expected = generator.truth("getppid");
    eventually("all getppid calls to be stored", PATIENCE, || {
        skep.try_number(&getppid_sql(generator.pid())).filter(|&found| found >= expected)
    });
    // Whatever came twice would show in the windows after.
    skep.next_window();
}
