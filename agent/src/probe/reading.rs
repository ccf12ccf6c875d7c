//! What the probes hand to the rest of the agent. Nothing here names the loader or a map.

use skep_common::errno;

/// A process within one boot. A pid alone names nobody: it is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Start of the thread group leader, nanoseconds of `CLOCK_BOOTTIME`; 0 when the kernel could not tell.
    pub start_ns: u64,
}

/// A distribution of nanoseconds, with its exact ends and sum beside the buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    /// Bucket of [`skep_common::bucket`] and count, ascending, no bucket twice.
    pub buckets: Vec<(u16, u64)>,
    /// Exact sum.
    pub sum_ns: u64,
    /// Exact shortest; meaningless while there are no buckets.
    pub min_ns: u64,
    /// Exact longest.
    pub max_ns: u64,
}

impl Latency {
    /// Nothing yet.
    pub const NONE: Self = Self { buckets: Vec::new(), sum_ns: 0, min_ns: u64::MAX, max_ns: 0 };

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Makes the buckets' sum `count`, each in proportion, and the sum of the values with it. An empty distribution stays
    /// empty.
    pub fn scale_to(&mut self, count: u64) {
        let weight = self.count();
        if weight == count || weight == 0 {
            return;
        }
        let share = |value: u64| u128::from(value) * u128::from(count) / u128::from(weight);
        let rest = |value: u64| u128::from(value) * u128::from(count) % u128::from(weight);
        let mut by_rest: Vec<usize> = (0..self.buckets.len()).collect();
        by_rest.sort_by_key(|at| std::cmp::Reverse(rest(self.buckets[*at].1)));
        self.sum_ns = u64::try_from(share(self.sum_ns)).unwrap_or(u64::MAX);
        for (_, value) in &mut self.buckets {
            *value = u64::try_from(share(*value)).unwrap_or(u64::MAX);
        }
        let missing = count.saturating_sub(self.count());
        for at in by_rest.into_iter().take(usize::try_from(missing).unwrap_or(usize::MAX)) {
            self.buckets[at].1 += 1;
        }
        self.buckets.retain(|(_, value)| *value > 0);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}

/// How far the probes were read. What was handed out before it need not be handed out again, once it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Names the maps that were read.
    pub incarnation: u64,
    /// The last epoch whose reading was handed out; 0 for none.
    pub epoch: u64,
    /// Place in the ring behind the last event handed out.
    pub position: u64,
}

impl Mark {
    /// The further of two, `later` having been made after `earlier`.
    pub fn further(earlier: Option<Self>, later: Option<Self>) -> Option<Self> {
        match (earlier, later) {
            (Some(earlier), Some(later)) if earlier.incarnation == later.incarnation => Some(Self {
                incarnation: later.incarnation,
                epoch: later.epoch.max(earlier.epoch),
                position: later.position.max(earlier.position),
            }),
            (earlier, later) => later.or(earlier),
        }
    }
}

/// One closed epoch: everything the aggregating probes counted between two flips.
#[derive(Debug)]
pub struct Reading {
    /// `CLOCK_BOOTTIME` at the flip before.
    pub from_ns: u64,
    /// `CLOCK_BOOTTIME` at this flip.
    pub until_ns: u64,
    /// A row a process.
    pub cpu: Vec<CpuReading>,
    /// A row a process and system call.
    pub syscalls: Vec<SyscallReading>,
    /// A row a process and protocol.
    pub sockets: Vec<SocketReading>,
    /// A row a process, block device and operation.
    pub blocks: Vec<BlockReading>,
    /// Every attached probe by CPU, and once without a CPU if it saw nothing anywhere.
    pub ledger: Vec<ProbeLedger>,
}

