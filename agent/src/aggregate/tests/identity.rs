use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::*;
use crate::aggregate::cgroup::Hierarchy;

/// Processes that exist as long as the test says.
#[derive(Debug, Clone, Default)]
struct Invented(Arc<Mutex<HashMap<u32, (Found, String)>>>);

const TICK_NS: u64 = 10_000_000;

impl Invented {
    fn put(&self, pid: u32, parent_pid: u32, start_ticks: u64, comm: &str, cgroup: &str) {
        let exe = Some(format!("/bin/{comm}"));
        let found = Found { pid, parent_pid, start_ticks, comm: comm.to_owned(), exe, uid: Some(7) };
        let membership = format!("3:cpu:{cgroup}\n0::/\n");
        self.0.lock().unwrap().insert(pid, (found, membership));
    }

    fn remove(&self, pid: u32) {
        self.0.lock().unwrap().remove(&pid);
    }
}

impl Lookup for Invented {
    fn ticks_per_second(&self) -> u64 {
        100
    }

    fn all(&self) -> Vec<Found> {
        self.0.lock().unwrap().values().map(|(found, _)| found.clone()).collect()
    }

    fn find(&self, pid: u32) -> Option<Found> {
        self.0.lock().unwrap().get(&pid).map(|(found, _)| found.clone())
    }

    fn membership(&self, pid: u32) -> Option<String> {
        self.0.lock().unwrap().get(&pid).map(|(_, membership)| membership.clone())
    }

    fn exe(&self, pid: u32) -> Option<String> {
        self.find(pid)?.exe
    }
}

fn table(lookup: &Invented, limit: usize) -> Identities {
    let hierarchy = Hierarchy { unified: false, mount: PathBuf::from("/nonexistent"), root: "/".to_owned() };
    let mut identities = Identities::new(Box::new(lookup.clone()), Cgroups::new(Some(hierarchy)), limit);
    identities.refill(u32::MAX);
    identities
}

fn key(pid: u32, start_ns: u64) -> ProcessKey {
    ProcessKey { pid, start_ns }
}

