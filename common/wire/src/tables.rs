//! The tables of skep's history, defined once.
//!
//! Rules: signed integers only, times in microseconds UTC, units in names, no maps. A column is nullable only where a
//! value can be unknown; the rest always hold one. `node`, `boot`, `stream` and `seq` come from the envelope and stand
//! in front of every table ([`ENVELOPE`]); agents do not send them as columns.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Signed 64-bit integer.
    Int,
    /// 64-bit floating point.
    Float,
    /// 0 or 1 on the wire, BOOLEAN in the table.
    Bool,
    /// UTF-8.
    Text,
    /// Microseconds since the epoch, TIMESTAMP(us, UTC) in the table.
    Time,
    /// List of UTF-8.
    TextList,
    /// `list<struct<value_ns, count>>`: bucket midpoints, ascending, non-empty buckets only.
    Histogram,
}

impl Kind {
    /// What SQL calls it.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Int => "bigint",
            Self::Float => "double",
            Self::Bool => "boolean",
            Self::Text => "text",
            Self::Time => "timestamp(us, UTC)",
            Self::TextList => "list<text>",
            Self::Histogram => "list<struct<value_ns, count>>",
        }
    }
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Snake case, with its unit.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether a value may be unknown.
    pub nullable: bool,
    /// One line for people.
    pub doc: &'static str,
}

/// What becomes of a column when rows of one key in short windows become one row of a longer window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Part of the key: rows that differ in it stay apart.
    Key,
    /// The start of the longer window.
    Start,
    /// The length of the longer window.
    Length,
    /// What was counted adds up.
    Sum,
    /// The smallest.
    Least,
    /// The largest.
    Most,
    /// The mean, each window weighing what it is long.
    Mean,
    /// Counts of equal values add up.
    Buckets,
}

/// Numbers that tell rows apart.
const KEY_NUMBERS: [&str; 5] = ["pid", "start_ns", "uid", "cgroup_id", "syscall_nr"];

/// Numbers that count, and have no ending that says so.
const COUNTERS: [&str; 12] = [
    "on_cpu_ns",
    "slices",
    "voluntary_switches",
    "involuntary_switches",
    "migrations",
    "count",
    "timed",
    "errors",
    "bytes",
    "retransmits",
    "resets_sent",
    "resets_received",
];

impl Column {
    /// Its rule in a table of windows; `None` for a column nobody thought of, which a test forbids.
    pub fn merge(&self) -> Option<Merge> {
        let counts = |name: &str| {
            let endings = ["_count", "_sum_ns", "_bytes", "_messages"];
            COUNTERS.contains(&name)
                || name.starts_with("errors_")
                || endings.iter().any(|ending| name.ends_with(ending))
        };
        Some(match (self.kind, self.name) {
            (Kind::Time, "time") => Merge::Start,
            (Kind::Float, "window_s") => Merge::Length,
            // Of the batches it came in, the last.
            (Kind::Int, "seq") => Merge::Most,
            (Kind::Histogram, _) => Merge::Buckets,
            (Kind::Text | Kind::TextList | Kind::Bool, _) => Merge::Key,
            (Kind::Int, name) if KEY_NUMBERS.contains(&name) => Merge::Key,
            (Kind::Int, name) if name.contains("_min_") => Merge::Least,
            (Kind::Int, name) if name.contains("_max_") => Merge::Most,
            (Kind::Int, name) if counts(name) => Merge::Sum,
            (Kind::Float, "score") => Merge::Most,
            (Kind::Float, "value" | "baseline" | "spread" | "coverage") => Merge::Mean,
            _ => return None,
        })
    }
}

/// One table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// As in SQL and in the folder's name.
    pub name: &'static str,
    /// One line for people.
    pub doc: &'static str,
    /// Column groups in order; see [`Table::columns`].
    pub groups: &'static [&'static [Column]],
    /// Columns a file is sorted by.
    pub sort: &'static [&'static str],
}

impl Table {
    /// The columns an agent sends, in order.
    pub fn columns(&self) -> impl Iterator<Item = &'static Column> + use<> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// All columns of the table as stored: [`ENVELOPE`], then [`Table::columns`].
    pub fn stored_columns(&self) -> impl Iterator<Item = &'static Column> + use<> {
        ENVELOPE.iter().chain(self.columns())
    }

    /// Whether its rows speak of windows, and so can be merged to rows of longer ones.
    pub fn is_windowed(&self) -> bool {
        self.column("window_s").is_some()
    }

    /// The column of this name, if the table has it.
    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.stored_columns().find(|column| column.name == name)
    }
}

