//! How rules see an event: the three views of an exec, and a connection.
//!
//! * `process_creation` as Sigma's Linux rules name the fields, with `skep.*` beside them.
//! * `auditd`: what auditd would have written of the same exec, `EXECVE` with a0.. and `SYSCALL` as one record.
//! * keywords: the bare command line.
//! * `network_connection`.
//!
//! `Image` has two values, the path given to execve and the resolved executable: of a script these are the script and its
//! interpreter, and rules were written for either.

use std::borrow::Cow;

use rsigma_eval::{Event, EventValue};
use serde_json::Value;

use crate::event::{Connection, Exec};
use crate::facts::{Facts, Field};

/// Fields of `process_creation`, for those who check rules.
pub const PROCESS_FIELDS: &[&str] = &[
    "Image",
    "OriginalFileName",
    "CommandLine",
    "CurrentDirectory",
    "User",
    "LogonId",
    "ProcessId",
    "ParentProcessId",
    "ParentImage",
    "ParentCommandLine",
    "TerminalSessionId",
];

/// Fields of `auditd`; a0 to a255 are there too.
pub const AUDIT_FIELDS: &[&str] = &[
    "type",
    "exe",
    "comm",
    "uid",
    "euid",
    "auid",
    "ses",
    "pid",
    "ppid",
    "tty",
    "cwd",
    "SYSCALL",
    "syscall",
    "success",
    "argc",
    "proctitle",
];

/// Fields of `network_connection`.
pub const CONNECTION_FIELDS: &[&str] = &[
    "Image",
    "CommandLine",
    "User",
    "ProcessId",
    "Initiated",
    "Protocol",
    "DestinationIp",
    "DestinationPort",
    "SourceIp",
    "SourcePort",
    "DestinationIsIpv6",
    "SourceIsIpv6",
];

fn text(value: &str) -> Option<EventValue<'_>> {
    (!value.is_empty()).then_some(EventValue::Str(Cow::Borrowed(value)))
}

fn both<'a>(first: &'a str, second: &'a str) -> Option<EventValue<'a>> {
    match (first.is_empty(), second.is_empty() || first == second) {
        (true, _) => text(second),
        (false, true) => text(first),
        (false, false) => {
            Some(EventValue::Array(vec![EventValue::Str(Cow::Borrowed(first)), EventValue::Str(Cow::Borrowed(second))]))
        }
    }
}

fn fact<'a>(facts: &'a Facts<'_>, path: &str) -> Option<EventValue<'a>> {
    let values = facts.at(Field::named(path)?);
    match values {
        [] => None,
        [one] => text(one),
        many => {
            Some(EventValue::Array(many.iter().map(|value| EventValue::Str(Cow::Borrowed(value.as_ref()))).collect()))
        }
    }
}

/// An exec as a process creation.
#[derive(Debug)]
pub struct ProcessView<'v, 'e, 'f> {
    pub(crate) exec: &'v Exec<'e>,
    pub(crate) facts: &'v Facts<'f>,
}

impl Event for ProcessView<'_, '_, '_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        let exec = self.exec;
        match path {
            "Image" => both(exec.filename, exec.exe),
            "OriginalFileName" => text(crate::names::base_name(exec.exe)),
            "CommandLine" => text(exec.command_line),
            "CurrentDirectory" => text(exec.cwd),
            "User" => text(exec.user).or(exec.uid.map(EventValue::Int)),
            "LogonId" => exec.login_uid.map(EventValue::Int),
            "TerminalSessionId" => exec.session.map(EventValue::Int),
            "ProcessId" => Some(EventValue::Int(exec.pid)),
            "ParentProcessId" => Some(EventValue::Int(exec.ppid)),
            "ParentImage" => text(exec.parent),
            "ParentCommandLine" => text(exec.parent_command_line),
            _ => fact(self.facts, path),
        }
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        pred(self.exec.command_line)
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        vec![Cow::Borrowed(self.exec.command_line)]
    }

    fn to_json(&self) -> Value {
        Value::Null
    }

    fn visit_top_level_keys(&self, visit: &mut dyn FnMut(&str)) -> bool {
        PROCESS_FIELDS.iter().for_each(|field| visit(field));
        visit("skep");
        true
    }
}

