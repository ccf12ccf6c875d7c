//! What the caller may choose.

use skep_common::limit;

/// How the probes are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Time on a CPU and run-queue delay.
    pub cpu: bool,
    /// System calls.
    pub syscall: bool,
    /// TCP connections.
    pub tcp: bool,
    /// Forks, execs and exits.
    pub process: bool,
    /// Size of the ring buffer, bytes: a power of two and at least a page.
    pub ring_bytes: u32,
    /// Entries of each side's map of process x system call x CPU x latency bucket.
    pub syscall_entries: u32,
    /// Entries of each side's map of process x CPU.
    pub cpu_entries: u32,
    /// Entries of each side's map of process x CPU x delay bucket.
    pub delay_entries: u32,
    /// Threads remembered while they are not on a CPU.
    pub task_entries: u32,
    /// Open TCP sockets remembered.
    pub connection_entries: u32,
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
            syscall: true,
            tcp: true,
            process: true,
            ring_bytes: limit::RING_BYTES,
            syscall_entries: limit::SYSCALL_ENTRIES,
            cpu_entries: limit::CPU_ENTRIES,
            delay_entries: limit::DELAY_ENTRIES,
            task_entries: limit::TASK_ENTRIES,
            connection_entries: limit::CONNECTION_ENTRIES,
            log: LogLevel::Off,
        }
    }
}
