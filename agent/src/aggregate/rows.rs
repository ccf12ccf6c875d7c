//! Readings and events as rows of the tables.

use std::{borrow::Cow, net::SocketAddr};

use skep_common::{errno, exec_flag};
use skep_wire::chunk::{Builder, ChunkError};

use super::capability;
use super::cgroup::Cgroup;
use super::identity::{Attribution, Process, text};
use super::window::Span;
use crate::probe::reading::{
    Connection, ConnectionEvent, CpuReading, Direction, Exec, Exit, Failure, Latency, ProcessKey, Protocol, Reset,
    SocketReading, Subject, SyscallReading,
};
use crate::probe::syscall_name;

/// Everything the identity columns need.
#[derive(Debug, Clone)]
pub struct Who<'a> {
    key: ProcessKey,
    comm: String,
    exe: Option<&'a str>,
    uid: Option<u32>,
    cgroup: Option<&'a Cgroup>,
    attribution: Attribution,
}

impl<'a> Who<'a> {
    /// A process of the table; `key` is the one the kernel gave, which the table may know less exactly.
    pub fn known(process: &'a Process, key: ProcessKey) -> Self {
        Self {
            key,
            comm: process.comm.clone(),
            exe: process.exe.as_deref(),
            uid: process.uid,
            cgroup: process.cgroup.as_deref(),
            attribution: process.attribution,
        }
    }

    /// Nobody: what is counted belongs to no process, or to one that was never seen.
    pub fn nobody() -> Self {
        let key = ProcessKey { pid: 0, start_ns: 0 };
        let attribution = Attribution::Unknown;
        Self { key, comm: String::new(), exe: None, uid: None, cgroup: None, attribution }
    }

    /// A process nobody knows. The idle task is the host's own and needs no looking up.
    pub fn unknown(key: ProcessKey, comm: &[u8; 16], uid: Option<u32>) -> Self {
        let attribution = if key.pid == 0 { Attribution::Exact } else { Attribution::Unknown };
        Self { key, comm: text(comm), exe: None, uid, cgroup: None, attribution }
    }

    pub(super) fn write(&self, row: &mut Builder) {
        let workload = self.cgroup.map(|cgroup| &cgroup.workload);
        row.count("pid", u64::from(self.key.pid))
            .count("start_ns", self.key.start_ns)
            .text("comm", &self.comm)
            .maybe_text("exe", self.exe)
            .maybe_int("uid", self.uid.map(i64::from))
            .text("workload", workload.map_or("host", |workload| &workload.key))
            .maybe_text("cgroup", self.cgroup.and_then(|cgroup| cgroup.path.as_deref()))
            .maybe_int("cgroup_id", self.cgroup.and_then(|cgroup| cgroup.id).and_then(|id| i64::try_from(id).ok()))
            .maybe_text("container_id", workload.and_then(|workload| workload.container_id.as_deref()))
            .maybe_text("pod", workload.and_then(|workload| workload.pod.as_deref()))
            .maybe_text("namespace", workload.and_then(|workload| workload.namespace.as_deref()))
            .maybe_text("pod_labels", workload.and_then(|workload| workload.labels.as_deref()))
            .maybe_text("unit", workload.and_then(|workload| workload.unit.as_deref()))
            .text("attribution", self.attribution.as_str());
    }
}

/// Parent and ancestors of a process, as far as they are known.
#[derive(Debug, Clone, Default)]
pub struct Family {
    /// Parent's task name.
    pub parent_comm: Option<String>,
    /// Parent's executable.
    pub parent_exe: Option<String>,
    /// From the parent outwards.
    pub ancestors: Vec<String>,
}

pub(super) fn window(row: &mut Builder, span: Span) {
    row.int("time", span.from_us).float("window_s", span.length_s);
}

