//! Cgroups made and removed, and who is put into one.
//!
//! The three hooks run with `cgroup_mutex` and the spin lock of the path's buffer held, so they never interrupt one
//! another and share scratch and counters. Every hierarchy is told of; user space knows which of them matter.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel_str, macros::map, maps::PerCpuArray};
use skep_common::{
    event::{CgroupRecord, cgroup, kind},
    ledger::probe,
    limit,
};

use crate::{
    here::Here,
    hook::Arguments,
    kernel::{self, Address},
    ring, subject,
};

/// Where a record is put together.
#[repr(C)]
struct Scratch {
    record: CgroupRecord,
    /// Begins where the record ends: both go into the ring as one.
    path: [u8; limit::CGROUP_PATH_BYTES],
}

#[map]
static CGROUP_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

// Source: kernel/cgroup/cgroup.c `cgroup_mkdir`, `(struct cgroup *cgrp, const char *path)`; before anyone can be in it.
hook!(cgroup_mkdir, raw_cgroup_mkdir, made);

#[inline(always)]
fn made(arguments: Arguments) {
    tell(arguments, cgroup::MADE, None);
}

// Source: kernel/cgroup/cgroup.c `cgroup_rmdir`, `(struct cgroup *cgrp, const char *path)`; after the last has left.
hook!(cgroup_rmdir, raw_cgroup_rmdir, removed);

#[inline(always)]
fn removed(arguments: Arguments) {
    tell(arguments, cgroup::REMOVED, None);
}

// Source: kernel/cgroup/cgroup.c `cgroup_attach_task`, `(struct cgroup *dst_cgrp, const char *path, struct task_struct
// *task, bool threadgroup)`.
hook!(cgroup_attach_task, raw_cgroup_attach_task, joined);

#[inline(always)]
fn joined(arguments: Arguments) {
    let task = arguments.address(2);
    // A thread that goes alone leaves its process where it was.
    if load!(task, task_pid as u32) == load!(task, task_tgid as u32) {
        tell(arguments, cgroup::JOINED, Some(task));
    }
}

#[inline(always)]
fn tell(arguments: Arguments, change: u32, task: Option<Address>) {
    let (Some(here), Some(scratch)) = (Here::now(), CGROUP_SCRATCH.get_ptr_mut(0)) else { return };
    let (group, path) = (arguments.address(0), arguments.address(1));
    let node = load!(group, cgroup_node as Address);
    let root = load!(group, cgroup_root as Address);
    // SAFETY: the map gave the pointer and there is room for the bound; the helper checks the source.
    let copied = unsafe {
        bpf_probe_read_kernel_str((&raw mut (*scratch).path).cast(), limit::CGROUP_PATH_BYTES as u32, path.cast())
    };
    // One that fills the room has lost its end and would be another's. Unsigned and compared once, which older verifiers
    // understand: a failure is a huge number.
    // SAFETY: as above; the field is written below.
    let copied = kernel::forget(unsafe { &raw mut (*scratch).record.at_ns }, copied as u64);
    let length = if copied < limit::CGROUP_PATH_BYTES as u64 { copied } else { 0 };
    let (tgid, start_ns) = match task {
        Some(task) => (load!(task, task_tgid as u32), subject::start_ns(task)),
        None => (0, 0),
    };
    // SAFETY: as above; every field is written.
    unsafe {
        let record = &raw mut (*scratch).record;
        (*record).header = ring::header(here, kind::CGROUP);
        (*record).at_ns = kernel::now_ns();
        (*record).id = load!(node, node_id as u64);
        (*record).start_ns = start_ns;
        (*record).tgid = tgid;
        (*record).hierarchy = load!(root, root_hierarchy as u32);
        (*record).change = change;
        (*record).path_len = length as u32;
    }
    ring::emit_bytes(here, probe::CGROUP, scratch.cast(), size_of::<CgroupRecord>() as u64 + length);
}
