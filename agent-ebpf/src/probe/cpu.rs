//! Time on a CPU, switches, migrations, waits for a CPU and away from it, per process.
//!
//! A slice is one stay of a thread on a CPU. It is accounted when it ends, in the epoch in which it ends, except that
//! the part of it before the last flip belongs to the epoch before: user space takes that part from `CpuState::running`
//! when the slice still runs, or from `CpuState::tail` when it ended in between.
//!
//! Should the kernel not run the program at a switch, the time since the last switch it was run at goes to the thread
//! that leaves next: the CPU's time stays whole.
//!
//! How long a thread waited for its CPU the kernel knows itself: since when it is queued, and what it had waited before
//! that when it was moved from one queue to another. So no program runs when a thread is woken.

use skep_common::{
    aggregate::{Cell, Usage, series},
    bucket,
    ledger::{column, price, probe},
    state::{Running, Thread},
};

use crate::{
    here::Here,
    hook::Arguments,
    kernel::{self, Address},
    line::{self, Refused},
    price::Meter,
    subject,
    thread::{self, call},
};

/// `TASK_DEAD`, the state of a thread that leaves its CPU for the last time.
const TASK_DEAD: u32 = 0x80;

/// A switch as the kernel tells it.
struct Switch {
    prev: Address,
    next: Address,
    prev_tid: u32,
    next_tid: u32,
    prev_state: u32,
    preempted: bool,
    /// By the scheduler's clock of this CPU; 0 when it is not known.
    clock_ns: u64,
    /// By `CLOCK_BOOTTIME`.
    now_ns: u64,
}

/// After so long the scheduler's clock is compared with `CLOCK_BOOTTIME` again. They drift apart by some ten millionths.
const COMPARED_FOR_NS: u64 = 1_000_000_000;

// Source: kernel/sched/core.c `__schedule`, `(bool preempt, prev, next, unsigned int prev_state)`; the last since 5.18.
hook!(sched_switch, raw_sched_switch, switched);

#[inline(always)]
fn switched(arguments: Arguments) {
    let Some(here) = Here::now() else { return };
    let prev = arguments.address(1);
    let next = arguments.address(2);
    let prev_state =
        if fact!(switch_has_state) != 0 { arguments.number(3) as u32 } else { load!(prev, task_state as u32) };
    let switch = Switch {
        prev,
        next,
        prev_tid: load!(prev, task_pid as u32),
        next_tid: load!(next, task_pid as u32),
        prev_state,
        preempted: arguments.number(0) & 1 != 0,
        clock_ns: 0,
        now_ns: 0,
    };
    let meter = Meter::start(here, price::CPU, None);
    // SAFETY: the state is this CPU's; only this program writes `running`.
    let mut ended = unsafe { (*here.state).running };
    let switch = look_at_clock(switch, &mut ended);
    if switch.prev_tid != 0 {
        close_slice(&switch, &ended, here);
    }
    if ended.epoch != here.epoch as u32 {
        leave_tail(&switch, &ended, here);
    }
    begin_slice(&switch, &ended, here);
    meter.stop();
}

/// Reads the time: the scheduler has just looked at its own clock, which costs a tenth of looking at another.
///
/// Source: kernel/sched/core.c `__schedule`, which calls `update_rq_clock` before it switches.
#[inline(always)]
fn look_at_clock(mut switch: Switch, ended: &mut Running) -> Switch {
    if fact!(run_queue) != 0 {
        let queue = load!(switch.next, entity_queue as Address);
        switch.clock_ns = load!(load!(queue, queue_rq as Address), rq_clock as u64);
    }
    switch.now_ns = switch.clock_ns.wrapping_add(ended.ahead_ns);
    let compared = ended.compared_ns != 0 && switch.now_ns.wrapping_sub(ended.compared_ns) < COMPARED_FOR_NS;
    if switch.clock_ns == 0 || !compared {
        switch.now_ns = kernel::now_ns();
        ended.ahead_ns = switch.now_ns.wrapping_sub(switch.clock_ns);
        ended.compared_ns = switch.now_ns;
    }
    switch
}

impl Switch {
    /// The thread that leaves could have gone on.
    #[inline(always)]
    fn leaves_runnable(&self) -> bool {
        self.preempted || self.prev_state == 0
    }
}