/// The table of this name.
pub fn find(name: &str) -> Option<&'static Table> {
    TABLES.iter().copied().find(|table| table.name == name)
}

pub(crate) const fn column(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column { name, kind, nullable: false, doc }
}

pub(crate) const fn maybe(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column { name, kind, nullable: true, doc }
}

use Kind::{Bool, Float, Histogram, Int, Text, TextList, Time};

/// Filled in by the collector from the envelope.
pub const ENVELOPE: &[Column] = &[
    column("node", Text, "node name, from the client certificate"),
    column("boot", Text, "kernel boot id"),
    column("stream", Text, "life of one agent spool; with seq, what makes a row arrive once"),
    column("seq", Int, "batch number in the stream"),
];

/// A closed span of time.
const WINDOW: &[Column] = &[
    column("time", Time, "start of the window"),
    column("window_s", Float, "length of the window in seconds; short at start, stop and after a pause"),
];

const MOMENT: &[Column] = &[column("time", Time, "when it happened")];

/// Who: a process is (boot, pid, start_ns), a workload one key for unit, pod, container or session.
const IDENTITY: &[Column] = &[
    column("pid", Int, "process id in the host's pid namespace; 0 is the kernel's idle task, or nobody known"),
    column("start_ns", Int, "process start, nanoseconds since boot; 0 when unknown"),
    column("comm", Text, "task name of the process leader"),
    maybe("exe", Text, "resolved executable"),
    maybe("uid", Int, "real user id"),
    column("workload", Text, "unit:NAME, pod:NAMESPACE/NAME, container:ID, session:ID, cgroup:PATH or host"),
    maybe("cgroup", Text, "path in the hierarchy that controls cpu"),
    maybe("cgroup_id", Int, "inode of that cgroup directory"),
    maybe("container_id", Text, "64 hex digits"),
    maybe("pod", Text, "pod uid or name"),
    maybe("namespace", Text, "Kubernetes namespace"),
    maybe("pod_labels", Text, "key=value,key=value; where the agent may ask the container runtime"),
    maybe("unit", Text, "systemd unit"),
    column("attribution", Text, "exact (seen by the kernel), late (looked up afterwards) or unknown"),
];

const COVERAGE: &[Column] = &[column(
    "coverage",
    Float,
    "0..1: share of the window's observations that reached this batch, by the loss ledger",
)];

/// Per process and window.
pub const CPU: Table = Table {
    name: "cpu",
    doc: "on-CPU time and run-queue delay, a row for each process and window",
    groups: &[
        WINDOW,
        IDENTITY,
        &[
            column("on_cpu_ns", Int, "time on a CPU, all threads"),
            column("slices", Int, "times a thread of it left a CPU"),
            column("voluntary_switches", Int, "left to wait for something"),
            column("involuntary_switches", Int, "left while still runnable"),
            column("migrations", Int, "slices whose thread had been on another CPU before"),
            column("run_queue_delay_count", Int, "times a thread of it was put on a CPU after waiting for one"),
            column("run_queue_delay_sum_ns", Int, "time runnable but not running"),
            maybe("run_queue_delay_min_ns", Int, "shortest wait; null when there was none"),
            maybe("run_queue_delay_max_ns", Int, "longest wait; null when there was none"),
            column("run_queue_delay", Histogram, "distribution of the waits"),
            column("off_cpu_count", Int, "times a thread of it came back to a CPU it had left to wait for something"),
            column("off_cpu_sum_ns", Int, "time from leaving to being on a CPU again, waiting for one included"),
            maybe("off_cpu_min_ns", Int, "shortest absence; null when there was none"),
            maybe("off_cpu_max_ns", Int, "longest absence; null when there was none"),
            column("off_cpu", Histogram, "distribution of the absences"),
        ],
        COVERAGE,
    ],
    sort: &["node", "workload", "pid", "start_ns", "time"],
};