/// Scheduling of one process in one epoch.
#[derive(Debug)]
pub struct CpuReading {
    /// Who.
    pub process: ProcessKey,
    /// Task name of the thread group leader, not yet checked for UTF-8.
    pub comm: [u8; 16],
    /// Inode of its cgroup directory in the unified hierarchy when last seen.
    pub cgroup_id: u64,
    /// Time on a CPU, all threads. A slice that spans the flip is split at the flip or counted where it ends; it is
    /// never counted twice.
    pub on_cpu_ns: u64,
    /// Times a thread of it left a CPU, or the epoch ended while it was on one.
    pub slices: u64,
    /// Left to wait.
    pub voluntary_switches: u64,
    /// Left while runnable.
    pub involuntary_switches: u64,
    /// Slices whose thread had been on another CPU before.
    pub migrations: u64,
    /// Wait for a CPU.
    pub run_queue_delay: Latency,
    /// Time away from the CPU of threads that left to wait, until they were on one again.
    pub off_cpu: Latency,
}

/// One system call of one process in one epoch.
#[derive(Debug)]
pub struct SyscallReading {
    /// Who.
    pub process: ProcessKey,
    /// Task name, as above; zeroes when the kernel did not see the process leave a CPU.
    pub comm: [u8; 16],
    /// Number on this architecture.
    pub nr: u32,
    /// Calls that returned; where they were sampled, as many as the counted ones stand for.
    pub count: u64,
    /// Calls that were timed; they stand for the others in `latency`.
    pub timed: u64,
    /// By class of [`errno`], scaled like `count`; the first are no errors.
    pub by_class: [u64; errno::LEN],
    /// Entry to return.
    pub latency: Latency,
}

/// What a process did through one protocol in one epoch.
#[derive(Debug)]
pub struct SocketReading {
    /// Who; process 0 for what is nobody's.
    pub process: ProcessKey,
    /// Task name, as above.
    pub comm: [u8; 16],
    /// Which.
    pub protocol: Protocol,
    /// Sum of what its sends returned.
    pub sent_bytes: u64,
    /// Sum of what its receives returned.
    pub received_bytes: u64,
    /// Sends that moved something.
    pub sent_messages: u64,
    /// Receives that moved something.
    pub received_messages: u64,
    /// Segments of its connections that were sent again.
    pub retransmits: u64,
    /// Resets of its connections sent.
    pub resets_sent: u64,
    /// Resets of its connections received.
    pub resets_received: u64,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Requests of one process to one block device in one epoch.
#[derive(Debug)]
pub struct BlockReading {
    /// Who ran when the device got them: who asked, or a worker of the kernel for what was written to the page cache.
    pub process: ProcessKey,
    /// Number of the disk.
    pub major: u32,
    /// See `major`.
    pub minor: u32,
    /// One of [`skep_common::aggregate::block::NAMES`].
    pub operation: &'static str,
    /// Requests that are done.
    pub count: u64,
    /// Of these, with an error.
    pub errors: u64,
    /// From the moment the device got the request.
    pub latency: Latency,
    /// How much it was to move.
    pub size: Sizes,
}

/// A distribution of bytes, as [`Latency`] is one of nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// As in [`Latency`].
    pub buckets: Vec<(u16, u64)>,
    /// Exact sum.
    pub sum_bytes: u64,
    /// Exact smallest; meaningless while there are no buckets.
    pub min_bytes: u64,
    /// Exact largest.
    pub max_bytes: u64,
}

impl Sizes {
    /// Nothing yet.
    pub const NONE: Self = Self { buckets: Vec::new(), sum_bytes: 0, min_bytes: u64::MAX, max_bytes: 0 };
}

/// A probe's account of one epoch on one CPU: `attempted = delivered + sum(lost)`, exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeLedger {
    /// One of [`skep_common::ledger::probe::NAMES`].
    pub probe: &'static str,
    /// Where; `None` for what the kernel does not count by CPU.
    pub cpu: Option<u32>,
    /// What the kernel offered.
    pub attempted: u64,
    /// What is in this reading (aggregates) or was handed out as events of this epoch.
    pub delivered: u64,
    /// What is not, by reason; reasons with nothing lost are left out.
    pub lost: Vec<(&'static str, u64)>,
}

