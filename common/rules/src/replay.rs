//! Events out of files: one JSON object a line, with the field names of the development corpus.
//!
//! Unknown fields are ignored; the order of the lines is their time, unless they say one; `pid` and `ppid` link the events
//! of one file.

use serde::Deserialize;
use serde_json::Value;

use crate::detector::{Alert, Detector};
use crate::event::{Connection, Exec};

/// Between two lines that say no time.
const STEP_US: i64 = 1_000_000;

/// One line.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Line {
    /// The event's id, which alerts name.
    pub id: Option<String>,
    image: String,
    exe: String,
    filename: String,
    argv: Vec<String>,
    command_line: String,
    parent_image: String,
    parent_exe: String,
    parent_command_line: String,
    ancestors: Vec<String>,
    user: Option<String>,
    uid: Option<i64>,
    #[serde(alias = "effective_uid")]
    euid: Option<i64>,
    cwd: String,
    tty: Option<String>,
    env: Value,
    flags: Value,
    pid: i64,
    #[serde(alias = "parent_pid")]
    ppid: i64,
    streams_known: bool,
    time_us: Option<i64>,
    stdin_inode: i64,
    stdout_inode: i64,
    workload: String,
    direction: Option<String>,
    daddr: String,
    dport: i64,
    saddr: String,
    sport: i64,
}

/// What the flags of a line say.
#[derive(Debug, Default)]
struct Flags {
    names: Vec<&'static str>,
    streams_known: bool,
    tty: bool,
    euid: Option<i64>,
    login_uid: Option<i64>,
}

impl Flags {
    fn read(flags: &Value) -> Self {
        let mut found = Self::default();
        match flags {
            Value::Array(names) => {
                let known = skep_flags().filter(|flag| names.iter().any(|name| name == flag));
                found.names.extend(known);
            }
            Value::Object(_) => found.object(flags),
            _ => {}
        }
        found
    }

    fn object(&mut self, flags: &Value) {
        let is = |name: &str| flags.get(name).and_then(Value::as_bool).unwrap_or(false);
        for (name, flag) in [
            ("exe_memfd", "memfd"),
            ("exe_deleted", "deleted"),
            ("exe_nlink0", "deleted"),
            ("exe_tmpfs", "tmpfs"),
            ("euid_gained_root", "privilege_gain"),
            ("suid_exe", "setuid"),
            ("stdin_pipe", "stdin_pipe"),
        ] {
            if is(name) {
                self.names.push(flag);
            }
        }
        // True stands for an internet socket; a list for descriptors that are any socket.
        if is("stdio_socket") {
            self.names.extend(["stdin_socket", "stdin_inet", "stdout_socket", "stdout_inet"]);
        }
        for descriptor in flags.get("stdio_socket").and_then(Value::as_array).into_iter().flatten() {
            match descriptor.as_i64() {
                Some(0) => self.names.push("stdin_socket"),
                Some(1) => self.names.push("stdout_socket"),
                _ => self.names.push("stderr_socket"),
            }
        }
        self.streams_known = flags.get("stdin_pipe").is_some();
        self.tty = is("tty");
        self.euid = flags.get("euid").and_then(Value::as_i64);
        self.login_uid = flags.get("auid").and_then(Value::as_i64).filter(|uid| *uid >= 0);
    }
}

/// Names the kernel's facts have.
fn skep_flags() -> impl Iterator<Item = &'static str> {
    [
        "memfd",
        "deleted",
        "tmpfs",
        "setuid",
        "setgid",
        "privilege_gain",
        "script",
        "stdin_socket",
        "stdout_socket",
        "stderr_socket",
        "stdin_inet",
        "stdout_inet",
        "stderr_inet",
        "stdin_pipe",
        "stdout_pipe",
        "stderr_pipe",
    ]
    .into_iter()
}

