//! Actions of real programs on this host under faults. Takes root, for cgroups, a network namespace and the agent's probes.

use std::process::Command;

use serde_json::Value;

#[test]
fn nothing_stands_too_long_or_is_done_twice_whatever_happens_to_commands_and_programs() {
    let output = Command::new(env!("CARGO_BIN_EXE_skep-chaos-act"))
        .args(["--seed", "1", "--rounds", "10", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| figures[name].as_u64().unwrap();
    for name in ["commands_sent", "commands_doubled", "refused_replay", "applied", "undone", "runs", "audit_entries"] {
        assert!(count(name) > 0, "{name}: {figures}");
    }
    let faults = ["kills_collector", "kills_executor", "kills_agent", "partitions", "link_cuts", "clock_steps"];
    assert!(faults.map(count).iter().filter(|&&times| times > 0).count() >= 3, "{figures}");
}
