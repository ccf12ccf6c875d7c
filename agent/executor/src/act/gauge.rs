//! What is read on the host to know whether there is a reason to act, and afterwards whether it helped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use skep_wire::v1::{Command, Signal, command::Action};

use super::hierarchy::Version;
use super::host::Host;
use super::process;
use super::unit::Systemd;
use super::usage;
use crate::verify::Refusal;

/// How long a rate is watched before the act.
pub const BEFORE: Duration = Duration::from_millis(1_000);

/// How long the act is given to bite before it is watched again.
pub const SETTLE: Duration = Duration::from_millis(500);

/// How long a rate is watched after the act.
pub const AFTER: Duration = Duration::from_millis(2_000);

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gauge {
    /// Cores a cgroup uses, and wants.
    Cpu(PathBuf),
    /// Bytes a cgroup holds.
    Memory(PathBuf),
    /// Bytes a second a cgroup reads and writes.
    Io(PathBuf, Version),
    /// Cores a process uses.
    ProcessCpu(u32),
    /// Bytes a process holds.
    ProcessMemory(u32),
    /// 1 where a unit is not active.
    UnitDown(String),
    /// Used share of the file system a folder is on.
    Disk(PathBuf),
}

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// In the signal's unit.
    pub value: f64,
    /// What it would be if nothing held it back, where that can be known; else the same.
    pub wanted: f64,
}

impl Reading {
    fn of(value: f64) -> Self {
        Self { value, wanted: value }
    }
}

impl Gauge {
    /// What a command's trigger is read by.
    ///
    /// # Errors
    /// The signal does not fit the target, or the host cannot say.
    pub fn of_signal(signal: Signal, command: &Command, host: &Host) -> Result<Self, Refusal> {
        let target = command.target.clone().unwrap_or_default();
        let cgroup = |gauge: fn(PathBuf) -> Self, hierarchy: Option<&super::hierarchy::Hierarchy>| match hierarchy {
            _ if target.cgroup.is_empty() => {
                Err(Refusal::Malformed { what: "its trigger is about a cgroup it has not" })
            }
            Some(hierarchy) => Ok(gauge(hierarchy.folder(&target.cgroup))),
            None => Err(Refusal::Unsupported { what: "nothing here accounts for that signal".to_owned() }),
        };
        let process = target.process.and_then(|process| u32::try_from(process.pid).ok());
        match (signal, process) {
            (Signal::CpuCores, Some(pid)) => return Ok(Self::ProcessCpu(pid)),
            (Signal::MemoryBytes, Some(pid)) => return Ok(Self::ProcessMemory(pid)),
            _ => {}
        }
        match signal {
            Signal::UnitDown => match target.unit {
                Some(unit) => Ok(Self::UnitDown(unit.name)),
                None => Err(Refusal::Malformed { what: "its trigger is about a unit it has not" }),
            },
            Signal::DiskUsedRatio => match &command.action {
                Some(Action::Clean(clean)) => Ok(Self::Disk(PathBuf::from(&clean.folder))),
                _ => Err(Refusal::Malformed { what: "its trigger is about a folder it has not" }),
            },
            Signal::CpuCores => cgroup(Gauge::Cpu, Some(&host.cgroups.cpu)),
            Signal::MemoryBytes => cgroup(Gauge::Memory, host.cgroups.memory.as_ref()),
            Signal::IoBytesPerS => match host.cgroups.io.as_ref().map(|io| io.version) {
                Some(Version::V1) => cgroup(|dir| Gauge::Io(dir, Version::V1), host.cgroups.io.as_ref()),
                _ => cgroup(|dir| Gauge::Io(dir, Version::V2), host.cgroups.io.as_ref()),
            },
            _ => Err(Refusal::Malformed { what: "its trigger is a signal this version does not know" }),
        }
    }

    /// A reading before the act; `None` where there is nothing to be read. Takes [`BEFORE`] where it is a rate.
    pub fn read_before(&self, host: &Host) -> Option<Reading> {
        self.read(host, BEFORE)
    }

    /// A reading after the act.
    pub fn read_after(&self, host: &Host) -> Option<Reading> {
        host.pause(SETTLE);
        self.read(host, AFTER)
    }

