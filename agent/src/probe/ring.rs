//! Records of the ring buffer, made into events.

use std::{
    mem::size_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use skep_common::{
    event::{
        CgroupRecord, ConnectionRecord, ExecRecord, ExitRecord, ForkRecord, Header, NO_DURATION, NO_ID, SecurityRecord,
        SubjectRecord, cgroup, connection, direction, kind, reset, security,
    },
    exec_flag,
    ledger::probe,
    plain,
};

use super::reading::{
    CgroupChange, CgroupEvent, Connection, ConnectionEvent, Direction, Event, Exec, Exit, Failure, Fork, ProcessKey,
    Reset, Security, SecurityEvent, Subject,
};

const AF_INET: u16 = 2;

/// An event and where it is counted.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) event: Event,
    /// Index of [`probe`].
    pub(super) probe: usize,
    /// Where it is counted.
    pub(super) cpu: u32,
    /// Low half of the epoch.
    pub(super) epoch: u32,
}

/// Makes a record into an event; `None` when it is not one this agent knows.
pub(super) fn decode(bytes: &[u8]) -> Option<Decoded> {
    let header: Header = plain::read(bytes)?;
    let (event, probe) = match header.kind {
        kind::FORK => (Event::Fork(fork(bytes)?), probe::FORK),
        kind::EXEC => (Event::Exec(Box::new(exec(bytes)?)), probe::EXEC),
        kind::EXIT => (Event::Exit(exit(bytes)?), probe::EXIT),
        kind::SECURITY => (Event::Security(Box::new(security(bytes)?)), probe::SECURITY),
        kind::CONNECTION => (Event::Connection(connection(bytes)?), probe::TCP),
        kind::CGROUP => (Event::Cgroup(cgroup_event(bytes)?), probe::CGROUP),
        _ => return None,
    };
    Some(Decoded { event, probe, cpu: u32::from(header.cpu), epoch: header.epoch })
}

fn fork(bytes: &[u8]) -> Option<Fork> {
    let record: ForkRecord = plain::read(bytes)?;
    Some(Fork { subject: subject(record.header, &record.subject), capabilities: record.capabilities })
}

fn exit(bytes: &[u8]) -> Option<Exit> {
    let record: ExitRecord = plain::read(bytes)?;
    Some(Exit {
        subject: subject(record.header, &record.subject),
        code: (record.status >> 8 & 0xff) as i32,
        signal: (record.status & 0x7f) as i32,
    })
}

fn exec(bytes: &[u8]) -> Option<Exec> {
    let record: ExecRecord = plain::read(bytes)?;
    let mut rest = bytes.get(size_of::<ExecRecord>()..)?;
    let mut text = |length: u32| {
        let (text, behind) = rest.split_at_checked(length as usize)?;
        rest = behind;
        Some(text)
    };
    let (argv, filename) = (text(record.argv_len)?, text(record.filename_len)?);
    let interpreter = text(record.interpreter_len)?;
    let (exe, cwd) = (text(record.exe_len)?, text(record.cwd_len)?);
    Some(Exec {
        subject: subject(record.header, &record.subject),
        filename: until_zero(filename).to_vec(),
        exe: path(exe, record.flags & exec_flag::EXE_TRUNCATED != 0),
        exe_inode: record.inode,
        argv: arguments(argv),
        argv_truncated: record.flags & exec_flag::ARGV_TRUNCATED != 0,
        cwd: path(cwd, record.flags & exec_flag::CWD_TRUNCATED != 0),
        interpreter: until_zero(interpreter).to_vec(),
        capabilities: record.capabilities,
        terminal: terminal(until_zero(&record.terminal)),
        login_uid: (record.login_uid != NO_ID).then_some(record.login_uid),
        session: (record.session != NO_ID).then_some(record.session),
        stream_inodes: record.stream_inodes.map(|inode| (inode != 0).then_some(inode)),
        flags: record.flags,
    })
}

