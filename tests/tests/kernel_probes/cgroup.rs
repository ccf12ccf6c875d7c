//! Cgroups made, removed and joined.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use skep_agent::{
    aggregate::{hierarchy::Hierarchies, tree::Tree},
    probe::{
        ProbeOptions,
        reading::{CgroupChange, CgroupEvent, Event},
    },
};

use crate::support::{Watch, shell};

/// A folder for cgroups of the unified hierarchy.
fn unified() -> PathBuf {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    if hybrid.is_dir() { hybrid.to_owned() } else { PathBuf::from("/sys/fs/cgroup") }
}

fn of_path<'a>(watch: &'a Watch, path: &str) -> Vec<&'a CgroupEvent> {
    let matching = watch.events().iter().filter_map(|event| match event {
        Event::Cgroup(cgroup) if cgroup.hierarchy == 0 && cgroup.path == path.as_bytes() => Some(cgroup),
        _ => None,
    });
    matching.collect()
}

/// All of its life between two drains.
#[test]
fn a_cgroup_that_is_gone_at_once_is_told_with_its_path_and_id() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let path = format!("/skep-kernel-{}", std::process::id());
    let folder = unified().join(&path[1..]);
    fs::create_dir(&folder).expect("a cgroup can be made");
    let id = fs::metadata(&folder).expect("it is there").ino();
    let script = format!("echo $$ > {}/cgroup.procs && exec /bin/true", folder.display());
    let mut child = shell(&script, &[]).spawn().expect("sh starts");
    let pid = child.id();
    assert!(child.wait().expect("it ends").success());
    fs::remove_dir(&folder).expect("nobody is in it");
    watch.until_ended(&mut child);

    let events = of_path(&watch, &path);
    let exec = watch.execs(pid).pop().expect("true was executed");
    assert_eq!(exec.subject.cgroup_id, id);
    let changes: Vec<_> = events.iter().map(|event| event.change).collect();
    assert_eq!(changes, [CgroupChange::Made, CgroupChange::Joined(exec.subject.process), CgroupChange::Removed]);
    assert!(events.iter().all(|event| event.id == id));
    assert!(events.is_sorted_by_key(|event| event.at_ns));
    assert!(events[1].at_ns < exec.subject.at_ns);
    watch.assert_balanced();
    let (attempted, delivered) = watch.account("cgroup");
    let seen = watch.events().iter().filter(|event| matches!(event, Event::Cgroup(_))).count() as u64;
    assert_eq!((attempted, delivered), (seen, seen));
}

/// A thread that moves alone, which version 1 allows, is not its process.
#[test]
fn only_whole_processes_join() {
    let cpu = Path::new("/sys/fs/cgroup/cpu");
    if !cpu.join("tasks").exists() {
        // A pure version 2 host has no such thing.
        return;
    }
    let mut watch = Watch::start(&ProbeOptions::default());
    let folder = cpu.join(format!("skep-kernel-thread-{}", std::process::id()));
    fs::create_dir(&folder).expect("a cgroup can be made");
    let path = folder.strip_prefix(cpu).expect("below").to_string_lossy().into_owned();
    let script = format!(
        "import threading\nf=lambda: open('{0}/tasks','w').write(str(threading.get_native_id()))\n\
         t=threading.Thread(target=f); t.start(); t.join()\n\
         import os; os.write(1, open('{0}/tasks').read().encode())",
        folder.display()
    );
    let mut child =
        std::process::Command::new("/usr/bin/env").args(["python3", "-c", &script]).spawn().expect("python starts");
    watch.until_ended(&mut child);
    fs::remove_dir(&folder).expect("nobody is in it");
    watch.flip();
    let changes: Vec<_> = watch
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Cgroup(cgroup) if cgroup.path.ends_with(path.as_bytes()) => Some(cgroup.change),
            _ => None,
        })
        .collect();
    assert_eq!(changes, [CgroupChange::Made, CgroupChange::Removed]);
}

/// The longest path the record has room for, and one that is longer.
#[test]
fn a_path_beyond_the_bound_is_not_taken_for_another() {
    let mut watch = Watch::start(&ProbeOptions::default());
    let top = unified().join(format!("skep-kernel-deep-{}", std::process::id()));
    let mut folders = vec![top.clone()];
    while folders.len() < 12 {
        folders.push(folders[folders.len() - 1].join("d".repeat(100)));
    }
    folders.iter().for_each(|folder| fs::create_dir(folder).expect("a cgroup can be made"));
    let ids: Vec<u64> = folders.iter().map(|folder| fs::metadata(folder).expect("it is there").ino()).collect();
    folders.iter().rev().for_each(|folder| fs::remove_dir(folder).expect("it is empty"));
    watch.flip();
    for (folder, id) in folders.iter().zip(ids) {
        let path = folder.strip_prefix(unified()).expect("below").to_string_lossy().into_owned();
        let told = watch.events().iter().find_map(|event| match event {
            Event::Cgroup(cgroup) if cgroup.id == id && cgroup.change == CgroupChange::Made => Some(cgroup),
            _ => None,
        });
        let told = String::from_utf8_lossy(&told.expect("it is told of").path).into_owned();
        if path.len() + 2 < skep_common::limit::CGROUP_PATH_BYTES {
            assert_eq!(told, format!("/{path}"));
        } else {
            assert_eq!(told, "", "half a path is another's");
        }
    }
}

/// However many directories there are, no step of the search takes long.
#[test]
fn a_large_tree_is_searched_in_short_steps() {
    const MANY: usize = 2_000;
    let top = unified().join(format!("skep-kernel-wide-{}", std::process::id()));
    fs::create_dir(&top).expect("a cgroup can be made");
    let folders: Vec<PathBuf> = (0..MANY).map(|i| top.join(format!("d{i}"))).collect();
    folders.iter().for_each(|folder| fs::create_dir(folder).expect("a cgroup can be made"));
    let hierarchies = Hierarchies::of_host();
    let mut tree = Tree::new(hierarchies.unified.expect("this host has one"));
    let last = fs::metadata(&folders[MANY - 1]).expect("it is there").ino();
    // Asked for, so that it is searched for.
    assert_eq!(tree.path(last), None);
    let mut longest = Duration::ZERO;
    let mut steps = 0;
    while tree.is_searching() || steps == 0 {
        let begun = Instant::now();
        tree.work(0);
        longest = longest.max(begun.elapsed());
        steps += 1;
    }
    let found = tree.path(last);
    folders.iter().chain([&top]).for_each(|folder| fs::remove_dir(folder).expect("it is empty"));
    let wanted = folders[MANY - 1].strip_prefix(unified()).expect("below").to_string_lossy().into_owned();
    assert_eq!(found.as_deref(), Some(format!("/{wanted}").as_str()));
    eprintln!("{} directories in {steps} steps, the longest {longest:?}", tree.len());
    assert!(longest < Duration::from_millis(200), "{longest:?} on a busy machine");
}
