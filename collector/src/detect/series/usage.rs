//! Sums the `cpu` rows of one window by workload.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use skep_wire::v1;

use super::columns::{self, Floats, Ints, Texts};
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
///
/// Every row of every node comes by here: rows are told apart by their texts' numbers, and texts are looked at once.
pub fn windows(chunk: &v1::Chunk) -> Vec<WindowUsage> {
    let columns = Columns::of(chunk);
    let mut windows: BTreeMap<i64, Window> = BTreeMap::new();
    for row in 0..chunk.rows as usize {
        if columns.pids.at(row) == Some(0) {
            continue;
        }
        let (Some(time_us), Some(window_s), Some(workload)) =
            (columns.times.at(row), columns.windows.at(row), columns.workloads.number(row))
        else {
            continue;
        };
        let window = windows.entry(time_us).or_default();
        window.window_s = window.window_s.max(window_s);
        window.workloads.entry(workload).or_default().add(&columns, row);
    }
    windows.into_iter().map(|(time_us, window)| window.finish(&columns, time_us)).collect()
}

struct Columns<'a> {
    times: Ints<'a>,
    windows: Floats<'a>,
    pids: Ints<'a>,
    workloads: Texts<'a>,
    cgroups: Texts<'a>,
    cgroup_ids: Ints<'a>,
    on_cpu: Ints<'a>,
    waits: Ints<'a>,
    wait_sums: Ints<'a>,
    coverages: Floats<'a>,
}

impl<'a> Columns<'a> {
    fn of(chunk: &'a v1::Chunk) -> Self {
        Self {
            times: columns::ints(chunk, "time"),
            windows: columns::floats(chunk, "window_s"),
            pids: columns::ints(chunk, "pid"),
            workloads: columns::texts(chunk, "workload"),
            cgroups: columns::texts(chunk, "cgroup"),
            cgroup_ids: columns::ints(chunk, "cgroup_id"),
            on_cpu: columns::ints(chunk, "on_cpu_ns"),
            waits: columns::ints(chunk, "run_queue_delay_count"),
            wait_sums: columns::ints(chunk, "run_queue_delay_sum_ns"),
            coverages: columns::floats(chunk, "coverage"),
        }
    }
}

/// By the numbers of workloads.
#[derive(Default)]
struct Window {
    window_s: f64,
    workloads: HashMap<u32, Sums, RandomState>,
}

struct Sums {
    on_cpu_ns: i64,
    waits: i64,
    wait_sum_ns: i64,
    coverage: f64,
    /// Time by cgroup: the number of its path, and its id.
    cgroups: HashMap<(u32, i64), i64, RandomState>,
}

impl Default for Sums {
    fn default() -> Self {
        Self { on_cpu_ns: 0, waits: 0, wait_sum_ns: 0, coverage: 1.0, cgroups: HashMap::default() }
    }
}

impl Sums {
    fn add(&mut self, columns: &Columns<'_>, row: usize) {
        let on_cpu_ns = columns.on_cpu.at(row).unwrap_or(0);
        self.on_cpu_ns += on_cpu_ns;
        self.waits += columns.waits.at(row).unwrap_or(0);
        self.wait_sum_ns += columns.wait_sums.at(row).unwrap_or(0);
        self.coverage = self.coverage.min(columns.coverages.at(row).unwrap_or(1.0));
        if let (Some(cgroup), Some(cgroup_id)) = (columns.cgroups.number(row), columns.cgroup_ids.at(row)) {
            *self.cgroups.entry((cgroup, cgroup_id)).or_default() += on_cpu_ns;
        }
    }

    fn merge(&mut self, other: Self) {
        self.on_cpu_ns += other.on_cpu_ns;
        self.waits += other.waits;
        self.wait_sum_ns += other.wait_sum_ns;
        self.coverage = self.coverage.min(other.coverage);
        for (cgroup, on_cpu_ns) in other.cgroups {
            *self.cgroups.entry(cgroup).or_default() += on_cpu_ns;
        }
    }

