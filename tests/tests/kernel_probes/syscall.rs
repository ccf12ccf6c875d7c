//! System calls: exact counts, errors, latency.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use hdrhistogram::Histogram;
use skep_agent::probe::{ProbeOptions, reading::SyscallReading};
use skep_common::{bucket, errno};
use skep_tests::generator;

use crate::support::Watch;

/// What the generator does is what the probes say it did: calls, connections, bytes, argument vectors, sleeps.
#[test]
fn everything_a_process_did_is_counted_exactly() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut generator = Command::new(env!("CARGO_BIN_EXE_skep-generator"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the generator starts");
    let pid = generator.id();
    let mut out = BufReader::new(generator.stdout.take().expect("piped"));
    let line = std::thread::spawn(move || {
        let mut line = String::new();
        out.read_line(&mut line).map(|_| line)
    });
    watch.until(|_| line.is_finished());
    let line = line.join().expect("the reader ends").expect("the generator writes");
    let truth: serde_json::Value = serde_json::from_str(&line).expect("the truth is JSON");
    generator.stdin.take().expect("piped").write_all(b"\n").expect("the generator reads");
    watch.until_ended(&mut generator);

    let plan = generator::FULL;
    let count = |name| watch.syscalls(pid, name).map(|row| row.count).sum::<u64>();
    assert_eq!(count("getppid"), plan.getppid);
    assert_eq!(count("connect"), plan.connects);
    assert_eq!(count("accept4"), plan.connects);
    assert_eq!(count("clock_nanosleep"), plan.sleeps);
    assert_eq!(watch.syscalls(pid, "getppid").map(errors).sum::<u64>(), 0);
    for row in watch.syscalls(pid, "getppid") {
        assert_eq!(row.latency.count(), row.count);
        assert!(row.latency.min_ns <= row.latency.max_ns && row.latency.sum_ns >= row.count * row.latency.min_ns);
    }

    let latency = merged(watch.syscalls(pid, "clock_nanosleep"));
    // The bucket's width; in an emulated machine a call is a good part of what its caller measures, and the longest of
    // them are as long as the host let it wait between the two clocks.
    let is_emulated = std::env::var_os("SKEP_EMULATED").is_some();
    let tolerance = if is_emulated { 0.25 } else { 0.032 };
    let quantiles = [(0.5, "sleep_p50_ns"), (0.99, "sleep_p99_ns")];
    for (quantile, key) in quantiles.into_iter().take(if is_emulated { 1 } else { 2 }) {
        // The middle of the bucket, as tables and quantiles have it.
        let ours = latency.median_equivalent(latency.value_at_quantile(quantile)) as f64;
        let theirs = truth[key].as_f64().expect("a number");
        assert!((ours - theirs).abs() / theirs < tolerance, "p{quantile}: {ours} ns against {theirs} ns");
    }

    let execs = watch.execs_below(pid);
    assert_eq!(execs.len() as u64, plan.execs);
    for (i, exec) in (0..).zip(execs) {
        let wanted: Vec<_> = generator::argv(i).into_iter().map(String::into_bytes).collect();
        assert_eq!(exec.argv, wanted);
        assert!(!exec.argv_truncated);
    }
    watch.assert_balanced();
}

#[test]
fn errors_are_counted() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child = Command::new("/usr/bin/env")
        .args([
            "python3",
            "-c",
            "import os\nfor i in range(300):\n  try: os.kill(2**22 + 1, 0)\n  except OSError: pass",
        ])
        .spawn()
        .expect("python starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    let (count, failed) = watch.syscalls(pid, "kill").fold((0, 0), |sum, row| (sum.0 + row.count, sum.1 + errors(row)));
    assert_eq!((count, failed), (300, 300));
    let not_found: u64 = watch.syscalls(pid, "kill").map(|row| row.by_class[usize::from(errno::NOT_FOUND)]).sum();
    assert_eq!(not_found, 300, "ESRCH");
    watch.assert_balanced();
}

/// The child of a fork returns from a call it never made, and `exit` never returns: neither is a loss.
#[test]
fn forks_and_exits_miss_no_entry() {
    let mut watch = Watch::start(&ProbeOptions::default());
    // What was under way when the probes came ends in here.
    watch.until(|_| true);
    watch.flip();
    let before = missed(&watch);
    let mut child = crate::support::shell("i=0; while [ $i -lt 200 ]; do (exit 3); /bin/true; i=$((i+1)); done", &[])
        .spawn()
        .expect("the shell starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    assert_eq!(watch.forks_of(pid).len(), 400);
    let after = missed(&watch);
    assert!(after - before < 50, "{} entries missed while 400 processes forked and ended", after - before);
    watch.assert_balanced();
}

/// The same numbers mean other calls there: they are not mixed up, and not forgotten.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_through_the_32_bit_interface_are_a_loss_with_a_reason() {
    const GETPID_32: i32 = 20;
    let mut watch = Watch::start(&ProbeOptions::default());
    for _ in 0..500 {
        let mut pid = GETPID_32;
        // SAFETY: the call takes no arguments and touches no memory.
        unsafe { std::arch::asm!("int 0x80", inout("eax") pid) };
        assert_eq!(u32::try_from(pid), Ok(std::process::id()));
    }
    watch.flip();
    let lost = watch.ledger().filter(|row| row.probe == "syscall").flat_map(|row| &row.lost);
    let compat: u64 = lost.filter(|(reason, _)| *reason == "compat_call").map(|(_, count)| count).sum();
    assert_eq!(compat, 500);
    assert_eq!(watch.syscalls(std::process::id(), "writev").count(), 0, "20 is writev in the 64-bit interface");
    watch.assert_balanced();
}

fn errors(row: &SyscallReading) -> u64 {
    row.by_class[1..].iter().sum()
}

/// All distributions as one.
fn merged<'a>(rows: impl Iterator<Item = &'a SyscallReading>) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, bucket::MAX_VALUE, 1).expect("the bounds are good");
    for (index, count) in rows.flat_map(|row| &row.latency.buckets) {
        histogram.record_n(bucket::midpoint(*index), *count).expect("within the bounds");
    }
    histogram
}

fn missed(watch: &Watch) -> u64 {
    let lost = watch.ledger().filter(|row| row.probe == "syscall").flat_map(|row| &row.lost);
    lost.filter(|(reason, _)| *reason == "entry_missed").map(|(_, count)| count).sum()
}

#[test]
fn rows_carry_the_name_of_the_process_not_of_the_thread() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let worker = std::thread::Builder::new().name("another-name".to_owned()).spawn(|| {
        for _ in 0..1000 {
            std::hint::black_box(rustix::process::getppid());
            std::thread::yield_now();
        }
    });
    worker.expect("a thread starts").join().expect("it ends");
    watch.flip();
    let name = std::fs::read_to_string("/proc/self/comm").expect("this process has a name");
    let pid = std::process::id();
    let comms = watch.syscalls(pid, "getppid").map(|row| row.comm).chain(watch.cpu(pid).map(|row| row.comm));
    let comms: Vec<_> = comms.map(|comm| String::from_utf8_lossy(&comm).trim_end_matches('\0').to_owned()).collect();
    assert!(!comms.is_empty());
    assert!(comms.iter().all(|comm| comm == name.trim_end()), "{comms:?}, not {name}");
}
