//! Time on a CPU.

use std::time::{Duration, Instant};

use skep_agent::probe::ProbeOptions;

use crate::support::{Watch, shell};

/// A loop that is alone on its CPU may never be switched out: its time is accounted at the flip. The kernel's own
/// account says how much it must be.
#[test]
fn a_busy_loop_is_on_a_cpu_in_every_epoch() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child = shell("while :; do :; done", &[]).spawn().expect("the shell starts");
    let pid = child.id();
    for _ in 0..4 {
        let until = Instant::now() + Duration::from_millis(900);
        watch.until(|_| Instant::now() >= until);
        watch.flip();
    }
    let [on_cpu_ns, waited_ns] = kernel_account(pid);
    child.kill().expect("the shell ends");
    child.wait().expect("the shell ends");

    for reading in &watch.readings {
        let row = reading.cpu.iter().find(|row| row.process.pid == pid).expect("it ran");
        assert!(row.on_cpu_ns > 0 && row.on_cpu_ns <= (reading.until_ns - reading.from_ns) * 102 / 100);
    }
    let named = watch.readings.iter().rev().flat_map(|reading| &reading.cpu).find(|row| row.process.pid == pid);
    assert_eq!(&named.expect("it ran").comm[..3], b"sh\0");
    let seen_ns: u64 = watch.cpu(pid).map(|row| row.on_cpu_ns).sum();
    assert_near(seen_ns, on_cpu_ns, 0.03);
    // The last wait may be accounted in the next epoch.
    let delay_ns: u64 = watch.cpu(pid).map(|row| row.run_queue_delay.sum_ns).sum();
    assert!(delay_ns <= waited_ns + waited_ns / 10 + 1_000_000, "{delay_ns} ns against {waited_ns} ns");
    watch.assert_balanced();
}

/// Time on a CPU and time waiting for one, as the kernel has it.
fn kernel_account(pid: u32) -> [u64; 2] {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("the process is there");
    let mut fields = text.split_whitespace().map(|field| field.parse().expect("a number"));
    std::array::from_fn(|_| fields.next().expect("a field"))
}

fn assert_near(ours: u64, theirs: u64, tolerance: f64) {
    let difference = (ours as f64 - theirs as f64).abs() / theirs as f64;
    assert!(difference < tolerance, "{ours} against {theirs}");
}

/// No CPU is used twice: what all processes ran is at most the time there was.
#[test]
fn the_time_of_all_processes_fits_on_the_cpus() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut busy: Vec<_> =
        (0..4).map(|_| shell("while :; do :; done", &[]).spawn().expect("the shell starts")).collect();
    watch.flip();
    let until = Instant::now() + Duration::from_millis(2_500);
    watch.until(|_| Instant::now() >= until);
    watch.flip();
    for child in &mut busy {
        child.kill().expect("the shell ends");
        child.wait().expect("the shell ends");
    }
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    for reading in &watch.readings[1..] {
        let length_ns = (reading.until_ns - reading.from_ns) as f64;
        let used: u64 = reading.cpu.iter().map(|row| row.on_cpu_ns).sum();
        let share = used as f64 / length_ns / cpus;
        assert!(share < 1.01, "{share}");
        if length_ns > 5e8 {
            assert!(share > 0.9, "four busy loops on {cpus} CPUs, yet only {share} of them was used");
        }
    }
    let waits: u64 = busy.iter().flat_map(|child| watch.cpu(child.id())).map(|row| row.run_queue_delay.count()).sum();
    assert!(waits > 10, "they waited for each other");
    watch.assert_balanced();
}

#[test]
fn sleeping_is_a_voluntary_switch() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child =
        shell("i=0; while [ $i -lt 50 ]; do read -t 0.002 x </dev/zero; sleep 0.002; i=$((i+1)); done", &[])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the shell starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    let voluntary: u64 = watch.cpu(pid).map(|row| row.voluntary_switches).sum();
    // The shell need not wait for a child that is gone already.
    assert!(voluntary >= 40, "{voluntary}");
    for row in watch.cpu(pid) {
        assert!(row.slices >= row.voluntary_switches + row.involuntary_switches);
        let delay = &row.run_queue_delay;
        assert!(delay.is_empty() || delay.min_ns <= delay.max_ns);
    }
    watch.assert_balanced();
}
