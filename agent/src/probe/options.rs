//! What the caller may choose.

use skep_common::limit;

/// How the probes are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Time on a CPU and run-queue delay.
    pub cpu: bool,
    /// Time away from the CPU, if `cpu` is on.
    pub off_cpu: bool,
    /// System calls.
    pub syscall: bool,
    /// TCP connections.
    pub tcp: bool,
    /// Bytes and messages of TCP and UDP by process.
    pub socket: bool,
    /// Forks, execs and exits.
    pub process: bool,
    /// Cgroups made, removed and joined.
    pub cgroup: bool,
    /// What deserves a look: OOM kills, modules, credential changes, ptrace, bpf, io_uring.
    pub security: bool,
    /// Requests to block devices.
    pub block: bool,
    /// Size of the ring buffer, bytes: a power of two and at least a page.
    pub ring_bytes: u32,
    /// Entries of each side's map of process x system call x error class x CPU x latency bucket.
    pub call_entries: u32,
    /// Entries of each side's map of process x kind of wait x CPU x bucket.
    pub wait_entries: u32,
    /// Entries of each side's map of process x CPU.
    pub usage_entries: u32,
    /// Entries of each side's map of process x protocol x CPU.
    pub traffic_entries: u32,
    /// Places for threads: a power of two.
    pub thread_places: u32,
    /// Threads remembered that found their place taken.
    pub crowded_entries: u32,
    /// Entries of each side's map of process x device x operation x bucket x CPU.
    pub block_entries: u32,
    /// Requests remembered that block devices have at once.
    pub request_entries: u32,
    /// Open TCP sockets remembered.
    pub connection_entries: u32,
    /// Use the programs for kernels that do not check types, whatever this kernel can do. They cost more.
    pub untyped: bool,
    /// What the probes write to the agent's log, for debugging them. Costs nothing when off.
    pub log: LogLevel,
}

/// How much the probes write to the agent's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Nothing.
    #[default]
    Off,
    /// Programs executed, connections refused, records dropped.
    Debug,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            cpu: true,
            off_cpu: true,
            syscall: true,
            tcp: true,
            socket: true,
            process: true,
            cgroup: true,
            security: true,
            block: true,
            ring_bytes: limit::RING_BYTES,
            call_entries: limit::CALL_ENTRIES,
            wait_entries: limit::WAIT_ENTRIES,
            usage_entries: limit::USAGE_ENTRIES,
            traffic_entries: limit::TRAFFIC_ENTRIES,
            thread_places: limit::THREAD_PLACES,
            crowded_entries: limit::CROWDED_ENTRIES,
            block_entries: limit::BLOCK_ENTRIES,
            request_entries: limit::REQUEST_ENTRIES,
            connection_entries: limit::CONNECTION_ENTRIES,
            untyped: false,
            log: LogLevel::Off,
        }
    }
}