    fn finish(self, cgroup_names: Texts<'_>) -> Usage {
        let mut cgroups: HashMap<(&str, i64), i64, RandomState> = HashMap::default();
        for ((number, cgroup_id), on_cpu_ns) in self.cgroups {
            *cgroups.entry((cgroup_names.text(number), cgroup_id)).or_default() += on_cpu_ns;
        }
        // Ties go to the smaller path, so that the same rows always give the same aim.
        let most = cgroups.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
        let share = |on_cpu_ns: i64| if self.on_cpu_ns > 0 { on_cpu_ns as f64 / self.on_cpu_ns as f64 } else { 1.0 };
        Usage {
            on_cpu_ns: self.on_cpu_ns,
            waits: self.waits,
            wait_sum_ns: self.wait_sum_ns,
            coverage: self.coverage,
            aim: most.map(|(&(cgroup, cgroup_id), _)| Aim { cgroup: cgroup.to_owned(), cgroup_id }),
            aim_share: most.map_or(0.0, |(_, &on_cpu_ns)| share(on_cpu_ns)),
        }
    }
}

impl Window {
    fn finish(self, columns: &Columns<'_>, time_us: i64) -> WindowUsage {
        let mut named: HashMap<&str, Sums, RandomState> = HashMap::default();
        for (number, sums) in self.workloads {
            named.entry(columns.workloads.text(number)).or_default().merge(sums);
        }
        let finish = |(name, sums): (&str, Sums)| (name.to_owned(), sums.finish(columns.cgroups));
        WindowUsage { time_us, window_s: self.window_s, workloads: named.into_iter().map(finish).collect() }
    }
}

#[cfg(test)]
mod tests {
    use skep_wire::chunk::Builder;
    use skep_wire::tables::{CPU, Kind};
    use skep_wire::v1::column_data::Data;

    use super::*;

    fn chunk(rows: &[(i64, i64, &str, &str, i64)]) -> v1::Chunk {
        let mut builder = Builder::new(&CPU);
        for (time_us, pid, workload, cgroup, on_cpu_ns) in rows {
            builder.int("time", *time_us).float("window_s", 1.0).int("pid", *pid).int("on_cpu_ns", *on_cpu_ns);
            builder.text("workload", workload).text("cgroup", cgroup).int("cgroup_id", 7).float("coverage", 1.0);
            let set = ["time", "window_s", "pid", "on_cpu_ns", "workload", "coverage"];
            for column in CPU.columns().filter(|column| !column.nullable && !set.contains(&column.name)) {
                match column.kind {
                    Kind::Int => builder.int(column.name, 1),
                    Kind::Histogram => builder.histogram(column.name, []),
                    _ => builder.text(column.name, "x"),
                };
            }
            builder.end_row().unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn rows_are_summed_by_window_and_workload_and_the_idle_task_is_not() {
        let rows = [(20, 5, "b", "/b", 3), (10, 1, "a", "/a/y", 10), (10, 2, "a", "/a/x", 10), (10, 0, "a", "/", 99)];
        let found = windows(&chunk(&rows));
        assert_eq!(found.iter().map(|window| window.time_us).collect::<Vec<_>>(), [10, 20]);
        let usage = &found[0].workloads["a"];
        assert_eq!((usage.on_cpu_ns, usage.waits, usage.wait_sum_ns), (20, 2, 2));
        assert_eq!(usage.aim, Some(Aim { cgroup: "/a/x".to_owned(), cgroup_id: 7 }));
        assert!((usage.aim_share - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_text_that_is_in_a_dictionary_twice_is_one_workload_and_one_cgroup() {
        let mut chunk = chunk(&[(10, 1, "a", "/a", 4), (10, 2, "b", "/b", 5), (10, 3, "c", "/c", 8)]);
        for column in &mut chunk.columns {
            if let (Some(Data::Texts(texts)), "workload" | "cgroup") = (&mut column.data, column.name.as_str()) {
                texts.dictionary[1] = texts.dictionary[0].clone();
                if column.name == "workload" {
                    texts.dictionary[2] = texts.dictionary[0].clone();
                }
            }
        }
        let found = windows(&chunk);
        let usage = &found[0].workloads["a"];
        assert_eq!((found[0].workloads.len(), usage.on_cpu_ns), (1, 17));
        assert_eq!(usage.aim, Some(Aim { cgroup: "/a".to_owned(), cgroup_id: 7 }));
    }
}