/// Per process, system call and window.
pub const SYSCALLS: Table = Table {
    name: "syscalls",
    doc: "system calls, a row for each process, call and window",
    groups: &[
        WINDOW,
        IDENTITY,
        &[
            column("syscall", Text, "name on this architecture, or the number where it has none"),
            column("syscall_nr", Int, "number on this architecture"),
            column("count", Int, "calls that returned in the window; scaled up where they were sampled"),
            column(
                "timed",
                Int,
                "calls that were timed: all that slept, of the others at least one in 64 on average; they stand for count",
            ),
            column("errors", Int, "of count, how many returned an error"),
            column("errors_interrupted", Int, "a signal came: EINTR and what the kernel begins again by itself"),
            column("errors_again", Int, "not now: EAGAIN, EINPROGRESS, EALREADY"),
            column("errors_not_found", Int, "ENOENT, ESRCH, ENXIO, ECHILD, ENODEV, ENOTDIR, ENODATA"),
            column("errors_denied", Int, "EPERM, EACCES, EROFS"),
            column("errors_invalid", Int, "EINVAL, EBADF, EFAULT, ENOTTY, ENOSYS, ESPIPE, EOPNOTSUPP and kin"),
            column("errors_limit", Int, "ENOMEM, EMFILE, ENFILE, ENOSPC, EDQUOT, E2BIG, EFBIG, ENOBUFS, EMSGSIZE"),
            column("errors_network", Int, "EPIPE, ECONNREFUSED, ECONNRESET, ENETUNREACH, EHOSTUNREACH and kin"),
            column("errors_timeout", Int, "ETIMEDOUT, ETIME"),
            column("errors_conflict", Int, "EEXIST, EBUSY, ENOTEMPTY, EISDIR, ETXTBSY, EXDEV, EDEADLK"),
            column("errors_io", Int, "EIO, EUCLEAN, ESTALE, EREMOTEIO"),
            column("errors_other", Int, "any other number"),
            column("latency_sum_ns", Int, "time between entry and return"),
            maybe("latency_min_ns", Int, "shortest"),
            maybe("latency_max_ns", Int, "longest"),
            column("latency", Histogram, "distribution of the time between entry and return"),
        ],
        COVERAGE,
    ],
    sort: &["node", "workload", "pid", "start_ns", "syscall", "time"],
};

/// TCP connections.
pub const CONNECTIONS: Table = Table {
    name: "connections",
    doc: "TCP connections: a row when one opens, fails or closes, and when a socket begins or ceases to listen",
    groups: &[
        MOMENT,
        &[
            column("event", Text, "open, fail, close, listen or unlisten"),
            column("direction", Text, "connect, accept, listen or unknown (it was open before the agent)"),
            column("socket_id", Int, "ties the rows of one connection together; unique within a boot"),
        ],
        IDENTITY,
        &[
            column("local_address", Text, "IPv4 or IPv6"),
            column("local_port", Int, "host byte order"),
            column("remote_address", Text, "IPv4 or IPv6"),
            column("remote_port", Int, "host byte order"),
            maybe("connect_latency_ns", Int, "first SYN to established; null for accept"),
            maybe(
                "duration_ns",
                Int,
                "established to closed, or listening; null on open, fail, listen, and when the start was not seen",
            ),
            maybe("sent_bytes", Int, "payload sent, without retransmissions; null but on close and fail"),
            maybe("received_bytes", Int, "payload received; null but on close and fail"),
            maybe("retransmits", Int, "segments sent again; null but on close and fail"),
            maybe("segments_sent", Int, "segments sent, all of them; null but on close and fail"),
            maybe("segments_received", Int, "segments received; null but on close and fail"),
            maybe("srtt_ns", Int, "smoothed round trip at the end; null when none was measured"),
            maybe("rtt_min_ns", Int, "shortest round trip of the last minutes; null when none was measured"),
            maybe("reset", Text, "sent or received: which end broke it off with an RST; null when none did"),
            maybe(
                "failure",
                Text,
                "why it failed or broke: refused, timed_out, unreachable, reset, abandoned (before an answer) or errno_N",
            ),
        ],
    ],
    sort: &["node", "workload", "pid", "time"],
};

