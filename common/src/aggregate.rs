//! Keys and values of the counting maps.
//!
//! Every counting map exists twice, once for each parity of the epoch: the kernel writes one side while user space
//! reads the other. Keys carry the CPU, so that an entry is only ever written by one program on one CPU: sums and
//! extremes are exact with plain loads and stores. User space merges the CPUs.

use core::mem::{offset_of, size_of};

/// Bits of `cpu_bucket` that hold the bucket; the CPU is above them.
pub const BUCKET_BITS: u32 = 10;

/// Packs a CPU and a histogram bucket into one word of a key.
#[inline(always)]
pub const fn cpu_bucket(cpu: u32, bucket: u16) -> u32 {
    (cpu << BUCKET_BITS) | bucket as u32
}

/// The bucket in a packed word.
#[inline(always)]
pub const fn bucket_of(cpu_bucket: u32) -> u16 {
    (cpu_bucket & ((1 << BUCKET_BITS) - 1)) as u16
}

const _: () = assert!(crate::bucket::BUCKETS <= 1 << BUCKET_BITS);

/// Key of the map `SYSCALLS_*`: one process, system call, CPU and latency bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SyscallKey {
    /// Start of the thread group leader, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Thread group.
    pub tgid: u32,
    /// Number of the call on this architecture.
    pub nr: u32,
    /// See [`cpu_bucket`].
    pub cpu_bucket: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<SyscallKey>() == 24 && offset_of!(SyscallKey, cpu_bucket) == 16);

/// Value of the map `SYSCALLS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SyscallValue {
    /// Calls that returned.
    pub count: u64,
    /// Of these, with -4095..-1.
    pub errors: u64,
    /// Sum of their latencies, nanoseconds.
    pub sum_ns: u64,
    /// Shortest, nanoseconds.
    pub min_ns: u64,
    /// Longest, nanoseconds.
    pub max_ns: u64,
    /// Task name when the entry was made.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<SyscallValue>() == 56 && offset_of!(SyscallValue, comm) == 40);

/// Key of the map `CPU_*`: one process on one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct CpuKey {
    /// Start of the thread group leader, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Thread group.
    pub tgid: u32,
    /// CPU.
    pub cpu: u32,
}

const _: () = assert!(size_of::<CpuKey>() == 16 && offset_of!(CpuKey, cpu) == 12);

/// Value of the map `CPU_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct CpuValue {
    /// Time on the CPU, nanoseconds.
    pub on_cpu_ns: u64,
    /// Times a thread left the CPU.
    pub slices: u64,
    /// Of these, to wait.
    pub voluntary: u64,
    /// Of these, while runnable.
    pub involuntary: u64,
    /// Slices that began with a known wait for the CPU.
    pub delays: u64,
    /// Sum of those waits, nanoseconds.
    pub delay_sum_ns: u64,
    /// Shortest wait, nanoseconds; `u64::MAX` while there is none.
    pub delay_min_ns: u64,
    /// Longest wait, nanoseconds.
    pub delay_max_ns: u64,
    /// When the last slice ended, nanoseconds of `CLOCK_BOOTTIME`: which CPU knows the name and the cgroup best.
    pub last_ns: u64,
    /// Inode of the cgroup directory in the unified hierarchy at the last slice.
    pub cgroup_id: u64,
    /// Task name at the last slice.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<CpuValue>() == 96 && offset_of!(CpuValue, comm) == 80);

/// Key of the map `DELAYS_*`: run-queue delay of one process on one CPU in one bucket. The value is a `u64` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct DelayKey {
    /// Start of the thread group leader, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Thread group.
    pub tgid: u32,
    /// See [`cpu_bucket`].
    pub cpu_bucket: u32,
}

const _: () = assert!(size_of::<DelayKey>() == 16 && offset_of!(DelayKey, cpu_bucket) == 12);

/// Value of the array `RUNNING`, one for each CPU: the slice that is on it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Running {
    /// When the task was switched in, nanoseconds of `CLOCK_BOOTTIME`; 0 until the CPU first switched.
    pub since_ns: u64,
    /// Start of its thread group leader.
    pub start_ns: u64,
    /// Inode of its cgroup directory.
    pub cgroup_id: u64,
    /// How long it had waited for the CPU; `u64::MAX` when not known.
    pub delay_ns: u64,
    /// Its thread group; 0 for the idle task.
    pub tgid: u32,
    /// The thread; 0 for the idle task.
    pub tid: u32,
    /// Counts writes: odd while one is under way.
    pub sequence: u32,
    /// Low half of the epoch of the last switch.
    pub epoch: u32,
}

const _: () = assert!(size_of::<Running>() == 48 && offset_of!(Running, epoch) == 44);

/// Value of the array `TAILS`, one for each CPU: the part before the flip of the slice that spanned it, written by the
/// first switch after the flip.
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
}

const _: () = assert!(size_of::<Tail>() == 56 && offset_of!(Tail, comm) == 40);

/// Indices of the array `CONTROL` of `u64`, which user space writes and the kernel reads.
pub mod control {
    /// The current epoch. Written last.
    pub const EPOCH: u32 = 0;
    /// `CLOCK_BOOTTIME` at which the last even epoch began; the one for odd epochs follows.
    pub const FLIPPED_EVEN: u32 = 1;
    /// Entries.
    pub const LEN: u32 = 3;
}
