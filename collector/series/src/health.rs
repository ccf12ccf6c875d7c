//! How well a node or a workload is: 0 to 100, with the parts that made it.
//!
//! Each part is a figure with a value at which it is as good as can be and one at which it is as bad as can be, and a
//! weight: the share of health that it takes away then. Parts multiply, so that one that is as bad as can be is not
//! averaged away by ten that are well, and many middling ones add up. A part nobody measured takes nothing away and is
//! named.

/// One part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// As in explanations, with its unit.
    pub name: &'static str,
    /// What was measured; `None` if it was not.
    pub value: Option<f64>,
    /// At this value nothing is taken away.
    pub good: f64,
    /// At this value the whole weight is; larger or smaller than `good`.
    pub bad: f64,
    /// 0..1.
    pub weight: f64,
}

/// What a node's health is made of: figure, where it is good, where it is bad, and its weight. Of several disks the fullest
/// counts; findings are those of the last hour, a critical one counting 1, high 0.6, medium 0.2 and low 0.05.
pub const NODE: [(&str, f64, f64, f64); 9] = [
    ("cpu_busy_ratio", 0.85, 1.0, 0.2),
    ("cpu_pressure_ratio", 0.1, 0.8, 0.4),
    ("memory_used_ratio", 0.85, 1.0, 0.5),
    ("memory_pressure_ratio", 0.01, 0.3, 0.6),
    ("io_pressure_ratio", 0.05, 0.6, 0.4),
    ("disk_used_ratio", 0.85, 0.99, 0.7),
    ("inodes_used_ratio", 0.85, 0.99, 0.7),
    ("coverage_ratio", 0.99, 0.8, 0.3),
    ("findings", 0.0, 1.0, 0.5),
];

/// What a workload's health is made of.
pub const WORKLOAD: [(&str, f64, f64, f64); 4] = [
    ("run_queue_delay_p99_ns", 5e6, 200e6, 0.5),
    ("connect_failures_ratio", 0.02, 0.5, 0.5),
    ("block_latency_p99_ns", 50e6, 1e9, 0.4),
    ("findings", 0.0, 1.0, 0.5),
];

/// Parts of a list like [`NODE`], with what was measured.
pub fn parts(of: &[(&'static str, f64, f64, f64)], measured: impl Fn(&str) -> Option<f64>) -> Vec<Part> {
    of.iter().map(|&(name, good, bad, weight)| Part { name, value: measured(name), good, bad, weight }).collect()
}

/// What a part did to the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The part.
    pub part: Part,
    /// 0 is good, 1 is bad; 0 for one that was not measured.
    pub badness: f64,
    /// Points of 100 it took away; all add up to what is missing.
    pub points: f64,
}

/// How well it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// 0 to 100.
    pub score: f64,
    /// 0..1: weight of what was measured in the weight of all.
    pub known: f64,
    /// What took most first.
    pub shares: Vec<Share>,
}

/// Health from its parts.
pub fn health(parts: &[Part]) -> Health {
    let badness: Vec<f64> = parts.iter().map(badness).collect();
    let kept: f64 = parts.iter().zip(&badness).map(|(part, badness)| 1.0 - weight(part) * badness).product();
    let score = 100.0 * kept;
    // What is missing, by the logarithm each contributed: the order of the parts does not matter.
    let logs: Vec<f64> =
        parts.iter().zip(&badness).map(|(part, badness)| -(1.0 - weight(part) * badness).max(1e-9).ln()).collect();
    let all: f64 = logs.iter().sum();
    let points = |log: f64| if all > 0.0 { (100.0 - score) * log / all } else { 0.0 };
    let mut shares: Vec<Share> = parts
        .iter()
        .zip(badness.iter().zip(&logs))
        .map(|(part, (&badness, &log))| Share { part: *part, badness, points: points(log) })
        .collect();
    shares.sort_by(|a, b| b.points.total_cmp(&a.points));
    let weights: f64 = parts.iter().map(weight).sum();
    let measured: f64 = parts.iter().filter(|part| measured(part).is_some()).map(weight).sum();
    Health { score, known: if weights > 0.0 { measured / weights } else { 0.0 }, shares }
}

fn weight(part: &Part) -> f64 {
    if part.weight.is_nan() { 0.0 } else { part.weight.clamp(0.0, 1.0) }
}

fn measured(part: &Part) -> Option<f64> {
    part.value.filter(|value| !value.is_nan())
}

fn badness(part: &Part) -> f64 {
    let range = part.bad - part.good;
    match measured(part) {
        Some(value) if range != 0.0 => ((value - part.good) / range).clamp(0.0, 1.0),
        _ => 0.0,
    }
}
