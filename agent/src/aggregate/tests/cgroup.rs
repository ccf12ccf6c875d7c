use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;
use crate::probe::reading::ProcessKey;

fn hierarchy(number: u32, mount: &Path) -> Hierarchy {
    Hierarchy { number, mount: mount.to_owned(), root: "/".to_owned() }
}

fn pure(root: &Path) -> Cgroups {
    let unified = Some(hierarchy(0, root));
    Cgroups::new(Hierarchies { unified, unified_controls_cpu: true, ..Hierarchies::default() }, false)
}

/// A host whose ids are those of `unified` and whose version 1 hierarchy 4 controls cpu.
fn hybrid(unified: &Path, cpu: &Path, told: bool) -> Cgroups {
    let (unified, cpu) = (Some(hierarchy(0, unified)), Some(hierarchy(4, cpu)));
    Cgroups::new(Hierarchies { unified, cpu, systemd: Some(9), ..Hierarchies::default() }, told)
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn event(change: CgroupChange, hierarchy: u32, id: u64, path: &str) -> CgroupEvent {
    CgroupEvent { cpu: 0, at_ns: 0, change, hierarchy, id, path: path.as_bytes().to_vec() }
}

const JOINED: CgroupChange = CgroupChange::Joined(ProcessKey { pid: 1, start_ns: 1 });

#[test]
fn a_directory_made_again_is_another_cgroup() {
    let root = tempfile::tempdir().unwrap();
    let mut cgroups = pure(root.path());
    let dir = root.path().join("job");
    fs::create_dir(&dir).unwrap();
    let first = cgroups.of_text("0::/job\n").unwrap();
    assert_eq!((first.workload.key.as_str(), first.id), ("cgroup:/job", Some(inode(&dir))));
    assert_eq!(cgroups.of_text("0::/job\n").unwrap(), first);
    fs::remove_dir(&dir).unwrap();
    fs::create_dir(root.path().join("other")).unwrap();
    fs::create_dir(&dir).unwrap();
    let second = cgroups.of_text("0::/job\n").unwrap();
    assert_eq!(second.id, Some(inode(&dir)));
}

#[test]
fn a_kernel_id_is_all_a_pure_host_needs() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("system.slice/nginx.service");
    fs::create_dir_all(&dir).unwrap();
    let mut cgroups = pure(root.path());
    cgroups.seed(0);
    assert!(cgroups.kernel_suffices());
    let found = cgroups.of_kernel_id(inode(&dir), None).unwrap();
    assert_eq!(found.workload.key, "unit:nginx.service");
    assert_eq!((found.path.as_deref(), found.id), (Some("/system.slice/nginx.service"), Some(inode(&dir))));
    assert!(found.is_named_by_kernel());
    assert_eq!(cgroups.of_kernel_id(inode(root.path()), None).unwrap().workload.key, "host");
    assert_eq!(cgroups.of_kernel_id(0, None), None);
    assert_eq!(Cgroups::new(Hierarchies::default(), false).of_kernel_id(5, None), None);
}

#[test]
fn a_hybrid_host_is_named_by_one_hierarchy_and_acted_on_in_another() {
    let (unified, cpu) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = "system.slice/nginx.service";
    fs::create_dir_all(unified.path().join(path)).unwrap();
    fs::create_dir_all(cpu.path().join(path)).unwrap();
    fs::create_dir(unified.path().join("bare.service")).unwrap();
    let mut cgroups = hybrid(unified.path(), cpu.path(), false);
    cgroups.seed(0);
    let found = cgroups.of_kernel_id(inode(&unified.path().join(path)), None).unwrap();
    assert_eq!(found.workload.key, "unit:nginx.service");
    assert_eq!(
        (found.path.as_deref(), found.id),
        (Some("/system.slice/nginx.service"), Some(inode(&cpu.path().join(path))))
    );
    let bare = cgroups.of_kernel_id(inode(&unified.path().join("bare.service")), None).unwrap();
    assert_eq!((bare.workload.key.as_str(), bare.path.as_deref()), ("unit:bare.service", None));
    // At its top the unified hierarchy names nobody.
    assert_eq!(cgroups.of_kernel_id(inode(unified.path()), None), None);
}

#[test]
fn a_process_that_only_moves_in_the_cpu_hierarchy_is_followed_there() {
    let (unified, cpu) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut cgroups = hybrid(unified.path(), cpu.path(), true);
    cgroups.seed(0);
    let before = cgroups.of_text("9:name=systemd:/\n4:cpu:/\n0::/\n").unwrap();
    assert_eq!(before.workload.key, "host");
    assert_eq!(cgroups.on_change(&event(CgroupChange::Made, 4, 5, "/busy"), None), None);
    let busy = cgroups.on_change(&event(JOINED, 4, 5, "/busy"), Some(&before)).unwrap();
    assert_eq!((busy.workload.key.as_str(), busy.path.as_deref(), busy.id), ("cgroup:/busy", Some("/busy"), Some(5)));
    // What the kernel then says of the unified hierarchy changes nothing.
    let again = cgroups.of_kernel_id(inode(unified.path()), Some(&busy)).unwrap();
    assert_eq!(again.workload.key, "cgroup:/busy");
    assert!(!again.is_named_by_kernel());
    let session = cgroups.on_change(&event(JOINED, 9, 3, "/user.slice/session-3.scope"), Some(&again)).unwrap();
    assert_eq!((session.workload.key.as_str(), session.path.as_deref()), ("session:3", Some("/busy")));
    assert_eq!(cgroups.on_change(&event(JOINED, 2, 8, "/cpuset"), Some(&session)), None, "says nothing");
    assert_eq!(cgroups.on_change(&event(JOINED, 4, 8, ""), Some(&session)), None, "could not be read");
}

/// From inside a cgroup namespace `/proc` tells paths from where the reader is; the ids and the mounted tree do not.
#[test]
fn a_path_relative_to_a_namespace_is_replaced_by_the_true_one() {
    let root = tempfile::tempdir().unwrap();
    let pod = "pod12345678-1234-1234-1234-123456789abc";
    let container = root.path().join("kubepods/burstable").join(pod).join("b".repeat(64));
    fs::create_dir_all(&container).unwrap();
    let mut cgroups = pure(root.path());
    cgroups.seed(0);
    let relative = cgroups.of_text(&format!("0::/../{}\n", "b".repeat(64))).unwrap();
    assert_eq!((relative.workload.pod.as_deref(), relative.id), (None, None));
    let found = cgroups.of_kernel_id(inode(&container), Some(&relative)).unwrap();
    assert_eq!(found.workload.pod.as_deref(), pod.strip_prefix("pod"));
}
