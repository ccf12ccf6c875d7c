//! Gauges of the host, and the agent's own cost.
//!
//! A gauge that this kernel or this moment does not give is absent from the window, not zero.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use procfs::net::{DeviceStatus, TcpState};
use procfs::{CpuTime, Current, CurrentSI};

use crate::host;

/// Listing every socket costs some microseconds each; above this many the states are left out of a window.
const LISTED_SOCKETS: u64 = 20_000;

/// Seconds between two such lists: the kernel walks its whole table of connections for each, empty or not.
const LISTED_EVERY_S: f64 = 60.0;

/// One gauge.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// Name with its unit.
    pub metric: &'static str,
    /// Device, interface, mount, state or empty.
    pub label: String,
    /// Reading.
    pub value: f64,
}

/// What other stages say of themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnState {
    /// Sealed batches not yet acknowledged.
    pub spool_batches: u64,
    /// Their bytes, with what is kept beside them until whole segments can go.
    pub spool_bytes: u64,
    /// Kernel memory of the probes.
    pub map_bytes: u64,
    /// Processes known.
    pub identities: u64,
    /// Processes forgotten for want of room since the start.
    pub identities_evicted: u64,
    /// Cgroup directories known.
    pub cgroups: u64,
    /// Times a cgroup directory was not remembered for want of room.
    pub cgroups_refused: u64,
}

/// Reads gauges; keeps the counters of the window before, for rates.
#[derive(Debug, Default)]
pub struct Gauges {
    cpu: Option<(u64, u64)>,
    own_ns: Option<u64>,
    interfaces: HashMap<String, DeviceStatus>,
    /// Seconds since sockets were listed.
    unlisted_s: Option<f64>,
}

impl Gauges {
    /// Takes the counters as they stand, so that the first window has rates too.
    pub fn start() -> Self {
        let mut gauges = Self::default();
        drop(gauges.read(1.0, OwnState::default()));
        // The first window lists sockets too.
        gauges.unlisted_s = None;
        gauges
    }

    /// All gauges at the end of a window of `length_s` seconds. Cost: a few dozen reads of `/proc`.
    pub fn read(&mut self, length_s: f64, own: OwnState) -> Vec<Gauge> {
        let mut out = Vec::with_capacity(64);
        self.cpu(&mut out);
        load_and_uptime(&mut out);
        memory(&mut out);
        pressure(&mut out);
        disks(&mut out);
        self.interfaces(length_s, &mut out);
        self.tcp_states(length_s, &mut out);
        self.own(length_s, own, &mut out);
        out
    }

    fn cpu(&mut self, out: &mut Vec<Gauge>) {
        let Ok(stats) = procfs::KernelStats::current() else { return };
        let (busy, total) = busy_and_total(&stats.total);
        if let Some((busy_before, total_before)) = self.cpu.replace((busy, total)) {
            let passed = total.saturating_sub(total_before);
            if passed > 0 {
                push(out, "cpu_busy_ratio", "", busy.saturating_sub(busy_before) as f64 / passed as f64);
            }
        }
        push(out, "cpus", "", stats.cpu_time.len() as f64);
        if let Some(running) = stats.procs_running {
            push(out, "threads_runnable", "", f64::from(running));
        }
        if let Some(blocked) = stats.procs_blocked {
            push(out, "threads_blocked", "", f64::from(blocked));
        }
    }

    fn interfaces(&mut self, length_s: f64, out: &mut Vec<Gauge>) {
        let Ok(now) = procfs::net::dev_status() else { return };
        for (name, status) in &now {
            let Some(before) = self.interfaces.get(name) else { continue };
            let mut rate = |metric, now: u64, before: u64| {
                if length_s > 0.0 {
                    push(out, metric, name, now.saturating_sub(before) as f64 / length_s);
                }
            };
            rate("network_received_bytes_per_s", status.recv_bytes, before.recv_bytes);
            rate("network_sent_bytes_per_s", status.sent_bytes, before.sent_bytes);
            rate("network_received_packets_per_s", status.recv_packets, before.recv_packets);
            rate("network_sent_packets_per_s", status.sent_packets, before.sent_packets);
            rate("network_errors_per_s", status.recv_errs + status.sent_errs, before.recv_errs + before.sent_errs);
            rate("network_drops_per_s", status.recv_drop + status.sent_drop, before.recv_drop + before.sent_drop);
        }
        self.interfaces = now;
    }

