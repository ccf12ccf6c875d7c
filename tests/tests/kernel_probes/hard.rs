//! What makes counting hard: calls that never return, threads that take over numbers, CPUs that go away, kernels that
//! check no types.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use skep_agent::probe::ProbeOptions;
use skep_common::{errno, ledger::column};

use crate::support::{Watch, shell};

fn lost(watch: &Watch, probe: &str, reason: &str) -> u64 {
    let rows = watch.ledger().filter(|row| row.probe == probe).flat_map(|row| &row.lost);
    rows.filter(|(why, _)| *why == reason).map(|(_, count)| count).sum()
}

fn count(watch: &Watch, pid: u32, name: &'static str) -> u64 {
    watch.syscalls(pid, name).map(|row| row.count).sum()
}

/// The programs for kernels without types see the same.
#[test]
fn untyped_programs_count_the_same() {
    let options = ProbeOptions { untyped: true, ..ProbeOptions::default() };
    let mut watch = Watch::start(&options);
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_skep-churn")).args(["short-lived", "500"]).spawn().expect("it runs");
    let pid = child.id();
    watch.until_ended(&mut child);
    assert_eq!(watch.forks_of(pid).len(), 500);
    assert_eq!(count(&watch, pid, "wait4"), 500);
    assert_eq!(watch.execs(pid).first().expect("it was executed").argv.len(), 3);
    assert!(watch.cpu(pid).map(|row| row.run_queue_delay.count()).sum::<u64>() > 0);
    watch.assert_balanced();
}

/// Threads that die in a call never return from it: that is no call that returned, and no loss.
#[test]
fn threads_that_die_in_a_call_leave_nothing_behind() {
    let mut watch = Watch::start(&ProbeOptions::default());
    watch.until(|_| true);
    watch.flip();
    let before = lost(&watch, "syscall", column::NAMES[column::ENTRY_MISSED]);
    for _ in 0..50 {
        let mut child = shell("read never", &[]).stdin(Stdio::piped()).spawn().expect("the shell starts");
        std::thread::sleep(Duration::from_millis(5));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    watch.flip();
    let after = lost(&watch, "syscall", column::NAMES[column::ENTRY_MISSED]);
    // Whoever else runs here may have calls refused before they begin.
    let others = watch.account("syscall").0 / 500;
    assert!(after - before < 25 + others, "{} entries missed while 50 processes died in read", after - before);
    watch.assert_balanced();
}

/// A signal cuts a call short, its handler returns, and the next call begins: all are counted, with their class.
#[test]
fn calls_that_signals_cut_short_are_counted_with_their_class() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child = Command::new(env!("CARGO_BIN_EXE_skep-churn"))
        .args(["interrupted", "2000"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let pid = child.id();
    watch.until_ended(&mut child);
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).expect("it says what it did");
    let did: Vec<u64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let interrupted: u64 =
        watch.syscalls(pid, "clock_nanosleep").map(|row| row.by_class[usize::from(errno::INTERRUPTED)]).sum();
    assert_eq!((interrupted, count(&watch, pid, "rt_sigreturn")), (did[1], did[2]));
    // A sleep that left the CPU was timed; one to which the signal came before it slept may not have been.
    let timed: u64 = watch.syscalls(pid, "clock_nanosleep").map(|row| row.timed).sum();
    let all = count(&watch, pid, "clock_nanosleep");
    assert!(timed * 100 >= all * 95, "{timed} of {all} timed");
    watch.assert_balanced();
}

/// One call in 64 of a busy thread is timed; each is counted, and the distribution stands for all.
#[test]
fn a_busy_thread_is_counted_whole_and_timed_in_part() {
    let mut watch = Watch::start(&ProbeOptions::default());
    for _ in 0..200_000 {
        std::hint::black_box(rustix::process::getppid());
    }
    watch.flip();
    let pid = std::process::id();
    let rows: Vec<_> = watch.syscalls(pid, "getppid").collect();
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 200_000);
    let timed: u64 = rows.iter().map(|row| row.timed).sum();
    assert!((2_500..50_000).contains(&timed), "{timed} timed");
    assert_eq!(rows.iter().map(|row| row.latency.count()).sum::<u64>(), 200_000);
    watch.assert_balanced();
}

