use skep_wire::chunk::{self, Row};

use super::*;
use crate::aggregate::cgroup::Cgroups;
use crate::aggregate::hierarchy::Hierarchies;
use crate::aggregate::lookup::{Found, Lookup};
use crate::probe::reading::{ConnectionEvent, Direction, Failure, Latency, ProbeLedger, Protocol, Reset, Subject};

/// A host where nothing runs.
#[derive(Debug)]
struct Nobody;

impl Lookup for Nobody {
    fn ticks_per_second(&self) -> u64 {
        100
    }
    fn all(&self) -> Vec<Found> {
        Vec::new()
    }
    fn find(&self, _: u32) -> Option<Found> {
        None
    }
    fn membership(&self, _: u32) -> Option<String> {
        None
    }
    fn exe(&self, _: u32) -> Option<String> {
        None
    }
}

const S_NS: u64 = 1_000_000_000;
const START_US: i64 = 1_700_000_003_000_000;

/// A clock at the boot time of 100 s, and an aggregator that starts then with windows of 10 s.
fn start(watched_until_us: Option<i64>) -> (Clock, Aggregator) {
    let clock = Clock::manual(100 * S_NS, START_US);
    let identities = Identities::new(Box::new(Nobody), Cgroups::new(Hierarchies::default(), false), 1000);
    let window = Duration::from_secs(10);
    let aggregator = Aggregator::start(clock.clone(), window, identities, 100 * S_NS, watched_until_us);
    (clock, aggregator)
}

fn subject(pid: u32, at_ns: u64) -> Subject {
    Subject {
        cpu: 0,
        at_ns,
        process: ProcessKey { pid, start_ns: 5 },
        parent: ProcessKey { pid: 1, start_ns: 1 },
        comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
        cgroup_id: 0,
        uid: 10,
        gid: 11,
        effective_uid: 12,
    }
}

fn latency(values: &[u64]) -> Latency {
    let buckets = values.iter().map(|value| (skep_common::bucket::index(*value), 1)).collect();
    let (min_ns, max_ns) = (values.iter().min(), values.iter().max());
    Latency {
        buckets,
        sum_ns: values.iter().sum(),
        min_ns: min_ns.copied().unwrap_or(0),
        max_ns: max_ns.copied().unwrap_or(0),
    }
}

fn reading(from_s: u64, until_s: u64, ledger: Vec<ProbeLedger>) -> Reading {
    let process = ProcessKey { pid: 42, start_ns: 5 };
    let comm = *b"worker\0\0\0\0\0\0\0\0\0\0";
    Reading {
        blocks: Vec::new(),
        from_ns: from_s * S_NS,
        until_ns: until_s * S_NS,
        cpu: vec![CpuReading {
            process,
            comm,
            cgroup_id: 0,
            on_cpu_ns: 77,
            slices: 3,
            voluntary_switches: 2,
            involuntary_switches: 1,
            migrations: 0,
            run_queue_delay: latency(&[]),
            off_cpu: latency(&[]),
        }],
        syscalls: vec![SyscallReading {
            process,
            comm,
            nr: 39,
            count: 2,
            timed: 2,
            by_class: [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            latency: latency(&[100, 300]),
        }],
        sockets: vec![sockets(42, Protocol::Tcp), sockets(42, Protocol::Udp), sockets(0, Protocol::Tcp)],
        ledger,
    }
}

fn sockets(pid: u32, protocol: Protocol) -> SocketReading {
    SocketReading {
        process: ProcessKey { pid, start_ns: if pid == 0 { 0 } else { 5 } },
        comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
        protocol,
        sent_bytes: 10,
        received_bytes: 20,
        sent_messages: 1,
        received_messages: 2,
        retransmits: 3,
        resets_sent: 4,
        resets_received: 5,
    }
}

fn ledger(probe: &'static str, delivered: u64, lost: u64) -> ProbeLedger {
    let reasons = if lost == 0 { Vec::new() } else { vec![("map_full", lost)] };
    ProbeLedger { probe, cpu: Some(0), attempted: delivered + lost, delivered, lost: reasons }
}

fn rows<'a>(batch: &'a v1::Batch, table: &str) -> Vec<Row<'a>> {
    let chunks = batch.chunks.iter().filter(|chunk| chunk.table == table);
    chunks
        .flat_map(|chunk| {
            chunk::check(chunk, tables::find(table).unwrap()).unwrap();
            chunk::rows(chunk)
        })
        .collect()
}

