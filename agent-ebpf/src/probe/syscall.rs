//! Count, errors and latency of system calls, per process and call.
//!
//! A thread is in one call at a time, wherever it runs and however long it sleeps, so the entry is kept with the thread
//! ([`crate::thread`]); a switch has nothing to do with it.
//!
//! A call is accounted when it returns. `exit` and its kind never do, and the child of a fork returns from a call that
//! only its parent made; neither is attempted.

use skep_common::{
    aggregate::{Cell, UNTIMED, series},
    bucket, errno,
    ledger::{column, price as domain, probe},
    state::Thread,
};

use super::{security, tcp};
use crate::{
    here::Here,
    hook::Arguments,
    kernel::{self, Address},
    line::{self, Observation, Refused},
    price::Meter,
    thread::{self, call},
};

/// A thread that calls more often than this, on average, has one call in [`OFTEN_CALLS`] timed, besides all those that
/// sleep: looking at the clock is half of the price. Every call is counted.
const OFTEN_NS: u64 = 50_000;

/// See [`OFTEN_NS`]; what [`gap`] is on average.
const OFTEN_CALLS: u32 = 64;

/// Bits of each of the two dice of [`gap`].
const DIE_BITS: u32 = 5;

/// Numbers from here on are of the x32 interface.
const X32_BIT: u64 = 0x4000_0000;

// Source: kernel/entry/common.c `syscall_trace_enter`, `(struct pt_regs *regs, long id)`.
hook!(sys_enter, raw_sys_enter, entered);

// Source: kernel/entry/common.c `syscall_exit_work`, `(struct pt_regs *regs, long ret)`.
hook!(sys_exit, raw_sys_exit, returned);

#[inline(always)]
fn entered(arguments: Arguments) {
    let nr = arguments.number(1);
    if fact!(security) != 0 {
        security::entering(nr);
    }
    if fact!(syscall) == 0 {
        return;
    }
    let task = kernel::current();
    let tid = load!(task, task_pid as u32);
    // When there is no room the call is missed, which the ledger says when it returns.
    let Some(thread) = thread::of(task, tid) else { return };
    let state = state_of(task, nr, thread);
    // SAFETY: the map gave the pointer; only the thread itself writes its call.
    unsafe { thread::set_call(thread, call::word(nr as u32, state)) };
}

/// What is to be done of a call that begins.
#[inline(always)]
fn state_of(task: Address, nr: u64, thread: *mut Thread) -> u32 {
    if is_compat(task, nr) {
        return call::COMPAT;
    }
    // SAFETY: the map gave the pointer; only the thread itself writes this.
    unsafe {
        let untimed = (*thread).untimed;
        if untimed > 1 {
            (*thread).untimed = untimed - 1;
            return call::UNTIMED;
        }
    }
    begin_timed(thread)
}

/// Looks at the clock for a call that begins, unless sampling passes over it.
#[inline(always)]
fn begin_timed(thread: *mut Thread) -> u32 {
    let Some(here) = Here::now() else { return call::NONE };
    let shift = shift_now(here);
    if shift != 0 && passed_over(here, shift) {
        return call::SKIPPED;
    }
    let shift = (shift as u32) << call::SHIFT_AT;
    // SAFETY: the map gave the pointer; only the thread itself writes its call.
    unsafe {
        let now_ns = kernel::now_ns();
        let since_ns = now_ns.saturating_sub((*thread).entered_ns);
        (*thread).entered_ns = now_ns;
        let calls = if (*thread).untimed == 0 { 1 } else { u64::from(OFTEN_CALLS) };
        if since_ns < OFTEN_NS * calls { call::OPEN | call::OFTEN | shift } else { call::OPEN | shift }
    }
}

/// The power of two of which one call is looked at.
#[inline(always)]
fn shift_now(here: Here) -> u64 {
    // SAFETY: the state is this CPU's; user space writes the orders at any time.
    unsafe { core::ptr::read_volatile(&raw const (*here.state).orders.syscall_shift) & 15 }
}

/// Whether sampling passes over this call.
#[inline(always)]
fn passed_over(here: Here, shift: u64) -> bool {
    // SAFETY: the state is this CPU's, and only the programs of system calls write the turn, which do not interrupt each
    // other.
    unsafe {
        let turn = &raw mut (*here.state).turn;
        *turn += 1;
        *turn & ((1 << shift) - 1) != 0
    }
}

/// Whether a call came through the 32-bit interface.
#[inline(always)]
pub fn is_compat(task: Address, nr: u64) -> bool {
    let bit = fact!(compat_bit);
    if bit == 0 {
        return false;
    }
    if fact!(compat_in_status) != 0 {
        let x32 = nr as i64 > 0 && nr & X32_BIT != 0;
        return x32 || u64::from(load!(task, thread_status as u32)) & bit != 0;
    }
    load!(task, thread_flags as u64) & bit != 0
}

#[inline(always)]
fn returned(arguments: Arguments) {
    let returned = arguments.number(1) as i64;
    let nr = load!(arguments.address(0), regs_syscall as u64) as u32;
    if fact!(accept) != 0 && returned >= 0 && (u64::from(nr) == fact!(nr_accept) || u64::from(nr) == fact!(nr_accept4))
    {
        tcp::accepted(returned as u64);
    }
    if fact!(security) != 0 {
        security::returning(nr, returned, arguments.address(0));
    }
    if fact!(syscall) != 0 {
        account(nr, returned);
    }
}

