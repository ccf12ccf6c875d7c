//! How much cpu a cgroup uses, and how much it would use if it got it.
//!
//! Used: the kernel's own account of the cgroup where the hierarchy has one (v2 `cpu.stat`, v1 `cpuacct.usage` where it
//! is mounted together with cpu), else the sum over its tasks. Wanted: used plus the time its tasks waited for a CPU.
//! Source: Documentation/scheduler/sched-stats.rst (`/proc/PID/schedstat`: time on cpu, time waiting, both ns).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

/// Tasks looked at; a cgroup with more is judged by these.
const MAX_TASKS: usize = 20_000;

/// Cgroups below the target that are looked at.
const MAX_CGROUPS: usize = 4_096;

/// A reading at one moment.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    at_ns: u64,
    /// The kernel's account of the whole cgroup, where there is one.
    total_ns: Option<u64>,
    /// Task to its time on a CPU and its time waiting.
    tasks: HashMap<u32, (u64, u64)>,
}

/// What happened between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Cores used.
    pub used_cores: f64,
    /// Cores used or waited for.
    pub wanted_cores: f64,
}

/// Reads the cgroup in `dir` and all below it. `now_ns` is any steady clock.
pub fn read(dir: &Path, now_ns: u64) -> Reading {
    let mut tasks = HashMap::new();
    for cgroup in with_descendants(dir) {
        for task in
            numbers(&cgroup.join("tasks")).or_else(|| numbers(&cgroup.join("cgroup.threads"))).unwrap_or_default()
        {
            if tasks.len() >= MAX_TASKS {
                break;
            }
            if let Some(times) = schedstat(task) {
                tasks.insert(task, times);
            }
        }
    }
    Reading { at_ns: now_ns, total_ns: total_ns(dir), tasks }
}

/// Usage from `earlier` to `later`.
pub fn between(earlier: &Reading, later: &Reading) -> Usage {
    let interval_ns = later.at_ns.saturating_sub(earlier.at_ns).max(1);
    let (mut ran, mut waited) = (0, 0);
    for (task, (ran_later, waited_later)) in &later.tasks {
        // A task that was not there before has at most the interval to its name, whatever it did elsewhere.
        let (ran_before, waited_before) = earlier
            .tasks
            .get(task)
            .copied()
            .unwrap_or((ran_later.saturating_sub(interval_ns), waited_later.saturating_sub(interval_ns)));
        ran += ran_later.saturating_sub(ran_before);
        waited += waited_later.saturating_sub(waited_before);
    }
    if let (Some(before), Some(after)) = (earlier.total_ns, later.total_ns) {
        ran = after.saturating_sub(before);
    }
    let cores = |ns: u64| ns as f64 / interval_ns as f64;
    Usage { used_cores: cores(ran), wanted_cores: cores(ran + waited) }
}

/// Why not every process of a cgroup could be seen.
#[derive(Debug, Error)]
pub enum UnseenError {
    /// A file or folder does not read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Too many cgroups below it to look at.
    #[error("more than {MAX_CGROUPS} cgroups are below it")]
    TooMany,
}

/// Process ids (of threaded cgroups, task ids) in the cgroup in `dir` and all below it: all of them, or an error. What
/// ends below `dir` meanwhile holds nothing any more.
///
/// # Errors
/// [`UnseenError`].
pub fn processes(dir: &Path) -> Result<Vec<u32>, UnseenError> {
    let (mut found, mut waiting, mut looked_at) = (Vec::new(), vec![dir.to_owned()], 0);
    while let Some(cgroup) = waiting.pop() {
        looked_at += 1;
        if looked_at > MAX_CGROUPS {
            return Err(UnseenError::TooMany);
        }
        match members(&cgroup).and_then(|pids| Ok((pids, folders(&cgroup)?))) {
            Ok((pids, below)) => {
                found.extend(pids);
                waiting.extend(below);
            }
            Err(source) if cgroup != dir && is_gone(&source) => {}
            Err(source) => return Err(UnseenError::Io { path: cgroup, source }),
        }
    }
    Ok(found)
}