/// Accounts the slice that ends, as far as it is in this epoch, and remembers with what the thread left.
#[inline(always)]
fn close_slice(switch: &Switch, ended: &Running, here: Here) {
    here.attempted(probe::CPU);
    let (tgid, start_ns, cgroup_id) = if ended.tid == switch.prev_tid {
        (ended.tgid, ended.start_ns, ended.cgroup_id)
    } else {
        (load!(switch.prev, task_tgid as u32), subject::start_ns(switch.prev), subject::cgroup_id(switch.prev))
    };
    match line::usage_of(here, tgid, start_ns) {
        Ok(usage) => account(switch, ended, (here, usage), cgroup_id),
        Err(Refused(error)) => here.refused(probe::CPU, error),
    }
    if switch.prev_state & TASK_DEAD != 0 {
        thread::forget(switch.prev_tid);
    } else {
        remember(switch, here);
    }
}

/// Adds the slice that ends to its line.
#[inline(always)]
fn account(switch: &Switch, ended: &Running, (here, usage): (Here, *mut Usage), cgroup_id: u64) {
    let began_ns = here.began_ns();
    let since_ns = if ended.since_ns > began_ns { ended.since_ns } else { began_ns };
    // SAFETY: the line is this CPU's.
    unsafe {
        (*usage).on_cpu_ns += switch.now_ns.saturating_sub(since_ns);
        (*usage).slices += 1;
        if switch.leaves_runnable() {
            (*usage).involuntary += 1;
        } else {
            (*usage).voluntary += 1;
        }
        (*usage).migrations += ended.migrated;
        (*usage).last_ns = switch.now_ns;
        (*usage).cgroup_id = cgroup_id;
        copy_name(switch.prev, usage);
    }
}

#[inline(always)]
unsafe fn copy_name(task: Address, usage: *mut Usage) {
    let name = subject::comm_words(task);
    // SAFETY: the caller's line is good; a name is two words long.
    unsafe { (&raw mut (*usage).comm).cast::<[u64; 2]>().write(name) };
}

/// With what the thread leaves.
#[inline(always)]
fn remember(switch: &Switch, here: Here) {
    let Some(thread) = thread::of(switch.prev, switch.prev_tid) else { return };
    // SAFETY: the map gave the pointer; only the thread's own CPU writes this.
    unsafe {
        (*thread).left_cpu = here.cpu + 1;
        (*thread).last_ns = switch.now_ns;
        (*thread).left_ns = if switch.leaves_runnable() { 0 } else { switch.now_ns };
        if fact!(run_queue) != 0 {
            (*thread).waited_ns = load!(switch.prev, info_waited as u64);
        }
        if fact!(syscall) != 0 {
            leave_call(thread);
        }
    }
}

/// A call that leaves the CPU is timed, whether it was meant to be or not.
///
/// # Safety
/// The map gave the pointer.
#[inline(always)]
unsafe fn leave_call(thread: *mut Thread) {
    // SAFETY: the caller's; only the thread's own CPU writes its call.
    unsafe {
        match (*thread).call & call::STATE {
            call::UNTIMED => {
                (*thread).entered_ns = kernel::now_ns();
                (*thread).call = call::LATE;
            }
            call::OPEN => (*thread).call |= call::SLEPT,
            _ => {}
        }
    }
}

/// The first switch on a CPU after a flip: says how much of the slice that just ended was before it.
#[inline(always)]
fn leave_tail(switch: &Switch, ended: &Running, here: Here) {
    let (began_ns, previous_ns) = (here.began_ns(), here.previous_began_ns());
    let since_ns = if ended.since_ns > previous_ns { ended.since_ns } else { previous_ns };
    let idle = switch.prev_tid == 0 || ended.since_ns == 0;
    // SAFETY: the state is this CPU's; the epoch is written last, because user space reads it at any time.
    unsafe {
        let tail = &raw mut (*here.state).tail;
        (*tail).on_cpu_ns = if idle { 0 } else { began_ns.saturating_sub(since_ns) };
        (*tail).start_ns = subject::start_ns(switch.prev);
        (*tail).cgroup_id = ended.cgroup_id;
        (*tail).tgid = load!(switch.prev, task_tgid as u32);
        (&raw mut (*tail).comm).cast::<[u64; 2]>().write(subject::comm_words(switch.prev));
        core::ptr::write_volatile(&raw mut (*tail).epoch, here.epoch);
    }
}

/// Who comes.
struct Next {
    tgid: u32,
    start_ns: u64,
    cgroup_id: u64,
    migrated: u64,
}

const NOBODY: Next = Next { tgid: 0, start_ns: 0, cgroup_id: 0, migrated: 0 };

