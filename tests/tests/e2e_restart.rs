//! The agent dies, stays away, comes back, is replaced by another: what happened meanwhile is counted.
//!
//! Needs root and the real kernel.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use skep_tests::ledger::assert_ledger;
use skep_tests::truth::{Generator, arguments_sql, assert_arguments, assert_exact, wait_for_counts};
use skep_tests::{PATIENCE, Skep, UNLIMITED, binary, eventually, need_bpf_fs, number, query, send};

const GAPS: &str = "SELECT count(*) FROM loss WHERE reason = 'not_watching'";

/// Kills the agent, keeps it away for a while, and waits until it is back.
fn kill_agent(skep: &Skep, away: Duration) {
    // Nobody starts it again while its parent stands still.
    send(skep.parent(), Signal::STOP);
    let old = skep.kill("agent");
    std::thread::sleep(away);
    send(skep.parent(), Signal::CONT);
    skep.restarted("agent", old);
}

fn assert_whole(data: &Path, generators: &[Generator]) {
    for generator in generators {
        assert_exact(generator, &|sql| number(data, sql));
        assert_arguments(generator, &query(data, &arguments_sql(generator.pid())));
    }
    assert_ledger(&|sql| number(data, sql));
    assert_eq!(number(data, GAPS), 0, "there was no gap");
}

/// Folders of pins that `skep up` made.
fn pins() -> BTreeSet<PathBuf> {
    let paths = std::fs::read_dir("/sys/fs/bpf").expect("the bpf file system").flatten().map(|entry| entry.path());
    paths.filter(|path| path.to_string_lossy().contains("/skep-up-")).collect()
}

#[test]
fn an_agent_that_was_killed_and_stayed_away_missed_nothing() {
    need_bpf_fs();
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "1s"]);
    let child = Generator::start();
    std::thread::sleep(Duration::from_millis(700));
    kill_agent(&skep, Duration::from_secs(20));
    let mut generator = Generator::finish(child);
    wait_for_counts(&skep, &generator);
    assert_exact(&generator, &|sql| skep.number(sql));
    generator.end();
    skep.stop();
    assert_whole(data.path(), &[generator]);
}

/// `SKEP_KILL_ROUNDS` asks for more of them.
#[test]
fn kills_at_any_moment_lose_and_double_nothing() {
    need_bpf_fs();
    let rounds = std::env::var("SKEP_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "1s"]);
    let mut dice = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_nanos() as u64 | 1;
    let mut roll_ms = |most: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        Duration::from_millis(dice % most)
    };
    let mut generators = Vec::new();
    for round in 0..rounds {
        let (before, away) = (roll_ms(3_000), roll_ms(2_500));
        println!("round {round}: killed after {before:?}, away for {away:?}");
        let child = Generator::start();
        std::thread::sleep(before);
        kill_agent(&skep, away);
        let mut generator = Generator::finish(child);
        wait_for_counts(&skep, &generator);
        assert_exact(&generator, &|sql| skep.number(sql));
        generator.end();
        generators.push(generator);
    }
    skep.stop();
    assert_whole(data.path(), &generators);
}

#[test]
fn an_agent_that_is_stopped_and_started_again_missed_nothing() {
    need_bpf_fs();
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "1s"]);
    let child = Generator::start();
    std::thread::sleep(Duration::from_millis(500));
    let old = skep.pid("agent");
    send(old, Signal::TERM);
    skep.restarted("agent", old);
    let mut generator = Generator::finish(child);
    wait_for_counts(&skep, &generator);
    generator.end();
    let log = std::fs::read_to_string(data.path().join("log/agent.log")).expect("its log");
    assert!(log.contains("stopped"), "it was stopped in order: {log}");
    skep.stop();
    assert_whole(data.path(), &[generator]);
}

#[test]
fn another_layout_loses_the_restart_and_says_so() {
    need_bpf_fs();
    let data = tempfile::tempdir().expect("a folder");
    let config = data.path().join("agent.toml");
    std::fs::write(&config, "[probes]\nusage_entries = 16384\n").expect("a file");
    let config_path = config.to_str().expect("a path");
    let variables = [UNLIMITED, ("SKEP_AGENT_CONFIG", config_path)];
    let skep = Skep::up_with(data.path(), &["--window", "1s"], &variables);
    let mut generator = Generator::finish(Generator::start());
    wait_for_counts(&skep, &generator);
    generator.end();
    std::fs::write(&config, "[probes]\nusage_entries = 32768\n").expect("a file");
    let old = skep.pid("agent");
    send(old, Signal::TERM);
    skep.restarted("agent", old);
    let gap_us = eventually("the gap to be a row", PATIENCE, || {
        let length = "arrow_cast(until, 'Int64') - arrow_cast(time, 'Int64')";
        let sql = format!("SELECT CAST(sum({length}) AS BIGINT) FROM loss WHERE reason = 'not_watching'");
        skep.try_number(&sql).filter(|&us| us > 0)
    });
    assert!(gap_us < 10_000_000, "{gap_us} us are more than a restart");
    let mut after = Generator::finish(Generator::start());
    wait_for_counts(&skep, &after);
    after.end();
    skep.stop();
    for generator in [&generator, &after] {
        assert_exact(generator, &|sql| number(data.path(), sql));
    }
    assert_ledger(&|sql| number(data.path(), sql));
    assert_eq!(number(data.path(), GAPS), 1);
}

/// Runs `skep-agent` and returns its exit code and what it printed.
fn agent(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary("skep-agent")).args(arguments).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn what_is_in_the_kernel_is_removed_at_an_orderly_end_or_by_hand() {
    need_bpf_fs();
    let data = tempfile::tempdir().expect("a folder");
    let others = pins();
    let skep = Skep::up(data.path(), &["--window", "1s"]);
    let ours = pins().difference(&others).next().expect("they are pinned").to_string_lossy().into_owned();
    let (code, said) = agent(&["detach", "--pin", &ours]);
    assert_eq!(code, Some(1), "an agent runs on them: {said}");
    let (_, said) = agent(&["doctor", "--pin", &ours]);
    assert!(said.contains(&format!("probes are pinned in {ours}")), "{said}");
    send(skep.parent(), Signal::STOP);
    let old = skep.kill("agent");
    let (code, said) = eventually("the agent to be gone", PATIENCE, || {
        Some(agent(&["detach", "--pin", &ours])).filter(|(code, _)| *code == Some(0))
    });
    assert!(said.contains(&format!("removed {ours}/skep-v")) && said.contains("programs"), "{code:?} {said}");
    assert!(!Path::new(&ours).exists());
    send(skep.parent(), Signal::CONT);
    skep.restarted("agent", old);
    skep.next_window();
    assert!(Path::new(&ours).exists(), "the next agent pins its own");
    skep.stop();
    assert!(!Path::new(&ours).exists(), "`skep up` leaves nothing behind");

    let (code, said) = agent(&["detach", "--pin", &ours]);
    assert_eq!(code, Some(0));
    assert!(said.contains("nothing is pinned"), "{said}");
    assert_eq!(agent(&["detach", "--pin", ""]).0, Some(2));
    assert_eq!(agent(&["detach", "--pin", "/tmp"]).0, Some(1), "it is in no bpf file system");
}