/// A row of `cpu`.
///
/// # Errors
/// [`ChunkError`], as for every function here: too many rows.
pub fn cpu(row: &mut Builder, span: Span, who: &Who<'_>, seen: &CpuReading, coverage: f64) -> Result<(), ChunkError> {
    window(row, span);
    who.write(row);
    let delay = &seen.run_queue_delay;
    let away = &seen.off_cpu;
    row.count("on_cpu_ns", seen.on_cpu_ns)
        .count("slices", seen.slices)
        .count("voluntary_switches", seen.voluntary_switches)
        .count("involuntary_switches", seen.involuntary_switches)
        .count("migrations", seen.migrations)
        .count("run_queue_delay_count", delay.count())
        .count("run_queue_delay_sum_ns", delay.sum_ns)
        .maybe_int("run_queue_delay_min_ns", ends(delay).map(|(min, _)| min))
        .maybe_int("run_queue_delay_max_ns", ends(delay).map(|(_, max)| max))
        .histogram("run_queue_delay", delay.buckets.iter().copied())
        .count("off_cpu_count", away.count())
        .count("off_cpu_sum_ns", away.sum_ns)
        .maybe_int("off_cpu_min_ns", ends(away).map(|(min, _)| min))
        .maybe_int("off_cpu_max_ns", ends(away).map(|(_, max)| max))
        .histogram("off_cpu", away.buckets.iter().copied())
        .float("coverage", coverage)
        .end_row()
}

/// Columns of `syscalls` for the classes of errors, in the order of [`errno::NAMES`].
const ERROR_COLUMNS: [&str; errno::LEN - 1] = [
    "errors_interrupted",
    "errors_again",
    "errors_not_found",
    "errors_denied",
    "errors_invalid",
    "errors_limit",
    "errors_network",
    "errors_timeout",
    "errors_conflict",
    "errors_io",
    "errors_other",
];

/// A row of `syscalls`.
///
/// # Errors
/// As [`cpu`].
pub fn syscall(
    row: &mut Builder,
    span: Span,
    who: &Who<'_>,
    seen: &SyscallReading,
    coverage: f64,
) -> Result<(), ChunkError> {
    window(row, span);
    who.write(row);
    match syscall_name(seen.nr) {
        Some(name) => row.text("syscall", name),
        None => row.text("syscall", &seen.nr.to_string()),
    };
    row.int("syscall_nr", i64::from(seen.nr))
        .count("count", seen.count)
        .count("timed", seen.timed)
        .count("errors", seen.by_class[1..].iter().sum());
    for (column, count) in ERROR_COLUMNS.iter().zip(&seen.by_class[1..]) {
        row.count(column, *count);
    }
    row.count("latency_sum_ns", seen.latency.sum_ns)
        .maybe_int("latency_min_ns", ends(&seen.latency).map(|(min, _)| min))
        .maybe_int("latency_max_ns", ends(&seen.latency).map(|(_, max)| max))
        .histogram("latency", seen.latency.buckets.iter().copied())
        .float("coverage", coverage)
        .end_row()
}

/// A row of `connections`.
///
/// # Errors
/// As [`cpu`].
pub fn connection(row: &mut Builder, time_us: i64, who: &Who<'_>, seen: &Connection) -> Result<(), ChunkError> {
    let event = match seen.event {
        ConnectionEvent::Open => "open",
        ConnectionEvent::Fail => "fail",
        ConnectionEvent::Close => "close",
        ConnectionEvent::Listen => "listen",
        ConnectionEvent::Unlisten => "unlisten",
    };
    let direction = match seen.direction {
        Direction::Connect => "connect",
        Direction::Accept => "accept",
        Direction::Listen => "listen",
        Direction::Unknown => "unknown",
    };
    // A kernel address does not fit a signed integer; its bits do, and they tell connections apart just as well.
    row.int("time", time_us).text("event", event).text("direction", direction);
    row.int("socket_id", seen.socket_id.cast_signed());
    who.write(row);
    let is_end = matches!(seen.event, ConnectionEvent::Close | ConnectionEvent::Fail);
    let counted = |value: u64| is_end.then(|| signed(value));
    row.text("local_address", &address(seen.local))
        .int("local_port", i64::from(seen.local.port()))
        .text("remote_address", &address(seen.remote))
        .int("remote_port", i64::from(seen.remote.port()))
        .maybe_int("connect_latency_ns", seen.connect_latency_ns.map(signed))
        .maybe_int("duration_ns", seen.duration_ns.map(signed))
        .maybe_int("sent_bytes", counted(seen.sent_bytes))
        .maybe_int("received_bytes", counted(seen.received_bytes))
        .maybe_int("retransmits", counted(seen.retransmits))
        .maybe_int("segments_sent", counted(seen.segments_sent))
        .maybe_int("segments_received", counted(seen.segments_received))
        .maybe_int("srtt_ns", seen.srtt_ns.filter(|_| is_end).map(signed))
        .maybe_int("rtt_min_ns", seen.rtt_min_ns.filter(|_| is_end).map(signed))
        .maybe_text("reset", seen.reset.map(reset_name))
        .maybe_text("failure", seen.failure.map(failure_name).as_deref())
        .end_row()
}

