//! Records of the ring buffer. Each begins with a [`Header`].

use core::mem::{offset_of, size_of};

/// What a record is.
pub mod kind {
    /// [`super::ForkRecord`].
    pub const FORK: u16 = 1;
    /// [`super::ExecRecord`].
    pub const EXEC: u16 = 2;
    /// [`super::ExitRecord`].
    pub const EXIT: u16 = 3;
    /// [`super::SecurityRecord`].
    pub const SECURITY: u16 = 4;

    /// [`super::ConnectionRecord`].
    pub const CONNECTION: u16 = 10;

    /// [`super::CgroupRecord`].
    pub const CGROUP: u16 = 20;
}

/// First bytes of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u16,
    /// CPU in whose ledger the record is counted.
    pub cpu: u16,
    /// Low half of the epoch in whose ledger the record is counted.
    pub epoch: u32,
}

const _: () = assert!(size_of::<Header>() == 8);

/// Whom a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SubjectRecord {
    /// When it happened, nanoseconds of `CLOCK_BOOTTIME`.
    pub at_ns: u64,
    /// Start of the thread group leader, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// The same of the parent.
    pub parent_start_ns: u64,
    /// Inode of the cgroup directory in the unified hierarchy.
    pub cgroup_id: u64,
    /// Thread group; 0 when the owner is not known.
    pub tgid: u32,
    /// Thread group of the parent.
    pub parent_tgid: u32,
    /// Real user in the initial user namespace.
    pub uid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective user.
    pub euid: u32,
    /// Zero.
    pub pad: u32,
    /// Task name, ends with a zero byte.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<SubjectRecord>() == 72 && offset_of!(SubjectRecord, comm) == 56);

/// A new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ForkRecord {
    /// Kind and epoch.
    pub header: Header,
    /// The child.
    pub subject: SubjectRecord,
    /// Its effective capabilities: bit n is number n of linux/capability.h.
    pub capabilities: u64,
}

const _: () = assert!(size_of::<ForkRecord>() == 88 && offset_of!(ForkRecord, capabilities) == 80);

/// A user or session that is not set, or that this kernel does not tell.
pub const NO_ID: u32 = u32::MAX;

/// A process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ExitRecord {
    /// Kind and epoch.
    pub header: Header,
    /// Who.
    pub subject: SubjectRecord,
    /// As `wait` encodes it: the exit code in the second byte, the signal in the low seven bits.
    pub status: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<ExitRecord>() == 88 && offset_of!(ExitRecord, status) == 80);

/// A program was executed. The texts follow the record, one after the other, each as long as the record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ExecRecord {
    /// Kind and epoch.
    pub header: Header,
    /// The process after the exec.
    pub subject: SubjectRecord,
    /// Inode of the executable.
    pub inode: u64,
    /// Effective capabilities after it, as in [`ForkRecord`].
    pub capabilities: u64,
    /// Inodes of descriptors 0, 1 and 2 where they are sockets or pipes, else 0.
    pub stream_inodes: [u64; 3],
    /// Name of the controlling terminal, ends with a zero byte; empty when there is none.
    pub terminal: [u8; 16],
    /// User who logged in, or [`NO_ID`].
    pub login_uid: u32,
    /// Audit session, or [`NO_ID`].
    pub session: u32,
    /// Bits of [`crate::exec_flag`].
    pub flags: u32,
    /// First text: arguments, each ended by a zero byte, up to [`crate::limit::ARGV_BYTES`].
    pub argv_len: u32,
    /// Second text: the path given to execve, with its zero byte.
    pub filename_len: u32,
    /// Third text: the interpreter the script asks for, with its zero byte; none when it is no script.
    pub interpreter_len: u32,
    /// Fourth text: names on the way from the executable up to the root, the last first, each ended by a zero byte.
    pub exe_len: u32,
    /// Fifth text: the same for the working directory.
    pub cwd_len: u32,
}

const _: () = assert!(size_of::<ExecRecord>() == 168 && offset_of!(ExecRecord, argv_len) == 148);

/// What a [`SecurityRecord`] tells of.
pub mod security {
    /// A process was chosen to be killed for want of memory. Target: the process that wanted it, text: its name.
    pub const OOM_KILL: u32 = 1;
    /// A module was loaded. Values: its taints; text: its name.
    pub const MODULE_LOAD: u32 = 2;
    /// A thread changed its credentials. Target: number of the call; values: uid, euid, gid, egid, each with what it was
    /// in the high half, then the effective capabilities before and after.
    pub const CREDENTIALS: u32 = 3;
    /// Another process was traced or written to. Target: it, as the caller calls it; values: the request.
    pub const PTRACE: u32 = 4;
    /// A BPF program, map or link was made. Values: command, type; text: its name.
    pub const BPF: u32 = 5;
    /// A ring for asynchronous calls was made. Values: entries, flags.
    pub const IO_URING_SETUP: u32 = 6;
}

