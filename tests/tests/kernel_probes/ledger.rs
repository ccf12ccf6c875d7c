//! Attempted is delivered and lost, whatever happens.

use skep_agent::probe::{Event, ProbeOptions};

use crate::support::{Watch, shell};

/// A ring of one page, drained late, under a flood of processes.
#[test]
fn a_flood_into_a_tiny_ring_is_accounted() {
    let mut watch = Watch::start(&ProbeOptions { ring_bytes: 4_096, ..ProbeOptions::default() });
    let mut child = shell("i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done", &[]).spawn().expect("it starts");
    child.wait().expect("it ends");
    watch.flip();
    watch.assert_balanced();
    for probe in ["fork", "exec", "exit"] {
        let (attempted, delivered) = watch.account(probe);
        assert!(attempted >= 500, "{probe}: {attempted}");
        assert!(delivered < attempted, "{probe}: nothing was lost");
    }
    let count = |wanted: fn(&Event) -> bool| watch.events.iter().filter(|event| wanted(event)).count() as u64;
    assert_eq!(watch.account("fork").1, count(|event| matches!(event, Event::Fork(_))));
    assert_eq!(watch.account("exec").1, count(|event| matches!(event, Event::Exec(_))));
    assert_eq!(watch.account("exit").1, count(|event| matches!(event, Event::Exit(_))));
}

/// Maps with no room, and more processes than the CPUs keep lines for: what does not fit is counted, not forgotten.
#[test]
fn full_maps_are_accounted() {
    let options = ProbeOptions {
        call_entries: 64,
        wait_entries: 4,
        usage_entries: 4,
        thread_places: 8,
        crowded_entries: 8,
        connection_entries: 1,
        ..ProbeOptions::default()
    };
    let mut watch = Watch::start(&options);
    let mut child =
        shell("i=0; while [ $i -lt 1500 ]; do /bin/true; i=$((i+1)); done", &[]).spawn().expect("it starts");
    watch.until_ended(&mut child);
    watch.assert_balanced();
    for probe in ["cpu", "run_queue", "syscall"] {
        let lost = watch.ledger().filter(|row| row.probe == probe).flat_map(|row| &row.lost);
        let full: u64 = lost.filter(|(reason, _)| *reason == "map_full").map(|(_, count)| count).sum();
        assert!(full > 0, "{probe}: its map was never full");
    }
}

/// Flips in quick succession lose nothing and double nothing.
#[test]
fn many_flips_keep_every_event() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut child = shell("i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done", &[]).spawn().expect("it starts");
    let pid = child.id();
    while child.try_wait().expect("the child can be waited for").is_none() {
        watch.flip();
    }
    watch.flip();
    assert_eq!(watch.execs_below(pid).len(), 300);
    assert_eq!(watch.forks_of(pid).len(), 300);
    watch.assert_balanced();
}

/// The programs' own messages: refused by no verifier, and no change to what is counted.
#[test]
fn probes_can_be_debugged() {
    let options = ProbeOptions { log: skep_agent::probe::LogLevel::Debug, ..ProbeOptions::default() };
    let mut watch = Watch::start(&options);
    let mut child = shell("/bin/true; /bin/true", &[]).spawn().expect("it starts");
    let pid = child.id();
    watch.until_ended(&mut child);
    assert_eq!(watch.execs(pid).len() + watch.execs_below(pid).len(), 3);
    watch.assert_balanced();
}