    fn tcp_states(&mut self, length_s: f64, out: &mut Vec<Gauge>) {
        let passed_s = self.unlisted_s.map_or(f64::INFINITY, |unlisted_s| unlisted_s + length_s);
        self.unlisted_s = Some(passed_s);
        // Windows end some milliseconds early or late.
        if passed_s + 0.5 >= LISTED_EVERY_S {
            tcp_states(out);
            self.unlisted_s = Some(0.0);
        }
    }

    fn own(&mut self, length_s: f64, own: OwnState, out: &mut Vec<Gauge>) {
        let own_ns = host::own_cpu_ns();
        if let Some(before) = self.own_ns.replace(own_ns)
            && length_s > 0.0
        {
            push(out, "agent_cpu_ratio", "", own_ns.saturating_sub(before) as f64 / 1e9 / length_s);
        }
        push(out, "agent_rss_bytes", "", host::own_resident_bytes() as f64);
        push(out, "agent_spool_batches", "", own.spool_batches as f64);
        push(out, "agent_spool_bytes", "", own.spool_bytes as f64);
        push(out, "agent_map_bytes", "", own.map_bytes as f64);
        push(out, "agent_identities", "", own.identities as f64);
        push(out, "agent_identities_evicted", "", own.identities_evicted as f64);
        push(out, "agent_cgroups", "", own.cgroups as f64);
        push(out, "agent_cgroups_refused", "", own.cgroups_refused as f64);
    }
}

fn push(out: &mut Vec<Gauge>, metric: &'static str, label: &str, value: f64) {
    out.push(Gauge { metric, label: label.to_owned(), value });
}

/// Ticks spent busy and in all. Guest time is part of user time already.
fn busy_and_total(time: &CpuTime) -> (u64, u64) {
    let busy = time.user
        + time.nice
        + time.system
        + time.irq.unwrap_or(0)
        + time.softirq.unwrap_or(0)
        + time.steal.unwrap_or(0);
    (busy, busy + time.idle + time.iowait.unwrap_or(0))
}

fn load_and_uptime(out: &mut Vec<Gauge>) {
    if let Ok(load) = procfs::LoadAverage::current() {
        push(out, "load_1m", "", f64::from(load.one));
        push(out, "load_5m", "", f64::from(load.five));
        push(out, "load_15m", "", f64::from(load.fifteen));
        push(out, "threads", "", f64::from(load.max));
    }
    if let Ok(uptime) = procfs::Uptime::current() {
        push(out, "uptime_s", "", uptime.uptime);
    }
}

fn memory(out: &mut Vec<Gauge>) {
    let Ok(memory) = procfs::Meminfo::current() else { return };
    push(out, "memory_total_bytes", "", memory.mem_total as f64);
    push(out, "memory_free_bytes", "", memory.mem_free as f64);
    if let Some(available) = memory.mem_available {
        push(out, "memory_available_bytes", "", available as f64);
        if memory.mem_total > 0 {
            push(out, "memory_used_ratio", "", 1.0 - available as f64 / memory.mem_total as f64);
        }
    }
    push(out, "memory_cached_bytes", "", memory.cached as f64);
    push(out, "memory_dirty_bytes", "", memory.dirty as f64);
    push(out, "swap_total_bytes", "", memory.swap_total as f64);
    push(out, "swap_used_bytes", "", memory.swap_total.saturating_sub(memory.swap_free) as f64);
}

fn pressure(out: &mut Vec<Gauge>) {
    let ratio = |percent: f32| f64::from(percent) / 100.0;
    if let Ok(cpu) = procfs::CpuPressure::current() {
        push(out, "pressure_some_ratio", "cpu", ratio(cpu.some.avg10));
    }
    if let Ok(memory) = procfs::MemoryPressure::current() {
        push(out, "pressure_some_ratio", "memory", ratio(memory.some.avg10));
        push(out, "pressure_full_ratio", "memory", ratio(memory.full.avg10));
    }
    if let Ok(io) = procfs::IoPressure::current() {
        push(out, "pressure_some_ratio", "io", ratio(io.some.avg10));
        push(out, "pressure_full_ratio", "io", ratio(io.full.avg10));
    }
}

