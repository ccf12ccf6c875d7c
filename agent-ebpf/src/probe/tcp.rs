//! TCP connections: opened, failed, closed; segments sent again; resets; sockets that listen.
//!
//! The owner of a connection is the process that called `connect`, or the one whose `accept` returned it. For a socket
//! that was there before the probes, it is the process that closed it.
//!
//! Who accepts is seen when the system call returns, if system calls are watched anyway: a program there costs every call
//! of every process. Otherwise, and for calls made through io_uring, the owner is whoever first sends or receives, and
//! the connection is told of then.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel, macros::map, maps::HashMap};
use skep_common::{
    event::{ConnectionRecord, NO_DURATION, SubjectRecord, connection, direction, kind, reset},
    ledger::{price, probe},
    limit,
};

use super::socket;
use crate::{
    here::Here,
    hook::Arguments,
    kernel::{self, Address},
    price::Meter,
    ring,
    subject::{self, NOBODY},
    traffic::Owner,
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
    /// One of [`reset`].
    reset: u32,
    /// It is closed, and remembered only for the reset that follows.
    closed: u32,
}

/// By address of the `struct sock`.
#[map]
static CONNECTIONS: HashMap<u64, Connection> = HashMap::with_max_entries(limit::CONNECTION_ENTRIES, 0);

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const ECONNRESET: u32 = 104;

/// States, include/net/tcp_states.h.
mod state {
    pub const ESTABLISHED: u32 = 1;
    pub const SYN_SENT: u32 = 2;
    pub const SYN_RECV: u32 = 3;
    pub const FIN_WAIT1: u32 = 4;
    pub const FIN_WAIT2: u32 = 5;
    pub const CLOSE: u32 = 7;
    pub const CLOSE_WAIT: u32 = 8;
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
    let Some(here) = Here::now() else { return };
    let now_ns = kernel::now_ns();
    let meter = Meter::start(here, price::NETWORK, Some(now_ns));
    match new {
        state::SYN_SENT => called(sock, now_ns),
        state::ESTABLISHED => established(sock, old, now_ns),
        state::FIN_WAIT1 | state::LAST_ACK => closing(sock, now_ns),
        state::CLOSE => closed(sock, old, now_ns),
        state::LISTEN => listens(sock, now_ns),
        _ => {}
    }
    meter.stop();
}

/// What is remembered of an open socket. What a socket of before left at its address is no more.
#[inline(always)]
fn known(sock: Address) -> Option<*mut Connection> {
    let known = CONNECTIONS.get_ptr_mut(sock as u64)?;
    // SAFETY: the map gave the pointer.
    if unsafe { (*known).closed } != 0 { None } else { Some(known) }
}

/// The current process listens.
#[inline(always)]
fn listens(sock: Address, now_ns: u64) {
    let mut made = new_connection(direction::LISTEN, now_ns);
    made.established_ns = now_ns;
    made.announced = 1;
    subject::describe(&raw mut made.owner, kernel::current(), now_ns);
    emit(sock, &raw mut made, probe::TCP, connection::LISTEN, now_ns);
    _ = CONNECTIONS.insert(sock as u64, made, 0);
}

