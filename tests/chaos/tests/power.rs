//! The collector's storage through power cuts, in this process's child.

use std::process::Command;

use serde_json::Value;

#[test]
fn nothing_acknowledged_is_lost_or_doubled_whenever_the_power_goes() {
    let output = Command::new(env!("CARGO_BIN_EXE_skep-chaos"))
        .args(["power", "--seed", "1", "--rounds", "25", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| figures[name].as_u64().unwrap();
    for name in ["power_cuts", "kills", "sync_failures", "full_disks", "flipped_bits", "tables_merged", "rows_acked"] {
        assert!(count(name) > 0, "{name}: {figures}");
    }
    assert_eq!((count("rows_lost"), count("rows_doubled")), (0, 0), "{figures}");
    assert_eq!(count("rows_acked"), count("rows_stored") + count("rows_missing_and_reported"), "{figures}");
}