/// Per process, protocol and window.
pub const SOCKETS: Table = Table {
    name: "sockets",
    doc: "TCP and UDP traffic, a row for each process, protocol and window",
    groups: &[
        WINDOW,
        IDENTITY,
        &[
            column("protocol", Text, "tcp or udp"),
            maybe("sent_bytes", Int, "what its sends returned; null where this kernel does not tell (before 6.3)"),
            maybe("received_bytes", Int, "what its receives returned, peeks not counted; null likewise"),
            maybe("sent_messages", Int, "sends that moved something; failed ones are none; null likewise"),
            maybe("received_messages", Int, "receives that moved something; null likewise"),
            maybe("retransmits", Int, "segments of its connections sent again; null for udp"),
            maybe("resets_sent", Int, "RSTs sent; those of no known connection are pid 0's; null for udp"),
            maybe("resets_received", Int, "RSTs received for its connections; null for udp"),
        ],
        COVERAGE,
    ],
    sort: &["node", "workload", "pid", "start_ns", "protocol", "time"],
};

/// Process life.
pub const PROCESSES: Table = Table {
    name: "processes",
    doc: "process life: a row for each fork, exec and exit, and for what ran before the agent (running)",
    groups: &[
        MOMENT,
        &[column("event", Text, "fork, exec, exit or running")],
        IDENTITY,
        &[
            column("parent_pid", Int, "parent when it happened"),
            maybe("parent_comm", Text, "its task name"),
            maybe("parent_exe", Text, "its resolved executable"),
            maybe("ancestors", TextList, "executables (task names where unknown) from parent outwards, up to 8"),
            maybe("filename", Text, "exec: the path given to execve"),
            maybe("argv", TextList, "exec: argument vector"),
            column("argv_truncated", Bool, "exec: more arguments than the bound; the rest is missing"),
            maybe("cwd", Text, "exec: working directory"),
            maybe("effective_uid", Int, "effective user id"),
            maybe("gid", Int, "real group id"),
            maybe("exe_inode", Int, "exec: inode of the executable"),
            maybe(
                "flags",
                TextList,
                "exec: memfd, deleted, tmpfs, setuid, setgid, privilege_gain, script, and of stdin, stdout and stderr \
                 stdin_socket, stdin_inet, stdin_pipe and so on",
            ),
            maybe("interpreter", Text, "exec: of a script, the interpreter it asks for; exe is what runs"),
            maybe("tty", Text, "exec: controlling terminal, as in pts/0"),
            maybe("login_uid", Int, "exec: user who logged in, whatever the process became since; null for services"),
            maybe("login_session", Int, "exec: audit session; null for services"),
            maybe("capabilities_effective", Int, "exec: bit n is capability n of linux/capability.h"),
            maybe("capabilities_gained", TextList, "exec: effective now and not at its birth or its exec before"),
            maybe("stdin_inode", Int, "exec: inode of standard input where it is a pipe or a socket"),
            maybe("stdout_inode", Int, "exec: likewise; two processes with one number are ends of one pipe"),
            maybe("stderr_inode", Int, "exec: likewise"),
            maybe("exit_code", Int, "exit: status given to exit"),
            maybe("exit_signal", Int, "exit: signal that ended it, 0 for none"),
            maybe("run_time_ns", Int, "exit: time since the process started"),
        ],
    ],
    sort: &["node", "time"],
};

/// What deserves a look.
pub const SECURITY: Table = Table {
    name: "security",
    doc: "what deserves a look whatever it is for: a row for each OOM kill, module, credential change, ptrace, bpf, io_uring",
    groups: &[
        MOMENT,
        &[column("event", Text, "oom_kill, module_load, credentials, ptrace, bpf or io_uring_setup")],
        IDENTITY,
        &[
            column("parent_pid", Int, "parent when it happened; 0 when unknown"),
            maybe("target_pid", Int, "ptrace: whom, as the caller calls it in its own pid namespace"),
            maybe("result", Int, "what the system call returned, a negative number is an error; null for other events"),
            column(
                "detail",
                TextList,
                "name=value: oom_kill wanted_by_pid, wanted_by (the row is the victim's); module_load name, taints; \
                 credentials syscall, uid, euid, gid, egid as before->after, gained, dropped; ptrace request; bpf \
                 command, type, name (the agent's own are left out); io_uring_setup entries, flags",
            ),
        ],
    ],
    sort: &["node", "time"],
};

