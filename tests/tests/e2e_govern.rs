//! The agent keeps to its budget through a storm of system calls, says what it gives up, and sees everything again
//! afterwards. Needs root.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use skep_tests::{PATIENCE, Skep, eventually};

/// Of a core. What a build without optimisation takes at rest, and some more; the storm's probes alone take more than
/// that. An optimised agent keeps to a fiftieth of it, which `SKEP_TESTS_CPU_BUDGET` asks for.
const BUDGET: f64 = 0.15;

fn budget() -> f64 {
    std::env::var("SKEP_TESTS_CPU_BUDGET").map_or(BUDGET, |text| text.parse().expect("a share of a core"))
}

/// Of a window.
const WINDOW: Duration = Duration::from_secs(5);

/// A thread that does nothing but call the kernel.
struct Storm(Arc<AtomicBool>, std::thread::JoinHandle<()>);

impl Storm {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let calls = move || {
            while !until.load(Ordering::Relaxed) {
                (0..1000).for_each(|_| _ = std::hint::black_box(rustix::process::getppid()));
            }
        };
        Self(stop, std::thread::spawn(calls))
    }

    fn end(self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.join().expect("the storm ends");
    }
}

/// As [`eventually`], asked once a window: a query is a process, a handshake and some thousand system calls, and ten of
/// them a second are no rest.
fn in_some_window<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    eventually(what, patience, || {
        std::thread::sleep(WINDOW);
        probe()
    })
}

/// What agent and probes took of a core in each window that began at `from_us` or later.
fn spent(skep: &Skep, from_us: i64) -> Vec<f64> {
    let rows = skep.query(&format!(
        "SELECT sum(value) AS spent FROM host WHERE metric IN ('agent_cpu_ratio', 'agent_bpf_cpu_ratio') \
         AND arrow_cast(time, 'Int64') >= {from_us} GROUP BY time ORDER BY time"
    ));
    rows.iter().filter_map(|row| row["spent"].as_f64()).collect()
}

#[test]
fn a_storm_is_kept_within_the_budget_after_two_windows_and_everything_is_seen_after_it() {
    let data = tempfile::tempdir().expect("a folder");
    let budget = budget();
    let window = format!("{}s", WINDOW.as_secs());
    let skep = Skep::up_with(data.path(), &["--window", &window], &[("SKEP_CPU_BUDGET", &budget.to_string())]);
    in_some_window("two windows", PATIENCE, || (spent(&skep, 0).len() >= 2).then_some(()));
    let level = "SELECT value::BIGINT FROM host WHERE metric = 'agent_detail_level' ORDER BY time DESC LIMIT 1";
    in_some_window("everything to be observed at rest", Duration::from_secs(240), || {
        (skep.try_number(level) == Some(0)).then_some(())
    });

    let storm = Storm::start();
    let newest = "SELECT max(arrow_cast(time, 'Int64')) FROM host";
    let window_us = WINDOW.as_micros() as i64;
    let began_us = skep.number(newest) + window_us;
    // The window it began in, two to answer in, and two to look at.
    let settled_us = began_us + 3 * window_us;
    in_some_window("five windows of the storm", PATIENCE, || (spent(&skep, settled_us).len() >= 2).then_some(()));
    let kept = spent(&skep, settled_us);
    assert!(kept.iter().all(|spent| *spent <= budget), "{kept:?} of {budget}");
    eprintln!("spent in the storm: {kept:?} of {budget}");
    assert!(skep.number(level) > 0);
    let told = "SELECT count(*) FROM findings WHERE rule = 'agent-degraded' AND severity IN ('low', 'medium')";
    assert!(skep.number(told) >= 1);
    let spans = "SELECT count(*) FROM loss WHERE reason IN ('sampled', 'switched_off') AND attempted IS NULL";
    assert!(skep.number(spans) >= 2);
    storm.end();

    let ended = Instant::now();
    in_some_window("everything to be observed again", Duration::from_secs(240), || {
        (skep.try_number(level) == Some(0)).then_some(())
    });
    let over = format!(
        "SELECT count(*) FROM findings WHERE rule = 'agent-degraded' AND severity = 'info' \
         AND arrow_cast(time, 'Int64') >= {began_us}"
    );
    in_some_window("the end to be told", PATIENCE, || (skep.try_number(&over)? >= 1).then_some(()));
    eprintln!("everything is observed again after {:?}", ended.elapsed());
    skep.stop();
}
