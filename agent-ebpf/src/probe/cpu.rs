//! Time on a CPU, switches and waits for a CPU, per process.
//!
//! A slice is one stay of a thread on a CPU. It is accounted when it ends, in the epoch in which it ends, except that
//! the part of it before the last flip belongs to the epoch before: user space takes that part from [`RUNNING`] when the
//! slice still runs, or from [`TAILS`] when it ended in between.
//!
//! Should the kernel not run the program at a switch, the time since the last switch it was run at goes to the thread
//! that leaves next: the CPU's time stays whole.

use aya_ebpf::{
    macros::{btf_tracepoint, map},
    maps::{Array, HashMap},
    programs::BtfTracePointContext,
};
use skep_common::{
    aggregate::{CpuKey, CpuValue, DelayKey, Running, Tail, cpu_bucket},
    bucket,
    ledger::{column, probe},
    limit,
};

use super::{
    syscall,
    task::{self, Call, TASKS, Task, call},
};
use crate::{
    epoch::Epoch,
    kernel::{self, Address},
    ledger::Ledger,
    subject,
};

#[map]
static CPU_EVEN: HashMap<CpuKey, CpuValue> = HashMap::with_max_entries(limit::CPU_ENTRIES, 0);
#[map]
static CPU_ODD: HashMap<CpuKey, CpuValue> = HashMap::with_max_entries(limit::CPU_ENTRIES, 0);
#[map]
static DELAYS_EVEN: HashMap<DelayKey, u64> = HashMap::with_max_entries(limit::DELAY_ENTRIES, 0);
#[map]
static DELAYS_ODD: HashMap<DelayKey, u64> = HashMap::with_max_entries(limit::DELAY_ENTRIES, 0);

/// By CPU; user space sets the number of entries.
#[map]
static RUNNING: Array<Running> = Array::with_max_entries(1, 0);
/// By CPU; user space sets the number of entries.
#[map]
static TAILS: Array<Tail> = Array::with_max_entries(1, 0);

/// `TASK_DEAD`, the state of a thread that leaves its CPU for the last time.
const TASK_DEAD: u32 = 0x80;

/// A delay that is not known.
const NO_DELAY: u64 = u64::MAX;

/// A switch as the kernel tells it.
struct Switch {
    prev: Address,
    next: Address,
    prev_tid: u32,
    next_tid: u32,
    prev_state: u32,
    preempted: bool,
    now_ns: u64,
}

/// Source: kernel/sched/core.c `__schedule`, `(bool preempt, prev, next, unsigned int prev_state)`; the last since 5.18.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let prev: Address = ctx.arg(1);
    let next: Address = ctx.arg(2);
    let prev_state =
        if fact!(switch_has_state) != 0 { ctx.arg::<u64>(3) as u32 } else { load!(prev, task_state as u32) };
    let switch = Switch {
        prev,
        next,
        prev_tid: load!(prev, task_pid as u32),
        next_tid: load!(next, task_pid as u32),
        prev_state,
        preempted: ctx.arg::<u64>(0) & 1 != 0,
        now_ns: kernel::now_ns(),
    };
    put_away(&switch);
    let delay_ns = take_up(&switch);
    if fact!(cpu) != 0 {
        account(&switch, delay_ns);
    }
    0
}

/// Source: kernel/sched/core.c `ttwu_do_wakeup`, `(struct task_struct *p)`.
#[btf_tracepoint(function = "sched_wakeup")]
pub fn sched_wakeup(ctx: BtfTracePointContext) -> i32 {
    let woken: Address = ctx.arg(0);
    let tid = load!(woken, task_pid as u32);
    if tid != 0 {
        task::queue(tid, kernel::now_ns());
    }
    0
}

/// Source: kernel/sched/core.c `wake_up_new_task`, `(struct task_struct *p)`.
#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn sched_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    let born: Address = ctx.arg(0);
    let tid = load!(born, task_pid as u32);
    // Replaces whatever an earlier thread of this number may have left.
    let newborn = Task { queued_ns: kernel::now_ns(), call: Call { entered_ns: 0, nr: 0, state: call::NEWBORN } };
    _ = TASKS.insert(tid, newborn, 0);
    0
}

