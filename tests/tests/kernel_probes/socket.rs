//! Bytes and messages of TCP and UDP, to the last one, whatever way they go.

use std::{
    io::{IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
};

use rustix::{
    fs::sendfile,
    net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg},
    pipe::{SpliceFlags, pipe, splice},
};
use skep_agent::probe::{ProbeOptions, reading::Protocol};

use crate::support::{Traffic, Watch};

fn pair(address: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).expect("bound");
    let caller = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (served, _) = listener.accept().expect("accepted");
    (caller, served)
}

/// Takes `bytes` in; says in how many calls.
fn drain(stream: &mut TcpStream, mut bytes: usize) -> u64 {
    let mut calls = 0;
    let mut room = vec![0; 3_000];
    while bytes > 0 {
        let most = bytes.min(room.len());
        let count = stream.read(&mut room[..most]).expect("read");
        assert_ne!(count, 0, "closed too early");
        bytes -= count;
        calls += 1;
    }
    calls
}

fn check_streams(address: &str) {
    let mut watch = Watch::start(&ProbeOptions::default());
    let (mut caller, mut served) = pair(address);
    let mut expected = Traffic::default();
    for i in 0..500_usize {
        let message = vec![7; 1 + 13 * i];
        caller.write_all(&message).expect("sent");
        expected.sent_bytes += message.len() as u64;
        expected.sent_messages += 1;
        expected.received_messages += drain(&mut served, message.len());
    }
    expected.received_bytes = expected.sent_bytes;

    // None of these moves anything.
    served.set_nonblocking(true).expect("set");
    served.read(&mut [0; 1]).expect_err("there is nothing");
    served.set_nonblocking(false).expect("set");
    caller.write_all(b"last").expect("sent");
    assert_eq!(served.peek(&mut [0; 9]).expect("peeked"), 4);
    caller.shutdown(std::net::Shutdown::Write).expect("shut");
    expected.received_messages += drain(&mut served, 4);
    assert_eq!(served.read(&mut [0; 1]).expect("the end"), 0);
    expected.sent_bytes += 4;
    expected.received_bytes += 4;
    expected.sent_messages += 1;
    drop((caller, served));

    watch.flip();
    assert_eq!(watch.traffic(std::process::id(), Protocol::Tcp), expected);
    assert_eq!(watch.traffic(std::process::id(), Protocol::Udp), Traffic::default());
    watch.assert_balanced();
}

#[test]
fn streams_over_ipv4_count_every_byte_and_call() {
    check_streams("127.0.0.1:0");
}

#[test]
fn streams_over_ipv6_count_every_byte_and_call() {
    check_streams("[::1]:0");
}

fn check_datagrams(address: &str) {
    let mut watch = Watch::start(&ProbeOptions::default());
    let (one, other) = (UdpSocket::bind(address).expect("bound"), UdpSocket::bind(address).expect("bound"));
    let there = other.local_addr().expect("bound");
    let mut expected = Traffic::default();
    let mut room = vec![0; 4_096];
    for length in (0..1_000).map(|i| i * 3) {
        one.send_to(&vec![1; length], there).expect("sent");
        expected.sent_bytes += length as u64;
        if length % 2 == 0 {
            assert_eq!(other.peek(&mut room).expect("peeked"), length);
        }
        assert_eq!(other.recv(&mut room).expect("received"), length);
    }
    expected.received_bytes = expected.sent_bytes;
    (expected.sent_messages, expected.received_messages) = (1_000, 1_000);

    // Too long for a datagram, and nothing to receive.
    one.send_to(&vec![0; 70_000], there).expect_err("too long");
    other.set_nonblocking(true).expect("set");
    other.recv(&mut room).expect_err("there is nothing");

    // What does not fit is cut off: the call returned three bytes.
    one.send_to(b"cut off", there).expect("sent");
    assert_eq!(other.recv(&mut room[..3]).expect("received"), 3);
    expected.sent_bytes += 7;
    expected.received_bytes += 3;
    expected.sent_messages += 1;
    expected.received_messages += 1;

    watch.flip();
    assert_eq!(watch.traffic(std::process::id(), Protocol::Udp), expected);
    assert_eq!(watch.traffic(std::process::id(), Protocol::Tcp), Traffic::default());
    watch.assert_balanced();
}

#[test]
fn datagrams_over_ipv4_count_the_empty_ones_too() {
    check_datagrams("127.0.0.1:0");
}

