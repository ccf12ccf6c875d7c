use skep_wire::chunk::Builder;
use skep_wire::tables::{BLOCK_IO, CONNECTIONS, HOST};

use super::*;
use crate::detect::series::minute::NODE;
use crate::detect::series::node::WARM_UP_WINDOWS;
use crate::detect::series::track::STREAK;
use crate::detect::series::usage::Usage;

const SECOND_US: i64 = 1_000_000;

/// What happens in a window.
#[derive(Clone, Copy)]
struct Seen {
    waited_s: f64,
    attempts: usize,
    disk_ms: i64,
    files: f64,
    disk: f64,
}

const WELL: Seen = Seen { waited_s: 0.5, attempts: 3, disk_ms: 1, files: 0.2, disk: 0.6 };

struct Feed {
    glance: Glance,
    window: i64,
}

impl Feed {
    fn warm() -> Self {
        let mut feed = Self { glance: Glance::default(), window: 0 };
        for _ in 0..WARM_UP_WINDOWS + 8 {
            assert_eq!(feed.window(WELL), []);
        }
        feed
    }

    fn window(&mut self, seen: Seen) -> Vec<Glimpse> {
        self.window += 1;
        let time_us = self.window * 10 * SECOND_US;
        let used = Usage { waits: 100, wait_sum_ns: (seen.waited_s * 1e9) as i64, coverage: 1.0, ..Usage::default() };
        let usage = WindowUsage { time_us, window_s: 10.0, workloads: [("w".to_owned(), used)].into() };
        self.glance.usage("n", &usage);
        for _ in 0..seen.attempts {
            self.glance.chunk("n", &attempt(time_us));
        }
        self.glance.chunk("n", &requests(time_us, 50, seen.disk_ms));
        let gauges = [("cpus", "", 2.0), ("files_used_ratio", "w", seen.files), ("disk_used_ratio", "/d", seen.disk)];
        self.glance.chunk("n", &host(time_us, &gauges));
        self.glance.end("n", "boot")
    }

    /// After how many windows of what comes this is said of it.
    fn until(&mut self, signal: &str, seen: impl Fn(i64) -> Seen, is: impl Fn(&Why) -> bool) -> Option<i64> {
        (1..20).find(|&at| self.window(seen(at)).iter().any(|glimpse| glimpse.signal == signal && is(&glimpse.why)))
    }
}

fn identity<'a>(row: &'a mut Builder, workload: &str) -> &'a mut Builder {
    row.int("pid", 1).int("start_ns", 1).text("comm", "x").text("workload", workload).text("attribution", "exact")
}

fn attempt(time_us: i64) -> v1::Chunk {
    let mut rows = Builder::new(&CONNECTIONS);
    rows.int("time", time_us).text("event", "open").text("direction", "connect").int("socket_id", 1);
    identity(&mut rows, "w").text("local_address", "::1").int("local_port", 1);
    rows.text("remote_address", "::1").int("remote_port", 1).end_row().unwrap();
    rows.finish().unwrap()
}

fn requests(time_us: i64, count: i64, each_ms: i64) -> v1::Chunk {
    let mut rows = Builder::new(&BLOCK_IO);
    for (operation, each_ms) in [("read", each_ms), ("discard", 900)] {
        rows.int("time", time_us).float("window_s", 10.0).text("device", "sda").text("device_number", "8:0");
        identity(&mut rows, "w").text("operation", operation).int("count", count).int("errors", 0).int("bytes", 4096);
        rows.int("latency_sum_ns", count * each_ms * 1_000_000).histogram("latency", []).histogram("size", []);
        rows.float("coverage", 1.0).end_row().unwrap();
    }
    rows.finish().unwrap()
}

fn host(time_us: i64, gauges: &[(&str, &str, f64)]) -> v1::Chunk {
    let mut rows = Builder::new(&HOST);
    for (metric, label, value) in gauges {
        rows.int("time", time_us).float("window_s", 10.0).text("metric", metric).text("label", label);
        rows.float("value", *value).end_row().unwrap();
    }
    rows.finish().unwrap()
}

