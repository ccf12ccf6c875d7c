//! TCP connections: opened, failed, closed.
//!
//! The owner of a connection is the process that called `connect`, or the one whose `accept` returned it. For a socket
//! that was there before the probes, it is the process that closed it.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel, macros::map, maps::HashMap};
use skep_common::{
    event::{ConnectionRecord, NO_DURATION, SubjectRecord, connection, direction, kind},
    ledger::probe,
    limit,
};

use crate::{
    here::Here,
    hook::Arguments,
    kernel::{self, Address},
    ring,
    subject::{self, NOBODY},
};

/// An open socket.
#[derive(Clone, Copy)]
#[repr(C)]
struct Connection {
    owner: SubjectRecord,
    id: u64,
    /// First SYN; 0 when not seen.
    began_ns: u64,
    /// Established; 0 when not seen or not yet.
    established_ns: u64,
    direction: u32,
    /// The event that says it is open was sent.
    announced: u32,
}

/// By address of the `struct sock`.
#[map]
static CONNECTIONS: HashMap<u64, Connection> = HashMap::with_max_entries(limit::CONNECTION_ENTRIES, 0);

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;

/// States, include/net/tcp_states.h.
mod state {
    pub const ESTABLISHED: u32 = 1;
    pub const SYN_SENT: u32 = 2;
    pub const SYN_RECV: u32 = 3;
    pub const FIN_WAIT1: u32 = 4;
    pub const CLOSE: u32 = 7;
    pub const LAST_ACK: u32 = 9;
    pub const LISTEN: u32 = 10;
}

// Source: net/ipv4/af_inet.c `inet_sk_set_state`, `(const struct sock *sk, const int oldstate, const int newstate)`.
hook!(inet_sock_set_state, raw_inet_sock_set_state, state_changed);

#[inline(always)]
fn state_changed(arguments: Arguments) {
    let sock = arguments.address(0);
    let old = arguments.number(1) as u32;
    let new = arguments.number(2) as u32;
    let family = fetch!(sock, sock_family as u16);
    let protocol = fetch!(sock, sock_protocol as u16);
    if protocol != IPPROTO_TCP || (family != AF_INET && family != AF_INET6) {
        return;
    }
    let now_ns = kernel::now_ns();
    match new {
        state::SYN_SENT => called(sock, now_ns),
        state::ESTABLISHED => established(sock, old, now_ns),
        state::FIN_WAIT1 | state::LAST_ACK => closing(sock, now_ns),
        state::CLOSE => closed(sock, old, now_ns),
        _ => {}
    }
}

/// The current process called another host.
#[inline(always)]
fn called(sock: Address, now_ns: u64) {
    let mut made = new_connection(direction::CONNECT, now_ns);
    made.began_ns = now_ns;
    subject::describe(&raw mut made.owner, kernel::current(), now_ns);
    _ = CONNECTIONS.insert(sock as u64, made, 0);
}

#[inline(always)]
fn established(sock: Address, old: u32, now_ns: u64) {
    if let Some(known) = CONNECTIONS.get_ptr_mut(sock as u64) {
        // SAFETY: the map gave the pointer.
        unsafe {
            (*known).established_ns = now_ns;
            (*known).announced = 1;
        }
        emit(sock, known, probe::TCP, connection::OPEN, now_ns);
    } else if old == state::SYN_RECV {
        // Whoever accepts it announces it.
        let mut made = new_connection(direction::ACCEPT, now_ns);
        made.established_ns = now_ns;
        if let Err(error) = CONNECTIONS.insert(sock as u64, made, 0) {
            lose(error);
        }
    } else {
        let mut made = new_connection(direction::CONNECT, now_ns);
        made.established_ns = now_ns;
        emit(sock, &raw mut made, probe::TCP, connection::OPEN, now_ns);
    }
}

/// The current process closes its end: the owner, if none is known yet.
#[inline(always)]
fn closing(sock: Address, now_ns: u64) {
    if let Some(known) = CONNECTIONS.get_ptr_mut(sock as u64) {
        // SAFETY: the map gave the pointer.
        unsafe {
            if (*known).owner.tgid == 0 {
                subject::describe(&raw mut (*known).owner, kernel::current(), now_ns);
            }
        }
        return;
    }
    let mut made = new_connection(direction::UNKNOWN, now_ns);
    made.announced = 1;
    subject::describe(&raw mut made.owner, kernel::current(), now_ns);
    _ = CONNECTIONS.insert(sock as u64, made, 0);
}

#[inline(always)]
fn closed(sock: Address, old: u32, now_ns: u64) {
    if old == state::LISTEN || old == state::CLOSE {
        return;
    }
    let failed = old == state::SYN_SENT || old == state::SYN_RECV;
    let Some(known) = CONNECTIONS.get_ptr_mut(sock as u64) else {
        if old == state::SYN_RECV {
            return;
        }
        let mut made = new_connection(direction::UNKNOWN, now_ns);
        emit(sock, &raw mut made, probe::TCP, if failed { connection::FAIL } else { connection::CLOSE }, now_ns);
        return;
    };
    // SAFETY: the map gave the pointer.
    let (announced, established_ns) = unsafe { ((*known).announced, (*known).established_ns) };
    if failed {
        emit(sock, known, probe::TCP, connection::FAIL, now_ns);
    } else {
        if announced == 0 {
            emit(sock, known, probe::TCP, connection::OPEN, established_ns);
        }
        emit(sock, known, probe::TCP, connection::CLOSE, now_ns);
    }
    _ = CONNECTIONS.remove(sock as u64);
}