/// Accounts what the thread that comes waited.
#[inline(always)]
fn take_up(switch: &Switch, here: Here) -> Next {
    let Some(thread) = thread::of(switch.next, switch.next_tid) else {
        let (tgid, start_ns) = (load!(switch.next, task_tgid as u32), subject::start_ns(switch.next));
        run_queue_delay(switch, here, (tgid, start_ns), None);
        return Next { tgid, start_ns, cgroup_id: subject::cgroup_id(switch.next), migrated: 0 };
    };
    // SAFETY: the map gave the pointer; the thread is on this CPU now, nobody else writes its entry.
    unsafe {
        let process = ((*thread).tgid, (*thread).start_ns);
        let seen_leaving = (*thread).left_cpu != 0 && (*thread).last_ns >= here.switches_since_ns();
        run_queue_delay(switch, here, process, seen_leaving.then_some((*thread).waited_ns));
        off_cpu(switch, here, process, if seen_leaving { (*thread).left_ns } else { 0 });
        Next {
            tgid: process.0,
            start_ns: process.1,
            cgroup_id: thread::cgroup_id(thread, switch.next),
            migrated: u64::from(seen_leaving && (*thread).left_cpu != here.cpu + 1),
        }
    }
}

/// Begins the slice of the thread that comes.
#[inline(always)]
fn begin_slice(switch: &Switch, ended: &Running, here: Here) {
    let next = if switch.next_tid == 0 { NOBODY } else { take_up(switch, here) };
    let Next { tgid, start_ns, cgroup_id, migrated } = next;
    let sequence = ended.sequence.wrapping_add(1);
    // SAFETY: the state is this CPU's; volatile and in this order, because user space reads it at any time.
    unsafe {
        let running = &raw mut (*here.state).running;
        core::ptr::write_volatile(&raw mut (*running).sequence, sequence);
        core::ptr::write_volatile(&raw mut (*running).since_ns, switch.now_ns);
        core::ptr::write_volatile(&raw mut (*running).start_ns, start_ns);
        core::ptr::write_volatile(&raw mut (*running).cgroup_id, cgroup_id);
        core::ptr::write_volatile(&raw mut (*running).tgid, tgid);
        core::ptr::write_volatile(&raw mut (*running).tid, switch.next_tid);
        core::ptr::write_volatile(&raw mut (*running).epoch, here.epoch as u32);
        core::ptr::write_volatile(&raw mut (*running).migrated, migrated);
        core::ptr::write_volatile(&raw mut (*running).ahead_ns, ended.ahead_ns);
        core::ptr::write_volatile(&raw mut (*running).compared_ns, ended.compared_ns);
        core::ptr::write_volatile(&raw mut (*running).sequence, sequence.wrapping_add(1));
    }
}

/// Accounts how long the thread that comes was runnable without running: what it waits in this queue, and what it waited
/// in others since it left.
///
/// Source: kernel/sched/stats.h `sched_info_enqueue`, `sched_info_dequeue`, `sched_info_arrive`, the last of which comes
/// after this hook.
#[inline(always)]
fn run_queue_delay(switch: &Switch, here: Here, process: (u32, u64), before_ns: Option<u64>) {
    if fact!(run_queue) == 0 {
        return;
    }
    here.attempted(probe::RUN_QUEUE);
    let queued_ns = load!(switch.next, info_queued as u64);
    if queued_ns == 0 {
        here.lost(probe::RUN_QUEUE, column::ENTRY_MISSED);
        return;
    }
    let waited_ns = load!(switch.next, info_waited as u64);
    let before_ns = match before_ns {
        Some(before_ns) => before_ns,
        // It was never seen leaving: it is new, or was there before the probes.
        None if load!(switch.next, info_runs as u64) == 0 => 0,
        None => waited_ns,
    };
    let value_ns = switch.clock_ns.saturating_sub(queued_ns) + waited_ns.saturating_sub(before_ns);
    record(here, process, series::RUN_QUEUE, value_ns);
}

/// Accounts how long a thread was away that left to wait for something.
#[inline(always)]
fn off_cpu(switch: &Switch, here: Here, process: (u32, u64), left_ns: u64) {
    if fact!(off_cpu) == 0 || left_ns == 0 {
        return;
    }
    here.attempted(probe::OFF_CPU);
    record(here, process, series::OFF_CPU, switch.now_ns.saturating_sub(left_ns));
}

#[inline(always)]
fn record(here: Here, (tgid, start_ns): (u32, u64), kind: u16, value_ns: u64) {
    let cell = Cell { tgid, series: kind, class: 0, bucket: bucket::index(value_ns) };
    let counted = line::count_wait(here, cell.pack(), start_ns, value_ns);
    let Err(Refused(error)) = counted else { return };
    if kind == series::OFF_CPU {
        here.refused(probe::OFF_CPU, error);
    } else {
        here.refused(probe::RUN_QUEUE, error);
    }
}
