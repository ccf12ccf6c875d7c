//! Bits of an exec event.

/// The executable lives in memory only: `memfd_create`.
pub const MEMFD: u32 = 1 << 0;
/// No name leads to the executable any more. Not set for [`MEMFD`].
pub const DELETED: u32 = 1 << 1;
/// The executable is on a tmpfs. Not set for [`MEMFD`].
pub const TMPFS: u32 = 1 << 2;
/// The executable is set-user-id.
pub const SETUID: u32 = 1 << 3;
/// The executable is set-group-id.
pub const SETGID: u32 = 1 << 4;
/// The exec gave the process more than it had (`AT_SECURE`).
pub const PRIVILEGE_GAIN: u32 = 1 << 5;
/// What was given to execve is a script: an interpreter runs in its place.
pub const SCRIPT: u32 = 1 << 6;

/// Descriptor 0 is a socket; 1 and 2 are the next two bits.
pub const STDIN_SOCKET: u32 = 1 << 8;
/// Descriptor 1 is a socket.
pub const STDOUT_SOCKET: u32 = 1 << 9;
/// Descriptor 2 is a socket.
pub const STDERR_SOCKET: u32 = 1 << 10;
/// Descriptor 0 is an IPv4 or IPv6 socket; 1 and 2 are the next two bits.
pub const STDIN_INET: u32 = 1 << 12;
/// Descriptor 1 is an IPv4 or IPv6 socket.
pub const STDOUT_INET: u32 = 1 << 13;
/// Descriptor 2 is an IPv4 or IPv6 socket.
pub const STDERR_INET: u32 = 1 << 14;

/// There were more bytes of arguments than the bound.
pub const ARGV_TRUNCATED: u32 = 1 << 16;
/// The arguments could not be read.
pub const ARGV_UNREADABLE: u32 = 1 << 17;
/// The path of the executable is deeper than the bound: its beginning is missing.
pub const EXE_TRUNCATED: u32 = 1 << 18;
/// The working directory is deeper than the bound: its beginning is missing.
pub const CWD_TRUNCATED: u32 = 1 << 19;

/// Descriptor 0 is a pipe; 1 and 2 are the next two bits.
pub const STDIN_PIPE: u32 = 1 << 20;
/// Descriptor 1 is a pipe.
pub const STDOUT_PIPE: u32 = 1 << 21;
/// Descriptor 2 is a pipe.
pub const STDERR_PIPE: u32 = 1 << 22;

/// Names of the bits, for people and tables.
pub const NAMES: [(u32, &str); 20] = [
    (MEMFD, "memfd"),
    (DELETED, "deleted"),
    (TMPFS, "tmpfs"),
    (SETUID, "setuid"),
    (SETGID, "setgid"),
    (PRIVILEGE_GAIN, "privilege_gain"),
    (SCRIPT, "script"),
    (STDIN_SOCKET, "stdin_socket"),
    (STDOUT_SOCKET, "stdout_socket"),
    (STDERR_SOCKET, "stderr_socket"),
    (STDIN_INET, "stdin_inet"),
    (STDOUT_INET, "stdout_inet"),
    (STDERR_INET, "stderr_inet"),
    (STDIN_PIPE, "stdin_pipe"),
    (STDOUT_PIPE, "stdout_pipe"),
    (STDERR_PIPE, "stderr_pipe"),
    (ARGV_TRUNCATED, "argv_truncated"),
    (ARGV_UNREADABLE, "argv_unreadable"),
    (EXE_TRUNCATED, "exe_truncated"),
    (CWD_TRUNCATED, "cwd_truncated"),
];
