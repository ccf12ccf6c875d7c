//! Processes: forked, executing, ended.

use aya_ebpf::{macros::map, maps::LruHashMap};
use skep_common::{
    event::{ExitRecord, ForkRecord, kind},
    ledger::probe,
};

use super::exec;
use crate::{
    hook::Arguments,
    kernel::{self, Address},
    ring, subject, thread,
};

/// A process that was said to end.
#[repr(C)]
struct Ended {
    start_ns: u64,
    tgid: u32,
    pad: u32,
}

/// Those that ended last; only used where the kernel does not say which thread is the last.
#[map]
static ENDED: LruHashMap<Ended, u32> = LruHashMap::with_max_entries(1_024, 0);

/// `SIGNAL_GROUP_EXIT`: the whole group ends with the group's code.
const SIGNAL_GROUP_EXIT: u32 = 4;

// Source: kernel/fork.c `kernel_clone`, `(struct task_struct *parent, struct task_struct *child)`.
hook!(sched_process_fork, raw_sched_process_fork, forked);

#[inline(always)]
fn forked(arguments: Arguments) {
    let child = arguments.address(1);
    let tid = load!(child, task_pid as u32);
    // Whatever an earlier thread of this number may have left, should nobody have seen it die.
    thread::forget(tid);
    if fact!(process) == 0 || tid != load!(child, task_tgid as u32) {
        return;
    }
    let now_ns = kernel::now_ns();
    ring::emit::<ForkRecord>(probe::FORK, kind::FORK, |record| {
        // SAFETY: the ring gave the room; every field is written.
        unsafe {
            subject::describe(&raw mut (*record).subject, child, now_ns);
            (*record).capabilities = subject::capabilities(child);
        }
    });
}

// Source: kernel/exit.c `do_exit`, `(struct task_struct *p, bool group_dead)`; the last since 6.16.
hook!(sched_process_exit, raw_sched_process_exit, ended);

#[inline(always)]
fn ended(arguments: Arguments) {
    let task = arguments.address(0);
    // Should it be preempted on its way, its last switch does the same.
    thread::forget(load!(task, task_pid as u32));
    if fact!(process) == 0 {
        return;
    }
    let signal = load!(task, task_signal as Address);
    let last =
        if fact!(exit_has_last) != 0 { arguments.number(1) & 1 != 0 } else { load!(signal, signal_live as u32) == 0 };
    if !last || (fact!(exit_has_last) == 0 && !is_first_end(task)) {
        return;
    }
    let status = if load!(signal, signal_flags as u32) & SIGNAL_GROUP_EXIT != 0 {
        load!(signal, signal_exit_code as u32)
    } else {
        let leader = load!(task, task_leader as Address);
        load!(leader, task_exit_code as u32)
    };
    let now_ns = kernel::now_ns();
    ring::emit::<ExitRecord>(probe::EXIT, kind::EXIT, |record| {
        // SAFETY: the ring gave the room; every field is written.
        unsafe {
            subject::describe(&raw mut (*record).subject, task, now_ns);
            (*record).status = status;
            (*record).pad = 0;
        }
    });
}

/// Whether this process has not been said to end yet. Where the kernel does not say who is last, two threads that end at
/// once may both find that none is left.
#[inline(always)]
fn is_first_end(task: Address) -> bool {
    const NO_EXIST: u64 = 1;
    let key = Ended { start_ns: subject::start_ns(task), tgid: load!(task, task_tgid as u32), pad: 0 };
    ENDED.insert(key, 0, NO_EXIST).is_ok()
}

// Source: fs/exec.c `exec_binprm`, `(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
hook!(sched_process_exec, raw_sched_process_exec, executing);

#[inline(always)]
fn executing(arguments: Arguments) {
    let task = arguments.address(0);
    let old_tid = arguments.number(1) as u32;
    let tid = load!(task, task_pid as u32);
    if old_tid != tid {
        // A thread took the place of its leader.
        thread::renumber(task, old_tid, tid);
    }
    if fact!(process) != 0 {
        exec::executed(task, arguments.address(2));
    }
}
