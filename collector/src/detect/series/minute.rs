//! Rows of one node to values by the minute, for each workload and for the node as a whole.
//!
//! A window belongs to the minute it begins in. A minute is closed by the first batch that has a row of a later one; what
//! comes for it then is left out, and counted. Rates are over the time that was watched, not over sixty seconds.

use std::collections::{BTreeMap, HashMap};

use skep_common::bucket;
use skep_wire::v1;

use super::columns::{self, Ints, Texts};
use super::distribution::Distribution;

const MINUTE_US: i64 = 60_000_000;

/// Measurements below which a percentile says nothing.
const LEAST_MEASURED: u64 = 20;

/// Workloads in one minute of one node; those beyond count for the node alone.
const MAX_WORKLOADS: usize = 2_000;

/// Gauges in one minute of one node; those beyond are left out.
const MAX_GAUGES: usize = 1_000;

/// Gauges that only grow, or say nothing of the host.
const LEFT_OUT: [&str; 3] = ["uptime_s", "agent_identities_evicted", "agent_cgroups_refused"];

/// The node as a whole, where a workload's name stands else.
pub const NODE: &str = "";

/// A gauge of workloads, which are its labels.
pub const FILES: &str = "files_used_ratio";

/// Whom a gauge is about, and the signal it is.
pub(super) fn whose(metric: &str, label: &str) -> (String, String) {
    match label {
        "" => (NODE.to_owned(), metric.to_owned()),
        workload if metric == FILES => (workload.to_owned(), metric.to_owned()),
        label => (NODE.to_owned(), format!("{metric}{{{label}}}")),
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Whom it is about, or [`NODE`].
    pub workload: String,
    /// What was measured, with its unit; a gauge's label in braces.
    pub signal: String,
    /// The value.
    pub value: f64,
    /// 0..1, of the minute.
    pub coverage: f64,
    /// Nothing is zero: a rate, which a workload that is not there has too.
    pub rate: bool,
}

/// A minute that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Minute {
    /// Its start.
    pub time_us: i64,
    /// What was measured in it, in the order of workload and signal.
    pub values: Vec<Value>,
}

/// What one workload did.
#[derive(Debug)]
struct Sums {
    counts: [i64; COUNTED.len()],
    distributions: [Distribution; MEASURED.len()],
    coverage: f64,
}

impl Default for Sums {
    fn default() -> Self {
        Self { counts: Default::default(), distributions: Default::default(), coverage: 1.0 }
    }
}

/// What is counted: signal, and what a second of it is divided by; cpu first.
const COUNTED: [(&str, f64); 6] = [
    ("cpu_cores", 1e9),
    ("syscalls_per_s", 1.0),
    ("syscall_errors_per_s", 1.0),
    ("connects_per_s", 1.0),
    ("connect_failures_per_s", 1.0),
    ("block_bytes_per_s", 1.0),
];
const ON_CPU: usize = 0;
const CALLS: usize = 1;
const CALL_ERRORS: usize = 2;
const CONNECTS: usize = 3;
const CONNECT_FAILURES: usize = 4;
const BLOCK_BYTES: usize = 5;

/// What is measured.
const MEASURED: [&str; 3] = ["run_queue_delay_p99_ns", "syscall_latency_p99_ns", "block_latency_p99_ns"];
const RUN_QUEUE: usize = 0;
const CALL_LATENCY: usize = 1;
const BLOCK_LATENCY: usize = 2;

/// A minute under way.
#[derive(Debug, Default)]
struct Open {
    minute: i64,
    /// Windows by their start, and their lengths.
    watched: HashMap<i64, f64>,
    /// Workloads by their place in `sums`.
    workloads: HashMap<String, usize>,
    sums: Vec<Sums>,
    /// All workloads beyond [`MAX_WORKLOADS`].
    others: Sums,
    gauges: BTreeMap<(String, String), (f64, u32)>,
}

/// The minutes of one node.
#[derive(Debug, Default)]
pub struct Minutes {
    open: Option<Open>,
    late: u64,
}

impl Minutes {
    /// Takes a checked chunk of the node; the minute that it closed, if it did.
    pub fn chunk(&mut self, chunk: &v1::Chunk) -> Option<Minute> {
        match chunk.table.as_str() {
            "cpu" | "syscalls" | "block_io" | "connections" | "host" => {}
            _ => return None,
        }
        let rows = chunk.rows as usize;
        let times = columns::ints(chunk, "time");
        let newest = (0..rows).filter_map(|row| times.at(row)).max()?.div_euclid(MINUTE_US);
        // A connection's row may be ahead of the windows it came with: those end minutes.
        let ends = chunk.table != "connections";
        let closed = match &self.open {
            Some(open) if newest > open.minute && ends => self.open.take().map(Open::close),
            _ => None,
        };
        let open = self.open.get_or_insert_with(|| Open { minute: newest, ..Open::default() });
        self.late += match chunk.table.as_str() {
            "cpu" => open.cpu(chunk),
            "syscalls" => open.syscalls(chunk),
            "block_io" => open.block(chunk),
            "connections" => open.connections(chunk),
            _ => open.host(chunk),
        };
        closed
    }