/// Block devices.
pub const BLOCK_IO: Table = Table {
    name: "block_io",
    doc: "requests to block devices, a row for each process that handed them over, device, operation and window: who asked, \
          but a worker of the kernel for what was written to the page cache or had to wait for a busy device",
    groups: &[
        WINDOW,
        IDENTITY,
        &[
            column("device", Text, "disk, as in /sys/block"),
            column("device_number", Text, "MAJOR:MINOR of the disk"),
            column("operation", Text, "read, write, flush, discard or other"),
            column("count", Int, "requests that were done in the window"),
            column("errors", Int, "of count, how many with an error"),
            column("bytes", Int, "what these requests were to move"),
            column("latency_sum_ns", Int, "time from the moment the device got the request until it was done"),
            maybe("latency_min_ns", Int, "shortest"),
            maybe("latency_max_ns", Int, "longest"),
            column("latency", Histogram, "distribution of that time"),
            maybe("size_min_bytes", Int, "smallest request"),
            maybe("size_max_bytes", Int, "largest request"),
            column("size", Histogram, "distribution of the sizes; value_ns holds bytes"),
        ],
        COVERAGE,
    ],
    sort: &["node", "workload", "pid", "start_ns", "device", "operation", "time"],
};

/// Host gauges.
pub const HOST: Table = Table {
    name: "host",
    doc: "gauges of the host and of the agent itself",
    groups: &[
        WINDOW,
        &[
            column("metric", Text, "name with its unit"),
            column("label", Text, "device, interface, mount, check, workload or empty"),
            column("value", Float, "reading at the end of the window, or the rate over it where the name says per_s"),
        ],
    ],
    sort: &["node", "metric", "label", "time"],
};

/// Service checks.
pub const CHECKS: Table = Table {
    name: "checks",
    doc: "service checks, a row for each run; the server's own figures are gauges in host too, with the check's name as label",
    groups: &[
        MOMENT,
        &[
            column("name", Text, "the check's name in the agent's settings"),
            column("kind", Text, "http, tcp, grpc, command, unit, postgres or redis"),
            column("target", Text, "what was asked"),
            column("workload", Text, "workload it belongs to, as in cpu; host where the settings say nothing"),
            column("ok", Bool, "whether it is well"),
            column("latency_ns", Int, "how long the run took, up to its timeout"),
            maybe("error", Text, "why it is not well; null when it is"),
            column("failures", Int, "runs that failed in a row, this one included"),
            column("retries", Int, "failed runs in a row that are let pass"),
            column("down", Bool, "more failed than are let pass"),
            column("critical", Bool, "whether the settings call it critical"),
            column(
                "interval_s",
                Float,
                "time between two runs, give or take a tenth; what failed is tried again sooner",
            ),
            column("depends_on", TextList, "checks of this node without which it cannot be well"),
            maybe(
                "blocked_by",
                Text,
                "of these, one that is down: it explains the failure, and this one is no finding",
            ),
            column("figures", TextList, "name=value of what the server says of itself, names as in host.metric"),
        ],
    ],
    sort: &["node", "name", "time"],
};

/// The ledger.
pub const LOSS: Table = Table {
    name: "loss",
    doc: "the loss ledger: in every row, and so in every sum, attempted = delivered + lost",
    groups: &[&[
        column("time", Time, "start of the span the row speaks of"),
        column("until", Time, "end of that span"),
        column(
            "probe",
            Text,
            "cpu, run_queue, off_cpu, syscall, tcp, socket, retransmit, reset, fork, exec, exit, cgroup, security, block, \
             or agent for the whole of it",
        ),
        maybe("cpu", Int, "CPU the row counts; null for what is not counted by CPU"),
        column("reason", Text, "none for what was delivered, else why it was lost"),
        maybe("attempted", Int, "observations the kernel offered; null when nobody was there to count"),
        maybe("delivered", Int, "of these, in a batch; negative when a batch had to be dropped after sealing"),
        maybe("lost", Int, "of these, lost for this reason"),
        maybe("detail", Text, "one line for people"),
    ]],
    sort: &["node", "probe", "time"],
};

/// What the agents ran to see whether they see.
pub const CANARIES: Table = Table {
    name: "canaries",
    doc: "harmless marked processes the agents run to prove that what happens arrives here, a row for each step",
    groups: &[
        MOMENT,
        &[
            column(
                "event",
                Text,
                "sent (about to be run), ran, failed (could not be run), or off (none will be run from here on)",
            ),
            column("marker", Text, "32 hex digits in the process's arguments; empty for off"),
            column("number", Int, "counts from 1 in each life of the agent"),
            column("port", Int, "port of 127.0.0.1 that the process connects to, where nobody listens"),
            column("interval_s", Float, "time between two of them, give or take a fifth"),
            column("expects", TextList, "what must arrive: exec, exit, connect; without what is not watched"),
            maybe("pid", Int, "ran and failed: process id as the agent saw it"),
            maybe("detail", Text, "failed and off: why"),
        ],
    ],
    sort: &["node", "time"],
};

