//! What goes wrong with connections: resets, retransmissions, and why a connection was never made.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::Command,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use skep_agent::probe::{
    Event, ProbeOptions,
    reading::{Connection, ConnectionEvent, Direction, Failure, Protocol, Reset},
};

use crate::{
    socket_option as option,
    support::Watch,
    tcp::{closes, touches},
};

struct Line {
    caller: TcpStream,
    served: TcpStream,
    port: u16,
}

impl Line {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let caller = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (served, _) = listener.accept().expect("accepted");
        let port = caller.local_addr().expect("bound").port();
        Self { caller, served, port }
    }
}

/// Both ends of a connection, the caller's first.
fn ends(watch: &Watch, port: u16) -> [Connection; 2] {
    let of = |direction| {
        let seen =
            watch.connections(|c| touches(c, port) && c.event == ConnectionEvent::Close && c.direction == direction);
        assert_eq!(seen.len(), 1, "{direction:?}");
        seen[0].clone()
    };
    [of(Direction::Connect), of(Direction::Accept)]
}

fn check_break(break_off: impl FnOnce(Line)) {
    let mut watch = Watch::start(&ProbeOptions::default());
    let line = Line::open();
    let port = line.port;
    break_off(line);
    watch.until(|events| closes(events, port) >= 2);
    watch.flip();
    let [caller, served] = ends(&watch, port);
    assert_eq!((caller.reset, caller.failure), (Some(Reset::Sent), None));
    assert_eq!((served.reset, served.failure), (Some(Reset::Received), Some(Failure::Reset)));
    for end in [caller, served] {
        assert_eq!(end.subject.process.pid, std::process::id());
    }
    let seen = watch.traffic(std::process::id(), Protocol::Tcp);
    assert_eq!((seen.resets_sent, seen.resets_received), (1, 1));
    watch.assert_balanced();
}

#[test]
fn a_connection_broken_off_was_reset_by_one_end() {
    check_break(|line| {
        option::break_off_on_close(&line.caller);
        drop(line.caller);
        // Only now, so that the other end is the one to hear of it.
        drop(line.served);
    });
}

#[test]
fn closing_with_something_unread_breaks_off() {
    check_break(|mut line| {
        line.served.write_all(b"never read").expect("sent");
        line.caller.peek(&mut [0; 1]).expect("it came");
        drop(line.caller);
        drop(line.served);
    });
}

#[test]
fn closing_half_with_something_unread_breaks_off() {
    check_break(|mut line| {
        line.caller.shutdown(std::net::Shutdown::Write).expect("shut");
        assert_eq!(line.served.read(&mut [0; 1]).expect("the end"), 0);
        line.served.write_all(b"never read").expect("sent");
        line.caller.peek(&mut [0; 1]).expect("it came");
        drop(line.caller);
        drop(line.served);
    });
}

/// Nobody knows its direction, but its end says what happened and who did it.
#[test]
fn an_older_connection_broken_off_says_so() {
    let line = Line::open();
    let mut watch = Watch::start(&ProbeOptions::default());
    let port = line.port;
    option::break_off_on_close(&line.caller);
    drop(line.caller);
    drop(line.served);
    watch.until(|events| closes(events, port) >= 2);
    watch.flip();
    let mut seen: Vec<_> = watch.connections(|c| touches(c, port)).iter().map(|c| (c.reset, c.failure)).collect();
    seen.sort_unstable_by_key(|(reset, _)| *reset == Some(Reset::Received));
    assert_eq!(seen, [(Some(Reset::Sent), None), (Some(Reset::Received), Some(Failure::Reset))]);
    let mine = watch.traffic(std::process::id(), Protocol::Tcp);
    assert_eq!((mine.resets_sent, mine.resets_received), (1, 0));
    assert_eq!(watch.traffic(0, Protocol::Tcp).resets_received, 1, "nobody knows whose the other end was");
    watch.assert_balanced();
}

#[test]
fn a_quiet_end_is_no_reset_and_its_round_trips_are_known() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut line = Line::open();
    for _ in 0..20 {
        line.caller.write_all(&[1; 100]).expect("sent");
        line.served.read_exact(&mut [0; 100]).expect("received");
        line.served.write_all(&[2; 100]).expect("sent");
        line.caller.read_exact(&mut [0; 100]).expect("received");
    }
    let port = line.port;
    drop(line.caller);
    drop(line.served);
    watch.until(|events| closes(events, port) >= 2);
    watch.flip();
    for end in ends(&watch, port) {
        assert_eq!((end.reset, end.failure, end.retransmits), (None, None, 0));
        let (srtt_ns, least_ns) = (end.srtt_ns.expect("measured"), end.rtt_min_ns.expect("measured"));
        assert!(least_ns <= srtt_ns && srtt_ns < 1_000_000_000, "{least_ns} {srtt_ns}");
        assert!(end.segments_sent >= 20 && end.segments_received >= 20, "{end:?}");
    }
    watch.assert_balanced();
}

