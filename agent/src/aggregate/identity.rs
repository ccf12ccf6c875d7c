//! The table of processes: who is behind a pid and a start time.
//!
//! Fed by fork, exec, exit and moves between cgroups as they happen, by `/proc` for what was there before, and by `/proc`
//! again where a process turns up that neither knew. A process that ended is kept until the windows that may still mention
//! it are sealed. Every row of a process takes its workload from here, so that they agree.
//!
//! Bounded: when the table is full the processes that ended, then those longest unseen, make room and are counted.

use std::collections::HashMap;
use std::sync::Arc;

use super::cgroup::{Cgroup, Cgroups};
use super::lookup::{Found, Lookup};
use crate::probe::reading::{Exec, Exit, ProcessKey, Subject};

/// Ancestors named in a row.
pub const ANCESTORS: usize = 8;

/// Windows for which a process that ended is still known.
const KEPT_WINDOWS: u64 = 2;

/// Where a process's identity and workload come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribution {
    /// The kernel told where it is, and that was known by a name at the time.
    Exact,
    /// Looked up in `/proc` afterwards.
    Late,
    /// It was gone before anyone looked.
    Unknown,
}

impl Attribution {
    /// As in the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Late => "late",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of a process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Who. The start is exact only where `start_exact` says so; else it is cut down to a clock tick.
    pub key: ProcessKey,
    /// Whether the kernel told the start.
    pub start_exact: bool,
    /// Parent when last heard of.
    pub parent: ProcessKey,
    /// Task name.
    pub comm: String,
    /// Executable.
    pub exe: Option<Arc<str>>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Where it runs.
    pub cgroup: Option<Arc<Cgroup>>,
    /// How that is known.
    pub attribution: Attribution,
    /// Effective capabilities at its birth or its last exec, where the kernel told of either.
    pub capabilities: Option<u64>,
    /// Number of the window it was last heard of in.
    seen: u64,
    ended: bool,
    /// Known by an event or a count only.
    stranger: bool,
    /// Boot clock at which it was where `cgroup` says, or a little before; 0 if nobody knows.
    placed_ns: u64,
}

/// The table.
#[derive(Debug)]
pub struct Identities {
    lookup: Box<dyn Lookup>,
    cgroups: Cgroups,
    table: HashMap<ProcessKey, Process>,
    /// The newest process of each pid.
    newest: HashMap<u32, ProcessKey>,
    limit: usize,
    window: u64,
    /// Boot clock of the last drain.
    now_ns: u64,
    /// Looks into `/proc` left before the next refill.
    budget: u32,
    evicted: u64,
    /// Processes of before the agent whose exact start became known since [`Identities::take_settled`].
    settled: Vec<ProcessKey>,
    tick_ns: u64,
}

impl Identities {
    /// An empty table of at most `limit` processes.
    pub fn new(lookup: Box<dyn Lookup>, cgroups: Cgroups, limit: usize) -> Self {
        let tick_ns = 1_000_000_000 / lookup.ticks_per_second().max(1);
        Self {
            lookup,
            cgroups,
            table: HashMap::new(),
            newest: HashMap::new(),
            limit: limit.max(1),
            window: 0,
            now_ns: 0,
            budget: 0,
            evicted: 0,
            settled: Vec::new(),
            tick_ns,
        }
    }

