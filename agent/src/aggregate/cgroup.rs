//! Where a process stands in the host's cgroup hierarchies, and what that makes it.
//!
//! The kernel's own word comes first: every event carries the id of a directory of the unified hierarchy, and the kernel
//! tells when directories are made and removed and when a process is put into one. `/proc/PID/cgroup` comes after it, for
//! what ran before and where the kernel does not tell.
//!
//! The path that is shown is the one in the hierarchy that controls cpu, because that is where an action can aim; the name
//! comes from whichever hierarchy knows it best. On a pure version 2 host both are one.

use std::collections::HashMap;
use std::sync::Arc;

use super::hierarchy::{Hierarchies, Hierarchy};
use super::membership::{Membership, is_top};
use super::pods::{Pods, Wanted};
use super::tree::Tree;
use super::workload::Workload;
use crate::probe::reading::{CgroupChange, CgroupEvent};

/// Cgroups named. When there are more, the memory is emptied and fills up again, at the price of naming each once more.
const NAMED: usize = 16_384;

/// Directories of the version 1 hierarchy whose inode is remembered; likewise.
const REMEMBERED: usize = 16_384;

/// A cgroup as the tables show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Path in the hierarchy that controls cpu, with its leading slash.
    pub path: Option<Arc<str>>,
    /// Inode of that directory; `None` when it was gone before it could be looked at.
    pub id: Option<u64>,
    /// Who.
    pub workload: Workload,
    membership: Membership,
    /// Inode of the directory in the unified hierarchy.
    kernel_id: Option<u64>,
}

impl Cgroup {
    /// Whether the kernel's id alone says who this is: at the top of the unified hierarchy another one may name it.
    pub fn is_named_by_kernel(&self) -> bool {
        let unified = self.membership.unified.as_deref();
        self.kernel_id.is_some() && (self.membership.cpu.is_none() || unified.is_some_and(|path| !is_top(path)))
    }

    /// Whether the kernel's id for it is another than `id`, as far as both are known.
    pub fn differs_from(&self, id: u64) -> bool {
        id != 0 && self.kernel_id.is_some_and(|known| known != id)
    }
}

/// What makes a [`Cgroup`]: the same things the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    membership: Membership,
    kernel_id: Option<u64>,
    cpu_id: Option<u64>,
}

/// Names cgroups and remembers them.
#[derive(Debug)]
pub struct Cgroups {
    tree: Option<Tree>,
    legacy: Option<Legacy>,
    systemd: Option<u32>,
    /// The kernel tells of directories and of who joins them.
    told: bool,
    named: HashMap<Key, Arc<Cgroup>>,
    pods: Pods,
}

/// The version 1 hierarchy that controls cpu.
#[derive(Debug)]
struct Legacy {
    hierarchy: Hierarchy,
    inodes: HashMap<Arc<str>, u64>,
}

impl Legacy {
    fn inode(&mut self, path: &Arc<str>, told: bool) -> Option<u64> {
        let known = self.inodes.get(path).copied();
        if told && known.is_some() {
            return known;
        }
        // A directory that is gone keeps the inode it had.
        let Some(found) = self.hierarchy.inode(path) else { return known };
        self.remember(path, found);
        Some(found)
    }

    fn remember(&mut self, path: &Arc<str>, inode: u64) {
        if self.inodes.len() >= REMEMBERED {
            self.inodes.clear();
        }
        self.inodes.insert(Arc::clone(path), inode);
    }
}

impl Cgroups {
    /// Nothing remembered yet. `told`: the kernel's word about directories will come, see [`Cgroups::on_change`].
    pub fn new(hierarchies: Hierarchies, told: bool) -> Self {
        Self {
            tree: hierarchies.unified.map(Tree::new),
            legacy: hierarchies.cpu.map(|hierarchy| Legacy { hierarchy, inodes: HashMap::new() }),
            systemd: hierarchies.systemd,
            told,
            named: HashMap::new(),
            pods: Pods::default(),
        }
    }

    /// Takes in the directories there are; to be called once. Cost: some 100 ms at worst.
    pub fn seed(&mut self, now_ns: u64) {
        if let Some(tree) = &mut self.tree {
            tree.seed(now_ns);
        }
    }

    /// Searches for ids that were not known, a bounded step at a time; to be called at every drain.
    pub fn work(&mut self, now_ns: u64) {
        if let Some(tree) = &mut self.tree {
            tree.work(now_ns);
        }
    }

    /// Whether the kernel tells of directories and of who joins them.
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// Whether the kernel's word is enough to know where a process is, once it was known.
    pub fn kernel_suffices(&self) -> bool {
        self.told || (self.legacy.is_none() && self.tree.is_some())
    }

    /// The cgroup of a process from the text of its `/proc/PID/cgroup`. Cost: two `stat`.
    pub fn of_text(&mut self, text: &str) -> Option<Arc<Cgroup>> {
        let membership = Membership::parse(text);
        let kernel_id = match (&self.tree, &membership.unified) {
            (Some(tree), Some(path)) => tree.inode(path),
            _ => None,
        };
        if membership == Membership::default() {
            return None;
        }
        Some(self.name(membership, kernel_id))
    }