/// A discrete event from the ring buffer.
#[derive(Debug, Clone)]
pub enum Event {
    /// A new process (not a new thread).
    Fork(Fork),
    /// A program was executed.
    Exec(Box<Exec>),
    /// The last thread of a process ended.
    Exit(Exit),
    /// A TCP connection opened, failed or closed, or a socket began or ceased to listen.
    Connection(Connection),
    /// A cgroup was made, removed or joined.
    Cgroup(CgroupEvent),
    /// A process did something that deserves a look.
    Security(Box<Security>),
}

/// What every event says of its process.
#[derive(Debug, Clone)]
pub struct Subject {
    /// CPU in whose ledger the event is counted.
    pub cpu: u32,
    /// `CLOCK_BOOTTIME` when it happened.
    pub at_ns: u64,
    /// Who.
    pub process: ProcessKey,
    /// Parent.
    pub parent: ProcessKey,
    /// Task name of the thread group leader.
    pub comm: [u8; 16],
    /// Inode of the cgroup directory in the unified hierarchy.
    pub cgroup_id: u64,
    /// Real user and group, effective user, in the initial user namespace.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// See `uid`.
    pub effective_uid: u32,
}

/// A new process.
#[derive(Debug, Clone)]
pub struct Fork {
    /// The child; its parent is the process that forked.
    pub subject: Subject,
    /// Its effective capabilities: bit n is number n of linux/capability.h.
    pub capabilities: u64,
}

/// An execve that succeeded.
#[derive(Debug, Clone)]
pub struct Exec {
    /// The process after the exec.
    pub subject: Subject,
    /// Path as given to execve.
    pub filename: Vec<u8>,
    /// Resolved path of the executable as far as the bound reached; empty when unknown.
    pub exe: Vec<u8>,
    /// Inode of the executable.
    pub exe_inode: u64,
    /// Arguments, in order.
    pub argv: Vec<Vec<u8>>,
    /// There were more bytes of arguments than the bound.
    pub argv_truncated: bool,
    /// Working directory; empty when unknown.
    pub cwd: Vec<u8>,
    /// Interpreter a script asks for; empty when it is no script.
    pub interpreter: Vec<u8>,
    /// Effective capabilities after it, as in [`Fork`].
    pub capabilities: u64,
    /// Controlling terminal, as in `pts/0`; empty when there is none.
    pub terminal: Vec<u8>,
    /// User who logged in, if anybody did.
    pub login_uid: Option<u32>,
    /// Audit session, if there is one.
    pub session: Option<u32>,
    /// Inodes of the standard streams, where they are sockets or pipes.
    pub stream_inodes: [Option<u64>; 3],
    /// Bits of `skep_common`'s exec flags (memfd, deleted, tmpfs, setuid, ...).
    pub flags: u32,
}

/// A process ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Who.
    pub subject: Subject,
    /// Status given to exit.
    pub code: i32,
    /// Signal that ended it, 0 for none.
    pub signal: i32,
}

/// Something that deserves a look.
#[derive(Debug, Clone)]
pub struct Security {
    /// Who did it, or was killed. Where the kernel tells only the number of the killed, its start is 0.
    pub subject: Subject,
    /// What.
    pub event: SecurityEvent,
    /// What the system call returned; `None` for what is no system call.
    pub result: Option<i64>,
}

