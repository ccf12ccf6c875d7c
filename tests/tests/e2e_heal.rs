//! Services of a real systemd that hang and crash, found by their checks and repaired over D-Bus: the short form of
//! `cargo xtask bench healing`. Needs root.

use std::process::Command;

use serde_json::Value;
use skep_tests::{binary, need_bpf_fs};

#[test]
fn a_unit_that_hangs_is_restarted_within_30_s_and_a_lost_one_is_left_to_people() {
    need_bpf_fs();
    let output = Command::new(binary("skep-healing"))
        .args(["--only", "hung-unit,reverse-shell,lost-cause", "--rounds", "2", "--lanes", "6", "--json"])
        .args(["--restart-limit", "2", "--restart-cool-down-s", "2"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let figures: Value = serde_json::from_slice(&output.stdout).expect("figures");
    let number = |kind: &str, key: &str| figures[kind][key].as_u64();
    for kind in ["hung-unit", "reverse-shell"] {
        let of = ["injected", "detected", "recovered", "wrong_targets"].map(|key| number(kind, key));
        assert_eq!(of, [Some(2), Some(2), Some(2), Some(0)], "{kind}: {figures:#}\n{said}");
    }
    assert_eq!(number("hung-unit", "verified_within_30_s"), Some(2), "{figures:#}\n{said}");
    let lost = ["detected", "escalated", "restarts_most", "wrong_targets"].map(|key| number("lost-cause", key));
    assert_eq!(lost, [Some(2), Some(2), Some(2), Some(0)], "{figures:#}\n{said}");
}
