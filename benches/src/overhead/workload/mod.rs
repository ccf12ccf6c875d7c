//! Things a program does, each from one thread on one CPU.

mod call;

mod ping_pong;

mod spawn;

mod connect;

mod direct_read;

use anyhow::Result;

use super::arguments::OverheadArguments;

/// Something a program does over and over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// One of it, in words.
    pub(crate) about: &'static str,
    /// The domain whose question this workload answers.
    pub(crate) domain: &'static str,
    /// Times it is done in one sample, which takes some milliseconds: short enough that most samples are not disturbed,
    /// long enough that reading the clock costs nothing.
    pub(crate) times: u32,
    /// Samples in a row.
    pub(crate) samples: u32,
    pub(crate) start: fn(&OverheadArguments) -> Result<Box<dyn Work>>,
}

/// A workload that is ready to go.
pub(crate) trait Work {
    /// Does it some times.
    fn repeat(&mut self, times: u32) -> Result<()>;
}

/// All of them.
pub(crate) const WORKLOADS: [Workload; 8] = [
    Workload {
        name: "getppid",
        about: "getppid(), the cheapest system call",
        domain: "syscall",
        times: 5_000,
        samples: 40,
        start: call::getppid,
    },
    Workload {
        name: "getppid_on_both",
        about: "getppid() while a thread on the other CPU does the same",
        domain: "syscall",
        times: 5_000,
        samples: 40,
        start: call::getppid_on_both,
    },
    Workload {
        name: "read",
        about: "read of one byte from /dev/zero",
        domain: "syscall",
        times: 5_000,
        samples: 40,
        start: call::read_one_byte,
    },
    Workload {
        name: "ping_pong_one_cpu",
        about: "a byte to another thread on the same CPU and back, through two pipes: two switches",
        domain: "cpu",
        times: 1_000,
        samples: 40,
        start: ping_pong::on_one_cpu,
    },
    Workload {
        name: "ping_pong",
        about: "a byte to a thread on another CPU and back, through two pipes",
        domain: "cpu",
        times: 50,
        samples: 30,
        start: ping_pong::on_two_cpus,
    },
    Workload {
        name: "spawn",
        about: "posix_spawn of a static program of 200 bytes that exits, and wait for it",
        domain: "process",
        times: 10,
        samples: 30,
        start: spawn::start,
    },
    Workload {
        name: "connect",
        about: "connect and accept on loopback, and close both ends",
        domain: "tcp",
        times: 50,
        samples: 20,
        start: connect::start,
    },
    Workload {
        name: "direct_read",
        about: "O_DIRECT read of 4 KiB at a random place of a file of 64 MiB",
        domain: "block",
        times: 20,
        samples: 40,
        start: direct_read::start,
    },
];
