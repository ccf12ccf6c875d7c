//! Rows of one window of one node to values.

use std::collections::{BTreeMap, HashMap};

use skep_wire::v1;

use crate::detect::series::columns;
use crate::detect::series::gallery::full_at;
use crate::detect::series::minute::{NODE, whose};
use crate::detect::series::track::Signal;
use crate::detect::series::usage::WindowUsage;

/// Requests below which their mean says nothing.
const LEAST_REQUESTS: i64 = 10;

/// Workloads that may open connections in one window; those beyond are let be.
const MAX_WORKLOADS: usize = 2_000;

/// Gauges in one window that can be full; those beyond are let be.
const MAX_GAUGES: usize = 500;

/// One value, to be compared with what came before.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    pub(super) what: Signal,
    pub(super) workload: String,
    pub(super) signal: String,
    pub(super) value: f64,
    pub(super) coverage: f64,
    pub(super) most_by: Option<String>,
}

/// A gauge that can be full.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gauge {
    pub(super) workload: String,
    pub(super) signal: String,
    pub(super) value: f64,
    pub(super) full_at: f64,
}

/// Requests to one device, by who handed them over.
#[derive(Debug, Default)]
struct Requests {
    count: i64,
    sum_ns: i64,
    by: HashMap<String, i64>,
}

/// A window under way.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) time_us: i64,
    pub(super) window_s: f64,
    /// Waits for a CPU, all of them and by whom.
    waited_ns: i64,
    waited_by: HashMap<String, i64>,
    coverage: Option<f64>,
    devices: BTreeMap<String, Requests>,
    /// Connections tried, by whom.
    attempts: BTreeMap<String, i64>,
    cpus: f64,
    pub(super) gauges: Vec<Gauge>,
}

impl Window {
    /// The one that follows.
    pub(super) fn after(window: &Self) -> Self {
        Self { cpus: window.cpus, ..Self::default() }
    }

    /// A window that was never ended is begun anew by the next.
    fn begin(&mut self, time_us: i64, window_s: f64) {
        if time_us != self.time_us {
            let attempts = std::mem::take(&mut self.attempts);
            *self = Self { time_us, attempts, cpus: self.cpus, ..Self::default() };
        }
        self.window_s = self.window_s.max(window_s);
    }

    pub(super) fn usage(&mut self, usage: &WindowUsage) {
        self.begin(usage.time_us, usage.window_s);
        for (workload, used) in &usage.workloads {
            self.waited_ns += used.wait_sum_ns;
            *self.waited_by.entry(workload.clone()).or_default() += used.wait_sum_ns;
            self.coverage = Some(self.coverage.unwrap_or(1.0).min(used.coverage));
        }
    }

    pub(super) fn block(&mut self, chunk: &v1::Chunk) {
        let (times, windows) = (columns::ints(chunk, "time"), columns::floats(chunk, "window_s"));
        let (devices, operations) = (columns::texts(chunk, "device"), columns::texts(chunk, "operation"));
        let (counts, sums) = (columns::ints(chunk, "count"), columns::ints(chunk, "latency_sum_ns"));
        let workloads = columns::texts(chunk, "workload");
        for row in 0..chunk.rows as usize {
            let (Some(time_us), Some(window_s)) = (times.at(row), windows.at(row)) else { continue };
            self.begin(time_us, window_s);
            // The others take as long as the disk has to tidy up.
            let is_data = operations.at(row).is_some_and(|operation| matches!(operation, "read" | "write"));
            let Some(device) = devices.at(row).filter(|_| is_data) else { continue };
            let requests = self.devices.entry(device.to_owned()).or_default();
            let sum_ns = sums.at(row).unwrap_or(0);
            requests.count += counts.at(row).unwrap_or(0);
            requests.sum_ns += sum_ns;
            *requests.by.entry(workloads.at(row).unwrap_or_default().to_owned()).or_default() += sum_ns;
        }
    }

    /// They are moments: what came since the last window's end counts.
    pub(super) fn connections(&mut self, chunk: &v1::Chunk) {
        let (events, workloads) = (columns::texts(chunk, "event"), columns::texts(chunk, "workload"));
        for row in 0..chunk.rows as usize {
            let Some(workload) = workloads.at(row).filter(|_| matches!(events.at(row), Some("open" | "fail"))) else {
                continue;
            };
            if let Some(attempts) = self.attempts.get_mut(workload) {
                *attempts += 1;
            } else if self.attempts.len() < MAX_WORKLOADS {
                self.attempts.insert(workload.to_owned(), 1);
            }
        }
    }

    pub(super) fn host(&mut self, chunk: &v1::Chunk) {
        let (times, windows) = (columns::ints(chunk, "time"), columns::floats(chunk, "window_s"));
        let (metrics, labels) = (columns::texts(chunk, "metric"), columns::texts(chunk, "label"));
        let values = columns::floats(chunk, "value");
        for row in 0..chunk.rows as usize {
            let (Some(time_us), Some(window_s)) = (times.at(row), windows.at(row)) else { continue };
            self.begin(time_us, window_s);
            let (Some(metric), Some(value)) = (metrics.at(row), values.at(row)) else { continue };
            if metric == "cpus" {
                self.cpus = value;
            }
            if let Some(full_at) = full_at(metric).filter(|_| value.is_finite() && self.gauges.len() < MAX_GAUGES) {
                let (workload, signal) = whose(metric, labels.at(row).unwrap_or_default());
                self.gauges.push(Gauge { workload, signal, value, full_at });
            }
        }
    }

    /// Its values, for the node in the order of signals and labels.
    pub(super) fn values(&self) -> Vec<Measured> {
        let mut values = Vec::new();
        if let Some(coverage) = self.coverage.filter(|_| self.cpus > 0.0 && self.window_s > 0.0) {
            values.push(Measured {
                what: Signal::RunQueueLength,
                workload: NODE.to_owned(),
                signal: Signal::RunQueueLength.as_str().to_owned(),
                value: self.waited_ns as f64 / 1e9 / self.window_s / self.cpus,
                coverage,
                most_by: most(&self.waited_by),
            });
        }
        let busy = self.devices.iter().filter(|(_, requests)| requests.count >= LEAST_REQUESTS);
        values.extend(busy.map(|(device, requests)| Measured {
            what: Signal::BlockLatency,
            workload: NODE.to_owned(),
            signal: format!("{}{{{device}}}", Signal::BlockLatency.as_str()),
            value: requests.sum_ns as f64 / requests.count as f64,
            coverage: 1.0,
            most_by: most(&requests.by),
        }));
        let attempts = self.attempts.iter().filter(|_| self.window_s > 0.0);
        values.extend(attempts.map(|(workload, &attempts)| Measured {
            what: Signal::ConnectionAttempts,
            workload: workload.clone(),
            signal: Signal::ConnectionAttempts.as_str().to_owned(),
            value: attempts as f64 / self.window_s,
            coverage: 1.0,
            most_by: None,
        }));
        values
    }
}

/// Who has the most; of equals the first by name, so that the same rows give the same answer.
fn most(by: &HashMap<String, i64>) -> Option<String> {
    let most = by.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)))?;
    (*most.1 > 0).then(|| most.0.clone())
}