#[test]
fn datagrams_over_ipv6_count_the_empty_ones_too() {
    check_datagrams("[::1]:0");
}

#[test]
fn messages_in_parts_are_one_message() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let (caller, served) = pair("127.0.0.1:0");
    for _ in 0..100 {
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b"cde")];
        let sent = sendmsg(&caller, &parts, &mut SendAncillaryBuffer::default(), SendFlags::empty()).expect("sent");
        let (mut one, mut other) = ([0; 2], [0; 3]);
        let mut room = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
        let received = recvmsg(&served, &mut room, &mut RecvAncillaryBuffer::default(), RecvFlags::WAITALL);
        assert_eq!((sent, received.expect("received").bytes), (5, 5));
    }
    watch.flip();
    let expected = Traffic {
        sent_bytes: 500,
        received_bytes: 500,
        sent_messages: 100,
        received_messages: 100,
        ..Traffic::default()
    };
    assert_eq!(watch.traffic(std::process::id(), Protocol::Tcp), expected);
    watch.assert_balanced();
}

/// A file and a pipe into a socket pass the hook. Out of a socket into a pipe does not: those bytes are in the
/// connection's count alone.
#[test]
fn sendfile_and_splice_into_a_socket_are_sends() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let (caller, mut served) = pair("127.0.0.1:0");
    let port = caller.local_addr().expect("bound").port();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&[5; 10_000]).expect("written");
    file.seek(SeekFrom::Start(0)).expect("rewound");
    assert_eq!(sendfile(&caller, &file, None, 10_000).expect("sent"), 10_000);
    let mut received_messages = drain(&mut served, 10_000);

    let (out, into) = pipe().expect("a pipe");
    rustix::io::write(&into, &[6; 2_000]).expect("written");
    assert_eq!(splice(&out, None, &caller, None, 2_000, SpliceFlags::empty()).expect("spliced"), 2_000);
    received_messages += drain(&mut served, 2_000);

    rustix::io::write(&caller, &[8; 300]).expect("written");
    assert_eq!(splice(&served, None, &into, None, 300, SpliceFlags::empty()).expect("spliced"), 300);
    drop((caller, served));
    watch.until(|events| crate::tcp::closes(events, port) >= 2);
    watch.flip();

    let seen = watch.traffic(std::process::id(), Protocol::Tcp);
    assert_eq!((seen.sent_bytes, seen.received_bytes, seen.received_messages), (12_300, 12_000, received_messages));
    let of_it = watch.connections(|c| c.remote.port() == port);
    assert_eq!(of_it.iter().map(|c| c.received_bytes).max(), Some(12_300));
    watch.assert_balanced();
}

/// More processes than the CPUs keep lines for, and a map without room: what does not fit is counted as lost.
#[test]
fn processes_that_find_no_room_are_lost_by_number() {
    let options = ProbeOptions { traffic_entries: 4, ..ProbeOptions::default() };
    let mut watch = Watch::start(&options);
    let script = "for ((i = 0; i < 800; i++)); do (echo x > /dev/udp/127.0.0.1/9) 2>/dev/null; done";
    let mut child = Command::new("/bin/bash").args(["-c", script]).spawn().expect("bash starts");
    child.wait().expect("it ends");
    watch.flip();
    watch.assert_balanced();
    let (attempted, delivered) = watch.account("socket");
    assert!(attempted >= 800, "{attempted}");
    assert!(delivered < attempted, "nothing was lost");
    let rows = watch.readings.iter().flat_map(|reading| &reading.sockets);
    assert_eq!(rows.map(|row| row.sent_messages + row.received_messages).sum::<u64>(), delivered);
}

#[test]
fn sockets_can_be_switched_off() {
    let mut watch = Watch::of_some(&ProbeOptions { socket: false, ..ProbeOptions::default() });
    let one = UdpSocket::bind("127.0.0.1:0").expect("bound");
    one.send_to(b"x", one.local_addr().expect("bound")).expect("sent");
    let (mut caller, _served) = pair("127.0.0.1:0");
    caller.write_all(b"x").expect("sent");
    watch.flip();
    assert_eq!(watch.traffic(std::process::id(), Protocol::Udp), Traffic::default());
    assert_eq!(watch.traffic(std::process::id(), Protocol::Tcp), Traffic::default());
    assert!(watch.ledger().all(|row| row.probe != "socket"), "a probe that is off has no ledger");
}
