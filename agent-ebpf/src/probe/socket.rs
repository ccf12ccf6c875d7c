//! What processes send and receive over TCP and UDP.
//!
//! A message is a call that moved something: a send or receive of TCP that returned more than zero, or one of UDP that
//! did not fail, for an empty datagram is one too. Calls that failed, `EAGAIN` among them, are no messages and not
//! attempted: system calls are counted elsewhere. Bytes are what the calls returned. Looking at data without taking it
//! (`MSG_PEEK`) moves nothing.
//!
//! Whatever way a call comes, through `read`, `sendmmsg`, `sendfile` or io_uring, it passes these hooks; only `splice` out
//! of a socket does not, nor memory mapped to it. Bytes that leave that way are in the connection's own counts.

use aya_ebpf::{macros::map, maps::Array};
use skep_common::{
    aggregate::{Traffic, protocol},
    ledger::{price, probe},
};

use super::tcp;
use crate::{here::Here, hook::Arguments, kernel, line::Refused, price::Meter, traffic};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `MSG_PEEK`, include/linux/socket.h.
const MSG_PEEK: u32 = 2;

/// Accepted connections whose owner is still to be found: while there are none, nobody looks.
#[map]
static UNCLAIMED: Array<u64> = Array::with_max_entries(1, 0);

// Source: net/socket.c `sock_sendmsg_nosec`, `(struct sock *sk, int ret, int flags)`, since 6.3.
hook!(sock_send_length, raw_sock_send_length, sent);

// Source: net/socket.c `sock_recvmsg_nosec`, `(struct sock *sk, int ret, int flags)`, since 6.3.
hook!(sock_recv_length, raw_sock_recv_length, received);

#[inline(always)]
fn sent(arguments: Arguments) {
    if is_idle() {
        return;
    }
    let Some(here) = Here::now() else { return };
    let meter = Meter::start(here, price::SOCKET, None);
    moved(here, arguments, |traffic, bytes| {
        // SAFETY: the line is this CPU's.
        unsafe {
            (*traffic).sent_bytes += bytes;
            (*traffic).sent_messages += 1;
        }
    });
    meter.stop();
}

#[inline(always)]
fn received(arguments: Arguments) {
    if is_idle() {
        return;
    }
    let Some(here) = Here::now() else { return };
    let meter = Meter::start(here, price::SOCKET, None);
    if arguments.number(2) as u32 & MSG_PEEK == 0 {
        moved(here, arguments, |traffic, bytes| {
            // SAFETY: the line is this CPU's.
            unsafe {
                (*traffic).received_bytes += bytes;
                (*traffic).received_messages += 1;
            }
        });
    }
    meter.stop();
}

/// Whether there is nothing to do: nobody counts, and every connection has its owner.
#[inline(always)]
fn is_idle() -> bool {
    fact!(socket) == 0 && !is_any_unclaimed()
}

/// Counts a call of the current process that moved something.
#[inline(always)]
fn moved(here: Here, arguments: Arguments, count: impl FnOnce(*mut Traffic, u64)) {
    let returned = arguments.number(1) as i32;
    if returned < 0 {
        return;
    }
    let sock = arguments.address(0);
    let family = load!(sock, sock_family as u16);
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    let protocol = load!(sock, sock_protocol as u16);
    if protocol == protocol::TCP {
        if returned == 0 {
            return;
        }
    } else if protocol != protocol::UDP {
        return;
    }
    let task = kernel::current();
    if fact!(first_use) != 0 && protocol == protocol::TCP && is_any_unclaimed() {
        tcp::used(sock, task);
    }
    if fact!(socket) == 0 {
        return;
    }
    here.attempted(probe::SOCKET);
    let tgid = load!(task, task_tgid as u32);
    match traffic::of(here, task, tgid, protocol) {
        Ok(traffic) => count(traffic, returned as u64),
        Err(Refused(error)) => here.refused(probe::SOCKET, error),
    }
}

/// Whether an accepted connection waits for its owner.
#[inline(always)]
fn is_any_unclaimed() -> bool {
    // SAFETY: the map gave the pointer; volatile because every CPU writes it.
    UNCLAIMED.get_ptr(0).is_some_and(|count| unsafe { core::ptr::read_volatile(count) } != 0)
}

/// One more waits, or one fewer.
#[inline(always)]
pub fn add_unclaimed(change: i64) {
    if fact!(first_use) == 0 {
        return;
    }
    if let Some(count) = UNCLAIMED.get_ptr_mut(0) {
        // SAFETY: the map gave the pointer.
        unsafe { kernel::atomic_add(count, change as u64) };
    }
}
