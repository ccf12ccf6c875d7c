use std::collections::HashMap;

use super::node::WARM_UP_WINDOWS;
use super::track::{Score, Signal, Track};
use super::usage::{Usage, WindowUsage};
use super::*;
use crate::detect::finding::Aim;

const SECOND_US: i64 = 1_000_000;

/// A node that is fed window after window.
struct Feed {
    series: Series,
    window: i64,
}

impl Feed {
    fn new() -> Self {
        Self { series: Series::default(), window: 0 }
    }

    fn window(&mut self, cores: &[(&str, f64)]) -> Vec<Scored> {
        self.window += 1;
        self.series.window("n", "boot", &window_at(self.window * 10 * SECOND_US, cores))
    }

    fn repeat(&mut self, windows: usize, cores: &[(&str, f64)]) -> Vec<Scored> {
        (0..windows).flat_map(|_| self.window(cores)).collect()
    }
}

fn window_at(time_us: i64, cores: &[(&str, f64)]) -> WindowUsage {
    let usage = |cores: f64| Usage {
        on_cpu_ns: (cores * 10e9) as i64,
        waits: 100,
        wait_sum_ns: 100 * 50_000,
        coverage: 1.0,
        aim: Some(Aim { cgroup: "/x".to_owned(), cgroup_id: 7 }),
        aim_share: 1.0,
    };
    let workloads: HashMap<_, _> = cores.iter().map(|(name, cores)| ((*name).to_owned(), usage(*cores))).collect();
    WindowUsage { time_us, window_s: 10.0, workloads }
}

fn found(scored: &[Scored]) -> Vec<&Scored> {
    scored.iter().filter(|scored| scored.score.streak == track::STREAK).collect()
}

#[test]
fn a_busy_loop_in_a_new_workload_is_found_in_its_second_window() {
    let mut feed = Feed::new();
    let quiet = [("host", 0.2)];
    let learned = feed.repeat(WARM_UP_WINDOWS as usize, &quiet);
    assert!(learned.is_empty(), "nothing is scored while the node warms up");
    assert!(found(&feed.window(&quiet)).is_empty());
    // It begins in the middle of a window.
    assert!(found(&feed.window(&[("host", 0.2), ("new", 0.15)])).is_empty());
    assert!(found(&feed.window(&[("host", 0.2), ("new", 1.0)])).is_empty());
    let scored = feed.window(&[("host", 0.2), ("new", 1.0)]);
    let found = found(&scored);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].workload.as_str(), found[0].signal), ("new", Signal::CpuCores));
    assert!(found[0].score.baseline.abs() < 1e-9);
    assert_eq!(found[0].aim.as_ref().map(|aim| aim.cgroup_id), Some(7));
}

#[test]
fn a_busy_loop_that_comes_right_after_the_start_is_found_too() {
    let mut feed = Feed::new();
    feed.window(&[("host", 0.2)]);
    let mut scored = feed.window(&[("host", 0.2), ("new", 0.25)]);
    scored.extend(feed.repeat(2, &[("host", 1.9), ("new", 1.0)]));
    let found = found(&scored);
    assert_eq!(found.len(), 1, "what was there from the start is still only learned from");
    assert_eq!(found[0].workload, "new");
}

#[test]
fn what_is_busy_from_the_start_is_normal() {
    let mut feed = Feed::new();
    assert!(found(&feed.repeat(50, &[("db", 1.5), ("web", 0.7)])).is_empty());
}

#[test]
fn one_odd_window_is_noise() {
    let mut feed = Feed::new();
    feed.repeat(20, &[("web", 0.1)]);
    assert!(found(&feed.window(&[("web", 2.0)])).is_empty());
    assert!(found(&feed.repeat(20, &[("web", 0.1)])).is_empty());
}

#[test]
fn an_unusual_but_small_rise_does_not_matter() {
    let mut feed = Feed::new();
    feed.repeat(30, &[("web", 0.001)]);
    let scored = feed.repeat(5, &[("web", 0.25)]);
    assert!(found(&scored).is_empty());
}

