//! What is remembered of a thread while it is not on a CPU.

use aya_ebpf::{macros::map, maps::HashMap};
use skep_common::limit;

/// State of the system call a thread is in.
pub mod call {
    /// None, or its entry was not seen.
    pub const NONE: u32 = 0;
    /// Entered.
    pub const OPEN: u32 = 1;
    /// A new thread on its way out of the call that made it, which its parent accounts for.
    pub const NEWBORN: u32 = 2;
    /// Entered through the 32-bit interface.
    pub const COMPAT: u32 = 3;
}

/// A system call under way.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    /// When it was entered.
    pub entered_ns: u64,
    /// Its number.
    pub nr: u32,
    /// One of [`call`].
    pub state: u32,
}

/// A thread that is not on a CPU.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Task {
    /// Since when it waits for a CPU; 0 when it does not, or nobody saw it begin.
    pub queued_ns: u64,
    /// The call it is in.
    pub call: Call,
}

/// By thread id. An entry lives until the thread leaves its CPU for the last time.
#[map]
pub static TASKS: HashMap<u32, Task> = HashMap::with_max_entries(limit::TASK_ENTRIES, 0);

/// No call.
pub const NO_CALL: Call = Call { entered_ns: 0, nr: 0, state: call::NONE };

/// The thread waits for a CPU from now on.
#[inline(always)]
pub fn queue(tid: u32, now_ns: u64) {
    match TASKS.get_ptr_mut(tid) {
        // SAFETY: the map gave the pointer.
        Some(task) => unsafe { (*task).queued_ns = now_ns },
        // When the map is full the wait is missed, which the ledger says when it ends.
        None => _ = TASKS.insert(tid, Task { queued_ns: now_ns, call: NO_CALL }, 0),
    }
}

/// Takes the call of a thread on a CPU out of its entry, where it still is when nobody saw the thread come.
#[inline(always)]
pub fn recall(tid: u32) -> Call {
    let Some(task) = TASKS.get_ptr_mut(tid) else { return NO_CALL };
    // SAFETY: the map gave the pointer; only the thread's own CPU touches its call.
    unsafe {
        let call = (*task).call;
        (*task).call.state = call::NONE;
        call
    }
}
