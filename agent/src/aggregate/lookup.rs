//! What `/proc` still knows of a process.

use std::fs;

use procfs::process::Process;

/// A process as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Thread group id.
    pub pid: u32,
    /// Parent's.
    pub parent_pid: u32,
    /// Start in clock ticks since boot: the same moment as the kernel's nanoseconds, cut down.
    pub start_ticks: u64,
    /// Task name.
    pub comm: String,
    /// Executable; `None` for kernel threads and where access was refused.
    pub exe: Option<String>,
    /// Real user id.
    pub uid: Option<u32>,
}

/// Reads processes; a trait so that tests can invent some.
pub trait Lookup: std::fmt::Debug + Send {
    /// Clock ticks a second.
    fn ticks_per_second(&self) -> u64;
    /// All there are.
    fn all(&self) -> Vec<Found>;
    /// One, if it is still there.
    fn find(&self, pid: u32) -> Option<Found>;
    /// The text of its `/proc/PID/cgroup`.
    fn membership(&self, pid: u32) -> Option<String>;
    /// Its executable.
    fn exe(&self, pid: u32) -> Option<String>;
}

/// The running host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

impl Lookup for Host {
    fn ticks_per_second(&self) -> u64 {
        procfs::ticks_per_second()
    }

    fn all(&self) -> Vec<Found> {
        let Ok(processes) = procfs::process::all_processes() else { return Vec::new() };
        processes.flatten().filter_map(|process| read(&process)).collect()
    }

    fn find(&self, pid: u32) -> Option<Found> {
        read(&Process::new(i32::try_from(pid).ok()?).ok()?)
    }

    fn membership(&self, pid: u32) -> Option<String> {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
    }

    fn exe(&self, pid: u32) -> Option<String> {
        let link = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let path = link.to_string_lossy();
        Some(path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned())
    }
}

fn read(process: &Process) -> Option<Found> {
    let stat = process.stat().ok()?;
    let pid = u32::try_from(stat.pid).ok()?;
    Some(Found {
        pid,
        parent_pid: u32::try_from(stat.ppid).unwrap_or(0),
        start_ticks: stat.starttime,
        comm: stat.comm,
        exe: Host.exe(pid),
        uid: process.status().ok().map(|status| status.ruid),
    })
}
