//! Probes, reasons for loss, and the counters that make `attempted = delivered + lost` checkable.

use core::mem::size_of;

/// Probes, as rows of [`Counters`].
pub mod probe {
    /// Slices on a CPU.
    pub const CPU: usize = 0;
    /// Waits for a CPU.
    pub const RUN_QUEUE: usize = 1;
    /// Times away from the CPU.
    pub const OFF_CPU: usize = 2;
    /// System calls that returned.
    pub const SYSCALL: usize = 3;
    /// Connection events.
    pub const TCP: usize = 4;
    /// New processes.
    pub const FORK: usize = 5;
    /// Executed programs.
    pub const EXEC: usize = 6;
    /// Ended processes.
    pub const EXIT: usize = 7;
    /// Cgroups made, removed and joined.
    pub const CGROUP: usize = 8;
    /// Sends and receives that moved something.
    pub const SOCKET: usize = 9;
    /// TCP segments sent again.
    pub const RETRANSMIT: usize = 10;
    /// TCP resets, sent and received.
    pub const RESET: usize = 11;
    /// What deserves a look.
    pub const SECURITY: usize = 12;
    /// Requests to block devices that are done.
    pub const BLOCK: usize = 13;
    /// How many.
    pub const LEN: usize = 14;

    /// Row of [`super::Counters`] for connection events that another program than [`TCP`]'s own sends: the one may
    /// interrupt the other, so they must not share counters.
    pub const TCP_ACCEPTED: usize = 30;
    /// The same for those that the programs of [`SOCKET`] send.
    pub const TCP_USED: usize = 29;
    /// The same for resets sent; [`RESET`]'s own row counts those received.
    pub const RESET_SENT: usize = 28;
    /// Which row belongs to which probe besides its own. User space adds it.
    pub const SHARES: [(usize, usize); 3] = [(TCP_ACCEPTED, TCP), (TCP_USED, TCP), (RESET_SENT, RESET)];
    /// Rows of [`super::Counters`]: the probes, and what else sends for them.
    pub const ROWS: usize = 32;

    /// Names, by index.
    pub const NAMES: [&str; LEN] = [
        "cpu",
        "run_queue",
        "off_cpu",
        "syscall",
        "tcp",
        "fork",
        "exec",
        "exit",
        "cgroup",
        "socket",
        "retransmit",
        "reset",
        "security",
        "block",
    ];
}

/// Columns of [`Counters`]: what was attempted, then the reasons for loss.
pub mod column {
    /// What the kernel offered.
    pub const ATTEMPTED: usize = 0;
    /// The map that counts was full.
    pub const MAP_FULL: usize = 1;
    /// The ring buffer was full.
    pub const RING_FULL: usize = 2;
    /// The beginning was not seen: the probe came while it was under way, or the call was refused before it began.
    pub const ENTRY_MISSED: usize = 3;
    /// A map refused an update because it was locked by the code the probe interrupted.
    pub const MAP_BUSY: usize = 4;
    /// A system call through the 32-bit interface, whose numbers mean other calls.
    pub const COMPAT: usize = 5;
    /// Passed over by sampling, which user space asked for. What was measured stands for it.
    pub const SAMPLED: usize = 6;
    /// How many columns there are; a power of two.
    pub const LEN: usize = 8;

    /// Names, by index; the first is not a reason.
    pub const NAMES: [&str; LEN] =
        ["attempted", "map_full", "ring_full", "entry_missed", "map_busy", "compat_call", "sampled", "reserved"];
}

/// The kernel refused to run the program because it was running on that CPU already. Counted by the kernel itself.
pub const RECURSION: &str = "recursion";

/// A record that user space could not read. Says that the two sides do not match; never seen with the object built
/// from the same source.
pub const UNREADABLE: &str = "unreadable";

/// What no other counter explains. A fault in the probes if it is ever seen.
pub const UNEXPLAINED: &str = "unexplained";

/// Domains whose price is kept apart.
pub mod price {
    /// Programs at the switch.
    pub const CPU: usize = 0;
    /// Programs at entry and return of system calls.
    pub const SYSCALL: usize = 1;
    /// Connections.
    pub const NETWORK: usize = 2;
    /// Processes and what is suspicious of them.
    pub const PROCESS: usize = 3;
    /// Block devices.
    pub const BLOCK: usize = 4;
    /// Sends and receives.
    pub const SOCKET: usize = 5;
    /// How many; padded to whole cache lines.
    pub const LEN: usize = 8;

    /// Names, by index.
    pub const NAMES: [&str; 6] = ["cpu", "syscall", "network", "process", "block", "socket"];
}

/// One CPU's counters of one parity of the epoch. Each row is written by one program only, which the kernel does not let
/// interrupt itself on a CPU, so plain additions are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// By probe, then by column.
    pub counts: [[u64; column::LEN]; probe::ROWS],
}

const _: () = assert!(size_of::<Counters>() == 8 * column::LEN * probe::ROWS);