fn reset_name(reset: Reset) -> &'static str {
    match reset {
        Reset::Sent => "sent",
        Reset::Received => "received",
    }
}

fn failure_name(failure: Failure) -> Cow<'static, str> {
    Cow::Borrowed(match failure {
        Failure::Refused => "refused",
        Failure::TimedOut => "timed_out",
        Failure::Unreachable => "unreachable",
        Failure::Reset => "reset",
        Failure::Abandoned => "abandoned",
        Failure::Errno(number) => return Cow::Owned(format!("errno_{number}")),
    })
}

/// How much of what a row of `sockets` speaks of arrived; `None` for a part that is not watched.
#[derive(Debug, Clone, Copy)]
pub struct SocketCoverage {
    /// Sends and receives.
    pub traffic: Option<f64>,
    /// Retransmissions and resets.
    pub mishaps: Option<f64>,
}

/// A row of `sockets`.
///
/// # Errors
/// As [`cpu`].
pub fn socket(
    row: &mut Builder,
    span: Span,
    who: &Who<'_>,
    seen: &SocketReading,
    coverage: SocketCoverage,
) -> Result<(), ChunkError> {
    window(row, span);
    who.write(row);
    let is_tcp = seen.protocol == Protocol::Tcp;
    let moved = |value: u64| coverage.traffic.map(|_| signed(value));
    let wrong = |value: u64| coverage.mishaps.filter(|_| is_tcp).map(|_| signed(value));
    row.text("protocol", if is_tcp { "tcp" } else { "udp" })
        .maybe_int("sent_bytes", moved(seen.sent_bytes))
        .maybe_int("received_bytes", moved(seen.received_bytes))
        .maybe_int("sent_messages", moved(seen.sent_messages))
        .maybe_int("received_messages", moved(seen.received_messages))
        .maybe_int("retransmits", wrong(seen.retransmits))
        .maybe_int("resets_sent", wrong(seen.resets_sent))
        .maybe_int("resets_received", wrong(seen.resets_received))
        .float("coverage", coverage.traffic.unwrap_or(1.0).min(coverage.mishaps.filter(|_| is_tcp).unwrap_or(1.0)))
        .end_row()
}

/// An IPv4 address in IPv6 clothes is shown as what it is, so that one address has one text.
fn address(socket: SocketAddr) -> String {
    socket.ip().to_canonical().to_string()
}

fn process(row: &mut Builder, time_us: i64, event: &str, who: &Who<'_>, parent: ProcessKey, family: &Family) {
    row.int("time", time_us).text("event", event);
    who.write(row);
    row.int("parent_pid", i64::from(parent.pid))
        .maybe_text("parent_comm", family.parent_comm.as_deref())
        .maybe_text("parent_exe", family.parent_exe.as_deref());
    if !family.ancestors.is_empty() {
        row.text_list("ancestors", &family.ancestors);
    }
}

/// A row of `processes` for a birth.
///
/// # Errors
/// As [`cpu`].
pub fn fork(
    row: &mut Builder,
    time_us: i64,
    who: &Who<'_>,
    family: &Family,
    subject: &Subject,
) -> Result<(), ChunkError> {
    process(row, time_us, "fork", who, subject.parent, family);
    credentials(row, subject);
    row.bool("argv_truncated", false).end_row()
}

/// A row of `processes` for what ran before the agent.
///
/// # Errors
/// As [`cpu`].
pub fn running(
    row: &mut Builder,
    time_us: i64,
    who: &Who<'_>,
    family: &Family,
    parent: ProcessKey,
) -> Result<(), ChunkError> {
    process(row, time_us, "running", who, parent, family);
    row.bool("argv_truncated", false).end_row()
}

