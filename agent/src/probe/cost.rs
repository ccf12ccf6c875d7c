//! What the probes themselves cost, and the kernel's own account of runs it refused.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use aya::{Ebpf, maps::Map, programs::ProgramFd, sys::Stats};
use skep_common::ledger::probe;

use super::{attach::Loaded, sys};

/// Price of one program since it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramCost {
    /// Name of the program and its hook.
    pub name: &'static str,
    /// Time it ran, nanoseconds, while statistics were on.
    pub run_ns: u64,
    /// How often, while statistics were on.
    pub runs: u64,
    /// How often the kernel would not run it because it was running on that CPU already.
    pub refused: u64,
}

/// The kernel measures the run time of every BPF program on the host while this is held. It makes each run some
/// nanoseconds dearer.
#[derive(Debug)]
pub struct RunStatistics {
    _held: OwnedFd,
}

impl RunStatistics {
    /// Turns the measurement on.
    ///
    /// # Errors
    /// What the kernel says; it needs `CAP_SYS_ADMIN`.
    pub fn enable() -> io::Result<Self> {
        aya::sys::enable_stats(Stats::RunTime).map(|held| Self { _held: held }).map_err(|error| error.io_error)
    }
}

/// The attached programs.
#[derive(Debug)]
pub(super) struct Programs {
    /// Dropping this detaches them.
    ebpf: Ebpf,
    programs: Vec<Attached>,
}

#[derive(Debug)]
struct Attached {
    name: &'static str,
    fd: ProgramFd,
    /// Refused runs accounted so far.
    misses: u64,
}

impl Programs {
    pub(super) fn new(loaded: Loaded) -> Self {
        let attached = loaded.programs.iter().filter_map(|program| {
            let fd = loaded.ebpf.program(program.name)?.fd().ok()?.try_clone().ok()?;
            Some(Attached { name: program.name, fd, misses: 0 })
        });
        Self { programs: attached.collect(), ebpf: loaded.ebpf }
    }

    /// Runs the kernel refused since the last call because the program was running on that CPU already, by probe.
    /// A refused `sys_enter` or `sched_wakeup` shows as an entry missed later and is not counted here.
    pub(super) fn take_misses(&mut self) -> [u64; probe::LEN] {
        let mut missed = [0; probe::LEN];
        for program in &mut self.programs {
            let Some(probe) = probe_of(program.name) else { continue };
            let Ok(info) = sys::program_info(program.fd.as_fd()) else { continue };
            missed[probe] += info.recursion_misses.saturating_sub(program.misses);
            program.misses = info.recursion_misses;
        }
        missed
    }

    /// Memory the kernel holds for the maps that only the programs use.
    pub(super) fn map_bytes(&self) -> u64 {
        let bytes = |map: &Map| match map {
            Map::HashMap(map) | Map::LruHashMap(map) | Map::Array(map) | Map::PerCpuArray(map) => {
                sys::map_bytes(map.fd().as_fd())
            }
            _ => 0,
        };
        self.ebpf.maps().map(|(_, map)| bytes(map)).sum()
    }

    pub(super) fn cost(&self) -> Vec<ProgramCost> {
        let cost = |program: &Attached| {
            let info = sys::program_info(program.fd.as_fd()).ok()?;
            Some(ProgramCost {
                name: program.name,
                run_ns: info.run_time_ns,
                runs: info.run_cnt,
                refused: info.recursion_misses,
            })
        };
        self.programs.iter().filter_map(cost).collect()
    }
}

fn probe_of(program: &str) -> Option<usize> {
    Some(match program {
        "sched_switch" => probe::CPU,
        "sys_exit" => probe::SYSCALL,
        "inet_sock_set_state" => probe::TCP,
        "sched_process_fork" => probe::FORK,
        "sched_process_exec" => probe::EXEC,
        "sched_process_exit" => probe::EXIT,
        _ => return None,
    })
}
