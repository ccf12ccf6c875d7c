//! Real collectors through kills, partitions and full disks. Takes root, for the small disk.

use std::process::Command;

use serde_json::Value;

#[test]
fn nothing_acknowledged_is_lost_or_doubled_whatever_happens_to_the_collector() {
    let output = Command::new(env!("CARGO_BIN_EXE_skep-chaos"))
        .args(["ingest", "--seed", "1", "--rounds", "50", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| figures[name].as_u64().unwrap();
    for name in ["kills", "kills_at_start", "partitions", "full_disks", "freezes", "clock_steps", "batches_resent"] {
        assert!(count(name) > 0, "{name}: {figures}");
    }
    assert_eq!(count("rows_acked"), count("rows_stored"), "{figures}");
    assert_eq!((count("rows_lost"), count("rows_doubled")), (0, 0), "{figures}");
    assert_eq!(count("ledger_attempted"), count("ledger_delivered") + count("ledger_lost"), "{figures}");
    assert_eq!((count("power_rows_lost"), count("power_rows_doubled")), (0, 0), "{figures}");
}
