//! TCP connections: owners, bytes, failures.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use skep_agent::probe::{
    Event, ProbeOptions,
    reading::{Connection, ConnectionEvent, Direction},
};

use crate::support::Watch;

pub(crate) fn closes(events: &[Event], port: u16) -> usize {
    let of_port = |event: &&Event| matches!(event, Event::Connection(connection) if connection.event == ConnectionEvent::Close && touches(connection, port));
    events.iter().filter(of_port).count()
}

pub(crate) fn touches(connection: &Connection, port: u16) -> bool {
    connection.local.port() == port || connection.remote.port() == port
}

/// `there` bytes to the server and `back` bytes to the caller; whoever `caller_first` says closes first.
fn exchange(listener: &TcpListener, there: usize, back: usize, caller_first: bool) {
    let address = listener.local_addr().expect("bound");
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            stream.read_exact(&mut vec![0; there]).expect("request");
            stream.write_all(&vec![1; back]).expect("response");
            if caller_first {
                stream.read_to_end(&mut Vec::new()).expect("end");
            }
        });
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(&vec![2; there]).expect("request");
        stream.read_exact(&mut vec![0; back]).expect("response");
        if !caller_first {
            stream.read_to_end(&mut Vec::new()).expect("end");
        }
        drop(stream);
        server.join().expect("served");
    });
}

fn check_both_ends(address: &str, mut watch: Watch) {
    let listener = TcpListener::bind(address).expect("bound");
    let bound = listener.local_addr().expect("bound");
    const ROUNDS: usize = 40;
    for i in 0..ROUNDS {
        exchange(&listener, 1_000 + 17 * i, 100_000 + 1_001 * i, i % 2 == 0);
    }
    watch.until(|events| closes(events, bound.port()) >= 2 * ROUNDS);
    watch.flip();

    for (event, expected) in
        [(ConnectionEvent::Open, ROUNDS), (ConnectionEvent::Close, ROUNDS), (ConnectionEvent::Fail, 0)]
    {
        for direction in [Direction::Connect, Direction::Accept] {
            let of = |c: &Connection| touches(c, bound.port()) && c.event == event && c.direction == direction;
            assert_eq!(watch.connections(of).len(), expected, "{event:?} {direction:?}");
        }
    }
    for direction in [Direction::Connect, Direction::Accept] {
        let closed = watch
            .connections(|c| touches(c, bound.port()) && c.event == ConnectionEvent::Close && c.direction == direction);
        let mut bytes: Vec<_> = closed.iter().map(|c| (c.sent_bytes, c.received_bytes)).collect();
        bytes.sort_unstable();
        let expected: Vec<_> = (0..ROUNDS as u64)
            .map(|i| (1_000 + 17 * i, 100_000 + 1_001 * i))
            .map(|(there, back)| if direction == Direction::Connect { (there, back) } else { (back, there) })
            .collect();
        assert_eq!(bytes, expected, "{direction:?}");
        for close in closed {
            assert_eq!(close.subject.process.pid, std::process::id());
            assert!(close.duration_ns.is_some_and(|ns| ns > 0));
            assert_eq!(close.connect_latency_ns.is_some(), direction == Direction::Connect);
            let server_end = if direction == Direction::Connect { close.remote } else { close.local };
            assert_eq!(server_end, bound);
            let of_it = watch.connections(|c| c.socket_id == close.socket_id);
            assert_eq!(of_it.len(), 2, "one open and one close to a socket");
        }
    }
    watch.assert_balanced();
}

#[test]
fn both_ends_of_ipv4_connections_count_every_byte() {
    check_both_ends("127.0.0.1:0", Watch::start(&ProbeOptions::default()));
}

#[test]
fn both_ends_of_ipv6_connections_count_every_byte() {
    check_both_ends("[::1]:0", Watch::start(&ProbeOptions::default()));
}

