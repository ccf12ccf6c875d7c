//! What a process does that deserves a look, whatever it is for: processes killed for want of memory, modules loaded,
//! credentials changed, others traced, BPF programs and rings for asynchronous calls made.
//!
//! Most of these are system calls. Their entry and return are watched for all calls anyway, or are for these alone; a
//! call that is none of them costs a look at one bit of a table user space fills in.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str},
    macros::map,
    maps::LruHashMap,
};
use skep_common::{
    event::{SecurityRecord, kind, security},
    ledger::{column, price, probe},
    limit,
    offset::Watched,
};

use super::syscall::is_compat;
use crate::{
    here::Here,
    hook::Arguments,
    kernel::{self, Address},
    price::Meter,
    ring,
    subject::{self, NOBODY},
};

/// The calls that are looked at.
#[unsafe(no_mangle)]
pub static WATCHED: Watched = Watched::NONE;

/// What a thread was allowed when it entered a call that may change it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Credentials {
    effective: u64,
    uid: u32,
    euid: u32,
    gid: u32,
    egid: u32,
}

/// By thread; the kernel makes room for new ones itself.
#[map]
static CREDENTIALS: LruHashMap<u32, Credentials> = LruHashMap::with_max_entries(limit::CREDENTIAL_ENTRIES, 0);

/// Whether a request of ptrace attaches to the traced or changes it, include/uapi/linux/ptrace.h: `POKE*`, `SETREGS`,
/// `SETFPREGS`, `ATTACH`, `SETREGSET`, `SEIZE`.
#[inline(always)]
fn is_intrusive(request: u64) -> bool {
    matches!(request, 4 | 5 | 6 | 13 | 15 | 16 | 0x4205 | 0x4206)
}

/// Commands of bpf that make or attach something, include/uapi/linux/bpf.h, and where in their attributes the name is.
mod bpf {
    pub const MAP_CREATE: u64 = 0;
    pub const MAP_NAME: usize = 28;
    pub const PROG_LOAD: u64 = 5;
    pub const PROG_NAME: usize = 48;
    pub const PROG_ATTACH: u64 = 8;
    pub const RAW_TRACEPOINT_OPEN: u64 = 17;
    pub const LINK_CREATE: u64 = 28;
}

// Source: mm/oom_kill.c `__oom_kill_process`, `(int pid)`, since 6.8 `(struct task_struct *task, uid_t uid)`.
hook!(mark_victim, raw_mark_victim, killed);

#[inline(always)]
fn killed(arguments: Arguments) {
    let task = kernel::current();
    tell(security::OOM_KILL, task, |record| {
        // SAFETY: the ring gave the room.
        unsafe {
            (*record).target = load!(task, task_tgid as u32);
            (&raw mut (*record).text).cast::<[u64; 2]>().write(subject::comm_words(task));
            let subject = &raw mut (*record).subject;
            if fact!(victim_is_task) != 0 {
                subject::describe(subject, arguments.address(0), (*subject).at_ns);
            } else {
                let at_ns = (*subject).at_ns;
                subject.write(NOBODY);
                (*subject).at_ns = at_ns;
                (*subject).tgid = arguments.number(0) as u32;
            }
        }
    });
}

// Source: kernel/module/main.c `load_module`, `(struct module *mod)`.
hook!(module_load, raw_module_load, loaded);

#[inline(always)]
fn loaded(arguments: Arguments) {
    let module = arguments.address(0);
    tell(security::MODULE_LOAD, kernel::current(), |record| {
        // SAFETY: the ring gave the room; the helper checks the source.
        unsafe {
            if has!(module_name) {
                let name = module.wrapping_add(offset!(module_name) as usize);
                bpf_probe_read_kernel_str((&raw mut (*record).text).cast(), 56, name.cast());
            }
            if has!(module_taints) {
                (*record).values[0] = fetch!(module, module_taints as u64);
            }
        }
    });
}

/// Whether a call is one of those whose bits are given.
#[inline(always)]
fn is_in(bits: &'static [u64; Watched::WORDS], nr: u64) -> bool {
    if nr >= 64 * Watched::WORDS as u64 {
        return false;
    }
    // SAFETY: the index is within the array; volatile because user space writes the table after it was compiled.
    let word = unsafe { core::ptr::read_volatile(bits.as_ptr().add((nr >> 6) as usize)) };
    word >> (nr & 63) & 1 != 0
}

/// A call begins.
#[inline(always)]
pub fn entering(nr: u64) {
    if is_in(&WATCHED.at_entry, nr) {
        security_entered(nr);
    }
}

/// A call returns; `registers` is its `struct pt_regs *`.
#[inline(always)]
pub fn returning(nr: u32, returned: i64, registers: Address) {
    if is_in(&WATCHED.at_return, u64::from(nr)) {
        // Numbers, not the pointer: what is verified by itself takes no pointers.
        let (first, second) = (fetch!(registers, regs_first as u64), fetch!(registers, regs_second as u64));
        security_returned(u64::from(nr), returned as u64, first, second);
    }
}

/// Remembers what the thread may do before a call that changes it.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn security_entered(nr: u64) -> u64 {
    let task = kernel::current();
    if !is_compat(task, nr) {
        let tid = load!(task, task_pid as u32);
        _ = CREDENTIALS.insert(tid, credentials(task), 0);
    }
    0
}

