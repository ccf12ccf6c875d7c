//! What rows say of execs and connections, in the form rules ask for it.

use skep_rules::detector::{Alert, Detector};
use skep_rules::event::{Connection, Exec};
use skep_rules::rule::Level;
use skep_wire::chunk::Row;

use super::finding::Severity;

/// The workload of processes that are in no cgroup of their own.
const NO_WORKLOAD: &str = "host";

/// What a row is, before it is judged.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// Resolved executable, or what is known of it.
    pub exe: String,
    /// The parent's, for an exec.
    pub parent: String,
    /// The command line, or the other end of a connection.
    pub line: String,
}

/// Judges a row of `processes`; nothing for one that is no exec, or nothing to talk of.
pub fn exec(detector: &mut Detector, node: &str, row: &Row<'_>) -> Option<(Event, Vec<Alert>)> {
    match row.text("event")? {
        "exec" => {}
        "exit" => {
            detector.exit(node, row.int("pid")?);
            return None;
        }
        _ => return None,
    }
    let argv = row.text_list("argv").unwrap_or_default();
    let line = argv.join(" ");
    let exec = read(row, node, argv, &line);
    let (exe, parent) = (exec.path(), exec.parent);
    let alerts = detector.exec(exec);
    if alerts.is_empty() {
        return None;
    }
    Some((Event { exe: exe.to_owned(), parent: parent.to_owned(), line }, alerts))
}

/// Remembers a row of before this start: an exec, or a process that ran already.
pub fn remember(detector: &mut Detector, node: &str, row: &Row<'_>) {
    if matches!(row.text("event"), Some("exec" | "running")) {
        let argv = row.text_list("argv").unwrap_or_default();
        let line = argv.join(" ");
        detector.remember(&read(row, node, argv, &line));
    }
}

fn read<'a>(row: &Row<'a>, node: &'a str, argv: Vec<&'a str>, line: &'a str) -> Exec<'a> {
    let text = |name: &str| row.text(name).unwrap_or_default();
    Exec {
        time_us: row.int("time").unwrap_or(0),
        pid: row.int("pid").unwrap_or(0),
        ppid: row.int("parent_pid").unwrap_or(0),
        start_ns: row.int("start_ns").unwrap_or(0),
        exe: text("exe"),
        filename: text("filename"),
        argv,
        command_line: line,
        cwd: text("cwd"),
        parent: row.text("parent_exe").or_else(|| row.text("parent_comm")).unwrap_or_default(),
        parent_command_line: "",
        ancestors: row.text_list("ancestors").unwrap_or_default(),
        flags: row.text_list("flags").unwrap_or_default(),
        streams_known: true,
        env: Vec::new(),
        uid: row.int("uid"),
        euid: row.int("effective_uid"),
        user: "",
        login_uid: row.int("login_uid"),
        session: row.int("login_session"),
        tty: text("tty"),
        stdin_inode: row.int("stdin_inode").unwrap_or(0),
        stdout_inode: row.int("stdout_inode").unwrap_or(0),
        workload: text("workload"),
        node,
    }
}

/// Judges a row of `connections`; nothing for one that neither opened nor failed to, or
/// is nothing to talk of.
pub fn connection(detector: &mut Detector, node: &str, row: &Row<'_>) -> Option<(Event, Vec<Alert>)> {
    if !matches!(row.text("event")?, "open" | "fail") {
        return None;
    }
    let text = |name: &str| row.text(name).unwrap_or_default();
    let connection = Connection {
        time_us: row.int("time").unwrap_or(0),
        pid: row.int("pid").unwrap_or(0),
        exe: row.text("exe").or_else(|| row.text("comm")).unwrap_or_default(),
        command_line: "",
        outgoing: text("direction") == "connect",
        remote_address: text("remote_address"),
        remote_port: row.int("remote_port").unwrap_or(0),
        local_address: text("local_address"),
        local_port: row.int("local_port").unwrap_or(0),
        uid: row.int("uid"),
        user: "",
        workload: text("workload"),
        node,
    };
    let alerts = detector.connection(&connection);
    if alerts.is_empty() {
        return None;
    }
    let line = format!("{} to {} port {}", connection.exe, connection.remote_address, connection.remote_port);
    Some((Event { exe: connection.exe.to_owned(), parent: String::new(), line }, alerts))
}

/// Whose doing an event is: a login's, a terminal's, else its workload's. What is in no workload is nobody's: daemons,
/// containers' helpers and administrators have nothing in common there but the root of the cgroups.
pub fn session(row: &Row<'_>, workload: &str) -> Option<String> {
    if let Some(session) = row.int("login_session").filter(|session| *session > 0) {
        return Some(format!("login session {session}"));
    }
    if workload != NO_WORKLOAD {
        return Some(workload.to_owned());
    }
    row.text("tty").filter(|tty| !tty.is_empty()).map(|tty| format!("terminal {tty}"))
}

/// A rule's level as a finding's severity.
pub fn severity(level: Level) -> Severity {
    match level {
        Level::Info => Severity::Info,
        Level::Low => Severity::Low,
        Level::Medium => Severity::Medium,
        Level::High => Severity::High,
        Level::Critical => Severity::Critical,
    }
}
