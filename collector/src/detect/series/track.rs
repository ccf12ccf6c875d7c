//! One series: its last values and the score of the next.

use std::borrow::Cow;
use std::collections::VecDeque;

use skep_series::level::MAD_TO_SIGMA;

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

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Cores used.
    CpuCores,
    /// Mean wait for a CPU.
    RunQueueDelay,
    /// Threads that wait for a CPU, for each there is.
    RunQueueLength,
    /// Connections that were opened or not to be opened, a second.
    ConnectionAttempts,
    /// Mean time a disk takes for a read or a write.
    BlockLatency,
}

impl Signal {
    /// As in `scores` and in findings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CpuCores => "cpu_cores",
            Self::RunQueueDelay => "run_queue_delay_mean_ns",
            Self::RunQueueLength => "run_queue_length_per_cpu",
            Self::ConnectionAttempts => "connection_attempts_per_s",
            Self::BlockLatency => "block_latency_mean_ns",
        }
    }

    /// Differences below this do not matter, however unusual.
    pub fn least_effect(self) -> f64 {
        match self {
            Self::CpuCores => 0.3,
            Self::RunQueueDelay => 10_000_000.0,
            Self::RunQueueLength => 1.0,
            Self::ConnectionAttempts => 50.0,
            Self::BlockLatency => 20_000_000.0,
        }
    }

    /// Differences from here on are felt.
    pub fn grave_effect(self) -> f64 {
        match self {
            Self::CpuCores => self.least_effect(),
            Self::RunQueueDelay => f64::INFINITY,
            Self::RunQueueLength => 2.0,
            Self::ConnectionAttempts => 100.0,
            Self::BlockLatency => 50_000_000.0,
        }
    }

    /// The spread is never taken for less: a series that never moved would make anything infinitely unusual.
    fn spread_floor(self, median: f64) -> f64 {
        match self {
            Self::CpuCores => 0.05 + 0.05 * median,
            Self::RunQueueDelay => 1_000_000.0 + 0.1 * median,
            Self::RunQueueLength => 0.1 + 0.1 * median,
            Self::ConnectionAttempts => 5.0 + 0.1 * median,
            Self::BlockLatency => 2_000_000.0 + 0.2 * median,
        }
    }

    /// Values there must be before a score means anything. For what is zero where it is not, the node's warm-up sees to it.
    fn least_values(self) -> usize {
        match self {
            Self::CpuCores | Self::ConnectionAttempts => 1,
            Self::RunQueueDelay => 12,
            Self::RunQueueLength | Self::BlockLatency => 6,
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
    /// The same in order, so that a median is looked up: every window of every workload asks for two.
    sorted: Vec<f64>,
    streak: u32,
}

impl Track {
    /// A series that has been zero for `zeros` windows.
    pub fn new(signal: Signal, zeros: usize) -> Self {
        let mut track = Self { signal, values: VecDeque::new(), sorted: Vec::new(), streak: 0 };
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
        if self.values.len() == BASELINE_WINDOWS
            && let Some(oldest) = self.values.pop_front()
        {
            take_out(&mut self.sorted, oldest);
        }
        self.values.push_back(value);
        self.sorted.insert(place(&self.sorted, value), value);
    }

    /// Judges a value by the ones before it, then learns it; `None` while there are too few.
    pub fn judge(&mut self, value: f64) -> Option<Score> {
        let kept_out = (self.streak as usize).min(KEPT_OUT).min(self.values.len());
        let mut before = Cow::Borrowed(self.sorted.as_slice());
        for recent in self.values.iter().rev().take(kept_out) {
            take_out(before.to_mut(), *recent);
        }
        if before.len() < self.signal.least_values() {
            self.learn(value);
            return None;
        }
        let baseline = median(&before);
        let spread = (MAD_TO_SIGMA * median_deviation(&before, baseline)).max(self.signal.spread_floor(baseline));
        let score = (value - baseline) / spread;
        let nearly = before.len() - before.partition_point(|earlier| *earlier < NEARLY * value);
        let abnormal = score >= FAR
            && value - baseline >= self.signal.least_effect()
            && nearly as f64 <= SEEN_BEFORE * before.len() as f64;
        let rests_on = before.len();
        self.streak = if abnormal { self.streak + 1 } else { 0 };
        self.learn(value);
        Some(Score { value, baseline, spread, score, streak: self.streak, rests_on })
    }
}

fn place(sorted: &[f64], value: f64) -> usize {
    sorted.partition_point(|other| other.total_cmp(&value).is_lt())
}

fn take_out(sorted: &mut Vec<f64>, value: f64) {
    let place = place(sorted, value);
    if place < sorted.len() {
        sorted.remove(place);
    }
}

/// Median of ascending values; 0 of nothing.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ if sorted.is_empty() => 0.0,
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Median distance of ascending values from `centre`; 0 of nothing. The nearest are taken from either side of it.
fn median_deviation(sorted: &[f64], centre: f64) -> f64 {
    let (below, above) = sorted.split_at(sorted.partition_point(|value| *value < centre));
    let mut below = below.iter().rev().map(|value| centre - value).peekable();
    let mut above = above.iter().map(|value| value - centre).peekable();
    let mut nearest = || match (below.peek(), above.peek()) {
        (Some(left), Some(right)) if left < right => below.next(),
        (_, Some(_)) => above.next(),
        (_, None) => below.next(),
    };
    let (mut last, mut one_before) = (0.0, 0.0);
    for _ in 0..=sorted.len() / 2 {
        (one_before, last) = (last, nearest().unwrap_or(last));
    }
    if sorted.len() % 2 == 1 { last } else { (one_before + last) / 2.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plainly(mut values: Vec<f64>) -> f64 {
        values.sort_unstable_by(f64::total_cmp);
        median(&values)
    }

    proptest! {
        #[test]
        fn what_is_kept_in_order_is_what_sorting_anew_would_give(values in prop::collection::vec(-5i32..20, 1..200)) {
            let mut track = Track::new(Signal::CpuCores, 3);
            for value in values.into_iter().map(f64::from) {
                let kept_out = (track.streak as usize).min(KEPT_OUT);
                let before: Vec<f64> = track.values.iter().take(track.values.len() - kept_out).copied().collect();
                let score = track.judge(value).unwrap();
                let baseline = plainly(before.clone());
                let spread = MAD_TO_SIGMA * plainly(before.iter().map(|earlier| (earlier - baseline).abs()).collect());
                prop_assert_eq!(score.baseline, baseline);
                prop_assert_eq!(score.spread, spread.max(Signal::CpuCores.spread_floor(baseline)));
                prop_assert_eq!(score.rests_on, before.len());
                prop_assert!(track.sorted.is_sorted() && track.sorted.len() == track.values.len());
            }
        }
    }
}
