//! Where the processes of the table are: the kernel's word first, `/proc` after it.

use std::sync::Arc;

use super::{Attribution, Identities, Process, text, unknown_start};
use crate::aggregate::cgroup::Cgroup;
use crate::aggregate::pods::{Pods, Wanted};
use crate::probe::reading::{CgroupChange, CgroupEvent, ProcessKey, Subject};

impl Process {
    fn was_placed_since(&self, from_ns: u64) -> bool {
        self.cgroup.is_some() && self.placed_ns >= from_ns
    }
}

impl Identities {
    /// A cgroup was made, removed, or joined by a process.
    pub fn on_cgroup(&mut self, event: &CgroupEvent) {
        let CgroupChange::Joined(key) = event.change else {
            self.cgroups.on_change(event, None);
            return;
        };
        // Events wait in the kernel, long while no agent runs; what was looked up since is newer.
        if self.resolve(key, None).is_some_and(|process| event.at_ns < process.placed_ns) {
            return;
        }
        let before = self.table.get(&key).and_then(|process| process.cgroup.clone());
        let now = self.cgroups.on_change(event, before.as_ref());
        if let (Some(process), Some(now)) = (self.table.get_mut(&key), now) {
            process.cgroup = Some(now);
            process.attribution = Attribution::Exact;
            process.placed_ns = event.at_ns;
        }
    }

    /// Takes new names of pods and calls by them every process in a pod that had none.
    pub fn set_pods(&mut self, pods: Pods) {
        self.cgroups.set_pods(pods);
        for cgroup in self.table.values_mut().filter_map(|process| process.cgroup.as_mut()) {
            if cgroup.workload.pod.is_some() && cgroup.workload.namespace.is_none() {
                *cgroup = self.cgroups.again(cgroup);
            }
        }
    }

    /// Uids of pods that have no name yet, asked for since the last call.
    pub fn take_wanted(&mut self) -> Wanted {
        self.cgroups.take_wanted()
    }

    /// As [`Identities::resolve`], with its cgroup as it was counted since `from_ns`, for it may have moved. Where the kernel
    /// does not tell enough, a process that still runs is looked up.
    ///
    /// Events that are newer than the counts have been taken in by now: where the kernel tells of every move, what it told
    /// since `from_ns` stands.
    pub fn resolve_current(
        &mut self,
        key: ProcessKey,
        comm: &[u8; 16],
        kernel_id: u64,
        from_ns: u64,
    ) -> Option<&Process> {
        match self.resolve(key, Some(comm)) {
            None => self.insert_stranger(key, unknown_start(0), comm, None),
            // It may only have been too many to look up at once.
            Some(process) if process.stranger => _ = self.look_up(key, Some(comm)),
            Some(_) => {}
        }
        let runs = self.table.get(&key).is_some_and(|process| !process.ended);
        let is_newest = self.newest.get(&key.pid) == Some(&key);
        let told =
            self.cgroups.is_told() && self.table.get(&key).is_some_and(|process| process.was_placed_since(from_ns));
        if !told {
            self.locate(key, kernel_id, from_ns, runs && is_newest);
        }
        let process = self.table.get_mut(&key)?;
        // A process none of whose slices found room has no name here.
        if comm[0] != 0 {
            process.comm = text(comm);
        }
        Some(process)
    }

    /// As [`Identities::resolve`], for a process an event tells of: one that nobody knows is at least what the event says.
    pub fn meet(&mut self, subject: &Subject) -> Option<&Process> {
        let key = subject.process;
        if self.resolve(key, Some(&subject.comm)).is_none() {
            self.insert_stranger(key, subject.parent, &subject.comm, Some(subject.uid));
            self.locate(key, subject.cgroup_id, subject.at_ns, false);
        }
        self.table.get(&key)
    }

    /// Finds out where a known process is: from the id the kernel gave at `at_ns`, and where that is not enough from `/proc`, if it may
    /// still be there.
    pub(super) fn locate(&mut self, key: ProcessKey, kernel_id: u64, at_ns: u64, runs: bool) {
        let Some(process) = self.table.get(&key) else { return };
        let before = process.cgroup.clone();
        let kernel = self.cgroups.of_kernel_id(kernel_id, before.as_ref());
        let enough = kernel.is_some() && self.cgroups.kernel_suffices();
        let looked_up = if enough || !runs { None } else { self.look_up_cgroup(key.pid) };
        let now_ns = self.now_ns;
        let Some(process) = self.table.get_mut(&key) else { return };
        match (looked_up, kernel) {
            (Some(cgroup), kernel) => {
                let confirmed =
                    kernel.is_some_and(|kernel| kernel.is_named_by_kernel() && kernel.workload == cgroup.workload);
                process.attribution = if confirmed { Attribution::Exact } else { Attribution::Late };
                process.cgroup = Some(cgroup);
                process.placed_ns = now_ns;
            }
            (None, Some(cgroup)) => {
                if cgroup.is_named_by_kernel() {
                    process.attribution = Attribution::Exact;
                } else if process.attribution == Attribution::Unknown {
                    process.attribution = Attribution::Late;
                }
                process.cgroup = Some(cgroup);
                process.placed_ns = at_ns;
            }
            (None, None) => {}
        }
    }

    pub(super) fn look_up_cgroup(&mut self, pid: u32) -> Option<Arc<Cgroup>> {
        if !self.spend() {
            return None;
        }
        let text = self.lookup.membership(pid)?;
        self.cgroups.of_text(&text)
    }

    /// A process nobody knew and nobody can look up any more.
    fn insert_stranger(&mut self, key: ProcessKey, parent: ProcessKey, comm: &[u8; 16], uid: Option<u32>) {
        if key.pid == 0 || key.start_ns == 0 {
            return;
        }
        let stranger = Process {
            key,
            start_exact: true,
            parent,
            comm: text(comm),
            exe: None,
            uid,
            cgroup: None,
            attribution: Attribution::Unknown,
            capabilities: None,
            seen: self.window,
            ended: true,
            stranger: true,
            placed_ns: 0,
        };
        // Its pid may be another's by now.
        let newest = self.newest.get(&key.pid).copied().filter(|newest| newest.start_ns > key.start_ns);
        self.insert(stranger);
        if let Some(newest) = newest {
            self.newest.insert(key.pid, newest);
        }
    }
}