/// Which calls of a busy thread are timed is left to chance: in a loop of four each has its share.
#[test]
fn every_call_of_a_loop_is_timed_now_and_then() {
    let mut watch = Watch::start(&ProbeOptions::default());
    for _ in 0..50_000 {
        std::hint::black_box((rustix::process::getppid(), rustix::process::getuid()));
        std::hint::black_box((rustix::process::getgid(), rustix::process::geteuid()));
    }
    watch.flip();
    let pid = std::process::id();
    let timed = |call| watch.syscalls(pid, call).map(|row| row.timed).sum::<u64>();
    let shares = ["getppid", "getuid", "getgid", "geteuid"].map(timed);
    let all: u64 = shares.iter().sum();
    assert!(shares.iter().all(|share| share * 8 > all), "{shares:?}");
    watch.assert_balanced();
}

/// User space reads while the kernel writes: what is counted in a hundred short epochs is what was done.
#[test]
fn flips_under_load_lose_and_double_nothing() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let caller = std::thread::spawn(|| {
        for _ in 0..2_000_000 {
            std::hint::black_box(rustix::process::getppid());
        }
    });
    while !caller.is_finished() {
        watch.flip();
    }
    caller.join().expect("it ends");
    watch.flip();
    assert!(watch.readings.len() > 3, "{} epochs", watch.readings.len());
    assert_eq!(count(&watch, std::process::id(), "getppid"), 2_000_000);
    watch.assert_balanced();
}

/// A CPU that goes away and comes back takes nothing with it.
#[test]
fn a_cpu_may_go_and_come_back() {
    let switch = Path::new("/sys/devices/system/cpu/cpu1/online");
    if !switch.exists() {
        // One CPU only: there is none that could go.
        assert_eq!(std::thread::available_parallelism().map_or(1, std::num::NonZero::get), 1);
        return;
    }
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_skep-churn")).args(["short-lived", "2000"]).spawn().expect("it runs");
    let pid = child.id();
    std::fs::write(switch, "0").expect("the CPU can go");
    std::thread::sleep(Duration::from_millis(100));
    std::fs::write(switch, "1").expect("the CPU can come");
    watch.until_ended(&mut child);
    assert_eq!(watch.forks_of(pid).len(), 2_000);
    assert_eq!(count(&watch, pid, "wait4"), 2_000);
    watch.assert_balanced();
}

/// More distinct pairs of process and call than anything has room for: named, and memory stays what it was.
#[test]
fn a_hundred_thousand_keys_are_counted_or_named() {
    let mut watch = Watch::start(&ProbeOptions { call_entries: 4_096, ..ProbeOptions::default() });
    let bytes = watch.map_bytes();
    let mut child = Command::new(env!("CARGO_BIN_EXE_skep-churn")).args(["keys", "100"]).spawn().expect("it runs");
    watch.until_ended(&mut child);
    let rows = watch.readings.iter().flat_map(|reading| &reading.syscalls).filter(|row| row.nr >= 10_000);
    let stored: u64 = rows.map(|row| row.count).sum();
    let full = lost(&watch, "syscall", column::NAMES[column::MAP_FULL]);
    assert!(full > 0, "there was room for all");
    assert!(stored <= 100_000 && stored + full >= 100_000, "{stored} stored, {full} named");
    assert!(watch.map_bytes() <= bytes + bytes / 10, "{} bytes, {bytes} before", watch.map_bytes());
    watch.assert_balanced();
}

/// A domain that is switched off counts nothing, says nothing, and goes on where it is switched on again as if nothing
/// had begun before.
#[test]
fn domains_can_be_switched_off_and_on() {
    let mut watch = Watch::start(&ProbeOptions::default());
    watch.switch_off(&["cpu", "syscall"]);
    watch.flip();
    std::thread::sleep(Duration::from_millis(300));
    let quiet = watch.flip();
    assert!(quiet.cpu.is_empty() && quiet.syscalls.is_empty(), "{} rows", quiet.cpu.len() + quiet.syscalls.len());
    assert!(!quiet.ledger.iter().any(|row| matches!(row.probe, "cpu" | "run_queue" | "syscall")));
    watch.switch_off(&[]);
    let before = std::time::Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    let passed_ns = before.elapsed().as_nanos() as u64;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let loud = watch.flip();
    let used: u64 = loud.cpu.iter().map(|row| row.on_cpu_ns).sum();
    assert!(!loud.cpu.is_empty() && !loud.syscalls.is_empty());
    assert!(used <= passed_ns * cpus * 2, "{used} ns used in {passed_ns} ns");
    let longest = loud.cpu.iter().map(|row| row.off_cpu.max_ns).max().unwrap_or(0);
    assert!(longest <= passed_ns * 2, "away for {longest} ns of {passed_ns}");
    watch.assert_balanced();
}
