//! A host with processes that come and go.

use std::sync::Arc;

use super::random::Random;

/// Of the processes, how many stay as long as the host.
const STAYING: f64 = 0.3;

/// How long the others live on average, seconds: 500 processes are 6,700 within an hour.
const MEAN_LIFE_S: f64 = 204.0;

/// Who a process is, and how it behaves.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u64,
    pub(crate) start_ns: u64,
    pub(crate) comm: String,
    pub(crate) exe: String,
    pub(crate) uid: u64,
    pub(crate) unit: String,
    pub(crate) workload: String,
    pub(crate) cgroup: String,
    pub(crate) cgroup_id: u64,
    /// Slices a second.
    pub(crate) slices_per_s: f64,
    /// Median length of a slice.
    pub(crate) slice_ns: f64,
    /// Median wait for a CPU.
    pub(crate) delay_ns: f64,
    /// Of the slices, those that end because it waits for something.
    pub(crate) waiting: f64,
    ends_s: f64,
}

impl Process {
    /// Whether it lives as long as its host.
    pub(crate) fn stays(&self) -> bool {
        self.ends_s.is_infinite()
    }
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) random: Random,
    pub(crate) processes: Vec<Arc<Process>>,
    now_s: f64,
    next_pid: u64,
}

impl Host {
    /// A host with this many processes, the same for the same name and seed.
    pub(crate) fn new(name: &str, seed: u64, processes: usize) -> Self {
        let mut host = Self {
            name: name.to_owned(),
            random: Random::new(seed),
            processes: Vec::with_capacity(processes),
            now_s: 0.0,
            next_pid: 1000,
        };
        for _ in 0..processes {
            let stays = host.random.share() < STAYING;
            let process = host.begin(stays);
            host.processes.push(process);
        }
        host
    }

    /// Time passes: processes end, and others begin in their place.
    pub(crate) fn advance(&mut self, seconds: f64) {
        self.now_s += seconds;
        for index in 0..self.processes.len() {
            if self.processes[index].ends_s <= self.now_s {
                self.processes[index] = self.begin(false);
            }
        }
    }

    fn begin(&mut self, stays: bool) -> Arc<Process> {
        let random = &mut self.random;
        self.next_pid += 1 + random.below(30);
        let (unit, comm) = (random.below(40), random.below(100));
        let (start, life) = (self.now_s - random.share(), random.exponential(MEAN_LIFE_S));
        Arc::new(Process {
            pid: self.next_pid,
            start_ns: (1e12 + start * 1e9) as u64,
            comm: format!("worker-{comm}"),
            exe: format!("/usr/lib/service-{unit}/bin/worker-{comm}"),
            uid: 1000 + unit,
            unit: format!("service-{unit}.service"),
            workload: format!("unit:service-{unit}.service"),
            cgroup: format!("/system.slice/service-{unit}.service"),
            cgroup_id: 4000 + unit * 37,
            slices_per_s: random.log_normal(5.0, 1.2).clamp(0.5, 500.0),
            slice_ns: random.log_normal(60_000.0, 1.0),
            delay_ns: random.log_normal(8_000.0, 0.7),
            waiting: 0.8 + 0.2 * random.share(),
            ends_s: if stays { f64::INFINITY } else { start + life },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_many_more_processes_than_a_second() {
        let mut host = Host::new("h", 1, 500);
        for _ in 0..3600 {
            host.advance(1.0);
        }
        assert_eq!(host.processes.len(), 500);
        let pids: std::collections::BTreeSet<_> = host.processes.iter().map(|process| process.pid).collect();
        assert_eq!(pids.len(), 500);
        let begun = (host.next_pid - 1000) / 15;
        assert!((5_000..9_000).contains(&begun), "{begun}");
    }
}