    /// Knows at most so many processes from now on. Those that ended longest ago are forgotten first, and counted.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
        let mut evicted = false;
        while self.table.len() > self.limit {
            self.evict();
            evicted = true;
        }
        if evicted {
            self.table.shrink_to_fit();
            self.newest.shrink_to_fit();
        }
    }

    /// Takes in every process there is; to be called once, when the probes are attached.
    pub fn seed(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.cgroups.seed(now_ns);
        let all = self.lookup.all();
        let parents: HashMap<u32, ProcessKey> = all.iter().map(|found| (found.pid, self.rough_key(found))).collect();
        for found in all {
            let parent = parents.get(&found.parent_pid).copied().unwrap_or(unknown_start(found.parent_pid));
            self.budget = self.budget.max(1);
            self.insert_found(found, parent);
        }
    }

    /// Allows `looks` into `/proc` until the next call. Each costs some 20 us.
    pub fn refill(&mut self, looks: u32) {
        self.budget = looks;
    }

    /// At every drain: goes on searching for cgroups that were not known.
    pub fn work(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.cgroups.work(now_ns);
    }

    /// A process was born: it is what its parent was, and where the kernel put it.
    pub fn on_fork(&mut self, subject: &Subject) {
        // Born before the agent looked round, and found then.
        if self.settle(subject.process) {
            return;
        }
        let parent = self.resolve(subject.parent, None).cloned();
        let before = parent.as_ref().and_then(|parent| parent.cgroup.clone());
        let kernel = self.cgroups.of_kernel_id(subject.cgroup_id, before.as_ref());
        // Put elsewhere, it is not what its parent was; where it is, nobody knows yet.
        let cgroup = kernel.or(before.filter(|before| !before.differs_from(subject.cgroup_id)));
        let attribution = if cgroup.is_some() { Attribution::Exact } else { Attribution::Unknown };
        self.insert(Process {
            key: subject.process,
            start_exact: true,
            parent: subject.parent,
            comm: text(&subject.comm),
            exe: parent.and_then(|parent| parent.exe),
            uid: Some(subject.uid),
            cgroup,
            attribution,
            capabilities: None,
            seen: self.window,
            ended: false,
            stranger: false,
            placed_ns: subject.at_ns,
        });
    }

    /// What a process may do at its birth.
    pub fn set_capabilities(&mut self, key: ProcessKey, capabilities: u64) {
        if let Some(process) = self.table.get_mut(&key) {
            process.capabilities = Some(capabilities);
        }
    }

    /// A process runs another program.
    pub fn on_exec(&mut self, exec: &Exec) {
        let subject = &exec.subject;
        if !self.table.contains_key(&subject.process) {
            self.on_fork(subject);
        }
        let exe: Option<Arc<str>> = if exec.exe.is_empty() {
            self.spend().then(|| self.lookup.exe(subject.process.pid)).flatten().map(Arc::from)
        } else {
            Some(Arc::from(String::from_utf8_lossy(&exec.exe)))
        };
        self.locate(subject.process, subject.cgroup_id, subject.at_ns, true);
        let window = self.window;
        if let Some(process) = self.table.get_mut(&subject.process) {
            process.comm = text(&subject.comm);
            process.exe = exe;
            process.uid = Some(subject.uid);
            process.capabilities = Some(exec.capabilities);
            process.parent = subject.parent;
            process.seen = window;
        }
    }

    /// A process ended.
    pub fn on_exit(&mut self, exit: &Exit) {
        let subject = &exit.subject;
        let (comm, uid) = (text(&subject.comm), subject.uid);
        self.meet(subject);
        let window = self.window;
        if let Some(process) = self.table.get_mut(&subject.process) {
            process.comm = comm;
            process.uid = Some(uid);
            process.seen = window;
            process.ended = true;
        }
    }

    /// The process behind `key`, looked up in `/proc` if it was not known; `None` when nobody knows it.
    ///
    /// `comm` is what the kernel called it.
    pub fn resolve(&mut self, key: ProcessKey, comm: Option<&[u8; 16]>) -> Option<&Process> {
        if !self.table.contains_key(&key) && !self.settle(key) {
            self.look_up(key, comm)?;
        }
        let window = self.window;
        let process = self.table.get_mut(&key)?;
        process.seen = window;
        Some(process)
    }

    /// What is known without looking anywhere.
    pub fn get(&self, key: ProcessKey) -> Option<&Process> {
        self.table.get(&key)
    }

    /// Executables, task names where unknown, from the parent of `key` outwards.
    pub fn ancestors(&self, parent: ProcessKey) -> Vec<String> {
        let mut names = Vec::new();
        let mut next = parent;
        while names.len() < ANCESTORS {
            let Some(process) = self.any_start(next) else { break };
            names.push(process.exe.as_deref().unwrap_or(&process.comm).to_owned());
            if process.parent == next || process.parent.pid == 0 {
                break;
            }
            next = process.parent;
        }
        names
    }

    /// The process with this key, or the newest of its pid where the start is not known exactly.
    pub fn any_start(&self, key: ProcessKey) -> Option<&Process> {
        self.table.get(&key).or_else(|| {
            let newest = self.table.get(self.newest.get(&key.pid)?)?;
            (key.start_ns == 0 || self.same_tick(newest.key.start_ns, key.start_ns)).then_some(newest)
        })
    }

    /// Every process that has not ended.
    pub fn running(&self) -> impl Iterator<Item = &Process> {
        self.table.values().filter(|process| !process.ended)
    }

    /// Processes of before the agent whose exact start became known since the last call.
    pub fn take_settled(&mut self) -> Vec<ProcessKey> {
        std::mem::take(&mut self.settled)
    }

    /// A window was sealed: forgets what ended long enough ago.
    pub fn end_window(&mut self) {
        self.cgroups.end_window();
        self.window += 1;
        let window = self.window;
        self.table.retain(|_, process| !process.ended || window - process.seen < KEPT_WINDOWS);
        self.newest.retain(|_, key| self.table.contains_key(key));
    }

    /// Processes known.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Cgroup directories known, and how often there was no room for one.
    pub fn cgroups(&self) -> (u64, u64) {
        self.cgroups.size()
    }

    /// Processes forgotten for want of room since the start.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// A process of before the agent, known by its tick, is met again with its exact start.
    fn settle(&mut self, key: ProcessKey) -> bool {
        let Some(rough) = self.newest.get(&key.pid).copied() else { return false };
        let known = self.table.get(&rough).is_some_and(|process| !process.start_exact);
        if key.start_ns == 0 || !known || !self.same_tick(rough.start_ns, key.start_ns) {
            return false;
        }
        let Some(mut process) = self.table.remove(&rough) else { return false };
        process.key = key;
        process.start_exact = true;
        self.table.insert(key, process);
        self.newest.insert(key.pid, key);
        self.settled.push(key);
        true
    }

    fn look_up(&mut self, key: ProcessKey, comm: Option<&[u8; 16]>) -> Option<()> {
        if key.pid == 0 || !self.spend() {
            return None;
        }
        let found = self.lookup.find(key.pid)?;
        let rough = self.rough_key(&found);
        if key.start_ns != 0 && !self.same_tick(rough.start_ns, key.start_ns) {
            return None;
        }
        let parent = unknown_start(found.parent_pid);
        self.insert_found(found, parent);
        if key.start_ns != 0 {
            self.settle(key);
            self.settled.retain(|settled| *settled != key);
        }
        let process = self.table.get_mut(&key)?;
        if let Some(comm) = comm.filter(|comm| comm[0] != 0) {
            process.comm = text(comm);
        }
        Some(())
    }

    fn insert_found(&mut self, found: Found, parent: ProcessKey) {
        let key = self.rough_key(&found);
        let cgroup = self.look_up_cgroup(found.pid);
        let attribution = if cgroup.is_some() { Attribution::Late } else { Attribution::Unknown };
        self.insert(Process {
            key,
            start_exact: false,
            parent,
            comm: found.comm,
            exe: found.exe.map(Arc::from),
            uid: found.uid,
            cgroup,
            attribution,
            capabilities: None,
            seen: self.window,
            ended: false,
            stranger: false,
            placed_ns: self.now_ns,
        });
    }

    fn insert(&mut self, process: Process) {
        if self.table.len() >= self.limit && !self.table.contains_key(&process.key) {
            self.evict();
        }
        self.newest.insert(process.key.pid, process.key);
        self.table.insert(process.key, process);
    }

    /// Makes room for an eighth of the table at once, so that a full table does not search itself at each birth.
    fn evict(&mut self) {
        let mut by_age: Vec<(bool, u64, ProcessKey)> =
            self.table.values().map(|process| (!process.ended, process.seen, process.key)).collect();
        by_age.sort_unstable();
        for (_, _, key) in by_age.into_iter().take((self.limit / 8).max(1)) {
            self.table.remove(&key);
            if self.newest.get(&key.pid) == Some(&key) {
                self.newest.remove(&key.pid);
            }
            self.evicted += 1;
        }
    }

    fn spend(&mut self) -> bool {
        match self.budget.checked_sub(1) {
            Some(left) => {
                self.budget = left;
                true
            }
            None => false,
        }
    }

    fn rough_key(&self, found: &Found) -> ProcessKey {
        ProcessKey { pid: found.pid, start_ns: found.start_ticks * self.tick_ns }
    }

    fn same_tick(&self, a: u64, b: u64) -> bool {
        a / self.tick_ns == b / self.tick_ns
    }
}

fn unknown_start(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ns: 0 }
}

/// A task name up to its first zero byte; what is not UTF-8 is replaced.
pub fn text(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

#[path = "locate.rs"]
mod locate;

#[cfg(test)]
#[path = "tests/identity.rs"]
mod tests;