    /// Rows that came after their minute was closed, since the call before.
    pub fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }
}

/// The columns all tables of windows have.
struct Common<'a> {
    times: Ints<'a>,
    windows: columns::Floats<'a>,
    workloads: Texts<'a>,
    coverages: columns::Floats<'a>,
    /// The window of the row before: most rows of a chunk are of one.
    last: Option<(i64, f64)>,
    /// By the number of a workload's name, its place among the minute's sums: names are looked up once a chunk.
    places: Vec<Option<Place>>,
}

/// Where a workload's sums are; `None` with those beyond [`MAX_WORKLOADS`].
type Place = Option<usize>;

impl<'a> Common<'a> {
    fn of(chunk: &'a v1::Chunk) -> Self {
        let workloads = columns::texts(chunk, "workload");
        Self {
            times: columns::ints(chunk, "time"),
            windows: columns::floats(chunk, "window_s"),
            workloads,
            coverages: columns::floats(chunk, "coverage"),
            last: None,
            places: vec![None; workloads.len()],
        }
    }
}

impl Open {
    /// Whether the row is of this minute; then its window is known.
    fn takes(&mut self, common: &mut Common<'_>, row: usize) -> bool {
        let Some(time_us) = common.times.at(row) else { return false };
        let window = common.windows.at(row).map(|window_s| (time_us, window_s));
        if window.is_some() && window == common.last {
            return true;
        }
        if time_us.div_euclid(MINUTE_US) != self.minute {
            return false;
        }
        if let Some((_, window_s)) = window {
            let longest = self.watched.entry(time_us).or_default();
            *longest = longest.max(window_s);
            common.last = window;
        }
        true
    }

    /// The sums of the row's workload.
    fn of(&mut self, common: &mut Common<'_>, row: usize) -> &mut Sums {
        let number = common.workloads.number(row);
        let known = number.map(|number| (common.places.get_mut(number as usize), common.workloads.text(number)));
        let place = match known {
            Some((Some(Some(place)), _)) => *place,
            Some((Some(unknown), name)) => *unknown.insert(self.place(name)),
            _ => self.place(""),
        };
        let sums = match place.and_then(|place| self.sums.get_mut(place)) {
            Some(sums) => sums,
            None => &mut self.others,
        };
        sums.coverage = sums.coverage.min(common.coverages.at(row).unwrap_or(1.0));
        sums
    }

    /// Where the sums of a workload are, beginning them where there is room.
    fn place(&mut self, workload: &str) -> Place {
        if let Some(place) = self.workloads.get(workload) {
            return Some(*place);
        }
        let place = self.sums.len();
        if place >= MAX_WORKLOADS {
            return None;
        }
        self.workloads.insert(workload.to_owned(), place);
        self.sums.push(Sums::default());
        Some(place)
    }

    fn cpu(&mut self, chunk: &v1::Chunk) -> u64 {
        let (mut common, mut late) = (Common::of(chunk), 0);
        let (pids, on_cpu) = (columns::ints(chunk, "pid"), columns::ints(chunk, "on_cpu_ns"));
        let mut waits = columns::histograms(chunk, "run_queue_delay");
        for row in 0..chunk.rows as usize {
            let wait = waits.next();
            if !self.takes(&mut common, row) {
                late += 1;
            } else if pids.at(row) != Some(0) {
                let sums = self.of(&mut common, row);
                sums.counts[ON_CPU] += on_cpu.at(row).unwrap_or(0);
                sums.distributions[RUN_QUEUE].add(wait);
            }
        }
        late
    }

    fn syscalls(&mut self, chunk: &v1::Chunk) -> u64 {
        let (mut common, mut late) = (Common::of(chunk), 0);
        let (counts, errors) = (columns::ints(chunk, "count"), columns::ints(chunk, "errors"));
        let (waiting, calls) = (columns::ints(chunk, "errors_again"), columns::texts(chunk, "syscall"));
        let mut latencies = columns::histograms(chunk, "latency");
        for row in 0..chunk.rows as usize {
            let latency = latencies.next();
            if !self.takes(&mut common, row) {
                late += 1;
                continue;
            }
            // Those that wait by design take as long as they are told to.
            let waits = calls.at(row).is_some_and(waits_by_design);
            let sums = self.of(&mut common, row);
            sums.counts[CALLS] += counts.at(row).unwrap_or(0);
            sums.counts[CALL_ERRORS] += errors.at(row).unwrap_or(0) - waiting.at(row).unwrap_or(0);
            if !waits {
                sums.distributions[CALL_LATENCY].add(latency);
            }
        }
        late
    }