fn far_twice(why: &Why) -> bool {
    matches!(why, Why::Far(_, score) if score.streak == STREAK)
}

#[test]
fn what_saturates_is_told_in_its_second_window() {
    let waits = Seen { waited_s: 60.0, ..WELL };
    assert_eq!(Feed::warm().until("run_queue_length_per_cpu", |_| waits, far_twice), Some(2));
    let slow = Seen { disk_ms: 120, ..WELL };
    assert_eq!(Feed::warm().until("block_latency_mean_ns{sda}", |_| slow, far_twice), Some(2));
    let storm = Seen { attempts: 4000, ..WELL };
    assert_eq!(Feed::warm().until("connection_attempts_per_s", |_| storm, far_twice), Some(2));
}

#[test]
fn who_has_the_largest_part_is_named() {
    let mut feed = Feed::warm();
    let glimpses = feed.window(Seen { waited_s: 60.0, disk_ms: 120, ..WELL });
    let told: Vec<_> = glimpses.iter().map(|glimpse| (glimpse.workload.as_str(), glimpse.most_by.as_deref())).collect();
    assert_eq!(told, [(NODE, Some("w")), (NODE, Some("w"))]);
    assert!((glimpses[0].value - 3.0).abs() < 1e-9, "threads for each of two CPUs: {glimpses:?}");
}

#[test]
fn what_leaks_is_told_before_it_is_full_and_whose_it_is() {
    let leaks = |at: i64| Seen { files: 0.2 + 0.05 * at as f64, ..WELL };
    let mut feed = Feed::warm();
    let full_after = 16;
    let told = feed.until("files_used_ratio", leaks, |why| matches!(why, Why::Filling(_))).unwrap();
    assert!((6..full_after).contains(&told), "{told}");
    let last = feed.window(leaks(told + 1));
    assert_eq!(last[0].workload, "w");
    assert!(matches!(last[0].why, Why::Filling(until) if until.days * 86_400.0 < 160.0), "{last:?}");
}

#[test]
fn what_is_full_already_is_told_by_its_limit() {
    let full = Seen { files: 0.9, ..WELL };
    let over = |why: &Why| matches!(why, Why::OverLimit(_, windows) if *windows == STREAK);
    assert_eq!(Feed::warm().until("files_used_ratio", |_| full, over), Some(2));
}

#[test]
fn a_disk_that_fills_is_told_and_one_that_breathes_is_not() {
    let fills = |at: i64| Seen { disk: 0.6 + 0.01 * at as f64, ..WELL };
    let is_filling = |why: &Why| matches!(why, Why::Filling(_));
    assert!(Feed::warm().until("disk_used_ratio{/d}", fills, is_filling).is_some());
    let breathes = |at: i64| Seen { disk: if at % 2 == 0 { 0.6 } else { 0.65 }, ..WELL };
    assert_eq!(Feed::warm().until("disk_used_ratio{/d}", breathes, is_filling), None);
    let early = |at: i64| Seen { disk: 0.1 + 0.01 * at as f64, ..WELL };
    assert_eq!(Feed::warm().until("disk_used_ratio{/d}", early, is_filling), None, "there is time");
}

#[test]
fn nothing_is_far_while_a_node_warms_up_and_after_a_boot() {
    let mut feed = Feed::warm();
    let slow = Seen { waited_s: 60.0, disk_ms: 120, ..WELL };
    let mut glance = Glance::default();
    for window in 1..=WARM_UP_WINDOWS as i64 {
        glance.chunk("n", &requests(window * 10 * SECOND_US, 50, window * 100));
        glance.chunk("n", &host(window * 10 * SECOND_US, &[("cpus", "", 2.0)]));
        assert_eq!(glance.end("n", "b"), []);
    }
    assert!(!feed.window(slow).is_empty());
}

#[test]
fn series_beyond_the_bound_are_counted() {
    let mut feed = Feed { glance: Glance { max_series: 2, ..Glance::default() }, window: 0 };
    feed.window(WELL);
    assert_eq!((feed.glance.series, feed.glance.take_refused()), (2, 3));
}