    /// The cgroup with the kernel's id, of a process that was in `before`. `None` when the id is not known (it is then
    /// searched for) or says nothing: of a process at the top of the unified hierarchy the others tell.
    pub fn of_kernel_id(&mut self, id: u64, before: Option<&Arc<Cgroup>>) -> Option<Arc<Cgroup>> {
        if let Some(before) = before.filter(|before| id != 0 && before.kernel_id == Some(id)) {
            return Some(Arc::clone(before));
        }
        let path = self.tree.as_mut().filter(|_| id != 0)?.path(id)?;
        let mut membership = before.map(|before| before.membership.clone()).unwrap_or_default();
        if let Some(legacy) = &mut self.legacy {
            // Where nobody tells who joins what, a runtime that made the one directory made the other and joined both.
            if !is_top(&path) && (!self.told || before.is_none()) && legacy.inode(&path, self.told).is_some() {
                membership.cpu = Some(Arc::clone(&path));
            }
            if is_top(&path) && membership.cpu.is_none() {
                return None;
            }
        }
        membership.unified = Some(path);
        Some(self.name(membership, Some(id)))
    }

    /// A directory was made or removed, or a process that was in `before` was put into one: where it is now.
    pub fn on_change(&mut self, event: &CgroupEvent, before: Option<&Arc<Cgroup>>) -> Option<Arc<Cgroup>> {
        let unified = event.hierarchy == 0;
        let cpu = self.legacy.as_ref().is_some_and(|legacy| legacy.hierarchy.number == event.hierarchy);
        let systemd = self.systemd == Some(event.hierarchy);
        if event.path.is_empty() || !(unified || cpu || systemd) {
            return None;
        }
        let path: Arc<str> = String::from_utf8_lossy(&event.path).into();
        match event.change {
            CgroupChange::Removed => {
                // The path of the version 1 hierarchy keeps its inode until it is made again.
                if let Some(tree) = self.tree.as_mut().filter(|_| unified) {
                    tree.removed(event.id);
                }
                None
            }
            CgroupChange::Made => {
                self.on_made(event, &path, cpu);
                None
            }
            CgroupChange::Joined(_) => {
                self.on_made(event, &path, cpu);
                let mut membership = before.map(|before| before.membership.clone()).unwrap_or_default();
                let mut kernel_id = before.and_then(|before| before.kernel_id);
                if unified {
                    membership.unified = Some(path);
                    kernel_id = Some(event.id);
                } else if cpu {
                    membership.cpu = Some(path);
                } else {
                    membership.systemd = Some(path);
                }
                Some(self.name(membership, kernel_id))
            }
        }
    }

    fn on_made(&mut self, event: &CgroupEvent, path: &Arc<str>, cpu: bool) {
        if let Some(tree) = self.tree.as_mut().filter(|_| event.hierarchy == 0) {
            tree.made(event.id, Arc::clone(path));
        }
        if let Some(legacy) = self.legacy.as_mut().filter(|_| cpu) {
            legacy.remember(path, event.id);
        }
    }

    /// Takes new names of pods; what was named without them is named again by [`Cgroups::again`].
    pub fn set_pods(&mut self, pods: Pods) {
        self.pods = pods;
        self.named.clear();
    }

    /// The same cgroup under the name it has by now.
    pub fn again(&mut self, cgroup: &Cgroup) -> Arc<Cgroup> {
        self.name(cgroup.membership.clone(), cgroup.kernel_id)
    }

    /// Uids of pods that have no name yet, asked for since the last call.
    pub fn take_wanted(&mut self) -> Wanted {
        self.pods.take_wanted()
    }

    /// A window was sealed.
    pub fn end_window(&mut self) {
        if let Some(tree) = &mut self.tree {
            tree.end_window();
        }
    }

    /// Directories of the unified hierarchy that are known, and how often there was no room for one.
    pub fn size(&self) -> (u64, u64) {
        self.tree.as_ref().map_or((0, 0), |tree| (tree.len() as u64, tree.refused()))
    }

    fn name(&mut self, membership: Membership, kernel_id: Option<u64>) -> Arc<Cgroup> {
        let (path, id) = match (&mut self.legacy, &membership.cpu) {
            (Some(legacy), Some(path)) => (Some(Arc::clone(path)), legacy.inode(path, self.told)),
            (Some(_), None) => (None, None),
            (None, _) => (membership.unified.clone(), kernel_id),
        };
        let key = Key { membership, kernel_id, cpu_id: id };
        if let Some(known) = self.named.get(&key) {
            return Arc::clone(known);
        }
        let mut workload = Workload::of(key.membership.naming());
        self.pods.name(&mut workload);
        let cgroup = Arc::new(Cgroup { path, id, workload, membership: key.membership.clone(), kernel_id });
        if self.named.len() >= NAMED {
            self.named.clear();
        }
        self.named.insert(key, Arc::clone(&cgroup));
        cgroup
    }
}

#[cfg(test)]
#[path = "tests/cgroup.rs"]
mod tests;