/// Without system calls who accepts is known when the connection is used: no program runs at system calls.
#[test]
fn connections_alone_are_as_exact_and_cost_no_system_call() {
    let off = ProbeOptions { cpu: false, syscall: false, socket: false, process: false, ..ProbeOptions::default() };
    let only = ProbeOptions { security: false, block: false, ..off };
    let watch = Watch::of_some(&only);
    assert!(watch.hooks().iter().all(|hook| !hook.starts_with("sys_")), "{:?}", watch.hooks());
    check_both_ends("127.0.0.1:0", watch);
}

#[test]
fn a_refused_connection_fails() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    TcpStream::connect(address).expect_err("nobody listens");
    let failed = |event: &Event| matches!(event, Event::Connection(c) if c.event == ConnectionEvent::Fail && c.remote == address);
    watch.until(|events| events.iter().any(failed));
    watch.flip();
    let seen = watch.connections(|c| touches(c, address.port()) && c.direction != Direction::Listen);
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].direction, seen[0].subject.process.pid), (Direction::Connect, std::process::id()));
    watch.assert_balanced();
}

/// A socket that was there before the probes: nobody knows who called, but its owner closes it.
#[test]
fn an_older_connection_has_no_direction() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let caller = TcpStream::connect(address).expect("connected");
    let (served, _) = listener.accept().expect("accepted");
    let mut watch = Watch::start(&ProbeOptions::default());
    drop(caller);
    drop(served);
    watch.until(|events| closes(events, address.port()) >= 2);
    watch.flip();
    for close in watch.connections(|c| touches(c, address.port())) {
        assert_eq!((close.event, close.direction), (ConnectionEvent::Close, Direction::Unknown));
        assert_eq!((close.duration_ns, close.subject.process.pid), (None, std::process::id()));
    }
    watch.assert_balanced();
}

/// Nobody accepts it before the caller is gone: still one opening and one end, of nobody.
#[test]
fn a_connection_nobody_accepts_is_still_seen() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let caller = TcpStream::connect(address).expect("connected");
    drop(listener);
    drop(caller);
    watch.until(|events| closes(events, address.port()) >= 2);
    watch.flip();
    let accepted = watch.connections(|c| touches(c, address.port()) && c.direction == Direction::Accept);
    let events: Vec<_> = accepted.iter().map(|c| c.event).collect();
    assert_eq!(events, [ConnectionEvent::Open, ConnectionEvent::Close]);
    watch.assert_balanced();
}

#[test]
fn a_socket_that_listens_is_told_of_with_its_end() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let listener = TcpListener::bind("[::1]:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let is_end = |event: &Event| matches!(event, Event::Connection(c) if c.event == ConnectionEvent::Unlisten && c.local == address);
    watch.until(|events| events.iter().any(is_end));
    let seen = watch.connections(|c| c.local == address);
    let events: Vec<_> = seen.iter().map(|c| c.event).collect();
    assert_eq!(events, [ConnectionEvent::Listen, ConnectionEvent::Unlisten]);
    for c in &seen {
        assert_eq!((c.direction, c.subject.process.pid), (Direction::Listen, std::process::id()));
        assert_eq!(c.socket_id, seen[0].socket_id);
    }
    assert_eq!((seen[0].duration_ns, seen[1].duration_ns.is_some()), (None, true));
    watch.flip();
    watch.assert_balanced();
}

/// Its end is told of all the same.
#[test]
fn a_socket_that_listened_before_has_no_beginning() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let mut watch = Watch::start(&ProbeOptions::default());
    drop(listener);
    watch.until(|events| events.iter().any(|event| matches!(event, Event::Connection(c) if c.local == address)));
    let seen = watch.connections(|c| c.local == address);
    assert_eq!((seen.len(), seen[0].event, seen[0].duration_ns), (1, ConnectionEvent::Unlisten, None));
    assert_eq!(seen[0].subject.process.pid, std::process::id());
    watch.flip();
    watch.assert_balanced();
}
