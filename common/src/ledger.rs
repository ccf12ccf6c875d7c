//! Probes, reasons for loss, and the counters that make `attempted = delivered + lost` checkable.

use core::mem::size_of;

/// Probes, as rows of [`Counters`].
pub mod probe {
    /// Slices on a CPU.
    pub const CPU: usize = 0;
    /// Waits for a CPU.
    pub const RUN_QUEUE: usize = 1;
    /// System calls that returned.
    pub const SYSCALL: usize = 2;
    /// Connection events.
    pub const TCP: usize = 3;
    /// New processes.
    pub const FORK: usize = 4;
    /// Executed programs.
    pub const EXEC: usize = 5;
    /// Ended processes.
    pub const EXIT: usize = 6;
    /// How many.
    pub const LEN: usize = 7;

    /// Row of [`super::Counters`] for connection events that another program than [`TCP`]'s own sends: the one may
    /// interrupt the other, so they must not share counters. User space adds it to [`TCP`].
    pub const TCP_ACCEPTED: usize = LEN;
    /// Rows of [`super::Counters`].
    pub const ROWS: usize = LEN + 1;

    /// Names, by index.
    pub const NAMES: [&str; LEN] = ["cpu", "run_queue", "syscall", "tcp", "fork", "exec", "exit"];
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
    /// How many columns there are.
    pub const LEN: usize = 6;

    /// Names, by index; the first is not a reason.
    pub const NAMES: [&str; LEN] = ["attempted", "map_full", "ring_full", "entry_missed", "map_busy", "compat_call"];
}

/// The kernel refused to run the program because it was running on that CPU already. Counted by the kernel itself.
pub const RECURSION: &str = "recursion";

/// A record that user space could not read. Says that the two sides do not match; never seen with the object built
/// from the same source.
pub const UNREADABLE: &str = "unreadable";

/// What no other counter explains. A fault in the probes if it is ever seen.
pub const UNEXPLAINED: &str = "unexplained";

/// Value of the per-CPU array `LEDGER`, one for each parity of the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// By probe, then by column.
    pub counts: [[u64; column::LEN]; probe::ROWS],
}

const _: () = assert!(size_of::<Counters>() == 8 * column::LEN * probe::ROWS);