/// An exec as auditd tells it.
#[derive(Debug)]
pub struct AuditView<'v, 'a>(pub(crate) &'v Exec<'a>);

impl Event for AuditView<'_, '_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        let exec = self.0;
        match path {
            "type" => both("EXECVE", "SYSCALL"),
            "exe" => both(exec.exe, exec.filename),
            "comm" => text(comm(crate::names::base_name(exec.filename))),
            "uid" => exec.uid.map(EventValue::Int),
            "euid" => exec.euid.map(EventValue::Int),
            "auid" => exec.login_uid.map(EventValue::Int),
            "ses" => exec.session.map(EventValue::Int),
            "pid" => Some(EventValue::Int(exec.pid)),
            "ppid" => Some(EventValue::Int(exec.ppid)),
            "tty" => text(exec.tty),
            "cwd" => text(exec.cwd),
            "SYSCALL" | "syscall" => both("execve", "59"),
            "success" => text("yes"),
            "argc" => i64::try_from(exec.argv.len()).ok().map(EventValue::Int),
            "proctitle" => text(exec.command_line),
            _ => text(exec.argv.get(argument(path)?)?),
        }
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        pred(self.0.command_line)
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        vec![Cow::Borrowed(self.0.command_line)]
    }

    fn to_json(&self) -> Value {
        Value::Null
    }
}

/// Which argument `a0` to `a255` are.
pub(crate) fn argument(field: &str) -> Option<usize> {
    field.strip_prefix('a')?.parse::<u8>().ok().map(usize::from)
}

/// The kernel's task name is fifteen bytes.
fn comm(name: &str) -> &str {
    let mut end = name.len().min(15);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// An exec as a line of text.
#[derive(Debug)]
pub struct LineView<'v>(pub(crate) &'v str);

impl Event for LineView<'_> {
    fn get_field(&self, _path: &str) -> Option<EventValue<'_>> {
        None
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        pred(self.0)
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        vec![Cow::Borrowed(self.0)]
    }

    fn to_json(&self) -> Value {
        Value::Null
    }
}

/// A connection.
#[derive(Debug)]
pub struct ConnectionView<'v, 'c, 'f> {
    pub(crate) connection: &'v Connection<'c>,
    pub(crate) facts: &'v Facts<'f>,
}

impl Event for ConnectionView<'_, '_, '_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        let connection = self.connection;
        let (source, destination) = {
            let here = (connection.local_address, connection.local_port);
            let there = (connection.remote_address, connection.remote_port);
            if connection.outgoing { (here, there) } else { (there, here) }
        };
        let is_v6 = |address: &str| text(if address.contains(':') { "true" } else { "false" });
        match path {
            "Image" => text(connection.exe),
            "CommandLine" => text(connection.command_line),
            "User" => text(connection.user).or(connection.uid.map(EventValue::Int)),
            "ProcessId" => Some(EventValue::Int(connection.pid)),
            "Initiated" => text(if connection.outgoing { "true" } else { "false" }),
            "Protocol" => text("tcp"),
            "DestinationIp" => text(destination.0),
            "DestinationPort" => Some(EventValue::Int(destination.1)),
            "SourceIp" => text(source.0),
            "SourcePort" => Some(EventValue::Int(source.1)),
            "DestinationIsIpv6" => is_v6(destination.0),
            "SourceIsIpv6" => is_v6(source.0),
            _ => fact(self.facts, path),
        }
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        pred(self.connection.command_line)
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        vec![Cow::Borrowed(self.connection.command_line)]
    }

    fn to_json(&self) -> Value {
        Value::Null
    }
}
