//! What the probes count: lines of the per-CPU caches, and keys and values of the maps behind them.
//!
//! Nearly all that a process does on a CPU falls into few lines, so each CPU keeps the lines it used last in a small
//! direct-mapped cache of its own ([`crate::state::Side`]). A line that must make room is added to a hash map, whose key
//! carries the CPU: an entry is only ever written by one program on one CPU, so that sums and extremes are exact with
//! plain loads and stores. User space merges caches, maps and CPUs.
//!
//! Caches and maps exist twice, once for each parity of the epoch: the kernel writes one side while user space reads the
//! other.

use core::mem::{offset_of, size_of};

/// What one line of a histogram counts: process, series, error class and bucket packed into one word.
///
/// Zero is no word: a process that calls or waits has an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Thread group.
    pub tgid: u32,
    /// A system call's number, or one of [`series`].
    pub series: u16,
    /// One of [`crate::errno`]'s classes.
    pub class: u8,
    /// See [`crate::bucket`]; [`UNTIMED`] for observations that were only counted.
    pub bucket: u16,
}

/// No bucket: how long these took was not measured.
pub const UNTIMED: u16 = 1_023;

const _: () = assert!(crate::bucket::BUCKETS <= UNTIMED as usize);

/// Series that are no system calls.
pub mod series {
    /// Largest number a system call is counted under; what is not a call's number at all is counted under this one.
    pub const LAST_CALL: u16 = 0xfeff;
    /// Waits for a CPU.
    pub const RUN_QUEUE: u16 = 0xff00;
    /// Time off the CPU of threads that left to wait.
    pub const OFF_CPU: u16 = 0xff01;
}

impl Cell {
    const BUCKET_BITS: u32 = 10;
    const CLASS_BITS: u32 = 4;

    /// The word that stands for it.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        (self.tgid as u64) << 32
            | (self.series as u64) << (Self::BUCKET_BITS + Self::CLASS_BITS)
            | (self.class as u64) << Self::BUCKET_BITS
            | self.bucket as u64
    }

    /// What a word stands for.
    pub const fn unpack(word: u64) -> Self {
        Self {
            tgid: (word >> 32) as u32,
            series: (word >> (Self::BUCKET_BITS + Self::CLASS_BITS)) as u16,
            class: (word >> Self::BUCKET_BITS) as u8 & ((1 << Self::CLASS_BITS) - 1),
            bucket: word as u16 & ((1 << Self::BUCKET_BITS) - 1),
        }
    }
}

const _: () = assert!(crate::bucket::BUCKETS <= 1 << Cell::BUCKET_BITS);
const _: () = assert!(crate::errno::LEN <= 1 << Cell::CLASS_BITS);

/// A line of a histogram: one [`Cell`] of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Line {
    /// A packed [`Cell`]; 0 in a line that is free.
    pub word: u64,
    /// Start of the thread group leader, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// What was counted.
    pub count: Count,
}

const _: () = assert!(size_of::<Line>() == 64 && offset_of!(Line, count) == 16);

/// A line of waits: one [`Cell`] of one process, without error class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct WaitLine {
    /// As in [`Line`].
    pub word: u64,
    /// As in [`Line`].
    pub start_ns: u64,
    /// What was counted.
    pub wait: Wait,
}

const _: () = assert!(size_of::<WaitLine>() == 48 && offset_of!(WaitLine, wait) == 16);

/// How often and how long a process waited. Value of the maps `WAITS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Wait {
    /// Waits.
    pub count: u64,
    /// Sum, nanoseconds.
    pub sum_ns: u64,
    /// Shortest, nanoseconds.
    pub min_ns: u64,
    /// Longest, nanoseconds.
    pub max_ns: u64,
}

const _: () = assert!(size_of::<Wait>() == 32);

/// How often and how long calls took. Value of the maps `CALLS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Count {
    /// Observations, those for which a measured one stands included.
    pub count: u64,
    /// Observations that are in it.
    pub measured: u64,
    /// For how many observations the timed ones among these stand; 0 in a cell that is [`UNTIMED`].
    pub weight: u64,
    /// Sum, nanoseconds, of `weight` observations.
    pub sum_ns: u64,
    /// Shortest timed, nanoseconds.
    pub min_ns: u64,
    /// Longest timed, nanoseconds.
    pub max_ns: u64,
}

const _: () = assert!(size_of::<Count>() == 48);

/// Requests to block devices, as series of a [`Cell`].
pub mod block {
    /// Read.
    pub const READ: u32 = 0;
    /// Write.
    pub const WRITE: u32 = 1;
    /// Flush of the device's own cache.
    pub const FLUSH: u32 = 2;
    /// Discard.
    pub const DISCARD: u32 = 3;
    /// Anything else.
    pub const OTHER: u32 = 4;
    /// Names, by number.
    pub const NAMES: [&str; 5] = ["read", "write", "flush", "discard", "other"];
    /// Low bits of a device that are its minor number; the others are its major number.
    pub const MINOR_BITS: u32 = 20;

    /// Series of an operation's latencies.
    pub const fn latency_series(operation: u32) -> u16 {
        (operation << 1) as u16
    }

    /// Series of an operation's sizes.
    pub const fn size_series(operation: u32) -> u16 {
        (operation << 1 | 1) as u16
    }
}

/// Key of the maps `BLOCK_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct BlockKey {
    /// A packed [`Cell`] whose series is one of [`block`] and whose class is 1 for requests that failed.
    pub word: u64,
    /// As in [`Line`].
    pub start_ns: u64,
    /// CPU.
    pub cpu: u32,
    /// Major and minor number, see [`block::MINOR_BITS`].
    pub device: u32,
}

