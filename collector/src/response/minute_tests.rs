use ed25519_dalek::SigningKey;
use skep_wire::chunk::{self, Builder};
use skep_wire::envelope::Origin;
use skep_wire::{tables, v1};

use super::*;
use crate::decide::Policy;

const MINUTE_US: i64 = 60_000_000;

fn responder() -> Responder {
    let policy = Policy::parse(Policy::default_text()).unwrap();
    let rules = skep_rules::detector::Detector::new(&mut skep_rules::load::Loaded::pack()).unwrap();
    Responder::new(Setup { policy, key: SigningKey::from_bytes(&[3; 32]), rules, seed: [5; 32] })
}

fn gauges(minute: i64, values: &[(&str, &str, f64)]) -> v1::Batch {
    let mut rows = Builder::new(&tables::HOST);
    for (metric, label, value) in values {
        rows.int("time", minute * MINUTE_US).float("window_s", 10.0).text("metric", metric).text("label", label);
        rows.float("value", *value).end_row().unwrap();
    }
    v1::Batch { sealed_us: 0, chunks: vec![rows.finish().unwrap()], deliveries: Vec::new() }
}

/// The findings of so many minutes: rule, severity, title and evidence.
fn findings(responder: &mut Responder, minutes: std::ops::Range<i64>, value: impl Fn(i64) -> f64) -> Vec<[String; 4]> {
    let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 };
    let mut found = Vec::new();
    for minute in minutes {
        let batch = gauges(minute, &[("disk_used_ratio", "/", value(minute)), ("cpus", "", 2.0)]);
        let output = responder.observe(&origin, &batch, minute * MINUTE_US);
        for chunk in &output.chunks {
            chunk::check(chunk, tables::find(&chunk.table).unwrap()).unwrap();
        }
        for row in output.chunks.iter().filter(|chunk| chunk.table == "findings").flat_map(chunk::rows) {
            let text = |name: &str| row.text(name).unwrap_or_default().to_owned();
            let evidence = row.text_list("evidence").unwrap_or_default().join("; ");
            found.push([text("rule"), text("severity"), text("title"), evidence]);
        }
    }
    found
}

fn quiet(minute: i64) -> f64 {
    0.4 + 0.0001 * ((minute * 7919) % 13) as f64
}

fn fills(minute: i64) -> f64 {
    quiet(minute) + 0.004 * (minute - 1500).max(0) as f64
}

#[test]
fn a_disk_that_begins_to_fill_is_new_and_full_soon() {
    let mut responder = responder();
    let before = findings(&mut responder, 0..1500, quiet);
    assert!(before.iter().all(|found| found[0] != "filling" && found[0] != "novelty"), "{before:?}");
    let found = findings(&mut responder, 1500..1560, fills);
    let of = |rule: &str| found.iter().find(|found| found[0] == rule).unwrap_or_else(|| panic!("{rule}: {found:?}"));
    assert!(of("novelty")[2].starts_with("the node: disk_used_ratio{/} is 0.4"), "{found:?}");
    assert!(of("novelty")[3].contains(" above ") && of("novelty")[3].contains(" 0 of "), "{found:?}");
    assert!(of("filling")[2].contains("and full in ") && of("filling")[1] == "medium", "{found:?}");
    let novelties = found.iter().filter(|found| found[0] == "novelty").count();
    assert_eq!(novelties, 1, "one incident is one finding: {found:?}");
}

#[test]
fn a_restarted_collector_knows_its_series() {
    let mut before = responder();
    findings(&mut before, 0..1500, quiet);
    let mut after = responder();
    assert_eq!(after.take_up(&before.learned()), Ok(0));
    // A new one would have to learn for half a day first.
    let found = findings(&mut after, 1500..1520, fills);
    assert!(found.iter().any(|found| found[0] == "novelty"), "{found:?}");
    let fresh = findings(&mut responder(), 1500..1520, fills);
    assert!(fresh.iter().all(|found| found[0] != "novelty"), "{fresh:?}");
}

#[test]
fn a_full_disk_is_over_its_limit_and_far_out() {
    let found = findings(&mut responder(), 0..60, |minute| if minute < 40 { 0.5 } else { 0.98 });
    let over: Vec<_> = found.iter().filter(|found| found[0] == "over-limit").collect();
    assert_eq!(over.len(), 1, "{found:?}");
    assert_eq!(over[0][2], "the node: disk_used_ratio{/} is 0.980");
    // And that is far from where it was; too young a series to call it new.
    let far = found.iter().find(|found| found[0] == "level").unwrap();
    assert_eq!(far[2], "the node: disk_used_ratio{/} is 0.980, it was 0.500 for an hour");
    assert!(far[3].contains("z=") && found.iter().all(|found| found[0] != "novelty"), "{found:?}");
}

/// Findings `siblings` of six nodes that share a service: node, severity, title, evidence.
fn told_of_siblings(responder: &mut Responder, minutes: std::ops::Range<i64>) -> Vec<[String; 4]> {
    let mut found = Vec::new();
    for minute in minutes {
        for node in 0..6 {
            let origin = Origin { node: format!("n{node}"), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 };
            // All of them are asked more from the fiftieth minute on, and one falls behind.
            let waiting = if minute < 50 { 3.0 } else { 40.0 } + f64::from(node);
            let behind = if node == 2 && minute >= 70 { 400.0 } else { 0.0 };
            let batch = gauges(minute, &[("queue_length", "orders", waiting + behind)]);
            let output = responder.observe(&origin, &batch, minute * MINUTE_US);
            for row in output.chunks.iter().filter(|chunk| chunk.table == "findings").flat_map(chunk::rows) {
                let text = |name: &str| row.text(name).unwrap_or_default().to_owned();
                let evidence = row.text_list("evidence").unwrap_or_default().join("; ");
                if text("rule") == "siblings" {
                    found.push([text("target_node"), text("severity"), text("title"), evidence]);
                }
            }
        }
    }
    found
}

#[test]
fn one_node_that_leaves_the_others_is_a_finding_and_all_together_are_none() {
    let found = told_of_siblings(&mut responder(), 0..80);
    let [[node, severity, title, evidence]] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((node.as_str(), severity.as_str()), ("n2", "low"));
    assert_eq!(title, "the node: queue_length{orders} is 442, and 43.000 on 5 other nodes");
    assert!(evidence.starts_with("queue_length{orders}=442 z="), "{evidence}");
}