/// What the detector computed.
pub const SCORES: Table = Table {
    name: "scores",
    doc: "how unusual each series was, a row for each series and window that was scored, and for each notable minute",
    groups: &[
        WINDOW,
        &[
            column("target_node", Text, "node it concerns"),
            column("workload", Text, "as in cpu; empty for the node as a whole"),
            column(
                "signal",
                Text,
                "which series, with its unit; of a minute's series `NAME level` and `NAME novelty`, where they are notable",
            ),
            column("value", Float, "what was seen"),
            column("baseline", Float, "median of what came before; novelty: the middle of what was expected"),
            column("spread", Float, "robust spread of what came before; novelty: half of what was expected"),
            column("score", Float, "distance from the baseline in spreads; novelty: 0..1, from 0.2 on an alarm"),
            column("coverage", Float, "0..1, of the window the value came from"),
        ],
    ],
    sort: &["target_node", "workload", "signal", "time"],
};

/// What deserves a look.
pub const FINDINGS: Table = Table {
    name: "findings",
    doc: "what deserves a look, with its evidence",
    groups: &[&[
        column("time", Time, "when it was raised"),
        column("finding", Text, "its id"),
        column("kind", Text, "event (a rule), series (a score), check (a service) or self (how well skep itself sees)"),
        column("rule", Text, "rule or signal that raised it"),
        column("severity", Text, "info, low, medium, high or critical"),
        column("title", Text, "one line for people"),
        column("target_node", Text, "node it concerns"),
        column("workload", Text, "whom it is about"),
        maybe("pid", Int, "process, where it is about one"),
        maybe("start_ns", Int, "its start"),
        maybe("cgroup", Text, "cgroup, where an action could aim at it"),
        maybe("cgroup_id", Int, "inode of that cgroup directory"),
        column("attack", TextList, "MITRE ATT&CK technique ids"),
        column("evidence", TextList, "column=value of what it rests on"),
        column("evidence_sql", Text, "query that returns the rows it rests on"),
        column("coverage", Float, "0..1: how much of what happened skep saw"),
    ]],
    sort: &["target_node", "time"],
};

/// Incidents, one row for each change.
pub const INCIDENTS: Table = Table {
    name: "incidents",
    doc: "findings that belong together, a row for each change; the newest row of an id is its state",
    groups: &[&[
        column("time", Time, "when it changed; no two rows of an incident have the same"),
        column("incident", Text, "its id"),
        column("state", Text, "open, acknowledged or closed"),
        column(
            "change",
            Text,
            "opened, joined (by a finding), over (a trouble of it), changed (something else where it is), acknowledged, closed or reopened",
        ),
        column("began", Time, "when its first finding was raised"),
        column("last", Time, "when its last one of medium severity or worse was, or a trouble of it was over"),
        column("severity", Text, "of the worst of its findings"),
        column("title", Text, "one line for people, of the worst"),
        column("target_node", Text, "node of the first"),
        column("workload", Text, "whom the first was about"),
        maybe(
            "members",
            TextList,
            "whom its findings are about, NODE WORKLOAD each; of the node as a whole WORKLOAD is empty",
        ),
        column("findings", Int, "how many belong to it so far"),
        maybe("finding", Text, "the finding that changed it"),
        column("rules", TextList, "rules and signals of its findings"),
        column("standing", TextList, "its troubles that have an end and are not over"),
        column("actor", Text, "collector or operator name"),
        column("detail", Text, "one line for people"),
    ]],
    sort: &["incident", "time"],
};

