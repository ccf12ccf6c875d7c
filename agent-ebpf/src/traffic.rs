//! What processes send and receive, and what goes wrong with their connections.
//!
//! Sends and receives are counted like time on a CPU ([`crate::line`]): in lines of this CPU's cache, and in a map for
//! what it has no room for. Both programs that write them run in the context of a task, with preemption off, so that
//! neither can interrupt the other.
//!
//! Retransmissions and resets happen in soft interrupts, which interrupt those programs and, where the kernel works off
//! what it put aside for a busy socket, each other. They are rare: each program adds to entries of its own in a map.

use aya_ebpf::{macros::map, maps::HashMap};
use skep_common::{
    aggregate::{MishapKey, Mishaps, Traffic, TrafficKey, TrafficLine},
    limit,
};

use crate::{
    here::Here,
    kernel::Address,
    line::{Refused, SPREAD},
    subject,
};

#[map]
static TRAFFIC_EVEN: HashMap<TrafficKey, Traffic> = HashMap::with_max_entries(limit::TRAFFIC_ENTRIES, 0);
#[map]
static TRAFFIC_ODD: HashMap<TrafficKey, Traffic> = HashMap::with_max_entries(limit::TRAFFIC_ENTRIES, 0);
#[map]
static MISHAPS_EVEN: HashMap<MishapKey, Mishaps> = HashMap::with_max_entries(limit::MISHAP_ENTRIES, 0);
#[map]
static MISHAPS_ODD: HashMap<MishapKey, Mishaps> = HashMap::with_max_entries(limit::MISHAP_ENTRIES, 0);

/// The line of what the process of `task` moves through a protocol on this CPU, made for it if need be.
#[inline(always)]
pub fn of(here: Here, task: Address, tgid: u32, protocol: u16) -> Result<*mut Traffic, Refused> {
    const BITS: u32 = limit::TRAFFIC_LINES.trailing_zeros();
    let side = here.side();
    let start_ns = subject::start_ns(task);
    let index = (u64::from(tgid) << 16 | u64::from(protocol)).wrapping_mul(SPREAD) >> (64 - BITS);
    // SAFETY: the side is this CPU's and only the two programs above write its traffic; the index has `BITS` bits.
    unsafe {
        let line = (&raw mut (*side).traffic).cast::<TrafficLine>().add(index as usize);
        if (*line).tgid != tgid || (*line).start_ns != start_ns || (*line).protocol != protocol {
            make_room(here, line)?;
            (*line).start_ns = start_ns;
            (*line).tgid = tgid;
            (*line).protocol = protocol;
            let traffic = &raw mut (*line).traffic;
            (*traffic).sent_bytes = 0;
            (*traffic).received_bytes = 0;
            (*traffic).sent_messages = 0;
            (*traffic).received_messages = 0;
            (&raw mut (*traffic).comm).cast::<[u64; 2]>().write(subject::comm_words(task));
        }
        Ok(&raw mut (*line).traffic)
    }
}

/// Adds what a line counts to the map.
#[inline(always)]
unsafe fn make_room(here: Here, line: *mut TrafficLine) -> Result<(), Refused> {
    // SAFETY: the caller's line is good.
    let (start_ns, tgid, protocol, seen) =
        unsafe { ((*line).start_ns, (*line).tgid, (*line).protocol, &raw const (*line).traffic) };
    if tgid == 0 {
        return Ok(());
    }
    let key = TrafficKey { start_ns, tgid, cpu: here.cpu as u16, protocol };
    let map = if here.is_odd() { &TRAFFIC_ODD } else { &TRAFFIC_EVEN };
    // SAFETY: the line is good and the map gave the other; only the two programs on this CPU write entries of it.
    unsafe {
        let Some(known) = map.get_ptr_mut(key) else {
            return map.insert(key, &*seen, 0).map_err(Refused);
        };
        (*known).sent_bytes += (*seen).sent_bytes;
        (*known).received_bytes += (*seen).received_bytes;
        (*known).sent_messages += (*seen).sent_messages;
        (*known).received_messages += (*seen).received_messages;
    }
    Ok(())
}

/// Whom a connection belongs to; zeroes when nobody knows.
#[derive(Clone, Copy)]
pub struct Owner {
    /// Thread group.
    pub tgid: u32,
    /// Its start.
    pub start_ns: u64,
    /// Its task name.
    pub comm: [u8; 16],
}

/// Counts `count` mishaps of a kind, all of them or none.
#[inline(always)]
pub fn count_mishap(here: Here, kind: u32, owner: Owner, count: u64) -> Result<(), i32> {
    let key = MishapKey { start_ns: owner.start_ns, tgid: owner.tgid, cpu: here.cpu, kind, pad: 0 };
    let map = if here.is_odd() { &MISHAPS_ODD } else { &MISHAPS_EVEN };
    let Some(known) = map.get_ptr_mut(key) else {
        return map.insert(key, Mishaps { count, comm: owner.comm }, 0);
    };
    // SAFETY: the map gave the pointer; only the program of this kind on this CPU writes the entry.
    unsafe { (*known).count += count };
    Ok(())
}
