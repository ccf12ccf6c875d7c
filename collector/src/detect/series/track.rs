//! One series: its last values and the score of the next.

use std::collections::VecDeque;

/// Values a baseline rests on: ten minutes of ten-second windows.
pub const BASELINE_WINDOWS: usize = 60;

/// Spreads from the baseline beyond which a value is far out.
pub const FAR: f64 = 6.0;

/// Abnormal windows in a row that make a finding.
pub const STREAK: u32 = 2;

/// Values of a streak kept out of its own baseline, so that the second abnormal window is not judged by the first.
const KEPT_OUT: usize = 3;

/// A value at least this share of the one judged is "nearly as large".
const NEARLY: f64 = 0.8;

/// Share of earlier windows that may have been nearly as large; more, and it is what this workload does.
const SEEN_BEFORE: f64 = 0.05;

/// From the median absolute deviation to the standard deviation of a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Cores used.
    CpuCores,
    /// Mean wait for a CPU.
    RunQueueDelay,
}

impl Signal {
    /// As in `scores` and in findings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CpuCores => "cpu_cores",
            Self::RunQueueDelay => "run_queue_delay_mean_ns",
        }
    }

    /// Differences below this do not matter, however unusual.
    pub fn least_effect(self) -> f64 {
        match self {
            Self::CpuCores => 0.3,
            Self::RunQueueDelay => 10_000_000.0,
        }
    }

    /// The spread is never taken for less: a series that never moved would make anything infinitely unusual.
    fn spread_floor(self, median: f64) -> f64 {
        match self {
            Self::CpuCores => 0.05 + 0.05 * median,
            Self::RunQueueDelay => 1_000_000.0 + 0.1 * median,
        }
    }

    /// Values there must be before a score means anything. For cpu the node's warm-up sees to it.
    fn least_values(self) -> usize {
        match self {
            Self::CpuCores => 1,
            Self::RunQueueDelay => 12,
        }
    }
}

/// The score of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// What was seen.
    pub value: f64,
    /// Median of what came before.
    pub baseline: f64,
    /// Robust spread of what came before, not below the floor.
    pub spread: f64,
    /// Distance from the baseline in spreads; negative below it.
    pub score: f64,
    /// Abnormal windows in a row, this one included; 0 when it is not abnormal.
    pub streak: u32,
    /// Earlier windows the baseline rests on.
    pub rests_on: usize,
}

/// One series.
#[derive(Debug, Clone)]
pub struct Track {
    signal: Signal,
    /// Oldest first, at most [`BASELINE_WINDOWS`].
    values: VecDeque<f64>,
    streak: u32,
}

impl Track {
    /// A series that has been zero for `zeros` windows.
    pub fn new(signal: Signal, zeros: usize) -> Self {
        let mut track = Self { signal, values: VecDeque::new(), streak: 0 };
        track.absent(zeros);
        track
    }

    /// The workload was not there for so many watched windows.
    pub fn absent(&mut self, windows: usize) {
        if windows > 0 {
            self.streak = 0;
        }
        for _ in 0..windows.min(BASELINE_WINDOWS) {
            self.learn(0.0);
        }
    }

    /// Learns a value without judging it.
    pub fn learn(&mut self, value: f64) {
        if self.values.len() == BASELINE_WINDOWS {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// Judges a value by the ones before it, then learns it; `None` while there are too few.
    pub fn judge(&mut self, value: f64) -> Option<Score> {
        let kept_out = (self.streak as usize).min(KEPT_OUT).min(self.values.len());
        let before: Vec<f64> = self.values.iter().take(self.values.len() - kept_out).copied().collect();
        self.learn(value);
        if before.len() < self.signal.least_values() {
            return None;
        }
        let baseline = median(before.clone());
        let deviations = before.iter().map(|earlier| (earlier - baseline).abs()).collect();
        let spread = (MAD_TO_SIGMA * median(deviations)).max(self.signal.spread_floor(baseline));
        let score = (value - baseline) / spread;
        let nearly = before.iter().filter(|&&earlier| earlier >= NEARLY * value).count();
        let abnormal = score >= FAR
            && value - baseline >= self.signal.least_effect()
            && nearly as f64 <= SEEN_BEFORE * before.len() as f64;
        self.streak = if abnormal { self.streak + 1 } else { 0 };
        Some(Score { value, baseline, spread, score, streak: self.streak, rests_on: before.len() })
    }
}

/// Median; 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