/// Tells of a call that was watched, by its number, what it returned and its first two arguments.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn security_returned(nr: u64, returned: u64, first: u64, second: u64) -> u64 {
    let task = kernel::current();
    if is_compat(task, nr) {
        return 0;
    }
    let Some(here) = Here::now() else { return 0 };
    let meter = Meter::start(here, price::PROCESS, None);
    let returned = returned as i64;
    if nr == fact!(nr_ptrace) {
        traced(task, returned, first, second);
    } else if nr == fact!(nr_bpf) {
        made_bpf(here, task, returned, first, second);
    } else if nr == fact!(nr_io_uring_setup) {
        made_ring(task, returned, first, second);
    } else {
        changed(here, task, nr);
    }
    meter.stop();
    0
}

#[inline(always)]
fn traced(task: Address, returned: i64, request: u64, target: u64) {
    if !is_intrusive(request) {
        return;
    }
    tell(security::PTRACE, task, |record| {
        // SAFETY: the ring gave the room.
        unsafe {
            (*record).result = returned;
            (*record).target = target as u32;
            (*record).values[0] = request;
        }
    });
}

#[inline(always)]
fn made_bpf(here: Here, task: Address, returned: i64, command: u64, attributes: u64) {
    let command = u64::from(command as u32);
    let named = match command {
        bpf::MAP_CREATE => bpf::MAP_NAME,
        bpf::PROG_LOAD => bpf::PROG_NAME,
        bpf::PROG_ATTACH | bpf::RAW_TRACEPOINT_OPEN | bpf::LINK_CREATE => 0,
        _ => return,
    };
    // SAFETY: the state is this CPU's; user space writes it at any time.
    let owner = unsafe { core::ptr::read_volatile(&raw const (*here.state).owner) };
    if owner == u64::from(load!(task, task_tgid as u32)) {
        return;
    }
    let attributes = attributes as Address;
    tell(security::BPF, task, |record| {
        // SAFETY: the ring gave the room; the helpers check the source.
        unsafe {
            (*record).result = returned;
            (*record).values[0] = command;
            bpf_probe_read_user((&raw mut (*record).values[1]).cast(), 4, attributes.cast());
            if named != 0 {
                let name = attributes.wrapping_add(named);
                bpf_probe_read_user_str((&raw mut (*record).text).cast(), 16, name.cast());
            }
        }
    });
}

#[inline(always)]
fn made_ring(task: Address, returned: i64, entries: u64, parameters: u64) {
    // `struct io_uring_params`: two counts, then flags.
    const FLAGS: usize = 8;
    let parameters = parameters as Address;
    tell(security::IO_URING_SETUP, task, |record| {
        // SAFETY: the ring gave the room; the helper checks the source.
        unsafe {
            (*record).result = returned;
            (*record).values[0] = u64::from(entries as u32);
            bpf_probe_read_user((&raw mut (*record).values[1]).cast(), 4, parameters.wrapping_add(FLAGS).cast());
        }
    });
}

/// Tells of what the call changed, if it changed anything.
#[inline(always)]
fn changed(here: Here, task: Address, nr: u64) {
    let tid = load!(task, task_pid as u32);
    let Some(before) = CREDENTIALS.get_ptr_mut(tid) else {
        here.attempted(probe::SECURITY);
        here.lost(probe::SECURITY, column::ENTRY_MISSED);
        return;
    };
    // SAFETY: the map gave the pointer.
    let before = unsafe { before.read() };
    _ = CREDENTIALS.remove(tid);
    let after = credentials(task);
    if before == after {
        return;
    }
    tell(security::CREDENTIALS, task, |record| {
        // SAFETY: the ring gave the room.
        unsafe {
            (*record).target = nr as u32;
            (*record).values = [
                pair(before.uid, after.uid),
                pair(before.euid, after.euid),
                pair(before.gid, after.gid),
                pair(before.egid, after.egid),
                before.effective,
                after.effective,
            ];
        }
    });
}

#[inline(always)]
fn pair(before: u32, after: u32) -> u64 {
    u64::from(before) << 32 | u64::from(after)
}

#[inline(always)]
fn credentials(task: Address) -> Credentials {
    let cred = load!(task, task_cred as Address);
    Credentials {
        effective: subject::capabilities(task),
        uid: load!(cred, cred_uid as u32),
        euid: load!(cred, cred_euid as u32),
        gid: load!(cred, cred_gid as u32),
        egid: if has!(cred_egid) { load!(cred, cred_egid as u32) } else { 0 },
    }
}

/// Sends a record about `task`, the rest of which `fill` writes into zeroes.
#[inline(always)]
fn tell(event: u32, task: Address, fill: impl FnOnce(*mut SecurityRecord)) {
    let now_ns = kernel::now_ns();
    ring::emit::<SecurityRecord>(probe::SECURITY, kind::SECURITY, |record| {
        // SAFETY: the ring gave the room; every field is written.
        unsafe {
            subject::describe(&raw mut (*record).subject, task, now_ns);
            (*record).event = event;
            (*record).target = 0;
            (*record).result = 0;
            (*record).values = [0; 6];
            (*record).text = [0; 64];
        }
        fill(record);
    });
}