/// Judges a test event of a rule, and before it those that must have come; whether the rule fired on it.
///
/// `before` holds an event that came earlier, `times` repeats a connection to as many ports.
///
/// # Errors
/// When the event is none.
pub fn judge_case(
    detector: &mut Detector,
    replay: &mut Replay,
    event: &Value,
    rule: &str,
) -> Result<bool, serde_json::Error> {
    // One list of what came before, the earliest first: no nesting is followed by calling oneself.
    let mut chain = vec![event];
    while let Some(before) = chain.last().and_then(|event| event.get("before")) {
        chain.push(before);
    }
    let mut fired = false;
    for event in chain.into_iter().rev() {
        let mut line: Line = serde_json::from_value(event.clone())?;
        fired = false;
        for _ in 0..event.get("times").and_then(Value::as_u64).unwrap_or(1).min(1_000) {
            fired |= replay.step(detector, &line).iter().any(|alert| *alert.rule.name == *rule);
            line.dport += 1;
        }
    }
    Ok(fired)
}

/// Judges the events of a file, one after the other.
#[derive(Debug, Default)]
pub struct Replay {
    lines: i64,
}

impl Replay {
    /// Judges one event.
    pub fn step(&mut self, detector: &mut Detector, line: &Line) -> Vec<Alert> {
        self.lines += 1;
        let time_us = line.time_us.unwrap_or(self.lines * STEP_US);
        if line.direction.is_some() || !line.daddr.is_empty() {
            return detector.connection(&line.connection(time_us));
        }
        let flags = Flags::read(&line.flags);
        let variables = line.variables();
        let joined = line.argv.join(" ");
        detector.exec(&line.exec(time_us, &flags, &variables, &joined))
    }
}

impl Line {
    /// The command line, joined where it is not given.
    pub fn command_line(&self) -> String {
        if self.command_line.is_empty() { self.argv.join(" ") } else { self.command_line.clone() }
    }

    /// `NAME=value`, from an object, a list, or a text.
    fn variables(&self) -> Vec<String> {
        match &self.env {
            Value::Object(map) => {
                map.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect()
            }
            Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    fn exec<'a>(&'a self, time_us: i64, flags: &Flags, variables: &'a [String], joined: &'a str) -> Exec<'a> {
        let first = |texts: &[&'a str]| texts.iter().copied().find(|text| !text.is_empty()).unwrap_or_default();
        Exec {
            time_us,
            pid: self.pid,
            ppid: self.ppid,
            exe: first(&[&self.exe, &self.image]),
            filename: first(&[&self.filename, &self.image, &self.exe]),
            argv: self.argv.iter().map(String::as_str).collect(),
            command_line: first(&[&self.command_line, joined]),
            cwd: &self.cwd,
            parent: first(&[&self.parent_exe, &self.parent_image]),
            parent_command_line: &self.parent_command_line,
            ancestors: self.ancestors.iter().map(String::as_str).collect(),
            flags: flags.names.clone(),
            streams_known: self.streams_known || flags.streams_known,
            env: variables.iter().map(String::as_str).collect(),
            uid: self.uid,
            euid: self.euid.or(flags.euid).or(self.uid),
            user: self.user.as_deref().unwrap_or_default(),
            login_uid: flags.login_uid,
            tty: self.tty.as_deref().unwrap_or(if flags.tty { "tty" } else { "" }),
            stdin_inode: self.stdin_inode,
            stdout_inode: self.stdout_inode,
            workload: &self.workload,
            ..Exec::default()
        }
    }

    fn connection(&self, time_us: i64) -> Connection<'_> {
        Connection {
            time_us,
            pid: self.pid,
            exe: if self.exe.is_empty() { &self.image } else { &self.exe },
            command_line: &self.command_line,
            outgoing: self.direction.as_deref() != Some("in"),
            remote_address: &self.daddr,
            remote_port: self.dport,
            local_address: &self.saddr,
            local_port: self.sport,
            uid: self.uid,
            user: self.user.as_deref().unwrap_or_default(),
            workload: &self.workload,
            ..Connection::default()
        }
    }
}