/// An `accept` of the current process returned descriptor `fd`.
#[inline(always)]
pub fn accepted(fd: u64) {
    let task = kernel::current();
    let files = load!(task, task_files as Address);
    let table = load!(files, files_table as Address);
    let limit = fetch!(table, table_max as u32);
    if fd >= u64::from(limit) {
        return;
    }
    let slots = fetch!(table, table_fd as Address);
    let file = kernel::fetch_at::<Address>(slots, fd * 8);
    let socket = fetch!(file, file_private as Address);
    let sock = fetch!(socket, socket_sk as Address);
    let Some(known) = CONNECTIONS.get_ptr_mut(sock as u64) else { return };
    // SAFETY: the map gave the pointer.
    unsafe {
        if (*known).direction != direction::ACCEPT || (*known).announced != 0 {
            return;
        }
        (*known).announced = 1;
        subject::describe(&raw mut (*known).owner, task, kernel::now_ns());
        emit(sock, known, probe::TCP_ACCEPTED, connection::OPEN, (*known).established_ns);
    }
}

#[inline(always)]
fn new_connection(direction: u32, now_ns: u64) -> Connection {
    // Unique within a boot: the clock never shows a CPU the same nanosecond for two sockets.
    let id = now_ns.wrapping_add(u64::from(kernel::cpu() & 0x7f) << 56);
    Connection { owner: NOBODY, id, began_ns: 0, established_ns: 0, direction, announced: 0 }
}

/// An accepted connection could not be remembered: the event that would say it is open will not come.
#[inline(always)]
fn lose(error: i32) {
    let Some(here) = Here::now() else { return };
    here.attempted(probe::TCP);
    here.refused(probe::TCP, error);
}

/// Sends an event about `known`, which happened at `at_ns`, and counts it in a row of the ledger.
#[inline(always)]
fn emit(sock: Address, known: *const Connection, row: usize, event: u32, at_ns: u64) {
    ring::emit::<ConnectionRecord>(row, kind::CONNECTION, |record| {
        // SAFETY: the ring gave the room and the map the connection; every field is written.
        unsafe {
            (*record).subject = (*known).owner;
            (*record).subject.at_ns = at_ns;
            (*record).socket_id = (*known).id;
            (*record).event = event;
            (*record).direction = (*known).direction;
            (*record).connect_ns = span((*known).began_ns, (*known).established_ns);
            (*record).duration_ns =
                if event == connection::CLOSE { span((*known).established_ns, at_ns) } else { NO_DURATION };
        }
        copy_ends(sock, record);
        copy_counters(sock, record);
    });
}

/// From one instant to another; unknown when either is.
#[inline(always)]
fn span(from_ns: u64, to_ns: u64) -> u64 {
    if from_ns == 0 || to_ns == 0 { NO_DURATION } else { to_ns.saturating_sub(from_ns) }
}

/// Copies addresses and ports. `inet_sport` outlives the unbinding that comes before `CLOSE`; `skc_num` does not.
#[inline(always)]
fn copy_ends(sock: Address, record: *mut ConnectionRecord) {
    let family = fetch!(sock, sock_family as u16);
    let (length, local, remote) = if family == AF_INET6 && has!(sock_local6) && has!(sock_remote6) {
        (16, offset!(sock_local6), offset!(sock_remote6))
    } else {
        (4, offset!(sock_local), offset!(sock_remote))
    };
    // SAFETY: the ring gave the room; the helper checks the source, and 16 bytes are the most it copies.
    unsafe {
        (*record).family = family;
        (*record).local_port = u16::from_be(fetch!(sock, inet_local_port as u16));
        (*record).remote_port = u16::from_be(fetch!(sock, sock_remote_port as u16));
        (*record).pad = [0; 3];
        (*record).local = [0; 16];
        (*record).remote = [0; 16];
        bpf_probe_read_kernel((&raw mut (*record).local).cast(), length, sock.wrapping_add(local as usize).cast());
        bpf_probe_read_kernel((&raw mut (*record).remote).cast(), length, sock.wrapping_add(remote as usize).cast());
    }
}

/// Copies payload counters. The kernel counts a FIN that was taken in as one byte received, and bytes sent again as sent.
#[inline(always)]
fn copy_counters(sock: Address, record: *mut ConnectionRecord) {
    let received = fetch!(sock, tcp_received as u64);
    let finished = fetch!(sock, sock_flags as u64) & (1 << (fact!(sock_done_bit) & 63)) != 0;
    let sent = fetch!(sock, tcp_sent as u64);
    let resent = fetch!(sock, tcp_resent as u64);
    // SAFETY: the ring gave the room.
    unsafe {
        (*record).received_bytes = received.saturating_sub(u64::from(finished));
        (*record).sent_bytes = sent.saturating_sub(resent);
        (*record).retransmits = fetch!(sock, tcp_retransmits as u32);
    }
}