/// Actions, one row for each change of state.
pub const ACTIONS: Table = Table {
    name: "actions",
    doc: "actions, a row for each change of state; the newest row of an id is its state",
    groups: &[&[
        column("time", Time, "when the state changed"),
        column("action", Text, "its id"),
        column("finding", Text, "finding that asked for it"),
        column("target_node", Text, "node it acts on; kubernetes is the collector's cluster"),
        column("workload", Text, "target"),
        maybe("cgroup", Text, "target cgroup"),
        maybe("cgroup_id", Int, "inode of that cgroup directory"),
        column(
            "verb",
            Text,
            "throttle, limit_memory, limit_io, freeze, kill, restart_unit, reload_unit, stop_unit, start_unit, block, isolate, clean, run, restart_container, pause_container, unpause_container, evict_pod, delete_pod, restart_rollout, scale, undo_rollout, cordon, uncordon, undo or extend",
        ),
        column("parameters", Text, "name=value, separated by blanks"),
        column("mode", Text, "observe, ask or auto"),
        column(
            "state",
            Text,
            "observed, pending, rejected, expired, sent, refused, moot, applied, extended, improved, unchanged, worse, done, undone or failed",
        ),
        column("actor", Text, "policy, operator name, executor or kubernetes"),
        column("detail", Text, "one line for people"),
        maybe("lease_until", Time, "when the executor undoes it by itself"),
        column("dry_run", Bool, "nothing was changed on the host"),
    ]],
    sort: &["action", "time"],
};

/// The audit log.
pub const AUDIT: Table = Table {
    name: "audit",
    doc: "every step of every decision and action",
    groups: &[&[
        column("time", Time, "when"),
        column("actor", Text, "policy, operator name, collector, agent, executor or kubernetes"),
        column("step", Text, "what was done"),
        column("subject", Text, "id of the finding or action"),
        column("target_node", Text, "node it concerns"),
        column("detail", Text, "one line for people"),
    ]],
    sort: &["time"],
};

/// All tables, in the order people read them.
pub const TABLES: &[&Table] = &[
    &CPU,
    &SYSCALLS,
    &CONNECTIONS,
    &SOCKETS,
    &PROCESSES,
    &SECURITY,
    &BLOCK_IO,
    &HOST,
    &CHECKS,
    &LOSS,
    &CANARIES,
    &SCORES,
    &FINDINGS,
    &INCIDENTS,
    &ACTIONS,
    &AUDIT,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_sort_columns_exist() {
        let mut names = BTreeSet::new();
        for table in TABLES {
            assert!(names.insert(table.name), "{} twice", table.name);
            let mut columns = BTreeSet::new();
            for column in table.stored_columns() {
                assert!(columns.insert(column.name), "{}.{} twice", table.name, column.name);
            }
            for key in table.sort {
                assert!(columns.contains(key), "{} is sorted by {key}, which it lacks", table.name);
            }
            assert_eq!(table.column("time").map(|c| c.kind), Some(Time));
        }
    }

    #[test]
    fn every_column_of_a_table_of_windows_says_how_it_merges() {
        for table in TABLES.iter().filter(|table| table.is_windowed()) {
            for column in table.stored_columns() {
                assert!(column.merge().is_some(), "{}.{} has no rule", table.name, column.name);
            }
            let order: Vec<_> = table.sort.iter().filter_map(|name| table.column(name)?.merge()).collect();
            let (last, keys) = order.split_last().unwrap();
            assert_eq!(*last, Merge::Start, "{}: windows of one key must stand together", table.name);
            assert!(keys.iter().all(|rule| *rule == Merge::Key), "{}: {keys:?}", table.name);
        }
    }

    #[test]
    fn what_counts_adds_up_and_what_names_does_not() {
        let rules = |table: &Table, rule| -> Vec<&str> {
            let columns = table.columns().filter(|column| column.merge() == Some(rule) && column.kind == Int);
            columns.map(|column| column.name).collect()
        };
        assert_eq!(rules(&BLOCK_IO, Merge::Sum), ["count", "errors", "bytes", "latency_sum_ns"]);
        assert_eq!(rules(&BLOCK_IO, Merge::Least), ["latency_min_ns", "size_min_bytes"]);
        assert_eq!(rules(&BLOCK_IO, Merge::Most), ["latency_max_ns", "size_max_bytes"]);
        assert_eq!(rules(&SYSCALLS, Merge::Key), ["pid", "start_ns", "uid", "cgroup_id", "syscall_nr"]);
        assert_eq!(rules(&SYSCALLS, Merge::Sum).len(), 15);
        assert_eq!(rules(&SOCKETS, Merge::Sum).len(), 7);
        let of = |table: &Table, name| table.column(name).and_then(Column::merge);
        assert_eq!(of(&CPU, "coverage"), Some(Merge::Mean));
        assert_eq!(of(&CPU, "run_queue_delay_count"), Some(Merge::Sum));
        assert_eq!(of(&SCORES, "score"), Some(Merge::Most));
    }
}
