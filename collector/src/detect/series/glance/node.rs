//! What one node's values are compared with: the last ten minutes, limits, and their own course.

use std::collections::HashMap;

use skep_series::Point;
use skep_series::rush::Rush;

use super::window::{Gauge, Measured, Window};
use super::{Glimpse, Why};
use crate::detect::series::node::WARM_UP_WINDOWS;
use crate::detect::series::track::{BASELINE_WINDOWS, STREAK, Signal, Track};

/// A window shorter than this share of the one before (at start, stop and after a pause) is let be.
const SHORT: f64 = 0.5;

/// What is not used by half is let fill: there is time.
const LEAST_USED: f64 = 0.5;

/// Whom and what.
type Name = (String, String);

#[derive(Debug)]
struct Series {
    track: Track,
    /// Number of the last window it was in.
    last: u64,
}

#[derive(Debug)]
struct Course {
    rush: Rush,
    /// Windows in a row beyond its limit, and in which it was told when it is full.
    over: u32,
    filling: u32,
    last: u64,
}

/// One node.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) window: Window,
    boot: String,
    /// Windows watched so far; the number of the newest.
    windows: u64,
    /// Windows since it was new or started anew.
    since_start: u64,
    usual_s: f64,
    last_us: i64,
    series: HashMap<Name, Series>,
    courses: HashMap<Name, Course>,
}

impl Node {
    /// Series there are.
    pub(super) fn series(&self) -> usize {
        self.series.len() + self.courses.len()
    }

    /// Judges the window, with room for so many more series; what is worth a word, and how many had no room.
    pub(super) fn end(&mut self, boot: &str, mut room: usize) -> (Vec<Glimpse>, u64) {
        let window = std::mem::take(&mut self.window);
        self.window = Window::after(&window);
        self.usual_s = window.window_s.max(self.usual_s * 0.99);
        if window.time_us <= self.last_us || window.window_s < SHORT * self.usual_s {
            return (Vec::new(), 0);
        }
        self.last_us = window.time_us;
        if self.boot != boot {
            // Services start: what follows a boot is no measure of what follows.
            boot.clone_into(&mut self.boot);
            self.since_start = 0;
        }
        (self.windows, self.since_start) = (self.windows + 1, self.since_start + 1);
        let (mut glimpses, mut refused) = (Vec::new(), 0);
        for measured in window.values() {
            if !self.has_room(&measured.workload, &measured.signal, &mut room) {
                refused += 1;
            } else if let Some(why) = self.compare(&measured) {
                let Measured { workload, signal, value, coverage, most_by, .. } = measured;
                let (time_us, window_s) = (window.time_us, window.window_s);
                glimpses.push(Glimpse { time_us, window_s, workload, signal, value, coverage, most_by, why });
            }
        }
        for gauge in &window.gauges {
            if !self.has_room(&gauge.workload, &gauge.signal, &mut room) {
                refused += 1;
            } else if let Some(why) = self.follow(gauge, window.time_us, window.window_s) {
                glimpses.push(Glimpse {
                    time_us: window.time_us,
                    window_s: window.window_s,
                    workload: gauge.workload.clone(),
                    signal: gauge.signal.clone(),
                    value: gauge.value,
                    coverage: 1.0,
                    most_by: None,
                    why,
                });
            }
        }
        // What was absent for a whole baseline is the same as never seen.
        let newest = self.windows;
        self.series.retain(|_, series| newest - series.last < BASELINE_WINDOWS as u64);
        self.courses.retain(|_, course| newest - course.last < BASELINE_WINDOWS as u64);
        (glimpses, refused)
    }

    fn has_room(&self, workload: &str, signal: &str, room: &mut usize) -> bool {
        let name = (workload.to_owned(), signal.to_owned());
        if self.series.contains_key(&name) || self.courses.contains_key(&name) {
            return true;
        }
        let is_room = *room > 0;
        *room = room.saturating_sub(1);
        is_room
    }

    /// With the last ten minutes. What a workload does that was not there is compared with nothing.
    fn compare(&mut self, measured: &Measured) -> Option<Why> {
        let Measured { what, value, .. } = *measured;
        let was_nothing = what == Signal::ConnectionAttempts;
        let nothing = if was_nothing { (self.windows - 1).max(WARM_UP_WINDOWS) as usize } else { 0 };
        let begun = || Series { track: Track::new(what, nothing), last: self.windows - 1 };
        let name = (measured.workload.clone(), measured.signal.clone());
        let series = self.series.entry(name).or_insert_with(begun);
        if was_nothing {
            series.track.absent((self.windows - 1 - series.last) as usize);
        }
        series.last = self.windows;
        if self.since_start <= WARM_UP_WINDOWS {
            series.track.learn(value);
            return None;
        }
        let score = series.track.judge(value)?;
        (score.streak > 0).then_some(Why::Far(what, score))
    }

    /// To its limit. Memory is taken and given back in no time: its course of a minute says nothing.
    fn follow(&mut self, gauge: &Gauge, time_us: i64, window_s: f64) -> Option<Why> {
        let name = (gauge.workload.clone(), gauge.signal.clone());
        let begun = || Course { rush: Rush::new(window_s), over: 0, filling: 0, last: 0 };
        let course = self.courses.entry(name).or_insert_with(begun);
        course.last = self.windows;
        course.over = if gauge.value > gauge.full_at { course.over + 1 } else { 0 };
        // What is no point tells nothing.
        let _ignored = course.rush.observe(Point::new(time_us as f64 / 1e6, gauge.value)).is_err();
        let until = course.rush.until(1.0).ok().filter(|until| until.latest_days.is_some());
        let told =
            until.filter(|_| gauge.value >= LEAST_USED && course.over == 0 && !gauge.signal.starts_with("memory"));
        course.filling = if told.is_some() { course.filling + 1 } else { 0 };
        if course.over > 0 {
            return Some(Why::OverLimit(gauge.full_at, course.over));
        }
        told.filter(|_| course.filling >= STREAK).map(Why::Filling)
    }
}
