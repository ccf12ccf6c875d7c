//! A disk that becomes slow and a storm of connections, found by their own series within a few windows and told as one
//! incident each: the short form of `cargo xtask bench found`. Needs root.

use std::process::Command;

use serde_json::Value;
use skep_tests::{binary, need_bpf_fs};

#[test]
fn what_saturates_is_found_by_its_own_series_and_is_one_incident() {
    need_bpf_fs();
    let output = Command::new(binary("skep-healing"))
        .args(["find", "--only", "slow-disk,connection-storm", "--json"])
        .args(["--window", "1s", "--healthy-windows", "9", "--within-s", "60", "--linger-s", "2"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let figures: Value = serde_json::from_slice(&output.stdout).expect("figures");
    let faults = figures["faults"].as_array().expect("faults");
    let rules = ["block_latency_mean_ns", "connection_attempts_per_s"];
    assert_eq!(faults.len(), rules.len(), "{said}");
    for (fault, rule) in faults.iter().zip(rules) {
        assert!(fault["found_after_s"].as_f64().is_some_and(|after_s| after_s < 30.0), "{fault:#}\n{said}");
        assert_eq!((&fault["kind"], &fault["rule"]), (&"series".into(), &rule.into()), "{fault:#}");
        assert_eq!(fault["incidents"], 1, "{fault:#}");
        let evidence = fault["evidence"].as_str().expect("evidence");
        assert!(evidence.contains("baseline=") && evidence.contains("windows_before="), "{evidence}");
    }
    let disk = faults[0]["evidence"].as_str().expect("evidence");
    assert!(disk.starts_with("block_latency_mean_ns{loop") && disk.contains("most_by=cgroup:/find-job-"), "{disk}");
}
