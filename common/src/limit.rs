//! How much the probes may hold. Every number is a bound of kernel memory; what does not fit is counted as lost.
//!
//! A hash entry costs its key, its value and about 48 bytes of the kernel's own. With the defaults and two CPUs:
//!
//! | map | entries | bytes each | memory |
//! |---|---|---|---|
//! | `CPUS` | one a CPU | 267,008 | 0.5 MB |
//! | `CALLS_*` | 2 x 65,536 | 112 | 14.7 MB |
//! | `WAITS_*` | 2 x 32,768 | 112 | 7.3 MB |
//! | `USAGE_*` | 2 x 16,384 | 144 | 4.7 MB |
//! | `TRAFFIC_*` | 2 x 16,384 | 112 | 3.7 MB |
//! | `MISHAPS_*` | 2 x 8,192 | 96 | 1.6 MB |
//! | `THREADS` | 32,768 | 128 | 4.2 MB |
//! | `CROWDED` | 8,192 | 184 | 1.5 MB |
//! | `CREDENTIALS` | 2,048 | 84 | 0.2 MB |
//! | `INFLIGHT` | 8,192 | 88 | 0.7 MB |
//! | `BLOCK_*` | 2 x 16,384 | 104 | 3.4 MB |
//! | `CONNECTIONS` | 32,768 | 176 | 5.8 MB |
//! | `EVENTS` | | | 8.4 MB |
//! | `EXEC_SCRATCH` | one a CPU | 29,416 | 0.1 MB |
//! | `CGROUP_SCRATCH` | one a CPU | 1,072 | 2 KB |
//!
//! `Probes::map_bytes` says what the kernel itself makes of it.

/// Version of what the maps hold. To be raised when their meaning changes and no size does: an agent adopts the maps of
/// an earlier one only if both are the same.
pub const LAYOUT: u32 = 3;

/// Programs whose refused runs are noted.
pub const PROGRAMS: usize = 32;

/// Lines of system calls a CPU keeps on each side: process x call x class x latency bucket. A power of two.
pub const CALL_LINES: usize = 1_024;

/// Lines of waits a CPU keeps on each side: process x series x bucket. A power of two.
pub const WAIT_LINES: usize = 512;

/// Processes whose time on it a CPU keeps on each side. A power of two.
pub const USAGE_LINES: usize = 256;

/// Process x protocol whose traffic a CPU keeps on each side. A power of two.
pub const TRAFFIC_LINES: usize = 256;

/// Process x system call x class x CPU x latency bucket in one epoch, beyond what the CPUs keep.
pub const CALL_ENTRIES: u32 = 65_536;

/// Process x series x CPU x bucket in one epoch, beyond what the CPUs keep.
pub const WAIT_ENTRIES: u32 = 32_768;

/// Process x CPU in one epoch, beyond what the CPUs keep.
pub const USAGE_ENTRIES: u32 = 16_384;

/// Process x protocol x CPU in one epoch, beyond what the CPUs keep.
pub const TRAFFIC_ENTRIES: u32 = 16_384;

/// Owner of connections x kind of mishap x CPU in one epoch.
pub const MISHAP_ENTRIES: u32 = 8_192;

/// Places of threads, found by their number. A power of two; threads whose numbers differ by a multiple of it share one.
pub const THREAD_PLACES: u32 = 32_768;

/// Threads that found their place taken.
pub const CROWDED_ENTRIES: u32 = 8_192;

/// Threads within a call that may change their credentials.
pub const CREDENTIAL_ENTRIES: u32 = 2_048;

/// Requests that block devices have at once.
pub const REQUEST_ENTRIES: u32 = 8_192;

/// Process x device x operation x latency or size bucket x CPU in one epoch.
pub const BLOCK_ENTRIES: u32 = 16_384;

/// TCP sockets open at once, those that listen included.
pub const CONNECTION_ENTRIES: u32 = 32_768;

/// Ring buffer for events, bytes; a power of two and a multiple of the page size. Eight MiB hold the largest exec
/// record 290 times and a fork record 90,000 times between two drains.
pub const RING_BYTES: u32 = 8 << 20;

/// Arguments of one exec. The scratch record must stay below 32 KiB, the most a per-CPU map value may have.
pub const ARGV_BYTES: usize = 16_384;

/// Path given to execve, with its zero byte: the kernel's own bound.
pub const FILENAME_BYTES: usize = 4_096;

/// Path of the interpreter a script asks for, with its zero byte: the kernel's own bound for scripts.
pub const INTERPRETER_BYTES: usize = 256;

/// Resolved path of the executable or the working directory.
pub const PATH_BYTES: usize = 4_096;

/// One name in a path, with its zero byte: the kernel's own bound.
pub const NAME_BYTES: usize = 256;

/// Path of a cgroup, with its zero byte: as much as the kernel puts together for its own trace.
pub const CGROUP_PATH_BYTES: usize = 1_024;

/// Names in a resolved path, mount points not counted; a deeper path is flagged.
pub const PATH_DEPTH: u32 = 48;
