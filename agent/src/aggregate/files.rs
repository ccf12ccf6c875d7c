//! How near processes are to the most files they may have open, by workload: who leaks them ends by failing at everything.
//!
//! Looked at are those that ran in the window, since nobody else opens files, and those that were near before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use procfs::process::{LimitValue, Process};

use super::gauges::Gauge;
use super::identity::Identities;
use crate::probe::reading::ProcessKey;

/// Who has fewer open is not asked what it may.
const LEAST_OPEN: u64 = 64;

/// Below this share nothing is said.
const LEAST_RATIO: f64 = 0.1;

/// From this share on a process is looked at though it did not run.
const NEAR_RATIO: f64 = 0.5;

/// Processes looked at in one window.
const MOST_LOOKS: usize = 2_000;

/// Workloads told of in one window: the nearest.
const MOST_WORKLOADS: usize = 100;

/// Seconds between two looks where files must be counted one by one.
const COUNTED_EVERY_S: f64 = 30.0;

/// Looks at open files.
#[derive(Debug)]
pub struct Files {
    /// The size of `/proc/PID/fd` is their number (from kernel 6.2 on).
    size_tells: bool,
    unlooked_s: f64,
    near: BTreeSet<ProcessKey>,
}

impl Files {
    /// Sees what this kernel can tell.
    pub fn start() -> Self {
        let size_tells = fs::metadata("/proc/self/fd").is_ok_and(|folder| folder.len() > 0);
        Self { size_tells, unlooked_s: COUNTED_EVERY_S, near: BTreeSet::new() }
    }

    /// `files_used_ratio` of each workload that has a process with many open files, of its nearest one.
    pub fn read(
        &mut self,
        length_s: f64,
        ran: impl Iterator<Item = ProcessKey>,
        identities: &Identities,
    ) -> Vec<Gauge> {
        self.unlooked_s += length_s;
        if !self.size_tells && self.unlooked_s < COUNTED_EVERY_S {
            return Vec::new();
        }
        self.unlooked_s = 0.0;
        let mut nearest: BTreeMap<String, f64> = BTreeMap::new();
        let before = std::mem::take(&mut self.near);
        let looked_at: BTreeSet<ProcessKey> = before.iter().copied().chain(ran).take(MOST_LOOKS).collect();
        for key in looked_at {
            let Some(process) = identities.get(key) else { continue };
            // Threads of the kernel have neither.
            let (Some(_), Some(cgroup)) = (&process.exe, &process.cgroup) else { continue };
            let Some(ratio) = self.used_ratio(key.pid).filter(|ratio| *ratio >= LEAST_RATIO) else { continue };
            let own = nearest.entry(cgroup.workload.key.clone()).or_default();
            *own = own.max(ratio);
            if ratio >= NEAR_RATIO {
                self.near.insert(key);
            }
        }
        let mut nearest: Vec<(String, f64)> = nearest.into_iter().collect();
        nearest.sort_by(|a, b| b.1.total_cmp(&a.1));
        nearest.truncate(MOST_WORKLOADS);
        nearest.into_iter().map(|(label, value)| Gauge { metric: "files_used_ratio", label, value }).collect()
    }

    /// Of what the process may have open; nothing where it has few, is gone, or may have any number.
    fn used_ratio(&self, pid: u32) -> Option<f64> {
        let folder = format!("/proc/{pid}/fd");
        let open =
            if self.size_tells { fs::metadata(folder).ok()?.len() } else { fs::read_dir(folder).ok()?.count() as u64 };
        if open < LEAST_OPEN {
            return None;
        }
        match Process::new(i32::try_from(pid).ok()?).ok()?.limits().ok()?.max_open_files.soft_limit {
            LimitValue::Value(limit) if limit > 0 => Some(open as f64 / limit as f64),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_process_is_as_near_as_the_files_it_has_open() {
        let own = std::process::id();
        let held: Vec<File> = (0..LEAST_OPEN).map(|_| File::open("/dev/null").expect("a file")).collect();
        let before = [true, false].map(|size_tells| {
            let files = Files { size_tells: size_tells && Files::start().size_tells, ..Files::start() };
            files.used_ratio(own).expect("many are open")
        });
        // Other tests open files meanwhile.
        assert!((before[0] - before[1]).abs() < 0.05, "{before:?}");
        let more: Vec<File> = (0..LEAST_OPEN).map(|_| File::open("/dev/null").expect("a file")).collect();
        let after = Files::start().used_ratio(own).expect("many are open");
        assert!(after > before[0], "{before:?} {after}");
        assert_eq!(Files::start().used_ratio(u32::MAX), None, "nobody has that number");
        drop((held, more));
    }
}