#[test]
fn a_job_that_comes_every_few_minutes_is_known_after_a_while() {
    let mut feed = Feed::new();
    let round = |feed: &mut Feed| {
        let mut scored = feed.repeat(10, &[("host", 0.1)]);
        scored.extend(feed.repeat(2, &[("host", 0.1), ("job", 0.9)]));
        found(&scored).len()
    };
    let rounds: Vec<usize> = (0..8).map(|_| round(&mut feed)).collect();
    assert!(rounds[0] + rounds[1] >= 1, "it is new once: {rounds:?}");
    assert_eq!(rounds[4..], [0, 0, 0, 0], "and known then: {rounds:?}");
}

#[test]
fn a_sustained_rise_is_found_once_and_becomes_normal() {
    let mut feed = Feed::new();
    feed.repeat(60, &[("web", 0.2)]);
    let scored = feed.repeat(120, &[("web", 1.4)]);
    assert_eq!(found(&scored).len(), 1);
    let last: &Score = &scored.iter().rfind(|s| s.signal == Signal::CpuCores).unwrap().score;
    assert!((last.baseline - 1.4).abs() < 1e-9 && last.streak == 0);
}

#[test]
fn a_noisy_workload_needs_a_larger_rise() {
    let mut feed = Feed::new();
    for i in 0..60 {
        feed.window(&[("ci", if i % 2 == 0 { 0.2 } else { 1.2 })]);
    }
    assert!(found(&feed.repeat(3, &[("ci", 1.6)])).is_empty());
}

#[test]
fn a_window_twice_or_late_or_short_is_let_be() {
    let mut series = Series::default();
    for i in 1..=20 {
        series.window("n", "b", &window_at(i * 10 * SECOND_US, &[("w", 0.1)]));
    }
    assert!(series.window("n", "b", &window_at(200 * SECOND_US, &[("w", 5.0)])).is_empty());
    assert!(series.window("n", "b", &window_at(150 * SECOND_US, &[("w", 5.0)])).is_empty());
    let mut short = window_at(210 * SECOND_US, &[("w", 5.0)]);
    short.window_s = 0.4;
    assert!(series.window("n", "b", &short).is_empty());
    assert!(!series.window("n", "b", &window_at(220 * SECOND_US, &[("w", 0.1)])).is_empty());
}

#[test]
fn a_restarted_node_warms_up_again() {
    let mut feed = Feed::new();
    feed.repeat(20, &[("w", 0.1)]);
    for i in 0..WARM_UP_WINDOWS as i64 {
        let window = window_at((1000 + i * 10) * SECOND_US, &[("w", 2.0)]);
        assert!(feed.series.window("n", "another boot", &window).is_empty());
    }
}

#[test]
fn memory_is_bounded_and_what_goes_is_counted() {
    let mut series = Series { max_workloads: 100, ..Series::default() };
    for i in 0..400_i64 {
        let name = format!("w{i}");
        series.window("n", "b", &window_at((i + 1) * 10 * SECOND_US, &[(name.as_str(), 0.1), ("always", 0.1)]));
        let tracked: usize = series.nodes.values().map(Node::workloads).sum();
        assert!(tracked <= 100);
    }
    assert_eq!(series.take_evicted(), 0, "what was absent for a baseline went by itself");
    for i in 0..150_i64 {
        let node = format!("n{i}");
        series.window(&node, "b", &window_at((i + 9000) * SECOND_US, &[("w", 0.1)]));
    }
    assert!(series.take_evicted() >= 50);
    let tracked: usize = series.nodes.values().map(Node::workloads).sum();
    assert!(tracked <= 100);
}

#[test]
fn waiting_times_need_values_of_their_own() {
    let mut track = Track::new(Signal::RunQueueDelay, 0);
    for _ in 0..11 {
        assert_eq!(track.judge(100_000.0), None);
    }
    track.judge(100_000.0);
    let score = track.judge(30_000_000.0).unwrap();
    assert!(score.score > track::FAR && score.streak == 1);
}