    fn block(&mut self, chunk: &v1::Chunk) -> u64 {
        let (mut common, mut late) = (Common::of(chunk), 0);
        let bytes = columns::ints(chunk, "bytes");
        let mut latencies = columns::histograms(chunk, "latency");
        for row in 0..chunk.rows as usize {
            let latency = latencies.next();
            if !self.takes(&mut common, row) {
                late += 1;
                continue;
            }
            let sums = self.of(&mut common, row);
            sums.counts[BLOCK_BYTES] += bytes.at(row).unwrap_or(0);
            sums.distributions[BLOCK_LATENCY].add(latency);
        }
        late
    }

    /// A row here is a moment, not a window; one a little before or after the minute counts in it.
    fn connections(&mut self, chunk: &v1::Chunk) -> u64 {
        let mut common = Common::of(chunk);
        let (events, directions) = (columns::texts(chunk, "event"), columns::texts(chunk, "direction"));
        for row in 0..chunk.rows as usize {
            let count = match (events.at(row), directions.at(row)) {
                (Some("open"), _) => CONNECTS,
                (Some("fail"), _) => CONNECT_FAILURES,
                _ => continue,
            };
            self.of(&mut common, row).counts[count] += 1;
        }
        0
    }

    fn host(&mut self, chunk: &v1::Chunk) -> u64 {
        let (mut common, mut late) = (Common::of(chunk), 0);
        let (metrics, labels) = (columns::texts(chunk, "metric"), columns::texts(chunk, "label"));
        let values = columns::floats(chunk, "value");
        for row in 0..chunk.rows as usize {
            if !self.takes(&mut common, row) {
                late += 1;
                continue;
            }
            let (Some(metric), Some(value)) = (metrics.at(row), values.at(row)) else { continue };
            if LEFT_OUT.contains(&metric) || !value.is_finite() {
                continue;
            }
            let key = (metric.to_owned(), labels.at(row).unwrap_or_default().to_owned());
            if self.gauges.len() < MAX_GAUGES || self.gauges.contains_key(&key) {
                let (sum, count) = self.gauges.entry(key).or_default();
                *sum += value;
                *count += 1;
            }
        }
        late
    }

    fn close(self) -> Minute {
        let watched_s: f64 = self.watched.values().sum();
        // Every batch has gauges. Without them this is cpu alone, out of Parquet at a start: that nothing else happened in
        // it would be wrong.
        let counted = if self.gauges.is_empty() { ON_CPU + 1 } else { COUNTED.len() };
        let mut values = Vec::new();
        for ((metric, label), (sum, count)) in self.gauges {
            let (workload, signal) = whose(&metric, &label);
            let value = sum / f64::from(count.max(1));
            values.push(Value { workload, signal, value, coverage: 1.0, rate: false });
        }
        let mut workloads: Vec<(&str, &Sums)> =
            self.workloads.iter().filter_map(|(name, place)| Some((name.as_str(), self.sums.get(*place)?))).collect();
        workloads.sort_by_key(|(name, _)| *name);
        let mut whole = self.others;
        workloads.iter().for_each(|(_, sums)| whole.merge(sums));
        let named = workloads.iter().filter(|(workload, _)| !workload.is_empty());
        let all = std::iter::once((NODE, &whole)).chain(named.copied());
        for (workload, sums) in all.filter(|_| watched_s > 0.0) {
            sums.values(workload, watched_s, counted, &mut values);
        }
        Minute { time_us: self.minute * MINUTE_US, values }
    }
}

impl Sums {
    fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        for (distribution, more) in self.distributions.iter_mut().zip(&other.distributions) {
            distribution.add(more.buckets());
        }
        self.coverage = self.coverage.min(other.coverage);
    }

    fn values(&self, workload: &str, watched_s: f64, counted: usize, values: &mut Vec<Value>) {
        let mut push = |signal: &str, value: f64, rate: bool| {
            let (workload, signal) = (workload.to_owned(), signal.to_owned());
            values.push(Value { workload, signal, value, coverage: self.coverage, rate });
        };
        for ((signal, unit), &count) in COUNTED.iter().zip(&self.counts).take(counted) {
            push(signal, count as f64 / unit / watched_s, true);
        }
        for (signal, distribution) in MEASURED.iter().zip(&self.distributions) {
            if let Some(p99) = p99(distribution) {
                push(signal, p99, false);
            }
        }
    }
}

fn p99(distribution: &Distribution) -> Option<f64> {
    let count = distribution.count();
    if count < LEAST_MEASURED {
        return None;
    }
    let wanted = count - count / 100;
    let mut below = 0;
    let mut found = distribution.buckets().skip_while(|&(_, count)| {
        below += count;
        below < wanted
    });
    found.next().map(|(bucket, _)| bucket::midpoint(bucket) as f64)
}

fn waits_by_design(syscall: &str) -> bool {
    const WORDS: [&str; 8] = ["poll", "select", "wait", "nanosleep", "futex", "accept", "pause", "sigtimedwait"];
    WORDS.iter().any(|word| syscall.contains(word)) || syscall == "io_uring_enter"
}
