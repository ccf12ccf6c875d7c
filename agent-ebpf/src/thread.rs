//! What is remembered of a thread: the call it is in, and what it left its CPU with.
//!
//! A thread has the place in an array that its number leads to, and keeps it for life: no hashing, and no lock. Where
//! another thread lives there already, it lives in a hash map instead.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap},
};
use skep_common::{limit, state::Thread};

use crate::{
    kernel::{self, Address},
    subject,
};

/// State of the system call a thread is in.
pub mod call {
    /// None, or its entry was not seen.
    pub const NONE: u32 = 0;
    /// Entered; more of it is above.
    pub const OPEN: u32 = 1;
    /// Entered through the 32-bit interface.
    pub const COMPAT: u32 = 2;
    /// Entered, and passed over by sampling.
    pub const SKIPPED: u32 = 3;
    /// Entered, and only counted unless it sleeps.
    pub const UNTIMED: u32 = 4;
    /// Entered untimed, and then left its CPU: timed from there.
    pub const LATE: u32 = 5;
    /// What is left without the rest.
    pub const STATE: u32 = 0xff;
    /// With [`OPEN`]: it left its CPU.
    pub const SLEPT: u32 = 1 << 8;
    /// With [`OPEN`]: its thread calls so often that not every call is timed.
    pub const OFTEN: u32 = 1 << 9;
    /// Where the power of two begins for which it stands.
    pub const SHIFT_AT: u32 = 16;

    /// Number and state in one word, as they lie beside each other.
    #[inline(always)]
    pub fn word(nr: u32, state: u32) -> u64 {
        u64::from(state) << 32 | u64::from(nr)
    }
}

/// User space sets the number of entries, a power of two.
#[map]
static THREADS: Array<Thread> = Array::with_max_entries(limit::THREAD_PLACES, 0);

#[map]
static CROWDED: HashMap<u32, Thread> = HashMap::with_max_entries(limit::CROWDED_ENTRIES, 0);

/// Number and state of the call a thread is in ([`call::word`]).
///
/// # Safety
/// The map gave the pointer.
#[inline(always)]
pub unsafe fn call_of(thread: *mut Thread) -> u64 {
    // SAFETY: the caller's; the two fields are one aligned word.
    unsafe { (&raw const (*thread).nr).cast::<u64>().read() }
}

/// Sets both.
///
/// # Safety
/// The map gave the pointer, and the thread is the one that runs.
#[inline(always)]
pub unsafe fn set_call(thread: *mut Thread, word: u64) {
    // SAFETY: as above.
    unsafe { (&raw mut (*thread).nr).cast::<u64>().write(word) };
}

/// What is remembered of a thread, if anything.
#[inline(always)]
pub fn known(tid: u32) -> Option<*mut Thread> {
    let place = place(tid)?;
    // SAFETY: the map gave the pointer.
    if unsafe { (*place).tid } == tid {
        return Some(place);
    }
    CROWDED.get_ptr_mut(tid)
}

/// The same, made if need be; `None` when there is no room.
#[inline(always)]
pub fn of(task: Address, tid: u32) -> Option<*mut Thread> {
    let place = place(tid)?;
    // SAFETY: the map gave the pointer.
    if unsafe { (*place).tid } == tid {
        return Some(place);
    }
    settle(place, task, tid)
}

/// Inode of the cgroup directory of a thread that is known.
///
/// # Safety
/// `thread` is what [`of`] gave for `task`.
#[inline(always)]
pub unsafe fn cgroup_id(thread: *mut Thread, task: Address) -> u64 {
    if !has!(task_cgroups) {
        return 0;
    }
    let cgroups = load!(task, task_cgroups as u64);
    // SAFETY: the caller's; only the thread's own CPU writes this.
    unsafe {
        // Another set can have the address of one that is gone, but only for a thread that moved twice since the last
        // look at it.
        if (*thread).cgroups != cgroups {
            (*thread).cgroup_id = subject::cgroup_id(task);
            (*thread).cgroups = cgroups;
        }
        (*thread).cgroup_id
    }
}

/// The thread is gone.
#[inline(always)]
pub fn forget(tid: u32) {
    let Some(place) = place(tid) else { return };
    // SAFETY: the map gave the pointer; a place is only written by its own thread or, when it dies, by its CPU.
    unsafe {
        if (*place).tid == tid {
            (*place).tid = 0;
            core::ptr::write_volatile(&raw mut (*place).claims, 0);
            return;
        }
    }
    _ = CROWDED.remove(tid);
}

/// A thread has another number from now on: it is in the same call.
#[inline(always)]
pub fn renumber(task: Address, old_tid: u32, tid: u32) {
    if let Some(old) = known(old_tid) {
        // SAFETY: the map gave the pointer.
        let Thread { nr, call, entered_ns, .. } = unsafe { old.read() };
        if let Some(new) = of(task, tid) {
            // SAFETY: the map gave the pointer; nobody else has the number.
            unsafe {
                (*new).nr = nr;
                (*new).call = call;
                (*new).entered_ns = entered_ns;
            }
        }
    }
    forget(old_tid);
}

#[inline(always)]
fn place(tid: u32) -> Option<*mut Thread> {
    THREADS.get_ptr_mut(tid & fact!(thread_mask) as u32)
}

/// Takes the place for life, or goes to the map.
#[inline(always)]
fn settle(place: *mut Thread, task: Address, tid: u32) -> Option<*mut Thread> {
    if let Some(known) = CROWDED.get_ptr_mut(tid) {
        return Some(known);
    }
    // SAFETY: the map gave the pointer. Of those that come at once at most one reads 1: it has the place. Should none,
    // the place stays empty.
    unsafe {
        let claims = &raw mut (*place).claims;
        if core::ptr::read_volatile(claims) == 0 {
            kernel::atomic_increment(claims);
            if core::ptr::read_volatile(claims) == 1 {
                place.write(Thread { claims: 1, ..newcomer(task, tid) });
                return Some(place);
            }
        }
    }
    CROWDED.insert(tid, newcomer(task, tid), 0).ok()?;
    CROWDED.get_ptr_mut(tid)
}

#[inline(always)]
fn newcomer(task: Address, tid: u32) -> Thread {
    Thread {
        tid,
        tgid: load!(task, task_tgid as u32),
        claims: 0,
        start_ns: subject::start_ns(task),
        entered_ns: 0,
        nr: 0,
        call: call::NONE,
        left_ns: 0,
        waited_ns: 0,
        left_cpu: 0,
        untimed: 0,
        cgroups: 0,
        cgroup_id: 0,
        last_ns: 0,
        pad: [0; 5],
    }
}
