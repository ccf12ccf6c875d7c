//! Count, errors and latency of system calls, per process and call.
//!
//! Most calls return on the CPU they entered on, so the entry is kept in a slot of the CPU. A call that sleeps or is
//! preempted has its slot moved to the thread's entry in `TASKS` by the switch, and back when the thread returns. Should
//! the kernel not run the program at a switch, the call is still found in `TASKS` when it returns.
//!
//! A call is accounted when it returns. `exit` and its kind never do, and the child of a fork returns from a call that
//! only its parent made; neither is attempted.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map},
    maps::{HashMap, PerCpuArray},
    programs::BtfTracePointContext,
};
use skep_common::{
    aggregate::{SyscallKey, SyscallValue, cpu_bucket},
    bucket,
    ledger::{column, probe},
    limit,
};

use super::{
    task::{self, Call, call},
    tcp,
};
use crate::{
    epoch::Epoch,
    kernel::{self, Address},
    ledger::Ledger,
    subject,
};

#[map]
static SYSCALLS_EVEN: HashMap<SyscallKey, SyscallValue> = HashMap::with_max_entries(limit::SYSCALL_ENTRIES, 0);
#[map]
static SYSCALLS_ODD: HashMap<SyscallKey, SyscallValue> = HashMap::with_max_entries(limit::SYSCALL_ENTRIES, 0);

/// The call of the thread on a CPU.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    call: Call,
    tid: u32,
    pad: u32,
}

#[map]
static SLOT: PerCpuArray<Slot> = PerCpuArray::with_max_entries(1, 0);

/// Numbers from here on are of the x32 interface.
const X32_BIT: u64 = 0x4000_0000;

/// Source: kernel/entry/common.c `syscall_trace_enter`, `(struct pt_regs *regs, long id)`.
#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    let Some(slot) = SLOT.get_ptr_mut(0) else { return 0 };
    let nr: u64 = ctx.arg(1);
    let state = if is_compat(nr) { call::COMPAT } else { call::OPEN };
    let tid = bpf_get_current_pid_tgid() as u32;
    let entered_ns = kernel::now_ns();
    // SAFETY: the map gave the pointer, and nothing else on this CPU writes it meanwhile.
    unsafe { slot.write(Slot { call: Call { entered_ns, nr: nr as u32, state }, tid, pad: 0 }) };
    0
}

/// Source: kernel/entry/common.c `syscall_exit_work`, `(struct pt_regs *regs, long ret)`.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let returned: i64 = ctx.arg::<u64>(1) as i64;
    if fact!(accept) != 0 && returned >= 0 {
        let regs: Address = ctx.arg(0);
        let nr = load!(regs, regs_syscall as u64) as u32;
        if u64::from(nr) == fact!(nr_accept) || u64::from(nr) == fact!(nr_accept4) {
            tcp::accepted(returned as u64);
        }
    }
    if fact!(syscall) != 0 {
        let ids = bpf_get_current_pid_tgid();
        account(returned, (ids >> 32) as u32, ids as u32);
    }
    0
}

/// Takes the call of the thread that leaves out of this CPU's slot; `None` when the slot does not hold one of it.
#[inline(always)]
pub fn take(tid: u32) -> Option<Call> {
    let slot = SLOT.get_ptr_mut(0)?;
    // SAFETY: the map gave the pointer.
    unsafe {
        let Slot { call, tid: owner, .. } = slot.read();
        (*slot).call.state = call::NONE;
        if call.state != call::NONE && owner == tid { Some(call) } else { None }
    }
}

/// Puts the call of the thread that comes into this CPU's slot.
#[inline(always)]
pub fn put(tid: u32, call: Call) {
    if call.state == call::NONE {
        return;
    }
    let Some(slot) = SLOT.get_ptr_mut(0) else { return };
    // SAFETY: the map gave the pointer.
    unsafe { slot.write(Slot { call, tid, pad: 0 }) };
}

/// The current thread had the number `old_tid` when it entered `execve`: exec gives it that of its leader.
#[inline(always)]
pub fn renumber(old_tid: u32, tid: u32) {
    let Some(slot) = SLOT.get_ptr_mut(0) else { return };
    // SAFETY: the map gave the pointer.
    unsafe {
        if (*slot).tid == old_tid {
            (*slot).tid = tid;
        }
    }
}

/// Whether the current call came through the 32-bit interface.
#[inline(always)]
fn is_compat(nr: u64) -> bool {
    let bit = fact!(compat_bit);
    if bit == 0 {
        return false;
    }
    let task = kernel::current();
    if fact!(compat_in_status) != 0 {
        let x32 = nr as i64 > 0 && nr & X32_BIT != 0;
        return x32 || u64::from(load!(task, thread_status as u32)) & bit != 0;
    }
    load!(task, thread_flags as u64) & bit != 0
}

/// Accounts the call that returns.
#[inline(always)]
fn account(returned: i64, tgid: u32, tid: u32) {
    let call = match take(tid) {
        Some(call) => call,
        None => task::recall(tid),
    };
    if call.state == call::NEWBORN {
        return;
    }
    let epoch = Epoch::now();
    let Some(ledger) = Ledger::of(epoch) else { return };
    ledger.attempted(probe::SYSCALL);
    if call.state == call::NONE {
        ledger.lost(probe::SYSCALL, column::ENTRY_MISSED);
        return;
    }
    if call.state == call::COMPAT {
        ledger.lost(probe::SYSCALL, column::COMPAT);
        return;
    }
    let latency_ns = kernel::now_ns().saturating_sub(call.entered_ns);
    let task = kernel::current();
    let key = SyscallKey {
        start_ns: subject::start_ns(task),
        tgid,
        nr: call.nr,
        cpu_bucket: cpu_bucket(kernel::cpu(), bucket::index(latency_ns)),
        pad: 0,
    };
    let failed = (-4095..0).contains(&returned);
    record(&key, epoch, ledger, latency_ns, failed);
}

/// Adds one call to its entry.
#[inline(always)]
fn record(key: &SyscallKey, epoch: Epoch, ledger: Ledger, latency_ns: u64, failed: bool) {
    let map = if epoch.is_odd() { &SYSCALLS_ODD } else { &SYSCALLS_EVEN };
    if let Some(value) = map.get_ptr_mut(key) {
        // SAFETY: the map gave the pointer; only this program on this CPU writes entries of this CPU.
        unsafe {
            (*value).count += 1;
            (*value).errors += u64::from(failed);
            (*value).sum_ns += latency_ns;
            if latency_ns < (*value).min_ns {
                (*value).min_ns = latency_ns;
            }
            if latency_ns > (*value).max_ns {
                (*value).max_ns = latency_ns;
            }
        }
        return;
    }
    let mut value = SyscallValue {
        count: 1,
        errors: u64::from(failed),
        sum_ns: latency_ns,
        min_ns: latency_ns,
        max_ns: latency_ns,
        comm: [0; 16],
    };
    subject::copy_comm(kernel::current(), &raw mut value.comm);
    if let Err(error) = map.insert(key, value, 0) {
        ledger.refused(probe::SYSCALL, error);
    }
}