#[test]
fn a_window_states_its_boundaries_its_coverage_and_every_probe() {
    let (clock, mut aggregator) = start(None);
    assert_eq!(aggregator.boundary_us(), 1_700_000_010_000_000);
    clock.advance_ns(7 * S_NS);
    let probes = vec![ledger("cpu", 3, 1), ledger("syscall", 2, 0), ledger("tcp", 0, 0)];
    let sealed = aggregator.seal_window(&reading(100, 107, probes)).unwrap();
    assert_eq!(sealed.watched_until_us, Some(1_700_000_010_000_000));

    let cpu = &rows(&sealed.batch, "cpu")[0];
    assert_eq!(cpu.int("time"), Some(START_US));
    assert_eq!(cpu.float("window_s"), Some(7.0));
    assert_eq!(cpu.float("coverage"), Some(0.75));
    assert_eq!(cpu.int("on_cpu_ns"), Some(77));
    assert_eq!((cpu.int("run_queue_delay_count"), cpu.int("run_queue_delay_min_ns")), (Some(0), None));
    assert_eq!((cpu.text("workload"), cpu.text("attribution")), (Some("host"), Some("unknown")));

    let syscall = &rows(&sealed.batch, "syscalls")[0];
    assert_eq!(
        (syscall.text("syscall"), syscall.int("count"), syscall.int("errors")),
        (crate::probe::syscall_name(39), Some(2), Some(1))
    );
    assert_eq!((syscall.int("latency_min_ns"), syscall.int("latency_max_ns")), (Some(100), Some(300)));
    assert_eq!(syscall.histogram("latency").unwrap().iter().map(|(_, count)| count).sum::<u64>(), 2);

    let loss: Vec<_> = rows(&sealed.batch, "loss")
        .iter()
        .map(|row| (row.text("probe").unwrap(), row.text("reason").unwrap(), row.int("attempted"), row.int("lost")))
        .collect();
    let expected = [
        ("cpu", "none", Some(3), Some(0)),
        ("cpu", "map_full", Some(1), Some(1)),
        ("syscall", "none", Some(2), Some(0)),
        ("tcp", "none", Some(0), Some(0)),
    ];
    assert_eq!(loss, expected);
    assert!(!rows(&sealed.batch, "host").is_empty());
    assert_eq!(aggregator.boundary_us(), 1_700_000_020_000_000);
}

#[test]
fn events_are_batches_of_their_own_with_their_own_ledger() {
    let (_, mut aggregator) = start(None);
    assert!(aggregator.seal_events().unwrap().is_none());
    aggregator.on_event(&Event::Fork(Fork { subject: subject(50, 101 * S_NS), capabilities: 0 })).unwrap();
    let exit = Exit { subject: subject(50, 102 * S_NS), code: 3, signal: 9 };
    aggregator.on_event(&Event::Exit(exit)).unwrap();
    let connection = Connection {
        subject: subject(50, 101 * S_NS),
        event: ConnectionEvent::Open,
        direction: Direction::Connect,
        socket_id: u64::MAX,
        local: "127.0.0.1:1000".parse().unwrap(),
        remote: "[::ffff:10.0.0.1]:443".parse().unwrap(),
        connect_latency_ns: Some(5),
        duration_ns: None,
        sent_bytes: 9,
        received_bytes: 9,
        retransmits: 9,
        segments_sent: 9,
        segments_received: 9,
        srtt_ns: Some(9),
        rtt_min_ns: Some(9),
        reset: None,
        failure: None,
    };
    aggregator.on_event(&Event::Connection(connection)).unwrap();
    let sealed = aggregator.seal_events().unwrap().unwrap();
    assert_eq!(sealed.watched_until_us, None);

    let processes = rows(&sealed.batch, "processes");
    assert_eq!(processes.iter().map(|row| row.text("event").unwrap()).collect::<Vec<_>>(), ["fork", "exit"]);
    assert_eq!(processes[1].int("time"), Some(START_US + 2_000_000));
    assert_eq!((processes[1].int("exit_code"), processes[1].int("exit_signal")), (Some(3), Some(9)));
    assert_eq!(processes[1].int("run_time_ns"), Some((102 * S_NS - 5) as i64));
    let connection = &rows(&sealed.batch, "connections")[0];
    assert_eq!(connection.text("remote_address"), Some("10.0.0.1"));
    assert_eq!((connection.int("socket_id"), connection.int("sent_bytes")), (Some(-1), None));

    let deliveries: Vec<_> =
        sealed.batch.deliveries.iter().map(|delivery| (delivery.probe.as_str(), delivery.delivered)).collect();
    assert_eq!(deliveries, [("exit", 1), ("fork", 1), ("tcp", 1)]);
    assert_eq!(rows(&sealed.batch, "loss").len(), 3);

    // The window states none of them again.
    let probes = vec![ledger("fork", 1, 0), ledger("exit", 1, 0), ledger("tcp", 1, 0)];
    let sealed = aggregator.seal_window(&reading(100, 107, probes)).unwrap();
    assert!(rows(&sealed.batch, "loss").iter().all(|row| row.int("attempted") == Some(0)));
    assert!(aggregator.seal_end().unwrap().is_none());
}

