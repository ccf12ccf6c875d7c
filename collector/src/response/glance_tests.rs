use ed25519_dalek::SigningKey;
use skep_alerts::report::State;
use skep_wire::chunk::{self, Builder};
use skep_wire::envelope::Origin;
use skep_wire::{tables, v1};

use super::*;
use crate::decide::Policy;

const WINDOW_US: i64 = 10_000_000;

fn responder() -> Responder {
    let policy = Policy::parse(Policy::default_text()).unwrap();
    let rules = skep_rules::detector::Detector::new(&mut skep_rules::load::Loaded::pack()).unwrap();
    Responder::new(Setup { policy, key: SigningKey::from_bytes(&[3; 32]), rules, seed: [5; 32] })
}

/// A window in which each of fifty reads of a disk took so long.
fn reads(window: i64, each_ms: i64) -> v1::Batch {
    let time_us = window * WINDOW_US;
    let mut disk = Builder::new(&tables::BLOCK_IO);
    disk.int("time", time_us).float("window_s", 10.0).text("device", "sda").text("device_number", "8:0");
    disk.int("pid", 1).int("start_ns", 1).text("comm", "x").text("workload", "unit:db").text("attribution", "exact");
    disk.text("operation", "read").int("count", 50).int("errors", 0).int("bytes", 4096);
    disk.int("latency_sum_ns", 50 * each_ms * 1_000_000).histogram("latency", []).histogram("size", []);
    disk.float("coverage", 1.0).end_row().unwrap();
    let mut host = Builder::new(&tables::HOST);
    host.int("time", time_us).float("window_s", 10.0).text("metric", "cpus").text("label", "").float("value", 2.0);
    host.end_row().unwrap();
    v1::Batch { sealed_us: 0, chunks: vec![disk.finish().unwrap(), host.finish().unwrap()], deliveries: Vec::new() }
}

fn feed(responder: &mut Responder, windows: std::ops::Range<i64>, each_ms: i64) -> Vec<Output> {
    let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 };
    windows.map(|window| responder.observe(&origin, &reads(window, each_ms), window * WINDOW_US)).collect()
}

#[test]
fn a_slow_disk_is_one_finding_in_one_incident_and_both_are_reported() {
    let mut responder = responder();
    let before = feed(&mut responder, 1..15, 1);
    assert!(before.iter().all(|output| output.reports.is_empty()));
    let mut outputs = feed(&mut responder, 15..21, 150);
    let told = outputs.remove(1);
    assert!(outputs.iter().all(|output| output.reports.is_empty()), "once, in the second window");
    for chunk in &told.chunks {
        chunk::check(chunk, tables::find(&chunk.table).unwrap()).unwrap();
    }
    let finding = told.chunks.iter().find(|chunk| chunk.table == "findings").unwrap();
    let row = chunk::rows(finding).next().unwrap();
    let texts = ["kind", "rule", "severity", "title"].map(|name| row.text(name).unwrap());
    let title = "the node: sda takes 150.0 ms a request, 1.0 ms is usual";
    assert_eq!(texts, ["series", "block_latency_mean_ns", "medium", title]);
    let evidence = row.text_list("evidence").unwrap();
    assert!(evidence[0].starts_with("block_latency_mean_ns{sda}=1.500e8") && evidence.contains(&"most_by=unit:db"));
    assert!(told.chunks.iter().any(|chunk| chunk.table == "scores"), "the windows it rests on are stored");
    let kinds: Vec<_> = told.reports.iter().map(|report| (report.labels["kind"].as_str(), report.state)).collect();
    assert_eq!(kinds, [("incident", State::Firing), ("series", State::Happened)]);
    assert_eq!(told.reports[0].labels["incident"], told.reports[1].labels["incident"]);
    assert_eq!(responder.standing().len(), 1);
    let over = responder.tick(21 * WINDOW_US + 16 * 60_000_000);
    let ends: Vec<_> = over.reports.iter().map(|report| (report.key.clone(), report.state)).collect();
    assert_eq!(ends, [(told.reports[0].key.clone(), State::Resolved)]);
}

#[test]
fn a_restarted_collector_does_not_tell_of_the_same_disk_again() {
    let mut before = responder();
    feed(&mut before, 1..15, 1);
    let outputs = feed(&mut before, 15..18, 150);
    let own = Origin { node: OWN_NODE.to_owned(), boot: String::new(), stream: "o".to_owned(), seq: 1 };
    let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 };
    let mut after = responder();
    (1..15).for_each(|window| after.restore(&origin, &reads(window, 1), window * WINDOW_US));
    for output in outputs {
        after.restore(&own, &v1::Batch { chunks: output.chunks, ..v1::Batch::default() }, 18 * WINDOW_US);
    }
    assert_eq!(after.standing().len(), 1, "the incident is known");
    let told = feed(&mut after, 18..24, 150);
    assert!(told.iter().all(|output| output.reports.is_empty()), "and it is held back");
}