/// A process did something that deserves a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SecurityRecord {
    /// Kind and epoch.
    pub header: Header,
    /// Who did it, or was killed.
    pub subject: SubjectRecord,
    /// One of [`security`], which also says what the rest means.
    pub event: u32,
    /// See [`security`].
    pub target: u32,
    /// What the system call returned.
    pub result: i64,
    /// See [`security`].
    pub values: [u64; 6],
    /// See [`security`]; ends with a zero byte.
    pub text: [u8; 64],
}

const _: () = assert!(size_of::<SecurityRecord>() == 208 && offset_of!(SecurityRecord, text) == 144);

/// What happened to a connection.
pub mod connection {
    /// Established.
    pub const OPEN: u32 = 1;
    /// Never established.
    pub const FAIL: u32 = 2;
    /// Closed after having been established.
    pub const CLOSE: u32 = 3;
    /// A socket listens.
    pub const LISTEN: u32 = 4;
    /// It listens no more.
    pub const UNLISTEN: u32 = 5;
}

/// Who broke a connection off with an RST.
pub mod reset {
    /// Nobody.
    pub const NONE: u32 = 0;
    /// This end.
    pub const SENT: u32 = 1;
    /// The other end.
    pub const RECEIVED: u32 = 2;
}

/// Who asked for a connection.
pub mod direction {
    /// It was there before the probes.
    pub const UNKNOWN: u32 = 0;
    /// This host called.
    pub const CONNECT: u32 = 1;
    /// This host was called.
    pub const ACCEPT: u32 = 2;
    /// This host waits to be called.
    pub const LISTEN: u32 = 3;
}

/// A duration that is not known.
pub const NO_DURATION: u64 = u64::MAX;

/// A TCP connection opened, failed or closed, or a socket began or ceased to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ConnectionRecord {
    /// Kind and epoch.
    pub header: Header,
    /// When, and the owner; thread group 0 when it is not known.
    pub subject: SubjectRecord,
    /// The same for all records of one connection within a boot.
    pub socket_id: u64,
    /// First SYN to established, nanoseconds, or [`NO_DURATION`].
    pub connect_ns: u64,
    /// Established to closed, nanoseconds, or [`NO_DURATION`].
    pub duration_ns: u64,
    /// Payload sent, retransmissions not counted.
    pub sent_bytes: u64,
    /// Payload received.
    pub received_bytes: u64,
    /// One of [`connection`].
    pub event: u32,
    /// One of [`direction`].
    pub direction: u32,
    /// Segments sent again.
    pub retransmits: u32,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// Host byte order.
    pub local_port: u16,
    /// Host byte order.
    pub remote_port: u16,
    /// Zero.
    pub pad: u16,
    /// The socket's error, positive; 0 for none.
    pub error: u32,
    /// One of [`reset`].
    pub reset: u32,
    /// Segments sent, all of them.
    pub segments_sent: u32,
    /// Segments received.
    pub segments_received: u32,
    /// Smoothed round trip in eighths of a microsecond; 0 before the first.
    pub srtt_eighths_us: u32,
    /// Shortest round trip of the last minutes, microseconds; all ones before the first.
    pub rtt_min_us: u32,
    /// Zero.
    pub filler: u32,
    /// Network byte order; an IPv4 address is in the first four bytes.
    pub local: [u8; 16],
    /// The same.
    pub remote: [u8; 16],
}

const _: () = assert!(size_of::<ConnectionRecord>() == 200 && offset_of!(ConnectionRecord, local) == 168);

/// What happened to a cgroup.
pub mod cgroup {
    /// Its directory was made.
    pub const MADE: u32 = 1;
    /// Its directory was removed.
    pub const REMOVED: u32 = 2;
    /// A process was put into it.
    pub const JOINED: u32 = 3;
}

/// A cgroup was made or removed, or a process put into it. Its path follows the record, with its zero byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct CgroupRecord {
    /// Kind and epoch.
    pub header: Header,
    /// When, nanoseconds of `CLOCK_BOOTTIME`.
    pub at_ns: u64,
    /// Inode of its directory.
    pub id: u64,
    /// Start of the process that joined, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// The process that joined; 0 otherwise.
    pub tgid: u32,
    /// Number of its hierarchy as in `/proc/PID/cgroup`; 0 is the unified one.
    pub hierarchy: u32,
    /// One of [`cgroup`].
    pub change: u32,
    /// Bytes of the path, from the root of the hierarchy; 0 when it could not be read whole.
    pub path_len: u32,
}

const _: () = assert!(size_of::<CgroupRecord>() == 48 && offset_of!(CgroupRecord, path_len) == 44);
