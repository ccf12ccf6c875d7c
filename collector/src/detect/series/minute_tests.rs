use skep_wire::chunk::Builder;
use skep_wire::tables::{CONNECTIONS, CPU, HOST};
use skep_wire::v1;

use super::gallery::{Gallery, Judged};
use super::keep::KeepError;
use super::minute::{Minute, Minutes, NODE};

const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;

fn identity<'a>(row: &'a mut Builder, workload: &str) -> &'a mut Builder {
    row.int("pid", 1).int("start_ns", 1).text("comm", "x").text("workload", workload).text("attribution", "exact")
}

/// A window of ten seconds in which each workload used so many cores.
fn cpu(time_us: i64, workloads: &[(&str, f64)]) -> v1::Chunk {
    let mut rows = Builder::new(&CPU);
    for (workload, cores) in workloads {
        rows.int("time", time_us).float("window_s", 10.0);
        identity(&mut rows, workload).int("on_cpu_ns", (cores * 10e9) as i64);
        for name in ["slices", "voluntary_switches", "involuntary_switches", "migrations"] {
            rows.int(name, 0);
        }
        rows.int("run_queue_delay_count", 25).int("run_queue_delay_sum_ns", 25_000);
        rows.histogram("run_queue_delay", [(100, 24), (200, 1)]);
        rows.int("off_cpu_count", 0).int("off_cpu_sum_ns", 0).histogram("off_cpu", []);
        rows.float("coverage", 0.9).end_row().unwrap();
    }
    rows.finish().unwrap()
}

fn host(time_us: i64, metric: &str, label: &str, value: f64) -> v1::Chunk {
    let mut rows = Builder::new(&HOST);
    rows.int("time", time_us).float("window_s", 10.0).text("metric", metric).text("label", label);
    rows.float("value", value).end_row().unwrap();
    rows.finish().unwrap()
}

fn connection(time_us: i64, event: &str) -> v1::Chunk {
    let mut rows = Builder::new(&CONNECTIONS);
    rows.int("time", time_us).text("event", event).text("direction", "connect").int("socket_id", 1);
    identity(&mut rows, "w").text("local_address", "::1").int("local_port", 1);
    rows.text("remote_address", "::1").int("remote_port", 1).end_row().unwrap();
    rows.finish().unwrap()
}

fn value(minute: &Minute, workload: &str, signal: &str) -> Option<f64> {
    minute.values.iter().find(|value| value.workload == workload && value.signal == signal).map(|value| value.value)
}

#[test]
fn rows_of_a_minute_become_values_of_workloads_and_node() {
    let mut minutes = Minutes::default();
    for window in 0..6 {
        let time_us = window * 10 * SECOND_US;
        assert_eq!(minutes.chunk(&cpu(time_us, &[("a", 0.5), ("b", 1.0)])), None);
        assert_eq!(minutes.chunk(&connection(time_us, if window < 2 { "fail" } else { "close" })), None);
        assert_eq!(minutes.chunk(&host(time_us, "disk_used_ratio", "/", 0.1 * window as f64)), None);
    }
    let minute = minutes.chunk(&cpu(MINUTE_US, &[("a", 0.5)])).unwrap();
    assert_eq!(minute.time_us, 0);
    assert!((value(&minute, "a", "cpu_cores").unwrap() - 0.5).abs() < 1e-9);
    assert!((value(&minute, NODE, "cpu_cores").unwrap() - 1.5).abs() < 1e-9);
    assert!((value(&minute, NODE, "disk_used_ratio{/}").unwrap() - 0.25).abs() < 1e-9);
    assert!((value(&minute, "w", "connect_failures_per_s").unwrap() - 2.0 / 60.0).abs() < 1e-9);
    // 150 waits of the workload, 6 of them long: the hundredth longest is among them.
    let long = skep_common::bucket::midpoint(200) as f64;
    assert_eq!(value(&minute, "a", "run_queue_delay_p99_ns"), Some(long));
    assert_eq!(value(&minute, "a", "block_latency_p99_ns"), None, "nothing was measured");
    let coverage = minute.values.iter().find(|value| value.workload == "a").unwrap().coverage;
    assert!((coverage - 0.9).abs() < 1e-9);
}

#[test]
fn cpu_alone_does_not_say_that_nothing_else_happened() {
    let mut minutes = Minutes::default();
    minutes.chunk(&cpu(0, &[("a", 0.5)]));
    let minute = minutes.chunk(&cpu(MINUTE_US, &[("a", 0.5)])).unwrap();
    assert!(value(&minute, "a", "cpu_cores").is_some());
    assert_eq!(value(&minute, "a", "syscalls_per_s"), None);
}

#[test]
fn what_comes_after_its_minute_is_counted_and_left_out() {
    let mut minutes = Minutes::default();
    minutes.chunk(&cpu(MINUTE_US, &[("a", 1.0)]));
    assert_eq!(minutes.chunk(&cpu(0, &[("a", 1.0)])), None);
    assert_eq!(minutes.take_late(), 1);
    let minute = minutes.chunk(&cpu(2 * MINUTE_US, &[("a", 1.0)])).unwrap();
    assert!((value(&minute, "a", "cpu_cores").unwrap() - 1.0).abs() < 1e-9, "one window of ten seconds was watched");
}