#[test]
fn the_time_nobody_watched_is_a_row_with_start_and_end() {
    let (_, mut aggregator) = start(Some(START_US - 60_000_000));
    let sealed = aggregator.seal_events().unwrap().unwrap();
    assert_eq!(sealed.watched_until_us, Some(START_US), "killed now, the next run tells only what follows");
    let loss = &rows(&sealed.batch, "loss")[0];
    assert_eq!((loss.text("probe"), loss.text("reason")), (Some("agent"), Some("not_watching")));
    assert_eq!((loss.int("time"), loss.int("until")), (Some(START_US - 60_000_000), Some(START_US)));
    assert_eq!((loss.int("attempted"), loss.int("delivered"), loss.int("lost")), (None, None, None));
    let (_, mut first_ever) = start(None);
    assert!(first_ever.seal_events().unwrap().is_none());
}

#[test]
fn a_window_that_could_not_be_read_is_a_row_and_the_next_one_begins() {
    let (_, mut aggregator) = start(None);
    aggregator.on_event(&Event::Fork(Fork { subject: subject(50, 101 * S_NS), capabilities: 0 })).unwrap();
    let sealed = aggregator.seal_unread(107 * S_NS, "no memory".to_owned()).unwrap();
    let loss = rows(&sealed.batch, "loss");
    assert_eq!((loss[0].text("reason"), loss[0].text("detail")), (Some("read_failed"), Some("no memory")));
    assert_eq!((loss[1].text("probe"), loss[1].int("delivered")), (Some("fork"), Some(1)));
    assert!(!rows(&sealed.batch, "host").is_empty(), "else the next window's rates are of two windows");
    assert_eq!(aggregator.boundary_us(), 1_700_000_020_000_000);
}

#[test]
fn lost_run_queue_delays_are_in_the_coverage_of_cpu_rows() {
    let (clock, mut aggregator) = start(None);
    clock.advance_ns(7 * S_NS);
    let probes = vec![ledger("cpu", 4, 0), ledger("run_queue", 1, 1), ledger("syscall", 2, 0)];
    let sealed = aggregator.seal_window(&reading(100, 107, probes)).unwrap();
    assert_eq!(rows(&sealed.batch, "cpu")[0].float("coverage"), Some(0.5));
    assert_eq!(rows(&sealed.batch, "syscalls")[0].float("coverage"), Some(1.0));
}

#[test]
fn a_start_just_before_a_boundary_gives_two_windows_two_stamps() {
    let clock = Clock::manual(100 * S_NS, START_US + 6_700_000);
    let identities = Identities::new(Box::new(Nobody), Cgroups::new(Hierarchies::default(), false), 1000);
    let mut aggregator = Aggregator::start(clock, Duration::from_secs(10), identities, 100 * S_NS, None);
    let mut reading = reading(100, 100, vec![ledger("cpu", 3, 0)]);
    let mut times = Vec::new();
    for (from_ns, until_ns) in
        [(100 * S_NS, 100 * S_NS + 301_000_000), (100 * S_NS + 301_000_000, 110 * S_NS + 302_000_000)]
    {
        (reading.from_ns, reading.until_ns) = (from_ns, until_ns);
        let sealed = aggregator.seal_window(&reading).unwrap();
        times.push(rows(&sealed.batch, "cpu")[0].int("time").unwrap());
    }
    assert_eq!(times, [START_US + 6_700_000, START_US + 7_000_000]);
}