/// File systems that stand on a device: asking one that stands on a network can hang for ever.
fn disks(out: &mut Vec<Gauge>) {
    let Ok(mounts) = procfs::process::Process::myself().and_then(|process| process.mountinfo()) else { return };
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let on_device: BTreeSet<&str> = known.lines().filter_map(|line| line.strip_prefix('\t')).collect();
    let mut seen = BTreeSet::new();
    for mount in &mounts {
        if on_device.contains(mount.fs_type.as_str()) && seen.insert(mount.majmin.clone()) {
            disk(&mount.mount_point, out);
        }
    }
}

fn disk(mount: &Path, out: &mut Vec<Gauge>) {
    let Ok(space) = rustix::fs::statvfs(mount) else { return };
    let label = mount.to_string_lossy();
    let block = space.f_frsize as f64;
    let used = space.f_blocks.saturating_sub(space.f_bfree);
    let usable = used + space.f_bavail;
    push(out, "disk_total_bytes", &label, space.f_blocks as f64 * block);
    push(out, "disk_available_bytes", &label, space.f_bavail as f64 * block);
    if usable > 0 {
        push(out, "disk_used_ratio", &label, used as f64 / usable as f64);
    }
    if space.f_files > 0 {
        push(out, "inodes_total", &label, space.f_files as f64);
        push(out, "inodes_used_ratio", &label, 1.0 - space.f_ffree as f64 / space.f_files as f64);
    }
}

fn tcp_states(out: &mut Vec<Gauge>) {
    let in_use = std::fs::read_to_string("/proc/net/sockstat").ok().and_then(|text| tcp_sockets(&text));
    if in_use.is_none_or(|sockets| sockets > LISTED_SOCKETS) {
        return;
    }
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for entry in procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten() {
        *counts.entry(state_name(&entry.state)).or_default() += 1;
    }
    for (state, count) in counts {
        push(out, "tcp_sockets", state, count as f64);
    }
}

/// Sockets in use and in time-wait, from `/proc/net/sockstat`.
fn tcp_sockets(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let value = |name| words.windows(2).find(|pair| pair[0] == name).and_then(|pair| pair[1].parse::<u64>().ok());
    Some(value("inuse")? + value("tw").unwrap_or(0))
}

fn state_name(state: &TcpState) -> &'static str {
    match state {
        TcpState::Established => "established",
        TcpState::SynSent => "syn_sent",
        TcpState::SynRecv | TcpState::NewSynRecv => "syn_received",
        TcpState::FinWait1 => "fin_wait_1",
        TcpState::FinWait2 => "fin_wait_2",
        TcpState::TimeWait => "time_wait",
        TcpState::Close => "close",
        TcpState::CloseWait => "close_wait",
        TcpState::LastAck => "last_ack",
        TcpState::Listen => "listen",
        TcpState::Closing => "closing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_the_gauges_every_host_has() {
        let mut gauges = Gauges::start();
        let read = gauges.read(1.0, OwnState { spool_batches: 3, ..OwnState::default() });
        let value = |metric| read.iter().find(|gauge| gauge.metric == metric).map(|gauge| gauge.value);
        for metric in ["load_1m", "memory_total_bytes", "uptime_s", "agent_rss_bytes", "cpus"] {
            assert!(value(metric).is_some_and(|value| value >= 0.0), "{metric}");
        }
        assert_eq!(value("agent_spool_batches"), Some(3.0));
        assert!(value("memory_used_ratio").is_none_or(|ratio| (0.0..=1.0).contains(&ratio)));
        let mut names: Vec<_> = read.iter().map(|gauge| (gauge.metric, gauge.label.as_str())).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a gauge twice");
    }

    #[test]
    fn sockets_are_counted_from_sockstat() {
        let text = "sockets: used 10\nTCP: inuse 4 orphan 0 tw 3 alloc 5 mem 1\nUDP: inuse 1 mem 0\n";
        assert_eq!(tcp_sockets(text), Some(7));
        assert_eq!(tcp_sockets("UDP: inuse 1"), None);
    }
}