/// A row of `processes` for a program that was executed; `before` are the capabilities it had before.
///
/// # Errors
/// As [`cpu`].
pub fn exec(
    row: &mut Builder,
    time_us: i64,
    who: &Who<'_>,
    family: &Family,
    seen: &Exec,
    before: Option<u64>,
) -> Result<(), ChunkError> {
    process(row, time_us, "exec", who, seen.subject.parent, family);
    let argv: Vec<_> = seen.argv.iter().map(|argument| String::from_utf8_lossy(argument)).collect();
    row.text("filename", &String::from_utf8_lossy(&seen.filename))
        .text_list("argv", &argv)
        .bool("argv_truncated", seen.argv_truncated);
    if !seen.cwd.is_empty() {
        row.text("cwd", &String::from_utf8_lossy(&seen.cwd));
    }
    credentials(row, &seen.subject);
    if let Some(before) = before {
        row.text_list("capabilities_gained", &capability::names(seen.capabilities & !before));
    }
    exec_session(row, seen);
    row.maybe_int("exe_inode", (seen.exe_inode != 0).then(|| signed(seen.exe_inode)))
        .text_list("flags", &flag_names(seen.flags))
        .end_row()
}

/// Who logged in where, and what the standard streams and the script are.
fn exec_session(row: &mut Builder, seen: &Exec) {
    let shown = |text: &[u8]| (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned());
    let [stdin, stdout, stderr] = seen.stream_inodes.map(|inode| inode.map(signed));
    row.int("capabilities_effective", seen.capabilities.cast_signed())
        .maybe_text("interpreter", shown(&seen.interpreter).as_deref())
        .maybe_text("tty", shown(&seen.terminal).as_deref())
        .maybe_int("login_uid", seen.login_uid.map(i64::from))
        .maybe_int("login_session", seen.session.map(i64::from))
        .maybe_int("stdin_inode", stdin)
        .maybe_int("stdout_inode", stdout)
        .maybe_int("stderr_inode", stderr);
}

/// A row of `processes` for an end.
///
/// # Errors
/// As [`cpu`].
pub fn exit(row: &mut Builder, time_us: i64, who: &Who<'_>, family: &Family, seen: &Exit) -> Result<(), ChunkError> {
    let subject = &seen.subject;
    process(row, time_us, "exit", who, subject.parent, family);
    credentials(row, subject);
    let start_ns = subject.process.start_ns;
    row.bool("argv_truncated", false)
        .int("exit_code", i64::from(seen.code))
        .int("exit_signal", i64::from(seen.signal))
        .maybe_int("run_time_ns", (start_ns != 0).then(|| signed(subject.at_ns.saturating_sub(start_ns))))
        .end_row()
}

fn credentials(row: &mut Builder, subject: &Subject) {
    row.int("effective_uid", i64::from(subject.effective_uid)).int("gid", i64::from(subject.gid));
}

fn flag_names(flags: u32) -> Vec<&'static str> {
    exec_flag::NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

/// Shortest and longest of a distribution, if there is anything in it.
pub(super) fn ends(latency: &Latency) -> Option<(i64, i64)> {
    (!latency.is_empty()).then(|| (signed(latency.min_ns), signed(latency.max_ns)))
}

pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_has_ends_only_when_there_is_something_in_it() {
        assert_eq!(ends(&Latency::NONE), None);
        let latency = Latency { buckets: vec![(3, 1)], sum_ns: 3, min_ns: 3, max_ns: 3 };
        assert_eq!(ends(&latency), Some((3, 3)));
    }

    #[test]
    fn every_class_of_errors_has_its_column() {
        for (class, column) in errno::NAMES.iter().skip(1).zip(ERROR_COLUMNS) {
            assert_eq!(format!("errors_{class}"), column);
            assert!(skep_wire::tables::SYSCALLS.column(column).is_some(), "{column}");
        }
    }

    #[test]
    fn a_mapped_address_is_shown_as_ipv4() {
        assert_eq!(address("[::ffff:127.0.0.1]:80".parse().unwrap()), "127.0.0.1");
        assert_eq!(address("[::1]:80".parse().unwrap()), "::1");
    }
}