fn members(cgroup: &Path) -> io::Result<Vec<u32>> {
    let text = match fs::read_to_string(cgroup.join("cgroup.procs")) {
        // A threaded cgroup has tasks only.
        Err(error) if is_errno(&error, Errno::OPNOTSUPP) => fs::read_to_string(cgroup.join("cgroup.threads"))?,
        text => text?,
    };
    text.lines().map(|line| line.parse().map_err(|_| io::ErrorKind::InvalidData.into())).collect()
}

fn folders(cgroup: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || is_errno(error, Errno::NODEV)
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn with_descendants(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while next < found.len() && found.len() < MAX_CGROUPS {
        if let Ok(entries) = fs::read_dir(&found[next]) {
            let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            found.extend(folders.map(|entry| entry.path()));
        }
        next += 1;
    }
    found
}

fn numbers(path: &Path) -> Option<Vec<u32>> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().filter_map(|line| line.parse().ok()).collect())
}

fn schedstat(task: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{task}/schedstat")).ok()?;
    let mut words = text.split_whitespace().map(|word| word.parse().ok());
    Some((words.next()??, words.next()??))
}

fn total_ns(dir: &Path) -> Option<u64> {
    if let Ok(text) = fs::read_to_string(dir.join("cpuacct.usage")) {
        return text.trim().parse().ok();
    }
    let text = fs::read_to_string(dir.join("cpu.stat")).ok()?;
    let usage_us: u64 = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?.parse().ok()?;
    Some(usage_us * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at_ns: u64, total_ns: Option<u64>, tasks: &[(u32, u64, u64)]) -> Reading {
        Reading { at_ns, total_ns, tasks: tasks.iter().map(|(task, ran, waited)| (*task, (*ran, *waited))).collect() }
    }

    #[test]
    fn tasks_are_summed_and_newcomers_count_for_the_interval_at_most() {
        let earlier = reading(0, None, &[(1, 500, 0), (2, 100, 100)]);
        let later = reading(1000, None, &[(1, 1000, 250), (3, 90_000, 0)]);
        let usage = between(&earlier, &later);
        assert!((usage.used_cores - 1.5).abs() < 1e-9, "{usage:?}");
        assert!((usage.wanted_cores - 1.75).abs() < 1e-9, "{usage:?}");
    }

    #[test]
    fn processes_are_all_seen_or_it_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let procs = |dir: &Path, text: &str| fs::write(dir.join("cgroup.procs"), text).unwrap();
        assert!(matches!(processes(root.path()), Err(UnseenError::Io { .. })), "the target itself must be readable");
        procs(root.path(), "11\n12\n");
        let below = root.path().join("below");
        fs::create_dir(&below).unwrap();
        assert_eq!(processes(root.path()).unwrap(), [11, 12], "what vanished below holds nothing");
        procs(&below, "13\n");
        assert_eq!(processes(root.path()).unwrap(), [11, 12, 13]);
        procs(&below, "what\n");
        assert!(matches!(processes(root.path()), Err(UnseenError::Io { .. })));
        procs(&below, "");
        for name in 0..MAX_CGROUPS {
            fs::create_dir(below.join(name.to_string())).unwrap();
        }
        assert!(matches!(processes(root.path()), Err(UnseenError::TooMany)));
    }

    #[test]
    fn the_kernels_own_account_is_preferred() {
        let usage = between(&reading(0, Some(100), &[(1, 0, 0)]), &reading(1000, Some(350), &[(1, 9, 50)]));
        assert!((usage.used_cores - 0.25).abs() < 1e-9 && (usage.wanted_cores - 0.3).abs() < 1e-9);
    }

    #[test]
    fn a_busy_thread_of_this_process_is_seen() {
        let start = std::time::Instant::now();
        let now = || start.elapsed().as_nanos() as u64;
        let task = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let one = || reading(now(), None, &[schedstat(task).map(|(ran, waited)| (task, ran, waited)).unwrap()]);
        let earlier = one();
        while start.elapsed().as_millis() < 200 {
            std::hint::black_box(0);
        }
        let usage = between(&earlier, &one());
        assert!(usage.wanted_cores > 0.5, "{usage:?}");
    }
}
