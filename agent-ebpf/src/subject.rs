//! Who: the identity of a process and what every event says of it.

use skep_common::event::SubjectRecord;

use crate::kernel::{self, Address};

/// Start of the thread group leader of `task`.
#[inline(always)]
pub fn start_ns(task: Address) -> u64 {
    let leader = load!(task, task_leader as Address);
    load!(leader, task_start as u64)
}

/// Inode of the cgroup directory of `task` in the unified hierarchy; 0 when this kernel does not tell.
#[inline(always)]
pub fn cgroup_id(task: Address) -> u64 {
    if !(has!(task_cgroups) && has!(css_default) && has!(cgroup_node) && has!(node_id)) {
        return 0;
    }
    let set = load!(task, task_cgroups as Address);
    let group = load!(set, css_default as Address);
    let node = load!(group, cgroup_node as Address);
    load!(node, node_id as u64)
}

/// The task name of the process of `task`, its leader's, whatever the thread calls itself; as two words.
#[inline(always)]
pub fn comm_words(task: Address) -> [u64; 2] {
    let leader = load!(task, task_leader as Address);
    let offset = offset!(task_comm);
    [kernel::load_at(leader, offset), kernel::load_at(leader, offset + 8)]
}

/// Effective capabilities of `task`; none when this kernel does not tell.
#[inline(always)]
pub fn capabilities(task: Address) -> u64 {
    if !has!(cred_capabilities) {
        return 0;
    }
    let cred = load!(task, task_cred as Address);
    // Older kernels keep two words of 32 bits; fetched, because a load across both is refused.
    fetch!(cred, cred_capabilities as u64)
}

/// Writes what is known of `task` into `subject`.
#[inline(always)]
pub fn describe(subject: *mut SubjectRecord, task: Address, at_ns: u64) {
    let parent = load!(task, task_parent as Address);
    let cred = load!(task, task_cred as Address);
    // SAFETY: the caller's record is whole; every field of it is written.
    unsafe {
        (*subject).at_ns = at_ns;
        (*subject).start_ns = start_ns(task);
        (*subject).parent_start_ns = start_ns(parent);
        (*subject).cgroup_id = cgroup_id(task);
        (*subject).tgid = load!(task, task_tgid as u32);
        (*subject).parent_tgid = load!(parent, task_tgid as u32);
        (*subject).uid = load!(cred, cred_uid as u32);
        (*subject).gid = load!(cred, cred_gid as u32);
        (*subject).euid = load!(cred, cred_euid as u32);
        (*subject).pad = 0;
        (&raw mut (*subject).comm).cast::<[u64; 2]>().write(comm_words(task));
    }
}

/// A subject nothing is known of.
pub const NOBODY: SubjectRecord = SubjectRecord {
    at_ns: 0,
    start_ns: 0,
    parent_start_ns: 0,
    cgroup_id: 0,
    tgid: 0,
    parent_tgid: 0,
    uid: 0,
    gid: 0,
    euid: 0,
    pad: 0,
    comm: [0; 16],
};