fn comm(name: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

fn subject(process: ProcessKey, parent: ProcessKey, name: &str) -> Subject {
    Subject {
        cpu: 0,
        at_ns: process.start_ns + 1,
        process,
        parent,
        comm: comm(name),
        cgroup_id: 0,
        uid: 7,
        gid: 7,
        effective_uid: 7,
    }
}

fn exec(process: ProcessKey, parent: ProcessKey, exe: &str) -> Exec {
    Exec {
        subject: subject(process, parent, "x"),
        filename: exe.as_bytes().to_vec(),
        exe: exe.as_bytes().to_vec(),
        exe_inode: 1,
        argv: Vec::new(),
        argv_truncated: false,
        cwd: Vec::new(),
        flags: 0,
    }
}

fn workload(process: &Process) -> &str {
    process.cgroup.as_ref().map_or("none", |cgroup| cgroup.workload.key.as_str())
}

#[test]
fn what_ran_before_is_known_by_its_tick_and_settles_on_its_exact_start() {
    let host = Invented::default();
    host.put(10, 1, 500, "old", "/a.service");
    let mut identities = table(&host, 100);
    identities.seed();
    assert_eq!(identities.running().count(), 1);
    let exact = key(10, 500 * TICK_NS + 1234);
    let process = identities.resolve(exact, Some(&comm("old"))).unwrap();
    assert_eq!((process.key, process.start_exact), (exact, true));
    assert_eq!((workload(process), process.attribution), ("unit:a.service", Attribution::Late));
    assert_eq!(identities.take_settled(), [exact]);
    assert_eq!(identities.len(), 1);
    // The same pid with another start is another process.
    assert!(identities.resolve(key(10, 900 * TICK_NS), None).is_none());
}

#[test]
fn a_child_is_what_its_parent_was_even_if_nobody_saw_it_alive() {
    let host = Invented::default();
    host.put(10, 1, 500, "sh", "/job");
    let mut identities = table(&host, 100);
    identities.seed();
    let (parent, child) = (key(10, 500 * TICK_NS + 5), key(11, 600 * TICK_NS));
    identities.on_fork(&subject(child, parent, "sh"));
    identities.on_exec(&exec(child, parent, "/bin/true"));
    let process = identities.get(child).unwrap();
    assert_eq!((workload(process), process.attribution), ("cgroup:/job", Attribution::Exact));
    assert_eq!(process.exe.as_deref(), Some("/bin/true"));
    assert_eq!(identities.ancestors(parent), ["/bin/sh"]);
}

#[test]
fn an_exec_reads_its_own_cgroup_and_a_window_reads_it_again() {
    let host = Invented::default();
    host.put(10, 1, 500, "sh", "/before");
    let mut identities = table(&host, 100);
    identities.seed();
    let (parent, child) = (key(10, 500 * TICK_NS), key(11, 600 * TICK_NS));
    identities.on_fork(&subject(child, parent, "sh"));
    host.put(11, 10, 600, "busy", "/second");
    identities.on_exec(&exec(child, parent, "/bin/busy"));
    assert_eq!(workload(identities.get(child).unwrap()), "cgroup:/second");
    host.put(11, 10, 600, "busy", "/third");
    let moved = identities.resolve_current(child, Some(&comm("busy")), 0, 1).unwrap();
    assert_eq!(workload(moved), "cgroup:/third");
    host.remove(11);
    let gone = identities.resolve_current(child, Some(&comm("busy")), 0, 2).unwrap();
    assert_eq!(workload(gone), "cgroup:/third", "the last that was known");
}

#[test]
fn nobody_knows_what_was_gone_before_anyone_looked() {
    let mut identities = table(&Invented::default(), 100);
    assert!(identities.resolve(key(99, 5), Some(&comm("ghost"))).is_none());
    assert!(identities.resolve(key(0, 0), Some(&comm("swapper"))).is_none());
    let orphan = key(100, 5);
    identities.on_fork(&subject(orphan, key(99, 5), "ghost"));
    assert_eq!(identities.get(orphan).unwrap().attribution, Attribution::Unknown);
}

#[test]
fn looks_into_proc_are_bounded() {
    let host = Invented::default();
    host.put(10, 1, 500, "a", "/a");
    host.put(11, 1, 501, "b", "/b");
    let mut identities = table(&host, 100);
    // One look for the process and one for its cgroup.
    identities.refill(2);
    assert!(identities.resolve(key(10, 500 * TICK_NS), None).is_some());
    assert!(identities.resolve(key(11, 501 * TICK_NS), None).is_none());
    identities.refill(2);
    assert!(identities.resolve(key(11, 501 * TICK_NS), None).is_some());
}

#[test]
fn what_ended_is_forgotten_after_the_windows_that_may_mention_it() {
    let host = Invented::default();
    let mut identities = table(&host, 100);
    let child = key(11, 600 * TICK_NS);
    identities.on_fork(&subject(child, key(10, 0), "sh"));
    identities.on_exit(&Exit { subject: subject(child, key(10, 0), "sh"), code: 0, signal: 0 });
    identities.end_window();
    assert!(identities.get(child).is_some());
    identities.end_window();
    assert!(identities.get(child).is_none());
}

#[test]
fn a_full_table_forgets_the_dead_first_and_counts_it() {
    let mut identities = table(&Invented::default(), 16);
    for pid in 1..=16 {
        let process = key(pid, u64::from(pid) * TICK_NS);
        identities.on_fork(&subject(process, key(0, 0), "p"));
        if pid % 4 == 0 {
            identities.on_exit(&Exit { subject: subject(process, key(0, 0), "p"), code: 0, signal: 0 });
        }
    }
    identities.on_fork(&subject(key(17, 17 * TICK_NS), key(0, 0), "p"));
    assert_eq!((identities.evicted(), identities.len()), (2, 15));
    assert!(identities.get(key(1, TICK_NS)).is_some());
    assert!(identities.get(key(4, 4 * TICK_NS)).is_none());
}

#[test]
fn a_smaller_limit_holds_at_once_and_the_forgotten_are_counted() {
    let host = Invented::default();
    let mut identities = table(&host, 1000);
    for pid in 1..=1000 {
        identities.on_fork(&subject(key(pid, 1), key(0, 0), "x"));
    }
    identities.set_limit(100);
    assert!(identities.len() <= 100, "{}", identities.len());
    assert_eq!(identities.evicted() as usize, 1000 - identities.len());
}
