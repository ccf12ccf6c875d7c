//! Events out of files: one JSON object a line, with the field names of the development corpus.
//!
//! Unknown fields are ignored; the order of the lines is their time, unless they say one; `pid` and `ppid` link the events
//! of one file.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

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
    image: Option<String>,
    exe: Option<String>,
    filename: Option<String>,
    argv: Option<Vec<String>>,
    command_line: Option<String>,
    parent_image: Option<String>,
    parent_exe: Option<String>,
    parent_command_line: Option<String>,
    ancestors: Option<Vec<String>>,
    user: Option<String>,
    uid: Option<i64>,
    #[serde(alias = "effective_uid")]
    euid: Option<i64>,
    login_uid: Option<i64>,
    cwd: Option<String>,
    tty: Option<String>,
    env: Value,
    flags: Value,
    pid: Option<i64>,
    #[serde(alias = "parent_pid")]
    ppid: Option<i64>,
    streams_known: Option<bool>,
    time_us: Option<i64>,
    stdin_inode: Option<i64>,
    stdout_inode: Option<i64>,
    workload: Option<String>,
    node: Option<String>,
    direction: Option<String>,
    daddr: Option<String>,
    dport: Option<i64>,
    saddr: Option<String>,
    sport: Option<i64>,
}

/// Unknown is empty.
fn known(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

fn known_list(texts: &Option<Vec<String>>) -> &[String] {
    texts.as_deref().unwrap_or_default()
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
            Value::Object(flags) => found.object(flags),
            _ => {}
        }
        found
    }

    fn object(&mut self, flags: &Map<String, Value>) {
        for (name, value) in flags {
            let flag = match name.as_str() {
                "exe_memfd" => "memfd",
                "exe_deleted" | "exe_nlink0" => "deleted",
                "exe_tmpfs" => "tmpfs",
                "euid_gained_root" => "privilege_gain",
                "suid_exe" => "setuid",
                "stdin_pipe" => {
                    self.streams_known = true;
                    "stdin_pipe"
                }
                "tty" => {
                    self.tty = value == &Value::Bool(true);
                    continue;
                }
                "stdio_socket" => {
                    self.sockets(value);
                    continue;
                }
                "euid" => {
                    self.euid = value.as_i64();
                    continue;
                }
                "auid" => {
                    self.login_uid = value.as_i64().filter(|uid| *uid >= 0);
                    continue;
                }
                _ => continue,
            };
            if value == &Value::Bool(true) {
                self.names.push(flag);
            }
        }
    }

    /// True stands for an internet socket; a list for descriptors that are any socket.
    fn sockets(&mut self, value: &Value) {
        if value == &Value::Bool(true) {
            self.names.extend(["stdin_socket", "stdin_inet", "stdout_socket", "stdout_inet"]);
        }
        for descriptor in value.as_array().into_iter().flatten() {
            match descriptor.as_i64() {
                Some(0) => self.names.push("stdin_socket"),
                Some(1) => self.names.push("stdout_socket"),
                _ => self.names.push("stderr_socket"),
            }
        }
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
            line.dport = line.dport.map(|port| port + 1);
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
        if line.direction.is_some() || line.daddr.is_some() {
            return detector.connection(&line.connection(time_us));
        }
        let flags = Flags::read(&line.flags);
        let variables = line.variables();
        let joined = line.command_line();
        detector.exec(line.exec(time_us, flags, &variables, &joined))
    }
}

impl Line {
    /// The command line, joined where it is not given.
    pub fn command_line(&self) -> Cow<'_, str> {
        match known(&self.command_line) {
            "" => known_list(&self.argv).join(" ").into(),
            line => line.into(),
        }
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

    fn exec<'a>(&'a self, time_us: i64, flags: Flags, variables: &'a [String], command_line: &'a str) -> Exec<'a> {
        let first = |texts: [&'a Option<String>; 3]| {
            texts.into_iter().map(known).find(|text| !text.is_empty()).unwrap_or_default()
        };
        Exec {
            time_us,
            pid: self.pid.unwrap_or(0),
            ppid: self.ppid.unwrap_or(0),
            exe: first([&self.exe, &self.image, &None]),
            filename: first([&self.filename, &self.image, &self.exe]),
            argv: known_list(&self.argv).iter().map(String::as_str).collect(),
            command_line,
            cwd: known(&self.cwd),
            parent: first([&self.parent_exe, &self.parent_image, &None]),
            parent_command_line: known(&self.parent_command_line),
            ancestors: known_list(&self.ancestors).iter().map(String::as_str).collect(),
            flags: flags.names,
            streams_known: self.streams_known == Some(true) || flags.streams_known,
            env: variables.iter().map(String::as_str).collect(),
            uid: self.uid,
            euid: self.euid.or(flags.euid).or(self.uid),
            user: known(&self.user),
            login_uid: self.login_uid.or(flags.login_uid),
            tty: self.tty.as_deref().unwrap_or(if flags.tty { "tty" } else { "" }),
            stdin_inode: self.stdin_inode.unwrap_or(0),
            stdout_inode: self.stdout_inode.unwrap_or(0),
            workload: known(&self.workload),
            node: known(&self.node),
            ..Exec::default()
        }
    }

    fn connection(&self, time_us: i64) -> Connection<'_> {
        Connection {
            time_us,
            pid: self.pid.unwrap_or(0),
            exe: if known(&self.exe).is_empty() { known(&self.image) } else { known(&self.exe) },
            command_line: known(&self.command_line),
            outgoing: matches!(self.direction.as_deref(), None | Some("out" | "connect")),
            remote_address: known(&self.daddr),
            remote_port: self.dport.unwrap_or(0),
            local_address: known(&self.saddr),
            local_port: self.sport.unwrap_or(0),
            uid: self.uid,
            user: known(&self.user),
            workload: known(&self.workload),
            node: known(&self.node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    #[test]
    fn what_is_null_or_unknown_is_as_good_as_absent() {
        let mut detector = Detector::new(&mut Loaded::pack()).unwrap();
        let line = r#"{"id": "1", "image": "/dev/shm/x", "argv": ["x"], "parent_image": null, "cwd": null, "pid": null,
            "ancestors": null, "flags": null, "env": null, "technique": "T1", "count": 3, "wrapper": true, "more": [{}]}"#;
        let line: Line = serde_json::from_str(line).unwrap();
        let alerts = Replay::default().step(&mut detector, &line);
        let alert = alerts.iter().find(|alert| &*alert.rule.name == "exec-dev-shm").unwrap();
        let lines = alert.lines("1");
        let read: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(read["id"], "1");
        assert!(lines[0].starts_with(r#"{"id":"1","severity":"high","technique":"T"#), "{}", lines[0]);
        assert!(lines[0].contains(r#","rule":"exec-dev-shm","author":"#), "{}", lines[0]);
    }
}
