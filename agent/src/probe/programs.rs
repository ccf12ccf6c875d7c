//! The programs in the kernel: attached, counted, and what else there is of them.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use aya::maps::MapData;
use skep_common::{ledger::probe, offset::need};

use super::{error::ProbeError, kernel::PROGRAMS, sys};

/// `BPF_PROG_TYPE_RAW_TRACEPOINT`, include/uapi/linux/bpf.h.
const RAW_TRACEPOINT: u32 = 17;

/// A program and what keeps it attached.
#[derive(Debug)]
pub(super) struct Attached {
    /// Its hook.
    pub(super) hook: &'static str,
    pub(super) program: OwnedFd,
    /// `None` while it is switched off.
    pub(super) link: Option<OwnedFd>,
    /// Refused runs accounted so far.
    misses: u64,
}

/// What stands in the kernel, however it came there: loaded by this process, or found pinned.
#[derive(Debug)]
pub(super) struct Standing {
    /// By name.
    pub(super) maps: Vec<(String, MapData)>,
    pub(super) programs: Vec<Attached>,
}

impl Standing {
    /// Takes a map that user space reads.
    pub(super) fn take(&mut self, name: &'static str) -> Result<MapData, ProbeError> {
        let at = self.maps.iter().position(|(known, _)| known == name).ok_or(ProbeError::NoMap { name })?;
        Ok(self.maps.swap_remove(at).1)
    }

    /// Memory the kernel holds for the maps that only the programs use.
    pub(super) fn map_bytes(&self) -> u64 {
        self.maps.iter().map(|(_, map)| sys::map_bytes(map.fd().as_fd())).sum()
    }

    /// Detaches every program that nothing but the groups in `off` needs, and attaches the others again. Returns whether
    /// any was switched. A link that is pinned keeps its program attached until its name is gone too.
    pub(super) fn switch(&mut self, able: u32, off: u32) -> io::Result<bool> {
        let mut switched = false;
        for program in &mut self.programs {
            let groups = match needed_by(program.hook) & able {
                // It is there to find the owners of connections.
                0 => need::TCP & able,
                groups => groups,
            };
            let wanted = groups & !off != 0;
            if wanted && program.link.is_none() {
                let untyped = sys::program_info(program.program.as_fd())?.type_ == RAW_TRACEPOINT;
                program.link = Some(sys::attach(program.program.as_fd(), untyped.then_some(program.hook))?);
                switched = true;
            } else if !wanted && program.link.take().is_some() {
                switched = true;
            }
        }
        Ok(switched)
    }

    /// Refused runs accounted so far, in the order of [`PROGRAMS`].
    pub(super) fn misses(&self) -> Vec<u64> {
        let of = |hook| self.programs.iter().find(|program| program.hook == hook).map_or(0, |program| program.misses);
        hooks().map(of).collect()
    }

    /// Sets what was accounted before, in the order of [`PROGRAMS`].
    pub(super) fn set_misses(&mut self, accounted: &[u64]) {
        for (hook, misses) in hooks().zip(accounted) {
            if let Some(program) = self.programs.iter_mut().find(|program| program.hook == hook) {
                program.misses = *misses;
            }
        }
    }

    /// Runs the kernel refused since the last call because the program was running on that CPU already, by probe.
    /// A refused `sys_enter` shows as an entry missed later and is not counted here.
    pub(super) fn take_misses(&mut self) -> [u64; probe::LEN] {
        let mut missed = [0; probe::LEN];
        for program in &mut self.programs {
            let Some(probe) = probe_of(program.hook) else { continue };
            let Ok(info) = sys::program_info(program.program.as_fd()) else { continue };
            missed[probe] += info.recursion_misses.saturating_sub(program.misses);
            program.misses = info.recursion_misses;
        }
        missed
    }
}

impl Attached {
    /// A program, attached by its link.
    pub(super) fn new(hook: &'static str, program: OwnedFd, link: Option<OwnedFd>) -> Self {
        Self { hook, program, link, misses: 0 }
    }
}

/// The hooks, in the order of [`PROGRAMS`].
pub(super) fn hooks() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|program| program.hook)
}

fn needed_by(hook: &str) -> u32 {
    PROGRAMS.iter().find(|program| program.hook == hook).map_or(0, |program| program.needed_by)
}

fn probe_of(hook: &str) -> Option<usize> {
    Some(match hook {
        "sched_switch" => probe::CPU,
        "sys_exit" => probe::SYSCALL,
        "inet_sock_set_state" => probe::TCP,
        "tcp_retransmit_skb" => probe::RETRANSMIT,
        "tcp_send_reset" | "tcp_receive_reset" => probe::RESET,
        "sock_send_length" | "sock_recv_length" => probe::SOCKET,
        "mark_victim" | "module_load" => probe::SECURITY,
        "block_rq_complete" => probe::BLOCK,
        "sched_process_fork" => probe::FORK,
        "sched_process_exec" => probe::EXEC,
        "sched_process_exit" => probe::EXIT,
        _ => return None,
    })
}