fn until_zero(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The kernel calls a terminal `pts0` whose file is `pts/0`.
fn terminal(name: &[u8]) -> Vec<u8> {
    match name.strip_prefix(b"pts") {
        Some(number) if number.iter().all(u8::is_ascii_digit) && !number.is_empty() => [b"pts/", number].concat(),
        _ => name.to_vec(),
    }
}

/// Arguments, each ended by a zero byte; an empty one counts. The last may have been cut short.
fn arguments(text: &[u8]) -> Vec<Vec<u8>> {
    if text.is_empty() {
        return Vec::new();
    }
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// Turns names from the last to the first into a path; one whose beginning is missing begins with `...`.
fn path(names: &[u8], truncated: bool) -> Vec<u8> {
    let mut path = if truncated { b"...".to_vec() } else { Vec::with_capacity(names.len() + 1) };
    let names = names.strip_suffix(&[0]).unwrap_or(names);
    for name in names.split(|byte| *byte == 0).rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

fn security(bytes: &[u8]) -> Option<Security> {
    let record: SecurityRecord = plain::read(bytes)?;
    let text = until_zero(&record.text).to_vec();
    let [first, second, ..] = record.values;
    let pair = |value: u64| ((value >> 32) as u32, value as u32);
    let [uid, euid, gid, egid, before, after] = record.values;
    let event = match record.event {
        security::OOM_KILL => SecurityEvent::OomKill { wanted_by: record.target, comm: text },
        security::MODULE_LOAD => SecurityEvent::ModuleLoad { name: text, taints: first },
        security::CREDENTIALS => SecurityEvent::Credentials {
            nr: record.target,
            ids: [pair(uid), pair(euid), pair(gid), pair(egid)],
            capabilities: (before, after),
        },
        security::PTRACE => SecurityEvent::Ptrace { target: record.target, request: first },
        security::BPF => SecurityEvent::Bpf { command: first, kind: second, name: text },
        security::IO_URING_SETUP => SecurityEvent::IoUringSetup { entries: first, flags: second },
        _ => return None,
    };
    let is_call = !matches!(record.event, security::OOM_KILL | security::MODULE_LOAD);
    Some(Security { subject: subject(record.header, &record.subject), event, result: is_call.then_some(record.result) })
}

fn connection(bytes: &[u8]) -> Option<Connection> {
    let record: ConnectionRecord = plain::read(bytes)?;
    Some(Connection {
        subject: subject(record.header, &record.subject),
        event: match record.event {
            connection::OPEN => ConnectionEvent::Open,
            connection::FAIL => ConnectionEvent::Fail,
            connection::CLOSE => ConnectionEvent::Close,
            connection::LISTEN => ConnectionEvent::Listen,
            connection::UNLISTEN => ConnectionEvent::Unlisten,
            _ => return None,
        },
        direction: match record.direction {
            direction::CONNECT => Direction::Connect,
            direction::ACCEPT => Direction::Accept,
            direction::LISTEN => Direction::Listen,
            _ => Direction::Unknown,
        },
        socket_id: record.socket_id,
        local: SocketAddr::new(address(record.family, record.local), record.local_port),
        remote: SocketAddr::new(address(record.family, record.remote), record.remote_port),
        connect_latency_ns: duration(record.connect_ns),
        duration_ns: duration(record.duration_ns),
        sent_bytes: record.sent_bytes,
        received_bytes: record.received_bytes,
        retransmits: u64::from(record.retransmits),
        segments_sent: u64::from(record.segments_sent),
        segments_received: u64::from(record.segments_received),
        srtt_ns: (record.srtt_eighths_us != 0).then(|| u64::from(record.srtt_eighths_us) * 1_000 / 8),
        rtt_min_ns: (record.rtt_min_us != u32::MAX).then(|| u64::from(record.rtt_min_us) * 1_000),
        reset: match record.reset {
            reset::SENT => Some(Reset::Sent),
            reset::RECEIVED => Some(Reset::Received),
            _ => None,
        },
        failure: failure(&record),
    })
}

fn cgroup_event(bytes: &[u8]) -> Option<CgroupEvent> {
    let record: CgroupRecord = plain::read(bytes)?;
    let path = bytes.get(size_of::<CgroupRecord>()..)?.get(..record.path_len as usize)?;
    Some(CgroupEvent {
        cpu: u32::from(record.header.cpu),
        at_ns: record.at_ns,
        change: match record.change {
            cgroup::MADE => CgroupChange::Made,
            cgroup::REMOVED => CgroupChange::Removed,
            cgroup::JOINED => CgroupChange::Joined(ProcessKey { pid: record.tgid, start_ns: record.start_ns }),
            _ => return None,
        },
        hierarchy: record.hierarchy,
        id: record.id,
        path: path.strip_suffix(&[0]).unwrap_or(path).to_vec(),
    })
}

/// What the socket's error says of its end.
fn failure(record: &ConnectionRecord) -> Option<Failure> {
    let error = record.error.cast_signed();
    match (record.event, error) {
        (connection::FAIL, 0) => Some(Failure::Abandoned),
        (connection::FAIL | connection::CLOSE, 1..) => Some(match error {
            libc::ECONNREFUSED => Failure::Refused,
            libc::ETIMEDOUT => Failure::TimedOut,
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN => Failure::Unreachable,
            libc::ECONNRESET => Failure::Reset,
            // What is sent to an end that closed and then broke off.
            libc::EPIPE if record.reset == reset::RECEIVED => Failure::Reset,
            _ => Failure::Errno(record.error),
        }),
        _ => None,
    }
}

/// An IPv4 address in an IPv6 socket is an IPv4 address.
fn address(family: u16, bytes: [u8; 16]) -> IpAddr {
    if family == AF_INET {
        let [a, b, c, d, ..] = bytes;
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

fn duration(ns: u64) -> Option<u64> {
    (ns != NO_DURATION).then_some(ns)
}

fn subject(header: Header, record: &SubjectRecord) -> Subject {
    Subject {
        cpu: u32::from(header.cpu),
        at_ns: record.at_ns,
        process: ProcessKey { pid: record.tgid, start_ns: record.start_ns },
        parent: ProcessKey { pid: record.parent_tgid, start_ns: record.parent_start_ns },
        comm: record.comm,
        cgroup_id: record.cgroup_id,
        uid: record.uid,
        gid: record.gid,
        effective_uid: record.euid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_arguments_count() {
        assert_eq!(arguments(b"a\0\0b\0"), [&b"a"[..], b"", b"b"]);
        assert_eq!(arguments(b"\0"), [b""]);
        assert_eq!(arguments(b"\0\0"), [b"", b""]);
        assert_eq!(arguments(b""), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn an_argument_cut_short_is_kept() {
        assert_eq!(arguments(b"a\0bcd"), [&b"a"[..], b"bcd"]);
    }

    #[test]
    fn names_are_turned_round() {
        assert_eq!(path(b"sh\0bin\0", false), b"/bin/sh");
        assert_eq!(path(b"", false), b"/");
        assert_eq!(path(b"c\0b\0", true), b".../b/c");
    }

    #[test]
    fn terminals_are_called_as_their_files() {
        assert_eq!(terminal(b"pts12"), b"pts/12");
        assert_eq!(terminal(b"ttyS0"), b"ttyS0");
        assert_eq!(terminal(b""), b"");
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
        assert_eq!(address(10, mapped), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn unknown_and_short_records_are_refused() {
        assert!(decode(&[]).is_none());
        assert!(decode(&[1, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(decode(&[0xff; 256]).is_none());
    }
}
