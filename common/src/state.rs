//! What each CPU keeps for itself: value of the array `CPUS`, one entry a CPU, mapped into user space.
//!
//! One lookup in the hot programs leads to everything they need, and no two CPUs share a cache line. User space reads
//! the quiet side without a system call.

use core::mem::{offset_of, size_of};

use crate::{
    aggregate::{Line, TrafficLine, UsageLine, WaitLine},
    ledger::Counters,
    limit,
};

/// One CPU.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CpuState {
    /// What user space tells the programs.
    pub orders: Orders,
    /// The slice that is on the CPU now.
    pub running: Running,
    /// What the first switch after a flip left behind.
    pub tail: Tail,
    /// Counts the calls that sampling looked at.
    pub turn: u64,
    /// Thread group of the agent, whose own BPF calls are not told of. Written by user space.
    pub owner: u64,
    /// Names this set of maps; of CPU 0 only. The programs do not read it.
    pub incarnation: u64,
    /// The last epoch whose side was emptied, or is being; of CPU 0 only. The programs do not read it.
    pub emptied: u64,
    /// Zero.
    pub pad: [u64; 4],
    /// Refused runs that user space had accounted when it read the last epoch of each parity, by program; of CPU 0 only.
    /// The programs do not read it.
    pub accounted: [[u64; limit::PROGRAMS]; 2],
    /// What the programs cost, by [`crate::ledger::price`].
    pub prices: [Price; crate::ledger::price::LEN],
    /// By parity of the epoch.
    pub sides: [Side; 2],
}

const _: () = assert!(offset_of!(CpuState, running) == 64);
const _: () = assert!(size_of::<CpuState>().is_multiple_of(64) && offset_of!(CpuState, sides).is_multiple_of(64));

/// Written by user space, read by the programs; with a count of theirs, for this is the one line of memory every program
/// reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Orders {
    /// The current epoch. Written last.
    pub epoch: u64,
    /// `CLOCK_BOOTTIME` at which the last epoch of each parity began.
    pub began_ns: [u64; 2],
    /// Measure one system call in `1 << syscall_shift`.
    pub syscall_shift: u64,
    /// Since when switches have been watched without a pause: what threads left before is not believed.
    pub switches_since_ns: u64,
    /// The same of system calls.
    pub calls_since_ns: u64,
    /// System calls attempted in the epochs of each parity, which the ledger of the side leaves out.
    pub calls_attempted: [u64; 2],
}

const _: () = assert!(size_of::<Orders>() == 64);

/// The slice that is on the CPU now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Running {
    /// When the task was switched in, nanoseconds of `CLOCK_BOOTTIME`; 0 until the CPU first switched.
    pub since_ns: u64,
    /// Start of its thread group leader.
    pub start_ns: u64,
    /// Inode of its cgroup directory.
    pub cgroup_id: u64,
    /// Its thread group; 0 for the idle task.
    pub tgid: u32,
    /// The thread; 0 for the idle task.
    pub tid: u32,
    /// Counts writes: odd while one is under way.
    pub sequence: u32,
    /// Low half of the epoch of the last switch.
    pub epoch: u32,
    /// It was on another CPU before.
    pub migrated: u64,
    /// What to add to the scheduler's clock on this CPU to get `CLOCK_BOOTTIME`; the two drift apart by some millionths.
    pub ahead_ns: u64,
    /// When that was last compared; 0 for never.
    pub compared_ns: u64,
}

const _: () = assert!(size_of::<Running>() == 64 && offset_of!(Running, epoch) == 36);
const _: () =
    assert!(offset_of!(Running, tid) == offset_of!(Running, tgid) + 4 && offset_of!(Running, tgid).is_multiple_of(8));

/// The part before the flip of the slice that spanned it, written by the first switch after the flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Tail {
    /// The epoch that began with the flip; the record says nothing of any other. Written last.
    pub epoch: u64,
    /// Time on the CPU before the flip, nanoseconds.
    pub on_cpu_ns: u64,
    /// Start of the thread group leader.
    pub start_ns: u64,
    /// Inode of the cgroup directory.
    pub cgroup_id: u64,
    /// Thread group; 0 for the idle task.
    pub tgid: u32,
    /// Zero.
    pub pad: u32,
    /// Task name.
    pub comm: [u8; 16],
    /// Zero.
    pub filler: u64,
}

const _: () = assert!(size_of::<Tail>() == 64 && offset_of!(Tail, comm) == 40);

/// What the programs of a domain cost. Only some runs are timed: the clock is half of a cheap program's price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Price {
    /// Runs; of system calls only the whole ones, for all are in [`Orders::calls_attempted`].
    pub runs: u64,
    /// Runs that did all there is to do; the others only counted.
    pub whole: u64,
    /// Of these, runs that were timed.
    pub timed: u64,
    /// How long these took from their first look at the clock to their end, nanoseconds.
    pub timed_ns: u64,
}

const _: () = assert!(size_of::<Price>() == 32);

/// What is counted in the epochs of one parity.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Side {
    /// What was attempted and lost.
    pub ledger: Counters,
    /// System calls; only the program at their return writes them.
    pub calls: [Line; limit::CALL_LINES],
    /// Waits for and away from the CPU; only the program at the switch writes them.
    pub waits: [WaitLine; limit::WAIT_LINES],
    /// Time on the CPU; likewise.
    pub usage: [UsageLine; limit::USAGE_LINES],
    /// Sends and receives; only the two programs behind them write them, in the context of a task, where neither can
    /// interrupt the other. What counts in soft interrupts has no lines.
    pub traffic: [TrafficLine; limit::TRAFFIC_LINES],
}

const _: () = assert!(offset_of!(Side, calls).is_multiple_of(64) && size_of::<Side>().is_multiple_of(64));

/// A thread: value of the array `THREADS`, where a thread has the place its number leads to, and of the map `CROWDED`
/// for threads that found their place taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Thread {
    /// Whose place it is; 0 while it is free.
    pub tid: u32,
    /// Thread group.
    pub tgid: u32,
    /// How many tried to take the free place; it belongs to the one that made this 1.
    pub claims: u64,
    /// Start of the thread group leader.
    pub start_ns: u64,
    /// When it entered the call; between two calls, when it returned from the last one that was timed.
    pub entered_ns: u64,
    /// Number of the system call it is in.
    pub nr: u32,
    /// State of that call.
    pub call: u32,
    /// When it left its CPU to wait; 0 when it left runnable, or nobody saw it leave.
    pub left_ns: u64,
    /// The kernel's own sum of its waits for a CPU when it left.
    pub waited_ns: u64,
    /// One more than the CPU it left; 0 until it was seen leaving.
    pub left_cpu: u32,
    /// So many calls are not timed before the next that is.
    pub untimed: u32,
    /// Address of its `struct css_set` when its cgroup was last looked up.
    pub cgroups: u64,
    /// Inode of the directory that led to.
    pub cgroup_id: u64,
    /// When it was last seen leaving its CPU.
    pub last_ns: u64,
    /// Zero.
    pub pad: [u64; 5],
}

const _: () = assert!(size_of::<Thread>() == 128 && offset_of!(Thread, start_ns) == 16);
const _: () =
    assert!(offset_of!(Thread, call) == offset_of!(Thread, nr) + 4 && offset_of!(Thread, nr).is_multiple_of(8));
