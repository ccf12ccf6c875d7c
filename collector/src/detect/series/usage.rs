//! Sums the `cpu` rows of one window by workload.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use skep_wire::chunk::{self, Row};
use skep_wire::v1;

use crate::detect::finding::Aim;

/// What one workload used in one window.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Usage {
    /// Time on a CPU, all processes.
    pub on_cpu_ns: i64,
    /// Waits for a CPU.
    pub waits: i64,
    /// Their sum.
    pub wait_sum_ns: i64,
    /// Least coverage of its rows.
    pub coverage: f64,
    /// The cgroup most of the time was spent in.
    pub aim: Option<Aim>,
    /// Share of the time that was spent there.
    pub aim_share: f64,
}

/// One window of one node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WindowUsage {
    /// Start.
    pub time_us: i64,
    /// Length.
    pub window_s: f64,
    /// By workload.
    pub workloads: HashMap<String, Usage>,
}

/// The windows in a checked `cpu` chunk, oldest first. The kernel's idle task is left out.
pub fn windows(chunk: &v1::Chunk) -> Vec<WindowUsage> {
    let mut windows: BTreeMap<i64, Window<'_>> = BTreeMap::new();
    for row in chunk::rows(chunk) {
        if row.int("pid") == Some(0) {
            continue;
        }
        let (Some(time_us), Some(window_s), Some(workload)) =
            (row.int("time"), row.float("window_s"), row.text("workload"))
        else {
            continue;
        };
        let window = windows.entry(time_us).or_default();
        window.window_s = window.window_s.max(window_s);
        window.workloads.entry(workload).or_insert_with(Sums::new).add(&row);
    }
    windows.into_iter().map(|(time_us, window)| window.finish(time_us)).collect()
}

#[derive(Default)]
struct Window<'a> {
    window_s: f64,
    workloads: HashMap<&'a str, Sums<'a>, RandomState>,
}

struct Sums<'a> {
    usage: Usage,
    cgroups: HashMap<(&'a str, i64), i64, RandomState>,
}

impl<'a> Sums<'a> {
    fn new() -> Self {
        Self { usage: Usage { coverage: 1.0, ..Usage::default() }, cgroups: HashMap::default() }
    }

    fn add(&mut self, row: &Row<'a>) {
        let on_cpu_ns = row.int("on_cpu_ns").unwrap_or(0);
        self.usage.on_cpu_ns += on_cpu_ns;
        self.usage.waits += row.int("run_queue_delay_count").unwrap_or(0);
        self.usage.wait_sum_ns += row.int("run_queue_delay_sum_ns").unwrap_or(0);
        self.usage.coverage = self.usage.coverage.min(row.float("coverage").unwrap_or(1.0));
        if let (Some(cgroup), Some(cgroup_id)) = (row.text("cgroup"), row.int("cgroup_id")) {
            *self.cgroups.entry((cgroup, cgroup_id)).or_default() += on_cpu_ns;
        }
    }

    fn finish(mut self) -> Usage {
        // Ties go to the smaller path, so that the same rows always give the same aim.
        let most = self.cgroups.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
        if let Some((&(cgroup, cgroup_id), &on_cpu_ns)) = most {
            self.usage.aim = Some(Aim { cgroup: cgroup.to_owned(), cgroup_id });
            self.usage.aim_share =
                if self.usage.on_cpu_ns > 0 { on_cpu_ns as f64 / self.usage.on_cpu_ns as f64 } else { 1.0 };
        }
        self.usage
    }
}

impl Window<'_> {
    fn finish(self, time_us: i64) -> WindowUsage {
        let workloads =
            self.workloads.into_iter().map(|(workload, sums)| (workload.to_owned(), sums.finish())).collect();
        WindowUsage { time_us, window_s: self.window_s, workloads }
    }
}