/// The only failure there is, of whatever ended on a port.
fn failure(watch: &mut Watch, matches: impl Fn(&Connection) -> bool) -> Connection {
    let is_it = |c: &Connection| c.event == ConnectionEvent::Fail && matches(c);
    watch.until(|events| events.iter().any(|event| matches!(event, Event::Connection(c) if is_it(c))));
    watch.flip();
    let seen = watch.connections(is_it);
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].direction, seen[0].srtt_ns), (Direction::Connect, None));
    seen[0].clone()
}

#[test]
fn nobody_listens_is_refused() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let nobody = watch.traffic(0, Protocol::Tcp).resets_sent;
    TcpStream::connect(address).expect_err("nobody listens");
    let failed = failure(&mut watch, |c| c.remote == address);
    assert_eq!((failed.failure, failed.reset), (Some(Failure::Refused), Some(Reset::Received)));
    assert_eq!(watch.traffic(std::process::id(), Protocol::Tcp).resets_received, 1);
    assert!(watch.traffic(0, Protocol::Tcp).resets_sent > nobody, "the refusal is nobody's");
    watch.assert_balanced();
}

/// A listener that hears no one.
fn deaf() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    option::deafen(&listener);
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

#[test]
fn no_answer_times_out_after_asking_again() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let (_deaf, address) = deaf();
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::empty(), None).expect("a socket");
    option::ask_again(&socket, 1);
    connect(&socket, &address).expect_err("nobody answers");
    let failed = failure(&mut watch, |c| c.remote == address);
    assert_eq!((failed.failure, failed.reset), (Some(Failure::TimedOut), None));
    // Newer kernels ask some times more than they are told to.
    assert!(failed.retransmits >= 1, "{failed:?}");
    assert_eq!(watch.traffic(std::process::id(), Protocol::Tcp).retransmits, failed.retransmits);
    watch.assert_balanced();
}

#[test]
fn an_answer_not_waited_for_is_abandoned() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let (_deaf, address) = deaf();
    let socket: OwnedFd =
        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).expect("a socket");
    connect(&socket, &address).expect_err("it is under way");
    drop(socket);
    let failed = failure(&mut watch, |c| c.remote == address);
    assert_eq!((failed.failure, failed.reset), (Some(Failure::Abandoned), None));
    watch.assert_balanced();
}

/// In a network of its own whose only neighbour does not answer: the host itself says that there is no way.
#[test]
fn no_way_there_is_unreachable() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let address: SocketAddr = "10.99.0.2:80".parse().expect("an address");
    let script = "ip link set lo up && ip link add here type veth peer name there && ip addr add 10.99.0.1/24 dev here && \
        ip link set here up && ip link set there up && exec 3<> /dev/tcp/10.99.0.2/80";
    let tried = Command::new("unshare").args(["--net", "bash", "-c", script]).output().expect("unshare runs");
    let said = String::from_utf8_lossy(&tried.stderr);
    assert!(said.contains("No route to host"), "{said}");
    let failed = failure(&mut watch, |c| c.remote == address);
    assert_eq!((failed.failure, failed.reset), (Some(Failure::Unreachable), None));
    watch.assert_balanced();
}

#[test]
fn what_is_sent_again_is_counted_as_the_kernel_counts_it() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let mut line = Line::open();
    let mut counted = 0;
    for round in 1..=3_u64 {
        option::deafen(&line.served);
        for _ in 0..5 {
            line.caller.write_all(&[3; 10_000]).expect("sent");
        }
        while option::retransmits(&line.caller) < counted + round {
            std::thread::sleep(Duration::from_millis(20));
        }
        option::undeafen(&line.served);
        line.served.read_exact(&mut vec![0; 50_000]).expect("received");
        counted = option::retransmits(&line.caller);
    }
    let port = line.port;
    drop(line.caller);
    drop(line.served);
    watch.until(|events| closes(events, port) >= 2);
    watch.flip();
    let [caller, served] = ends(&watch, port);
    assert_eq!((caller.retransmits, served.retransmits), (counted, 0));
    assert_eq!((caller.sent_bytes, served.received_bytes), (150_000, 150_000));
    assert_eq!(watch.traffic(std::process::id(), Protocol::Tcp).retransmits, counted);
    assert!(watch.account("retransmit").1 >= counted, "those of the rest of the host come on top");
    watch.assert_balanced();
}
