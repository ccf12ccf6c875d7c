use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::aggregate::hierarchy::{Hierarchies, Hierarchy};
use crate::aggregate::pods::{PodName, PodNames, Pods};
use crate::probe::reading::{CgroupChange, CgroupEvent};

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
    table_of(lookup, limit, None, false)
}

/// A table on a host whose version 1 hierarchy number 3 controls cpu, and whose unified one, if any, does not.
fn table_of(lookup: &Invented, limit: usize, unified: Option<&Path>, told: bool) -> Identities {
    let hierarchy = |number, mount: &Path| Hierarchy { number, mount: mount.to_owned(), root: "/".to_owned() };
    let hierarchies = Hierarchies {
        unified: unified.map(|mount| hierarchy(0, mount)),
        cpu: Some(hierarchy(3, Path::new("/nonexistent"))),
        ..Hierarchies::default()
    };
    let mut identities = Identities::new(Box::new(lookup.clone()), Cgroups::new(hierarchies, told), limit);
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
        interpreter: Vec::new(),
        capabilities: 0,
        terminal: Vec::new(),
        login_uid: None,
        session: None,
        stream_inodes: [None; 3],
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
    identities.seed(0);
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
    identities.seed(0);
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
    identities.seed(0);
    let (parent, child) = (key(10, 500 * TICK_NS), key(11, 600 * TICK_NS));
    identities.on_fork(&subject(child, parent, "sh"));
    host.put(11, 10, 600, "busy", "/second");
    identities.on_exec(&exec(child, parent, "/bin/busy"));
    assert_eq!(workload(identities.get(child).unwrap()), "cgroup:/second");
    host.put(11, 10, 600, "busy", "/third");
    let moved = identities.resolve_current(child, &comm("busy"), 0, u64::MAX).unwrap();
    assert_eq!(workload(moved), "cgroup:/third");
    host.remove(11);
    let gone = identities.resolve_current(child, &comm("busy"), 0, u64::MAX).unwrap();
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

fn event(change: CgroupChange, hierarchy: u32, id: u64, path: &str) -> CgroupEvent {
    CgroupEvent { cpu: 0, at_ns: 10_000 * TICK_NS, change, hierarchy, id, path: path.as_bytes().to_vec() }
}

const MADE: CgroupChange = CgroupChange::Made;
const REMOVED: CgroupChange = CgroupChange::Removed;

/// A container that was made, ran and was removed before anybody looked: the kernel's word is all there is.
#[test]
fn a_container_nobody_saw_alive_has_its_name_in_every_row() {
    let (host, unified) = (Invented::default(), tempfile::tempdir().unwrap());
    host.put(10, 1, 500, "runc", "/");
    let mut identities = table_of(&host, 100, Some(unified.path()), true);
    identities.seed(0);
    let path = format!("/libpod_parent/libpod-{}", "a".repeat(64));
    let (parent, child) = (key(10, 500 * TICK_NS), key(11, 600 * TICK_NS));
    let within = |name| Subject { cgroup_id: 77, ..subject(child, parent, name) };
    identities.on_cgroup(&event(MADE, 3, 5, &path));
    identities.on_cgroup(&event(MADE, 0, 77, &path));
    identities.on_fork(&subject(child, parent, "runc"));
    assert_eq!(workload(identities.get(child).unwrap()), "host", "not put there yet");
    identities.on_cgroup(&event(CgroupChange::Joined(child), 3, 5, &path));
    identities.on_cgroup(&event(CgroupChange::Joined(child), 0, 77, &path));
    identities.on_exec(&Exec { subject: within("true"), ..exec(child, parent, "/bin/true") });
    identities.on_exit(&Exit { subject: within("true"), code: 0, signal: 0 });
    identities.on_cgroup(&event(REMOVED, 0, 77, &path));
    identities.on_cgroup(&event(REMOVED, 3, 5, &path));
    let counted = identities.resolve_current(child, &comm("true"), 77, u64::MAX).unwrap();
    assert_eq!(workload(counted), format!("container:{}", "a".repeat(64)));
    assert_eq!(counted.attribution, Attribution::Exact);
    let cgroup = counted.cgroup.as_ref().unwrap();
    assert_eq!((cgroup.path.as_deref(), cgroup.id), (Some(path.as_str()), Some(5)), "where an action would aim");
}

/// The ring was full and lost every event of a process; its counts still carry the id.
#[test]
fn a_process_only_the_counters_saw_is_named_by_its_cgroup() {
    let (host, unified) = (Invented::default(), tempfile::tempdir().unwrap());
    let mut identities = table_of(&host, 100, Some(unified.path()), true);
    identities.on_cgroup(&event(MADE, 0, 77, "/system.slice/job.service"));
    let ghost = key(11, 600 * TICK_NS);
    let counted = identities.resolve_current(ghost, &comm("job"), 77, u64::MAX).unwrap();
    assert_eq!((workload(counted), counted.comm.as_str()), ("unit:job.service", "job"));
    assert_eq!(counted.attribution, Attribution::Exact);
    // What its connections say agrees.
    let met = identities.meet(&subject(ghost, key(0, 0), "job")).unwrap();
    assert_eq!(workload(met), "unit:job.service");
    // Of one whose cgroup nobody knows, nothing is claimed.
    let unknown = identities.resolve_current(key(12, 5), &comm("x"), 78, u64::MAX).unwrap();
    assert_eq!((workload(unknown), unknown.attribution), ("none", Attribution::Unknown));
}

/// A stranger is looked up as soon as looking up is allowed again.
#[test]
fn one_that_was_too_many_to_look_up_is_looked_up_later() {
    let (host, unified) = (Invented::default(), tempfile::tempdir().unwrap());
    let mut identities = table_of(&host, 100, Some(unified.path()), true);
    host.put(11, 1, 600, "job", "/job");
    identities.refill(0);
    let process = key(11, 600 * TICK_NS + 3);
    assert_eq!(identities.resolve_current(process, &comm("job"), 78, u64::MAX).unwrap().exe, None);
    identities.refill(2);
    let found = identities.resolve_current(process, &comm("job"), 78, u64::MAX).unwrap();
    assert_eq!((found.exe.as_deref(), workload(found)), (Some("/bin/job"), "cgroup:/job"));
    assert_eq!((found.attribution, identities.len()), (Attribution::Late, 1));
}

#[test]
fn a_child_put_elsewhere_at_its_birth_is_not_what_its_parent_is() {
    let (host, unified) = (Invented::default(), tempfile::tempdir().unwrap());
    host.put(10, 1, 500, "systemd", "/");
    let mut identities = table_of(&host, 100, Some(unified.path()), true);
    identities.seed(0);
    identities.on_cgroup(&event(MADE, 0, 70, "/init.scope"));
    let (parent, child) = (key(10, 500 * TICK_NS), key(11, 600 * TICK_NS));
    identities.on_cgroup(&event(CgroupChange::Joined(parent), 0, 70, "/init.scope"));
    assert_eq!(workload(identities.resolve(parent, None).unwrap()), "unit:init.scope");
    let born = |id| Subject { cgroup_id: id, ..subject(child, parent, "x") };
    identities.on_fork(&born(71));
    let process = identities.get(child).unwrap();
    assert_eq!((workload(process), process.attribution), ("none", Attribution::Unknown));
    identities.on_cgroup(&event(MADE, 0, 71, "/system.slice/x.service"));
    identities.on_fork(&born(71));
    assert_eq!(workload(identities.get(child).unwrap()), "unit:x.service");
}

#[test]
fn a_pod_is_renamed_everywhere_when_its_name_comes() {
    let (host, unified) = (Invented::default(), tempfile::tempdir().unwrap());
    let mut identities = table_of(&host, 100, Some(unified.path()), true);
    let uid = "12345678-1234-1234-1234-123456789abc";
    let path = format!("/kubepods/burstable/pod{uid}/{}", "a".repeat(64));
    identities.on_cgroup(&event(MADE, 0, 77, &path));
    let pod = key(11, 600 * TICK_NS);
    assert_eq!(workload(identities.resolve_current(pod, &comm("app"), 77, u64::MAX).unwrap()), format!("pod:{uid}"));
    assert_eq!(identities.take_wanted(), [uid]);
    let name = PodName { namespace: "shop".to_owned(), name: "web-0".to_owned(), labels: "".into() };
    identities.set_pods(Pods::new(Arc::new(PodNames::from([(uid.to_owned(), name)]))));
    assert_eq!(workload(identities.get(pod).unwrap()), "pod:shop/web-0");
    assert_eq!(identities.get(pod).unwrap().attribution, Attribution::Exact);
    assert!(identities.take_wanted().is_empty());
}

/// Events wait in the kernel while the agent is being restarted; they are older than what it then finds.
#[test]
fn what_happened_before_the_agent_looked_round_changes_nothing() {
    let (host, unified) = (Invented::default(), tempfile::tempdir().unwrap());
    host.put(10, 1, 500, "job", "/second");
    let mut identities = table_of(&host, 100, Some(unified.path()), true);
    identities.seed(900 * TICK_NS);
    let (parent, job) = (key(1, 0), key(10, 500 * TICK_NS + 7));
    identities.on_fork(&subject(job, parent, "sh"));
    assert_eq!((identities.len(), workload(identities.get(job).unwrap())), (1, "cgroup:/second"));
    let joined = |at_ns, path| CgroupEvent { at_ns, ..event(CgroupChange::Joined(job), 3, 5, path) };
    identities.on_cgroup(&joined(800 * TICK_NS, "/first"));
    assert_eq!(workload(identities.get(job).unwrap()), "cgroup:/second");
    identities.on_cgroup(&joined(1_000 * TICK_NS, "/third"));
    assert_eq!(workload(identities.get(job).unwrap()), "cgroup:/third");
}

/// The window ended between the last switch of a process and its move; both the count and the move are known by then.
#[test]
fn a_count_that_is_older_than_a_move_does_not_take_it_back() {
    let (host, unified) = (Invented::default(), tempfile::tempdir().unwrap());
    host.put(10, 1, 500, "systemd", "/");
    let mut identities = table_of(&host, 100, Some(unified.path()), true);
    identities.seed(0);
    identities.on_cgroup(&event(MADE, 0, 70, "/init.scope"));
    identities.on_cgroup(&event(MADE, 0, 71, "/system.slice/x.service"));
    let (parent, child) = (key(10, 500 * TICK_NS), key(11, 600 * TICK_NS));
    identities.on_fork(&Subject { cgroup_id: 70, ..subject(child, parent, "x") });
    let joined =
        CgroupEvent { at_ns: 700 * TICK_NS, ..event(CgroupChange::Joined(child), 0, 71, "/system.slice/x.service") };
    identities.on_cgroup(&joined);
    let counted = identities.resolve_current(child, &comm("x"), 70, 550 * TICK_NS).unwrap();
    assert_eq!(workload(counted), "unit:x.service");
    // Should telling of a move be lost, the next window's counts make up for it.
    let counted = identities.resolve_current(child, &comm("x"), 70, 750 * TICK_NS).unwrap();
    assert_eq!(workload(counted), "unit:init.scope");
}