    fn read(&self, host: &Host, watch: Duration) -> Option<Reading> {
        match self {
            Self::Cpu(dir) => {
                let begun = Instant::now();
                let now_ns = || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                let earlier = usage::read(dir, now_ns());
                host.pause(watch);
                let usage = usage::between(&earlier, &usage::read(dir, now_ns()));
                Some(Reading { value: usage.used_cores, wanted: usage.wanted_cores })
            }
            Self::Memory(dir) => memory_bytes(dir).map(Reading::of),
            Self::ProcessCpu(pid) => {
                let begun = Instant::now();
                let earlier = process::stat(*pid)?.cpu_ticks;
                host.pause(watch);
                let ticks = process::stat(*pid)?.cpu_ticks.saturating_sub(earlier);
                Some(Reading::of(ticks as f64 / 100.0 / begun.elapsed().as_secs_f64()))
            }
            Self::ProcessMemory(pid) => Some(Reading::of(process::stat(*pid)?.resident_pages as f64 * 4096.0)),
            Self::UnitDown(name) => {
                let state = Systemd::reach().and_then(|systemd| systemd.state(name)).ok()?;
                Some(Reading::of(if state.active == "active" { 0.0 } else { 1.0 }))
            }
            Self::Disk(dir) => {
                let disk = rustix::fs::statvfs(dir).ok()?;
                let used = disk.f_blocks.saturating_sub(disk.f_bfree) as f64;
                // As df counts: what only root may use is neither used nor free.
                Some(Reading::of(used / (used + disk.f_bavail as f64).max(1.0)))
            }
            Self::Io(dir, version) => {
                let begun = Instant::now();
                let earlier = io_bytes(dir, *version)?;
                host.pause(watch);
                let moved = io_bytes(dir, *version)?.saturating_sub(earlier);
                Some(Reading::of(moved as f64 / begun.elapsed().as_secs_f64()))
            }
        }
    }

    /// The reading in words.
    pub fn words(&self, value: f64) -> String {
        match self {
            Self::Cpu(_) | Self::ProcessCpu(_) => format!("{value:.3} cores"),
            Self::UnitDown(name) if value < 1.0 => format!("{name} is active"),
            Self::UnitDown(name) => format!("{name} is not active"),
            Self::Disk(dir) => format!("{:.1} % of the disk of {} used", value * 100.0, dir.display()),
            Self::Memory(_) | Self::ProcessMemory(_) => format!("{value:.0} bytes of memory"),
            Self::Io(..) => format!("{value:.0} bytes a second"),
        }
    }
}

fn number(path: &Path) -> Option<f64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn memory_bytes(dir: &Path) -> Option<f64> {
    number(&dir.join("memory.current")).or_else(|| number(&dir.join("memory.usage_in_bytes")))
}

/// Bytes read and written by the cgroup so far. Version 1 counts only what is limited: there, what its processes (and
/// those they have waited for) say of themselves.
fn io_bytes(dir: &Path, version: Version) -> Option<u64> {
    let sum = |text: &str, separator: char, names: [&str; 2]| -> u64 {
        let words = text.split(['\n', separator]).filter_map(|word| word.split_once(['=', ':']));
        words.filter(|(name, _)| names.contains(name)).filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum()
    };
    if version == Version::V2 {
        return Some(sum(&std::fs::read_to_string(dir.join("io.stat")).ok()?, ' ', ["rbytes", "wbytes"]));
    }
    let pids = usage::processes(dir).ok()?;
    let of = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/io")).ok();
    Some(pids.into_iter().filter_map(of).map(|text| sum(&text, '\n', ["read_bytes", "write_bytes"])).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_and_written_are_added_up_in_either_version() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(io_bytes(dir.path(), Version::V2), None);
        put("io.stat", "8:0 rbytes=10 wbytes=5 rios=1 wios=1 dbytes=99 dios=9\n8:16 rbytes=1 wbytes=0 rios=1 wios=0\n");
        assert_eq!(io_bytes(dir.path(), Version::V2), Some(16));
        std::fs::write(dir.path().join("cgroup.procs"), std::process::id().to_string()).unwrap();
        assert!(io_bytes(dir.path(), Version::V1).is_some());
        put("memory.current", "4096\n");
        assert_eq!(memory_bytes(dir.path()), Some(4096.0));
    }
}