const _: () = assert!(size_of::<BlockKey>() == 24 && offset_of!(BlockKey, device) == 20);

/// Value of the maps `BLOCK_*`: nanoseconds or bytes, as the series says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Amount {
    /// Requests.
    pub count: u64,
    /// Sum.
    pub sum: u64,
    /// Least.
    pub min: u64,
    /// Most.
    pub max: u64,
}

const _: () = assert!(size_of::<Amount>() == 32);

/// Key of the maps `CALLS_*` and `WAITS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct CellKey {
    /// A packed [`Cell`].
    pub word: u64,
    /// As in [`Line`].
    pub start_ns: u64,
    /// CPU.
    pub cpu: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<CellKey>() == 24 && offset_of!(CellKey, cpu) == 16);

/// A line of what a process did on a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct UsageLine {
    /// Start of the thread group leader, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Thread group; 0 in a line that is free.
    pub tgid: u32,
    /// Zero.
    pub pad: u32,
    /// What was counted.
    pub usage: Usage,
}

const _: () = assert!(size_of::<UsageLine>() == 96 && offset_of!(UsageLine, usage) == 16);

/// Time on a CPU. Value of the maps `USAGE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Usage {
    /// Time on the CPU, nanoseconds.
    pub on_cpu_ns: u64,
    /// Times a thread left the CPU.
    pub slices: u64,
    /// Of these, to wait.
    pub voluntary: u64,
    /// Of these, while runnable.
    pub involuntary: u64,
    /// Slices whose thread had been on another CPU before.
    pub migrations: u64,
    /// When the last slice ended, nanoseconds of `CLOCK_BOOTTIME`: which CPU knows the name and the cgroup best.
    pub last_ns: u64,
    /// Inode of the cgroup directory in the unified hierarchy at the last slice.
    pub cgroup_id: u64,
    /// Task name at the last slice.
    pub comm: [u8; 16],
    /// Zero.
    pub pad: u64,
}

const _: () = assert!(size_of::<Usage>() == 80 && offset_of!(Usage, comm) == 56);

/// Key of the maps `USAGE_*`: one process on one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct UsageKey {
    /// As in [`UsageLine`].
    pub start_ns: u64,
    /// Thread group.
    pub tgid: u32,
    /// CPU.
    pub cpu: u32,
}

const _: () = assert!(size_of::<UsageKey>() == 16 && offset_of!(UsageKey, cpu) == 12);

/// Protocols whose messages are counted, as the kernel numbers them.
pub mod protocol {
    /// `IPPROTO_TCP`.
    pub const TCP: u16 = 6;
    /// `IPPROTO_UDP`.
    pub const UDP: u16 = 17;
}

/// A line of what a process sent and received through one protocol on a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TrafficLine {
    /// Start of the thread group leader, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Thread group; 0 in a line that is free.
    pub tgid: u32,
    /// One of [`protocol`].
    pub protocol: u16,
    /// Zero.
    pub pad: u16,
    /// What was counted.
    pub traffic: Traffic,
}

const _: () = assert!(size_of::<TrafficLine>() == 64 && offset_of!(TrafficLine, traffic) == 16);

/// Calls that moved something, and how much. Value of the maps `TRAFFIC_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Traffic {
    /// Sum of what the sends returned.
    pub sent_bytes: u64,
    /// Sum of what the receives returned.
    pub received_bytes: u64,
    /// Sends.
    pub sent_messages: u64,
    /// Receives.
    pub received_messages: u64,
    /// Task name when the line was begun.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Traffic>() == 48 && offset_of!(Traffic, comm) == 32);

/// Key of the maps `TRAFFIC_*`: one process, protocol and CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TrafficKey {
    /// As in [`TrafficLine`].
    pub start_ns: u64,
    /// Thread group.
    pub tgid: u32,
    /// CPU.
    pub cpu: u16,
    /// One of [`protocol`].
    pub protocol: u16,
}

const _: () = assert!(size_of::<TrafficKey>() == 16 && offset_of!(TrafficKey, protocol) == 14);

/// What can go wrong with a TCP connection and is counted. Each kind is counted by one program.
pub mod mishap {
    /// Segments sent again.
    pub const RETRANSMIT: u32 = 1;
    /// RST sent.
    pub const RESET_SENT: u32 = 2;
    /// RST received.
    pub const RESET_RECEIVED: u32 = 3;
}

/// Key of the maps `MISHAPS_*`: the owner of the connections, a kind and a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct MishapKey {
    /// Start of the thread group leader; 0 when the owner is not known.
    pub start_ns: u64,
    /// Thread group; 0 when the owner is not known.
    pub tgid: u32,
    /// CPU.
    pub cpu: u32,
    /// One of [`mishap`].
    pub kind: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<MishapKey>() == 24 && offset_of!(MishapKey, kind) == 16);

/// How often. Value of the maps `MISHAPS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Mishaps {
    /// How often.
    pub count: u64,
    /// Task name of the owner.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Mishaps>() == 24 && offset_of!(Mishaps, comm) == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_survives_its_word() {
        for tgid in [1, 4_194_304, u32::MAX] {
            for series in [0, 39, series::LAST_CALL, series::RUN_QUEUE, u16::MAX] {
                for (class, bucket) in [(0, 0), (11, 607), (15, 1023)] {
                    let cell = Cell { tgid, series, class, bucket };
                    assert_eq!(Cell::unpack(cell.pack()), cell);
                }
            }
        }
    }
}