/// Accounts the call that returns.
#[inline(always)]
fn account(nr: u32, returned: i64) {
    let task = kernel::current();
    let tid = load!(task, task_pid as u32);
    let thread = thread::known(tid);
    if let Some(thread) = thread {
        // The short way for what happens most. SAFETY: the map gave the pointer; only the thread itself writes its call.
        let entered = unsafe { thread::call_of(thread) };
        if entered == call::word(nr, call::UNTIMED) || is_return_of_untimed(entered, nr) {
            return tally(thread, entered as u32, returned);
        }
    }
    if returned == 0 && is_birth(nr) {
        return;
    }
    let Some(here) = Here::now() else { return };
    here.attempted_call();
    let reason = match thread {
        Some(thread) => settle(here, thread, nr, returned),
        None => Some(column::ENTRY_MISSED),
    };
    if let Some(reason) = reason {
        here.lost(probe::SYSCALL, reason);
    }
}

/// Accounts a call by what is known of its entry, or says why it cannot be.
#[inline(always)]
fn settle(here: Here, thread: *mut Thread, nr: u32, returned: i64) -> Option<usize> {
    // SAFETY: the map gave the pointer; only the thread itself writes its call.
    let seen = unsafe {
        let seen = thread.read();
        (*thread).call = call::NONE;
        seen
    };
    let known = is_same(seen.nr, nr);
    match seen.call & call::STATE {
        call::OPEN | call::LATE if known && seen.entered_ns >= here.calls_since_ns() => {
            measure(here, thread, &seen, returned);
            None
        }
        call::COMPAT => Some(column::COMPAT),
        call::SKIPPED => Some(column::SAMPLED),
        _ => Some(column::ENTRY_MISSED),
    }
}

/// Whether the call that returns is the one that was entered: a thread that took over the number of one that died in
/// `exit` has not entered `exit`. A return from a signal handler brings the registers of before the signal.
#[inline(always)]
fn is_same(entered: u32, returns: u32) -> bool {
    entered == returns || returns == u32::MAX
}

/// Whether a signal handler returns that was entered untimed: by its own number, which the registers do not say any more.
#[inline(always)]
fn is_return_of_untimed(entered: u64, returns: u32) -> bool {
    returns == u32::MAX && entered >> 32 == u64::from(call::UNTIMED)
}

/// Whether a call that returned zero is that of a new thread's birth, which its parent accounts for.
#[inline(always)]
fn is_birth(nr: u32) -> bool {
    let nr = u64::from(nr);
    nr == fact!(nr_clone) || nr == fact!(nr_clone3) || nr == fact!(nr_fork) || nr == fact!(nr_vfork)
}

/// Counts a call of which nobody knows how long it took, but that it did not sleep; unless sampling passes over it.
#[inline(always)]
fn tally(thread: *mut Thread, nr: u32, returned: i64) {
    let Some(here) = Here::now() else { return };
    here.attempted_call();
    // SAFETY: the map gave the pointer; only the thread itself writes its call.
    let (tgid, start_ns) = unsafe {
        (*thread).call = call::NONE;
        ((*thread).tgid, (*thread).start_ns)
    };
    let shift = shift_now(here);
    if shift != 0 && passed_over(here, shift) {
        return here.lost(probe::SYSCALL, column::SAMPLED);
    }
    let word = cell(tgid, nr, returned, UNTIMED);
    told(here, line::count_untimed_call(here, word, start_ns, shift));
}

/// Counts a call and how long it took.
#[inline(always)]
fn measure(here: Here, thread: *mut Thread, call: &Thread, returned: i64) {
    let now_ns = kernel::now_ns();
    let meter = Meter::start(here, domain::SYSCALL, Some(now_ns));
    let often = call.call & (call::OFTEN | call::SLEPT) == call::OFTEN;
    // SAFETY: the map gave the pointer; only the thread itself writes this.
    unsafe {
        (*thread).entered_ns = now_ns;
        (*thread).untimed = if often { gap(now_ns) } else { 0 };
    }
    let latency_ns = now_ns.saturating_sub(call.entered_ns);
    let word = cell(call.tgid, call.nr, returned, bucket::index(latency_ns));
    let weight = if often { u64::from(OFTEN_CALLS) } else { 1 };
    let seen = Observation { word, start_ns: call.start_ns, value_ns: latency_ns, weight, shift: shift_of(call) };
    told(here, line::count_call(here, seen));
    meter.stop();
}

/// How many calls on the next one is timed: two dice with [`OFTEN_CALLS`] for their mean, for a loop of calls must not
/// have always the same of them timed.
#[inline(always)]
fn gap(now_ns: u64) -> u32 {
    const LAST_FACE: u32 = (1 << DIE_BITS) - 1;
    let dice = (now_ns.wrapping_mul(line::SPREAD) >> (64 - 2 * DIE_BITS)) as u32;
    OFTEN_CALLS - LAST_FACE + (dice & LAST_FACE) + (dice >> DIE_BITS)
}

#[inline(always)]
fn cell(tgid: u32, nr: u32, returned: i64, bucket: u16) -> u64 {
    let series = if nr <= u32::from(series::LAST_CALL) { nr as u16 } else { series::LAST_CALL };
    Cell { tgid, series, class: errno::class(returned), bucket }.pack()
}

#[inline(always)]
fn shift_of(call: &Thread) -> u64 {
    u64::from(call.call >> call::SHIFT_AT)
}

#[inline(always)]
fn told(here: Here, counted: Result<(), Refused>) {
    if let Err(Refused(error)) = counted {
        here.refused(probe::SYSCALL, error);
    }
}
