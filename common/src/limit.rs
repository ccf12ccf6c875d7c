//! How much the probes may hold. Every number is a bound of kernel memory; what does not fit is counted as lost.
//!
//! A hash entry costs its key, its value and about 48 bytes of the kernel's own. With the defaults and two CPUs:
//!
//! | map | entries | bytes each | memory |
//! |---|---|---|---|
//! | `SYSCALLS_*` | 2 x 65,536 | 128 | 16.8 MB |
//! | `CPU_*` | 2 x 16,384 | 160 | 5.2 MB |
//! | `DELAYS_*` | 2 x 65,536 | 72 | 9.4 MB |
//! | `TASKS` | 32,768 | 80 | 2.6 MB |
//! | `CONNECTIONS` | 32,768 | 160 | 5.2 MB |
//! | `EVENTS` | | | 8.4 MB |
//! | `EXEC_SCRATCH` | one a CPU | 29,064 | 0.1 MB |
//!
//! `Probes::map_bytes` says what the kernel itself makes of it.

/// Process x system call x CPU x latency bucket in one epoch.
pub const SYSCALL_ENTRIES: u32 = 65_536;

/// Process x CPU in one epoch.
pub const CPU_ENTRIES: u32 = 16_384;

/// Process x CPU x delay bucket in one epoch.
pub const DELAY_ENTRIES: u32 = 65_536;

/// Threads alive at once.
pub const TASK_ENTRIES: u32 = 32_768;

/// TCP sockets open at once.
pub const CONNECTION_ENTRIES: u32 = 32_768;

/// Ring buffer for events, bytes; a power of two and a multiple of the page size. Eight MiB hold the largest exec
/// record 290 times and a fork record 90,000 times between two drains.
pub const RING_BYTES: u32 = 8 << 20;

/// Arguments of one exec. The scratch record must stay below 32 KiB, the most a per-CPU map value may have.
pub const ARGV_BYTES: usize = 16_384;

/// Path given to execve, with its zero byte: the kernel's own bound.
pub const FILENAME_BYTES: usize = 4_096;

/// Resolved path of the executable or the working directory.
pub const PATH_BYTES: usize = 4_096;

/// One name in a path, with its zero byte: the kernel's own bound.
pub const NAME_BYTES: usize = 256;

/// Names in a resolved path, mount points not counted; a deeper path is flagged.
pub const PATH_DEPTH: u32 = 48;
