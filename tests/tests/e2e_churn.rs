//! Processes by the hundred thousand, calls cut short, floods: counts are exact, or the ledger names the difference.
//!
//! Needs root and the real kernel.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::process::Command;

use skep_tests::ledger::assert_ledger;
use skep_tests::{PATIENCE, Skep, binary, eventually, number};

/// Runs `skep-churn`; returns its pid, what it did, and the signals it handled.
fn churn(what: &str, count: u64) -> (i64, i64, i64) {
    let output = Command::new(binary("skep-churn")).args([what, &count.to_string()]).output().expect("churn runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(|number| number.parse().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    (next(), next(), next())
}

/// What a probe lost for any reason.
fn lost(skep: &Skep, probe: &str) -> i64 {
    skep.number(&format!("SELECT CAST(sum(lost) AS BIGINT) FROM loss WHERE probe = '{probe}'"))
}

/// Resident memory of a process, bytes.
fn rss_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
}

#[test]
fn short_lives_and_interrupted_calls_are_counted() {
    const SHORT_LIVED: u64 = 100_000;
    const INTERRUPTED: u64 = 10_000;
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "2s"]);
    let (sleeper, cut, handled) = churn("interrupted", INTERRUPTED);
    let (parent, born, _) = churn("short-lived", SHORT_LIVED);
    eventually("the parent's end", PATIENCE, || {
        let sql = format!("SELECT count(*) FROM processes WHERE event = 'exit' AND pid = {parent} AND exit_code = 0");
        skep.try_number(&sql).filter(|&ends| ends > 0)
    });
    skep.next_window();
    skep.stop();
    let ask = |sql: &str| number(data.path(), sql);

    let calls = |of: &str, column: &str| ask(&format!("SELECT CAST(sum({column}) AS BIGINT) FROM syscalls WHERE {of}"));
    let sleeps = format!("pid = {sleeper} AND syscall = 'clock_nanosleep'");
    let lost = |of: &str| ask(&format!("SELECT CAST(sum(lost) AS BIGINT) FROM loss WHERE {of}"));
    let named = lost("probe = 'syscall'");
    let full = lost("probe = 'syscall' AND reason = 'map_full'");
    assert_eq!(calls(&sleeps, "errors_interrupted"), cut, "interrupted sleeps");
    assert_eq!(calls(&format!("pid = {sleeper} AND syscall = 'rt_sigreturn'"), "count"), handled, "signals handled");
    let children = format!("comm = 'skep-churn' AND pid <> {parent} AND pid <> {sleeper} AND syscall = 'getppid'");
    let counted = calls(&children, "count");
    assert!(
        counted <= born && counted + named >= born,
        "{counted} of {born} calls of children, {named} lost by name, {full} for want of room"
    );
    for (event, condition) in [("fork", ""), ("exit", " AND exit_code = 7")] {
        let stored = ask(&format!(
            "SELECT count(*) FROM processes WHERE event = '{event}' AND parent_pid = {parent}{condition}"
        ));
        let lost = ask(&format!("SELECT CAST(sum(lost) AS BIGINT) FROM loss WHERE probe = '{event}'"));
        assert!(stored <= born && stored + lost >= born, "{stored} of {born} {event}s, {lost} lost by name");
    }
    assert_ledger(&ask);
}

#[test]
fn a_flood_is_stored_or_named_and_memory_stays() {
    // Set for the whole flood, which takes minutes.
    let full = std::env::var_os("SKEP_TESTS_FULL").is_some();
    let (execs, connects) = if full { (50_000, 200_000) } else { (5_000, 40_000) };
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "2s"]);
    churn("execs", execs / 2);
    churn("connects", connects / 4);
    skep.next_window();
    let before = rss_bytes(skep.pid("agent"));
    churn("execs", execs);
    let (caller, opened, _) = churn("connects", connects);
    skep.next_window();
    let after = rss_bytes(skep.pid("agent"));
    let rows = format!("FROM connections WHERE pid = {caller} AND comm = 'skep-churn' AND direction = 'connect'");
    let stored = skep.number(&format!("SELECT count(*) {rows} AND event = 'open'"));
    let lost = lost(&skep, "tcp");
    assert!(
        stored <= opened && stored + lost >= opened,
        "{stored} of {opened} connections, {lost} events lost by name"
    );
    assert!(after < before + before / 2, "the agent grew from {before} to {after} bytes in the flood");
    skep.stop();
    assert_ledger(&|sql| number(data.path(), sql));
}
