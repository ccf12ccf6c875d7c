//! What the probes need, and what they say when they do not have it.

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use skep_agent::probe::{ProbeError, ProbeOptions, Probes, probe_feature_report};

/// Runs `check` in a thread that has only `kept` of its capabilities. Capabilities are a thread's own.
fn with_only<T: Send + 'static>(kept: CapabilitySet, check: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        let mut sets = capabilities(None).expect("capabilities can be read");
        assert!(sets.effective.contains(kept), "run the tests as root");
        sets.effective = kept;
        sets.permitted = kept;
        sets.inheritable = CapabilitySet::empty();
        set_capabilities(None, sets).expect("capabilities can be given up");
        check()
    });
    thread.join().expect("the thread ends")
}

#[test]
fn missing_capabilities_are_named() {
    let error = with_only(CapabilitySet::BPF, || Probes::load(&ProbeOptions::default()).map(drop));
    let Err(error @ ProbeError::Capabilities { .. }) = error else { panic!("{error:?}") };
    assert_eq!(error.to_string(), "missing CAP_PERFMON: run as root, or give the program these capabilities");
    let report = with_only(CapabilitySet::empty(), probe_feature_report);
    let capabilities = report.iter().find(|feature| feature.name == "capabilities").expect("it is in the report");
    assert!(!capabilities.ok);
    assert_eq!(capabilities.reason, "missing CAP_BPF and CAP_PERFMON");
}

#[test]
fn two_capabilities_are_enough() {
    let features = with_only(CapabilitySet::BPF | CapabilitySet::PERFMON, probe_feature_report);
    for feature in &features {
        assert!(feature.ok, "{feature:?}");
    }
    for probe in ["cpu", "syscall", "tcp", "socket", "process"] {
        assert!(features.iter().any(|feature| feature.name == probe), "{probe} is not in the report");
    }
}

#[test]
fn a_probe_that_is_switched_off_is_off() {
    let options = ProbeOptions { syscall: false, process: false, cgroup: false, ..ProbeOptions::default() };
    let watch = crate::support::Watch::of_some(&options);
    let mut names: Vec<_> = watch.last().ledger.iter().map(|row| row.probe).collect();
    names.dedup();
    assert_eq!(names, ["cpu", "run_queue", "off_cpu", "tcp", "socket", "retransmit", "reset", "security", "block"]);
    assert!(watch.last().syscalls.is_empty() && !watch.last().cpu.is_empty());
}

#[test]
fn the_kernel_says_how_much_memory_the_maps_take() {
    let (probes, _) = Probes::load(&ProbeOptions::default()).expect("the probes load: run the tests as root");
    let megabytes = probes.map_bytes() >> 20;
    assert!((20..120).contains(&megabytes), "{megabytes} MB");
}