/// Remembers of the thread that leaves what it is in the middle of. A call that is not in the slot of this CPU stays
/// where it was put when the thread left before.
#[inline(always)]
fn put_away(switch: &Switch) {
    let call = syscall::take(switch.prev_tid);
    if switch.prev_tid == 0 {
        return;
    }
    if switch.prev_state & TASK_DEAD != 0 {
        _ = TASKS.remove(switch.prev_tid);
        return;
    }
    let queued_ns = if switch.leaves_runnable() { switch.now_ns } else { 0 };
    match TASKS.get_ptr_mut(switch.prev_tid) {
        // SAFETY: the map gave the pointer; only the thread's own CPU touches its call.
        Some(task) => unsafe {
            (*task).queued_ns = queued_ns;
            if let Some(call) = call {
                (*task).call = call;
            }
        },
        None if queued_ns != 0 || call.is_some() => {
            let call = call.unwrap_or(task::NO_CALL);
            _ = TASKS.insert(switch.prev_tid, Task { queued_ns, call }, 0);
        }
        None => {}
    }
}

/// Recalls what the thread that comes was in the middle of; returns how long it waited.
#[inline(always)]
fn take_up(switch: &Switch) -> u64 {
    if switch.next_tid == 0 {
        return NO_DELAY;
    }
    let Some(task) = TASKS.get_ptr_mut(switch.next_tid) else { return NO_DELAY };
    // SAFETY: the map gave the pointer; the thread is on this CPU now, nobody else writes its entry.
    let Task { queued_ns, call } = unsafe { task.read() };
    // SAFETY: as above.
    unsafe { task.write(Task { queued_ns: 0, call: task::NO_CALL }) };
    syscall::put(switch.next_tid, call);
    if queued_ns == 0 { NO_DELAY } else { switch.now_ns.saturating_sub(queued_ns) }
}

impl Switch {
    /// The thread that leaves could have gone on.
    #[inline(always)]
    fn leaves_runnable(&self) -> bool {
        self.preempted || self.prev_state == 0
    }
}

/// Closes the slice of the thread that leaves and begins the one of the thread that comes, which waited `delay_ns`.
#[inline(always)]
fn account(switch: &Switch, delay_ns: u64) {
    let cpu = kernel::cpu();
    let Some(running) = RUNNING.get_ptr_mut(cpu) else { return };
    let epoch = Epoch::now();
    // SAFETY: the map gave the pointer; only this program on this CPU writes it.
    let ended = unsafe { running.read() };

    if switch.prev_tid != 0 {
        close_slice(switch, &ended, epoch, cpu);
    }
    if ended.epoch != epoch.number as u32 {
        leave_tail(switch, &ended, epoch, cpu);
    }
    begin_slice(switch, &ended, epoch, running, delay_ns);
}

#[inline(always)]
fn begin_slice(switch: &Switch, ended: &Running, epoch: Epoch, running: *mut Running, delay_ns: u64) {
    let (tgid, start_ns, cgroup_id) = if switch.next_tid == 0 {
        (0, 0, 0)
    } else {
        (load!(switch.next, task_tgid as u32), subject::start_ns(switch.next), subject::cgroup_id(switch.next))
    };
    let sequence = ended.sequence.wrapping_add(1);
    // SAFETY: the map gave the pointer; volatile and in this order, because user space reads it at any time.
    unsafe {
        core::ptr::write_volatile(&raw mut (*running).sequence, sequence);
        core::ptr::write_volatile(&raw mut (*running).since_ns, switch.now_ns);
        core::ptr::write_volatile(&raw mut (*running).start_ns, start_ns);
        core::ptr::write_volatile(&raw mut (*running).cgroup_id, cgroup_id);
        core::ptr::write_volatile(&raw mut (*running).delay_ns, delay_ns);
        core::ptr::write_volatile(&raw mut (*running).tgid, tgid);
        core::ptr::write_volatile(&raw mut (*running).tid, switch.next_tid);
        core::ptr::write_volatile(&raw mut (*running).epoch, epoch.number as u32);
        core::ptr::write_volatile(&raw mut (*running).sequence, sequence.wrapping_add(1));
    }
}