#[test]
fn a_row_of_sockets_says_only_what_is_watched() {
    let (_, mut aggregator) = start(None);
    let mishaps = || vec![ledger("tcp", 0, 0), ledger("retransmit", 6, 0), ledger("reset", 9, 9)];
    let whole = [mishaps(), vec![ledger("socket", 9, 3)]].concat();
    let sealed = aggregator.seal_window(&reading(100, 107, whole)).unwrap();
    let seen = rows(&sealed.batch, "sockets");
    let [tcp, udp, nobody] = seen.as_slice() else { panic!("{} rows", seen.len()) };
    assert_eq!((tcp.text("protocol"), tcp.int("sent_bytes"), tcp.int("retransmits")), (Some("tcp"), Some(10), Some(3)));
    assert_eq!((tcp.int("resets_sent"), tcp.int("resets_received")), (Some(4), Some(5)));
    assert_eq!(tcp.float("coverage"), Some(0.5));
    assert_eq!(
        (udp.text("protocol"), udp.int("received_messages"), udp.int("retransmits")),
        (Some("udp"), Some(2), None)
    );
    assert_eq!(udp.float("coverage"), Some(0.75));
    assert_eq!(
        (nobody.int("pid"), nobody.text("comm"), nobody.text("attribution")),
        (Some(0), Some(""), Some("unknown"))
    );

    let sealed = aggregator.seal_window(&reading(107, 110, mishaps())).unwrap();
    let tcp = &rows(&sealed.batch, "sockets")[0];
    assert_eq!((tcp.int("sent_bytes"), tcp.int("resets_sent")), (None, Some(4)), "a kernel before 6.3");

    let sealed = aggregator.seal_window(&reading(110, 120, vec![ledger("socket", 9, 0)])).unwrap();
    let tcp = &rows(&sealed.batch, "sockets")[0];
    assert_eq!((tcp.int("sent_bytes"), tcp.int("resets_sent"), tcp.float("coverage")), (Some(10), None, Some(1.0)));
}

#[test]
fn the_end_of_a_connection_says_why() {
    let (_, mut aggregator) = start(None);
    let ends = [
        (ConnectionEvent::Close, Some(Reset::Received), Some(Failure::Reset), (Some("received"), Some("reset"))),
        (ConnectionEvent::Close, Some(Reset::Sent), None, (Some("sent"), None)),
        (ConnectionEvent::Fail, None, Some(Failure::TimedOut), (None, Some("timed_out"))),
        (ConnectionEvent::Fail, None, Some(Failure::Errno(13)), (None, Some("errno_13"))),
        (ConnectionEvent::Listen, None, None, (None, None)),
    ];
    for (event, reset, failure, _) in ends {
        let connection = Connection {
            subject: subject(0, 101 * S_NS),
            event,
            direction: Direction::Unknown,
            socket_id: 1,
            local: "127.0.0.1:1000".parse().unwrap(),
            remote: "10.0.0.1:443".parse().unwrap(),
            connect_latency_ns: None,
            duration_ns: None,
            sent_bytes: 9,
            received_bytes: 9,
            retransmits: 9,
            segments_sent: 7,
            segments_received: 8,
            srtt_ns: Some(50_000),
            rtt_min_ns: None,
            reset,
            failure,
        };
        aggregator.on_event(&Event::Connection(connection)).unwrap();
    }
    let sealed = aggregator.seal_events().unwrap().unwrap();
    let seen = rows(&sealed.batch, "connections");
    for (row, (event, .., expected)) in seen.iter().zip(ends) {
        assert_eq!((row.text("reset"), row.text("failure")), expected);
        let is_end = event != ConnectionEvent::Listen;
        assert_eq!((row.int("segments_sent"), row.int("srtt_ns")), (is_end.then_some(7), is_end.then_some(50_000)));
        assert_eq!((row.int("rtt_min_ns"), row.text("attribution")), (None, Some("unknown")));
    }
    assert_eq!(seen[4].text("event"), Some("listen"));
}