/// What deserves a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityEvent {
    /// A process was chosen to be killed for want of memory.
    OomKill {
        /// Who wanted it.
        wanted_by: u32,
        /// Its task name.
        comm: Vec<u8>,
    },
    /// A module was loaded.
    ModuleLoad {
        /// Its name.
        name: Vec<u8>,
        /// Bits of `TAINT_*`, include/linux/panic.h.
        taints: u64,
    },
    /// A thread changed its credentials other than by executing a program.
    Credentials {
        /// Number of the system call.
        nr: u32,
        /// Before and after: uid, euid, gid, egid.
        ids: [(u32, u32); 4],
        /// Effective capabilities before and after.
        capabilities: (u64, u64),
    },
    /// Another process was attached to or written to.
    Ptrace {
        /// Whom, as the caller calls it in its own pid namespace.
        target: u32,
        /// One of `PTRACE_*`.
        request: u64,
    },
    /// A BPF program, map or link was made by someone else than the agent.
    Bpf {
        /// One of `enum bpf_cmd`.
        command: u64,
        /// Type of the program or map, where the command makes one.
        kind: u64,
        /// Its name.
        name: Vec<u8>,
    },
    /// A ring for asynchronous calls was made.
    IoUringSetup {
        /// Its entries.
        entries: u64,
        /// `IORING_SETUP_*`.
        flags: u64,
    },
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// Established.
    Open,
    /// Never established.
    Fail,
    /// Closed after having been established.
    Close,
    /// A socket listens.
    Listen,
    /// It listens no more.
    Unlisten,
}

/// Who broke a connection off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// This end.
    Sent,
    /// The other end.
    Received,
}

/// Why a connection was not made or did not last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The other end refused it.
    Refused,
    /// Nobody answered in time.
    TimedOut,
    /// There was no way to the other end, or no more.
    Unreachable,
    /// The other end broke it off.
    Reset,
    /// This end gave it up before there was an answer.
    Abandoned,
    /// Any other error, by its number.
    Errno(u32),
}

/// Who asked for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This host called.
    Connect,
    /// This host was called.
    Accept,
    /// This host waits to be called.
    Listen,
    /// It was there before the probes.
    Unknown,
}

/// A TCP connection's life.
#[derive(Debug, Clone)]
pub struct Connection {
    /// When, and the owner as far as the kernel could tell; process 0 when it could not.
    pub subject: Subject,
    /// What.
    pub event: ConnectionEvent,
    /// Who asked.
    pub direction: Direction,
    /// The same for all events of one connection within a boot.
    pub socket_id: u64,
    /// Our end.
    pub local: std::net::SocketAddr,
    /// The other end.
    pub remote: std::net::SocketAddr,
    /// First SYN to established; `None` for accepted ones and where the start was not seen.
    pub connect_latency_ns: Option<u64>,
    /// Established to closed.
    pub duration_ns: Option<u64>,
    /// Payload sent, without retransmissions.
    pub sent_bytes: u64,
    /// Payload received.
    pub received_bytes: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Segments sent, all of them.
    pub segments_sent: u64,
    /// Segments received.
    pub segments_received: u64,
    /// Smoothed round trip; `None` before the first.
    pub srtt_ns: Option<u64>,
    /// Shortest round trip of the last minutes; `None` before the first.
    pub rtt_min_ns: Option<u64>,
    /// Who broke it off, if it was.
    pub reset: Option<Reset>,
    /// Why it was not made or did not last.
    pub failure: Option<Failure>,
}

/// What happened to a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupChange {
    /// Its directory was made; nobody is in it yet.
    Made,
    /// Its directory was removed; nobody is in it any more.
    Removed,
    /// This process was put into it.
    Joined(ProcessKey),
}

/// A cgroup in one of the host's hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupEvent {
    /// CPU it is counted on.
    pub cpu: u32,
    /// `CLOCK_BOOTTIME` when it happened.
    pub at_ns: u64,
    /// What.
    pub change: CgroupChange,
    /// Number of the hierarchy as in `/proc/PID/cgroup`; 0 is the unified one.
    pub hierarchy: u32,
    /// Inode of the directory.
    pub id: u64,
    /// From the root of the hierarchy, in the initial namespace; empty when it could not be read.
    pub path: Vec<u8>,
}