/// The first switch on a CPU after a flip: says how much of the slice that just ended was before it.
#[inline(always)]
fn leave_tail(switch: &Switch, ended: &Running, epoch: Epoch, cpu: u32) {
    let Some(tail) = TAILS.get_ptr_mut(cpu) else { return };
    let (began_ns, previous_ns) = (epoch.began_ns(), epoch.previous_began_ns());
    let since_ns = if ended.since_ns > previous_ns { ended.since_ns } else { previous_ns };
    let idle = switch.prev_tid == 0 || ended.since_ns == 0;
    // SAFETY: the map gave the pointer; the epoch is written last, because user space reads it at any time.
    unsafe {
        (*tail).on_cpu_ns = if idle { 0 } else { began_ns.saturating_sub(since_ns) };
        (*tail).start_ns = subject::start_ns(switch.prev);
        (*tail).cgroup_id = ended.cgroup_id;
        (*tail).tgid = load!(switch.prev, task_tgid as u32);
        subject::copy_comm(switch.prev, &raw mut (*tail).comm);
        core::ptr::write_volatile(&raw mut (*tail).epoch, epoch.number);
    }
}

/// Accounts the slice that ends, as far as it is in this epoch.
#[inline(always)]
fn close_slice(switch: &Switch, ended: &Running, epoch: Epoch, cpu: u32) {
    let Some(ledger) = Ledger::of(epoch) else { return };
    ledger.attempted(probe::CPU);
    ledger.attempted(probe::RUN_QUEUE);

    let key = CpuKey { start_ns: subject::start_ns(switch.prev), tgid: load!(switch.prev, task_tgid as u32), cpu };
    let map = if epoch.is_odd() { &CPU_ODD } else { &CPU_EVEN };
    let value = match map.get_ptr_mut(key) {
        Some(value) => value,
        None => {
            if let Err(error) = map.insert(key, EMPTY, 0) {
                ledger.refused(probe::CPU, error);
                ledger.refused(probe::RUN_QUEUE, error);
                return;
            }
            let Some(value) = map.get_ptr_mut(key) else { return };
            value
        }
    };

    let began_ns = epoch.began_ns();
    let since_ns = if ended.since_ns > began_ns { ended.since_ns } else { began_ns };
    // SAFETY: the map gave the pointer; only this program on this CPU writes entries of this CPU.
    unsafe {
        (*value).on_cpu_ns += switch.now_ns.saturating_sub(since_ns);
        (*value).slices += 1;
        if switch.leaves_runnable() {
            (*value).involuntary += 1;
        } else {
            (*value).voluntary += 1;
        }
        (*value).last_ns = switch.now_ns;
        (*value).cgroup_id = subject::cgroup_id(switch.prev);
        subject::copy_comm(switch.prev, &raw mut (*value).comm);
    }
    let seen_coming = ended.since_ns != 0 && ended.tid == switch.prev_tid;
    if !seen_coming || ended.delay_ns == NO_DELAY {
        ledger.lost(probe::RUN_QUEUE, column::ENTRY_MISSED);
        return;
    }
    record_delay(&key, value, epoch, ledger, ended.delay_ns);
}

/// Records the wait before a slice.
#[inline(always)]
fn record_delay(process: &CpuKey, value: *mut CpuValue, epoch: Epoch, ledger: Ledger, delay_ns: u64) {
    let key = DelayKey {
        start_ns: process.start_ns,
        tgid: process.tgid,
        cpu_bucket: cpu_bucket(process.cpu, bucket::index(delay_ns)),
    };
    let map = if epoch.is_odd() { &DELAYS_ODD } else { &DELAYS_EVEN };
    match map.get_ptr_mut(key) {
        // SAFETY: the map gave the pointer; only this program on this CPU writes entries of this CPU.
        Some(count) => unsafe { *count += 1 },
        None => {
            if let Err(error) = map.insert(key, 1, 0) {
                ledger.refused(probe::RUN_QUEUE, error);
                return;
            }
        }
    }
    // SAFETY: as above.
    unsafe {
        (*value).delays += 1;
        (*value).delay_sum_ns += delay_ns;
        if delay_ns < (*value).delay_min_ns {
            (*value).delay_min_ns = delay_ns;
        }
        if delay_ns > (*value).delay_max_ns {
            (*value).delay_max_ns = delay_ns;
        }
    }
}

/// What a new entry begins with.
const EMPTY: CpuValue = CpuValue {
    on_cpu_ns: 0,
    slices: 0,
    voluntary: 0,
    involuntary: 0,
    delays: 0,
    delay_sum_ns: 0,
    delay_min_ns: u64::MAX,
    delay_max_ns: 0,
    last_ns: 0,
    cgroup_id: 0,
    comm: [0; 16],
};
