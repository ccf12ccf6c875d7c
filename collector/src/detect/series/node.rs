//! One node's windows: order, gaps, warm-up.

use std::collections::HashMap;

use super::track::{BASELINE_WINDOWS, Score, Signal, Track};
use super::usage::{Usage, WindowUsage};
use crate::detect::finding::Aim;

/// Windows of a node in which what was there from the start is only learned from.
pub const WARM_UP_WINDOWS: u64 = 6;

/// What comes after this many watched windows was not there from the start: it is judged at once, against nothing.
const START_WINDOWS: u64 = 1;

/// A window shorter than this share of the node's usual one (at start, stop and after a pause) is let be.
const SHORT: f64 = 0.5;

/// Fewer waits than this say nothing about their mean.
const LEAST_WAITS: i64 = 20;

/// A score with what it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Start of the window.
    pub time_us: i64,
    /// Its length.
    pub window_s: f64,
    /// Whom it is about.
    pub workload: String,
    /// What was measured.
    pub signal: Signal,
    /// The numbers.
    pub score: Score,
    /// 0..1, of the window.
    pub coverage: f64,
    /// Where an action could aim.
    pub aim: Option<Aim>,
    /// Share of the workload's time that was spent there.
    pub aim_share: f64,
}

#[derive(Debug)]
struct Workload {
    cpu: Track,
    delay: Track,
    /// Windows since the start when it was first seen.
    born: u64,
    /// Number of the last window it was in.
    last: u64,
    seen_us: i64,
}

/// One node.
#[derive(Debug, Default)]
pub struct Node {
    boot: String,
    /// Windows watched so far; the number of the newest.
    windows: u64,
    /// Windows since the node was new or started anew.
    since_start: u64,
    last_time_us: i64,
    usual_window_s: f64,
    workloads: HashMap<String, Workload>,
}

impl Node {
    /// Takes a window. One that is older than the newest, or much shorter than usual, is let be.
    pub fn window(&mut self, boot: &str, usage: &WindowUsage) -> Vec<Scored> {
        self.usual_window_s = usage.window_s.max(self.usual_window_s * 0.99);
        if usage.time_us <= self.last_time_us || usage.window_s <= 0.0 || usage.window_s < SHORT * self.usual_window_s {
            return Vec::new();
        }
        self.last_time_us = usage.time_us;
        if self.boot != boot {
            // Other cgroups, other caches, services that start: what follows a boot is no measure of what follows.
            boot.clone_into(&mut self.boot);
            self.since_start = 0;
            self.workloads.values_mut().for_each(|workload| workload.born = 0);
        }
        self.windows += 1;
        self.since_start += 1;
        let mut scored = Vec::new();
        let mut names: Vec<&String> = usage.workloads.keys().collect();
        names.sort_unstable();
        for name in names {
            let used = &usage.workloads[name];
            for (signal, score) in self.workload(name, used, usage) {
                scored.push(Scored {
                    time_us: usage.time_us,
                    window_s: usage.window_s,
                    workload: name.clone(),
                    signal,
                    score,
                    coverage: used.coverage,
                    aim: used.aim.clone(),
                    aim_share: used.aim_share,
                });
            }
        }
        // One that was absent for a whole baseline is all zeros: the same as one never seen.
        let newest = self.windows;
        self.workloads.retain(|_, workload| newest - workload.last < BASELINE_WINDOWS as u64);
        scored
    }

    fn workload(&mut self, name: &str, used: &Usage, usage: &WindowUsage) -> Vec<(Signal, Score)> {
        let newest = self.windows;
        if !self.workloads.contains_key(name) {
            let workload = Workload {
                cpu: Track::new(Signal::CpuCores, self.windows_of_nothing()),
                delay: Track::new(Signal::RunQueueDelay, 0),
                born: self.since_start,
                last: newest - 1,
                seen_us: 0,
            };
            self.workloads.insert(name.to_owned(), workload);
        }
        let Some(workload) = self.workloads.get_mut(name) else { return Vec::new() };
        workload.cpu.absent((newest - 1 - workload.last) as usize);
        workload.last = newest;
        workload.seen_us = usage.time_us;
        let judging = self.since_start > WARM_UP_WINDOWS || workload.born > START_WINDOWS;
        let cores = used.on_cpu_ns as f64 / 1e9 / usage.window_s;
        let delay = (used.waits >= LEAST_WAITS).then(|| used.wait_sum_ns as f64 / used.waits as f64);
        let mut scores = Vec::new();
        for (signal, track, value) in
            [(Signal::CpuCores, &mut workload.cpu, Some(cores)), (Signal::RunQueueDelay, &mut workload.delay, delay)]
        {
            let Some(value) = value else { continue };
            if !judging {
                track.learn(value);
            } else if let Some(score) = track.judge(value) {
                scores.push((signal, score));
            }
        }
        scores
    }

    /// What a workload seen for the first time is measured against. One that comes soon after the start gets a few
    /// windows more than were watched, so that a single middling one does not pass for its habit.
    fn windows_of_nothing(&self) -> usize {
        let watched = self.windows - 1;
        let least = if self.since_start > START_WINDOWS { WARM_UP_WINDOWS } else { 0 };
        watched.max(least) as usize
    }

    /// Workloads tracked.
    pub fn workloads(&self) -> usize {
        self.workloads.len()
    }

    /// When each of them was seen last.
    pub fn last_seen(&self) -> impl Iterator<Item = i64> {
        self.workloads.values().map(|workload| workload.seen_us)
    }

    /// Drops at most `most` workloads last seen at `newest_to_go` or before; returns how many.
    pub fn evict(&mut self, newest_to_go: i64, most: usize) -> usize {
        let mut evicted = 0;
        self.workloads.retain(|_, workload| {
            let goes = workload.seen_us <= newest_to_go && evicted < most;
            evicted += usize::from(goes);
            !goes
        });
        evicted
    }
}