/// A socket listens no more. It is always a process that says so.
#[inline(always)]
fn listens_no_more(sock: Address, now_ns: u64) {
    if let Some(known) = known(sock) {
        emit(sock, known, probe::TCP, connection::UNLISTEN, now_ns);
        _ = CONNECTIONS.remove(sock as u64);
        return;
    }
    let mut made = new_connection(direction::LISTEN, now_ns);
    subject::describe(&raw mut made.owner, kernel::current(), now_ns);
    emit(sock, &raw mut made, probe::TCP, connection::UNLISTEN, now_ns);
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
    if let Some(known) = known(sock) {
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
        socket::add_unclaimed(1);
        if let Err(error) = CONNECTIONS.insert(sock as u64, made, 0) {
            socket::add_unclaimed(-1);
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
    if let Some(known) = known(sock) {
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
    if old == state::LISTEN {
        return listens_no_more(sock, now_ns);
    }
    if old == state::CLOSE {
        return;
    }
    let failed = old == state::SYN_SENT || old == state::SYN_RECV;
    let resets = is_reset_to_follow(sock, old);
    let Some(known) = known(sock) else {
        if old != state::SYN_RECV {
            closed_unknown(sock, failed, resets, now_ns);
        }
        return;
    };
    // SAFETY: the map gave the pointer.
    let (announced, established_ns) = unsafe {
        if resets && (*known).reset == reset::NONE {
            (*known).reset = reset::SENT;
            if (*known).owner.tgid == 0 {
                subject::describe(&raw mut (*known).owner, kernel::current(), now_ns);
            }
        }
        ((*known).announced, (*known).established_ns)
    };
    if !failed && announced == 0 {
        emit(sock, known, probe::TCP, connection::OPEN, established_ns);
    }
    emit(sock, known, probe::TCP, if failed { connection::FAIL } else { connection::CLOSE }, now_ns);
    // SAFETY: as above.
    unsafe {
        if (*known).direction == direction::ACCEPT && announced == 0 {
            socket::add_unclaimed(-1);
        }
        (*known).closed = 1;
    }
    if !resets {
        _ = CONNECTIONS.remove(sock as u64);
    }
}

/// The end of a socket that was there before the probes and had no end yet: if it breaks off, its owner does that.
#[inline(always)]
fn closed_unknown(sock: Address, failed: bool, resets: bool, now_ns: u64) {
    let mut made = new_connection(direction::UNKNOWN, now_ns);
    if resets {
        made.reset = reset::SENT;
        made.announced = 1;
        made.closed = 1;
        subject::describe(&raw mut made.owner, kernel::current(), now_ns);
        _ = CONNECTIONS.insert(sock as u64, made, 0);
    } else if fetch!(sock, sock_error as u32) == ECONNRESET {
        made.reset = reset::RECEIVED;
    }
    emit(sock, &raw mut made, probe::TCP, if failed { connection::FAIL } else { connection::CLOSE }, now_ns);
}

/// Whether this end breaks off: without an error there is no other way from these states to the closed one, and the RST
/// is sent after the state is changed.
///
/// Source: net/ipv4/tcp.c `__tcp_close`, `tcp_disconnect`; net/ipv4/tcp_input.c `tcp_rcv_state_process`. From `FIN_WAIT2`
/// an end also goes to the closed state when it waits in a smaller record, with the peer's FIN or without a process.
#[inline(always)]
fn is_reset_to_follow(sock: Address, old: u32) -> bool {
    let breaks_off = match old {
        state::ESTABLISHED | state::CLOSE_WAIT | state::FIN_WAIT1 => true,
        state::FIN_WAIT2 => {
            let waits = 1 << (fact!(sock_done_bit) & 63) | 1 << (fact!(sock_dead_bit) & 63);
            fetch!(sock, sock_flags as u64) & waits == 0
        }
        _ => false,
    };
    breaks_off && fetch!(sock, sock_error as u32) == 0
}

/// A reset of the connection goes out: whoever sends it breaks it off, if nobody did before.
#[inline(always)]
pub fn resets(sock: Address) {
    let Some(known) = CONNECTIONS.get_ptr_mut(sock as u64) else { return };
    // SAFETY: the map gave the pointer.
    unsafe {
        if (*known).closed != 0 {
            _ = CONNECTIONS.remove(sock as u64);
        } else if (*known).reset == reset::NONE && (*known).direction != direction::LISTEN {
            (*known).reset = reset::SENT;
        }
    }
}

/// A reset of the connection came in.
#[inline(always)]
pub fn is_reset(sock: Address) {
    let Some(known) = known(sock) else { return };
    // SAFETY: the map gave the pointer.
    unsafe {
        if (*known).reset == reset::NONE {
            (*known).reset = reset::RECEIVED;
        }
    }
}

/// Whom a connection belongs to, as far as it is remembered. The task that runs says nothing of it: segments come and go
/// in whatever it is that they interrupt.
#[inline(always)]
pub fn owner(sock: Address) -> Owner {
    let Some(known) = CONNECTIONS.get_ptr_mut(sock as u64) else {
        return Owner { tgid: 0, start_ns: 0, comm: [0; 16] };
    };
    // SAFETY: the map gave the pointer.
    unsafe {
        let owner = &raw const (*known).owner;
        Owner { tgid: (*owner).tgid, start_ns: (*owner).start_ns, comm: (*owner).comm }
    }
}

/// The current process sends or receives, perhaps as the first to do so on an accepted connection.
#[inline(always)]
pub fn used(sock: Address, task: Address) {
    if let Some(known) = known(sock) {
        claim(sock, known, task, probe::TCP_USED);
    }
}

/// An accepted connection is the task's, if it is nobody's yet.
#[inline(always)]
fn claim(sock: Address, known: *mut Connection, task: Address, row: usize) {
    // SAFETY: the caller's map gave the pointer.
    unsafe {
        if (*known).direction != direction::ACCEPT || (*known).announced != 0 {
            return;
        }
        (*known).announced = 1;
        socket::add_unclaimed(-1);
        subject::describe(&raw mut (*known).owner, task, kernel::now_ns());
        emit(sock, known, row, connection::OPEN, (*known).established_ns);
    }
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
    if let Some(known) = known(sock) {
        claim(sock, known, task, probe::TCP_ACCEPTED);
    }
}

#[inline(always)]
fn new_connection(direction: u32, now_ns: u64) -> Connection {
    // Unique within a boot: the clock never shows a CPU the same nanosecond for two sockets.
    let id = now_ns.wrapping_add(u64::from(kernel::cpu() & 0x7f) << 56);
    Connection {
        owner: NOBODY,
        id,
        began_ns: 0,
        established_ns: 0,
        direction,
        announced: 0,
        reset: reset::NONE,
        closed: 0,
    }
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
            let is_end = event == connection::CLOSE || event == connection::UNLISTEN;
            (*record).duration_ns = if is_end { span((*known).established_ns, at_ns) } else { NO_DURATION };
            (*record).reset = (*known).reset;
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
        (*record).pad = 0;
        (*record).filler = 0;
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
        (*record).segments_sent = fetch!(sock, tcp_segments_out as u32);
        (*record).segments_received = fetch!(sock, tcp_segments_in as u32);
        (*record).srtt_eighths_us = fetch!(sock, tcp_srtt as u32);
        (*record).rtt_min_us = if has!(tcp_rtt_min) {
            // The first of three samples, whose value comes after its time.
            kernel::fetch_at::<u32>(sock, offset!(tcp_rtt_min) + 4)
        } else {
            u32::MAX
        };
        (*record).error = fetch!(sock, sock_error as u32);
    }
}
