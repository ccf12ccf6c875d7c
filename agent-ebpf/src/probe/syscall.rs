//! Count, errors and latency of system calls, per process and call.
//!
//! A thread is in one call at a time, wherever it runs and however long it sleeps, so the entry is kept with the thread
//! ([`crate::thread`]); a switch has nothing to do with it.
//!
//! A call is accounted when it returns. `exit` and its kind never do, and the child of a fork returns from a call that
//! only its parent made; neither is attempted.

use skep_common::{
    aggregate::{Cell, series},
    bucket, errno,
    ledger::{column, price, probe},
    state::Thread,
};

use super::tcp;
use crate::{
    here::Here,
    hook::Arguments,
    kernel::{self, Address},
    line::{self, Observation, Refused},
    price::Meter,
    thread::{self, call},
};

/// Numbers from here on are of the x32 interface.
const X32_BIT: u64 = 0x4000_0000;

// Source: kernel/entry/common.c `syscall_trace_enter`, `(struct pt_regs *regs, long id)`.
hook!(sys_enter, raw_sys_enter, entered);

// Source: kernel/entry/common.c `syscall_exit_work`, `(struct pt_regs *regs, long ret)`.
hook!(sys_exit, raw_sys_exit, returned);

#[inline(always)]
fn entered(arguments: Arguments) {
    let nr = arguments.number(1);
    let task = kernel::current();
    let tid = load!(task, task_pid as u32);
    // When there is no room the call is missed, which the ledger says when it returns.
    let Some(thread) = thread::of(task, tid) else { return };
    if is_compat(task, nr) {
        // SAFETY: the map gave the pointer; only the thread itself writes its call.
        unsafe { (*thread).call = call::COMPAT };
        return;
    }
    let Some(here) = Here::now() else { return };
    // SAFETY: the state is this CPU's; user space writes the orders at any time.
    let shift = unsafe { core::ptr::read_volatile(&raw const (*here.state).orders.syscall_shift) } & 15;
    if shift != 0 && passed_over(here, shift) {
        // SAFETY: as above.
        unsafe { (*thread).call = call::SKIPPED };
        return;
    }
    // SAFETY: as above.
    unsafe {
        (*thread).nr = nr as u32;
        (*thread).call = call::OPEN | (shift as u32) << call::SHIFT_AT;
        (*thread).entered_ns = kernel::now_ns();
    }
}

/// Whether sampling passes over this call.
#[inline(always)]
fn passed_over(here: Here, shift: u64) -> bool {
    // SAFETY: the state is this CPU's, and only this program writes the turn.
    unsafe {
        let turn = &raw mut (*here.state).turn;
        *turn += 1;
        *turn & ((1 << shift) - 1) != 0
    }
}

/// Whether a call came through the 32-bit interface.
#[inline(always)]
fn is_compat(task: Address, nr: u64) -> bool {
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
    if fact!(syscall) != 0 {
        account(nr, returned);
    }
}

/// Accounts the call that returns.
#[inline(always)]
fn account(nr: u32, returned: i64) {
    let task = kernel::current();
    let tid = load!(task, task_pid as u32);
    if returned == 0 && is_birth(nr) {
        return;
    }
    let Some(here) = Here::now() else { return };
    here.attempted(probe::SYSCALL);
    let Some(thread) = thread::known(tid) else {
        here.lost(probe::SYSCALL, column::ENTRY_MISSED);
        return;
    };
    // SAFETY: the map gave the pointer; only the thread itself writes its call.
    let seen = unsafe {
        let seen = Thread { ..*thread };
        (*thread).call = call::NONE;
        seen
    };
    let state = seen.call & ((1 << call::SHIFT_AT) - 1);
    if state == call::OPEN && is_same(seen.nr, nr) {
        measure(here, &seen, returned);
        return;
    }
    let reason = match state {
        call::COMPAT => column::COMPAT,
        call::SKIPPED => column::SAMPLED,
        _ => column::ENTRY_MISSED,
    };
    here.lost(probe::SYSCALL, reason);
}

/// Whether the call that returns is the one that was entered: a thread that took over the number of one that died in
/// `exit` has not entered `exit`. A return from a signal handler brings the registers of before the signal.
#[inline(always)]
fn is_same(entered: u32, returns: u32) -> bool {
    entered == returns || returns == u32::MAX
}

/// Whether a call that returned zero is that of a new thread's birth, which its parent accounts for.
#[inline(always)]
fn is_birth(nr: u32) -> bool {
    let nr = u64::from(nr);
    nr == fact!(nr_clone) || nr == fact!(nr_clone3) || nr == fact!(nr_fork) || nr == fact!(nr_vfork)
}

#[inline(always)]
fn measure(here: Here, call: &Thread, returned: i64) {
    let now_ns = kernel::now_ns();
    let meter = Meter::start(here, price::SYSCALL, now_ns);
    let latency_ns = now_ns.saturating_sub(call.entered_ns);
    let known = u64::from(call.nr) <= u64::from(series::LAST_CALL);
    let cell = Cell {
        tgid: call.tgid,
        series: if known { call.nr as u16 } else { series::LAST_CALL },
        class: errno::class(returned),
        bucket: bucket::index(latency_ns),
    };
    let shift = u64::from(call.call >> call::SHIFT_AT);
    let seen = Observation { word: cell.pack(), start_ns: call.start_ns, value_ns: latency_ns, shift };
    if let Err(Refused { error, measured, .. }) = line::count_call(here, seen) {
        here.refused(probe::SYSCALL, error, measured);
    }
    meter.stop();
}