/// So many minutes of one gauge, from a minute on; what was notable.
fn gauge(gallery: &mut Gallery, from: i64, minutes: i64, value: impl Fn(i64) -> f64) -> Vec<Judged> {
    (from..from + minutes)
        .flat_map(|minute| gallery.chunk("n", &host(minute * MINUTE_US, "disk_used_ratio", "/", value(minute))))
        .collect()
}

#[test]
fn a_disk_that_begins_to_fill_is_new_and_said_to_be_full_soon() {
    let mut gallery = Gallery::default();
    let noise = |minute: i64| 0.4 + 0.0001 * ((minute * 7919) % 13) as f64;
    let quiet = gauge(&mut gallery, 0, 2000, noise);
    assert!(quiet.iter().all(|judged| !judged.novelty.alarm), "{quiet:?}");
    let filling = gauge(&mut gallery, 2000, 45, |minute| noise(minute) + 0.005 * (minute - 2000) as f64);
    let first = filling.iter().find(|judged| judged.novelty.alarm).unwrap();
    assert!(first.time_us <= 2010 * MINUTE_US, "found within minutes");
    let until = filling.last().unwrap().until.unwrap().unwrap();
    assert!((0.5..6.0).contains(&(until.days * 24.0)), "{until:?}");
}

#[test]
fn a_full_disk_is_over_its_limit_every_minute() {
    let mut gallery = Gallery::default();
    let judged = gauge(&mut gallery, 0, 40, |minute| if minute < 30 { 0.5 } else { 0.97 });
    let over: Vec<u32> = judged.iter().map(|judged| judged.over_minutes).filter(|&minutes| minutes > 0).collect();
    assert_eq!(over[..3], [1, 2, 3]);
}

#[test]
fn a_workload_that_is_gone_uses_nothing_for_an_hour() {
    let mut gallery = Gallery::default();
    for minute in 0..100 {
        let busy: &[(&str, f64)] = if minute < 20 { &[("a", 0.5), ("b", 0.5)] } else { &[("a", 0.5)] };
        gallery.chunk("n", &cpu(minute * MINUTE_US, busy));
    }
    let points = |workload: &str| {
        let known = gallery.all().find(|(_, name, _)| name.0 == workload && name.1 == "cpu_cores");
        known.map(|(.., known)| known.novelty.points())
    };
    assert_eq!((points("a"), points("b")), (Some(99), Some(80)));
}

#[test]
fn what_was_learned_survives_and_the_same_follows() {
    let mut gallery = Gallery::default();
    gauge(&mut gallery, 0, 500, |minute| (minute % 17) as f64 / 20.0);
    for minute in 500..520 {
        gallery.chunk("m", &cpu(minute * MINUTE_US, &[("a", 0.5), ("b", 1.0)]));
    }
    let bytes = gallery.to_bytes();
    let mut again = Gallery::default();
    assert_eq!(again.take_up(&bytes), Ok(0));
    assert_eq!(again.len(), gallery.len());
    assert_eq!(again.to_bytes(), bytes);
    // The minute under way is not in it: it is replayed from the WAL.
    gauge(&mut again, 499, 1, |minute| (minute % 17) as f64 / 20.0);
    let follows = |gallery: &mut Gallery| gauge(gallery, 500, 40, |minute| if minute > 520 { 3.0 } else { 0.5 });
    let (ours, theirs) = (follows(&mut gallery), follows(&mut again));
    assert!(!theirs.is_empty());
    assert_eq!(ours, theirs);
}

#[test]
fn damage_is_refused_whole() {
    let mut gallery = Gallery::default();
    gauge(&mut gallery, 0, 100, |minute| minute as f64);
    let bytes = gallery.to_bytes();
    let mut damaged = bytes.clone();
    damaged[100] ^= 4;
    let mut again = Gallery::default();
    assert!(matches!(again.take_up(&damaged), Err(KeepError::Checksum { .. })));
    assert!(matches!(again.take_up(&bytes[..bytes.len() - 9]), Err(KeepError::Checksum { .. })));
    assert_eq!(again.take_up(b""), Err(KeepError::Malformed));
    assert!(again.is_empty());
}

#[test]
fn series_are_bounded_and_what_goes_is_counted() {
    let mut gallery = Gallery::with_room(100);
    for minute in 0..300 {
        gallery.chunk("n", &host(minute * MINUTE_US, "m", &format!("label{minute}"), 1.0));
        assert!(gallery.len() <= 110);
    }
    assert!(gallery.take_evicted() >= 180);
}

#[test]
fn a_young_series_that_jumps_is_far_out_two_minutes_in_a_row() {
    let mut gallery = Gallery::default();
    let judged = gauge(&mut gallery, 0, 30, |minute| if minute < 20 { 0.2 } else { 0.9 });
    let far: Vec<(i64, u32)> =
        judged.iter().filter(|judged| judged.far_minutes > 0).map(|j| (j.time_us / MINUTE_US, j.far_minutes)).collect();
    assert_eq!(far[..2], [(20, 1), (21, 2)]);
    let spiky = gauge(&mut Gallery::default(), 0, 300, |minute| if minute % 20 < 3 { 0.9 } else { 0.2 });
    let late = spiky.iter().filter(|judged| judged.time_us > 100 * MINUTE_US && judged.far_minutes == 2).count();
    assert_eq!(late, 0, "what comes every twenty minutes is what this series does");
}
