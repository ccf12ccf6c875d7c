//! Whether a target is, or holds, what nobody may touch. No policy and no command overrides this.

use std::path::Path;

use super::refusal::Refusal;
use crate::act::hierarchy::Cgroup;
use crate::act::usage;

/// Programs without which a host cannot be reached, run or watched.
const PROGRAMS: &[&str] = &[
    "sshd",
    "sshd-session",
    "dropbear",
    "systemd",
    "init",
    "containerd",
    "dockerd",
    "crio",
    "podman",
    "conmon",
    "kubelet",
    "k3s",
    "rke2",
    "systemd-journald",
    "systemd-logind",
    "dbus-daemon",
    "dbus-broker",
    "skep",
    "skep-agent",
    "skep-executor",
    "skep-collector",
];

/// Units without which a host cannot be reached, run or watched; `*` at the end stands for the rest of a name.
const UNITS: &[&str] = &[
    "ssh.service",
    "ssh.socket",
    "ssh@*",
    "sshd*",
    "dropbear*",
    "dbus*",
    "systemd-*",
    "init.scope",
    "getty@*",
    "serial-getty@*",
    "NetworkManager*",
    "networking.service",
    "containerd*",
    "docker*",
    "podman*",
    "crio*",
    "cri-o*",
    "kubelet*",
    "k3s*",
    "rke2*",
    "skep*",
    "user@*",
];

/// Kinds of units that are no programs: stopping one takes the host apart.
const KINDS: &[&str] = &[".target", ".slice", ".mount", ".device", ".swap", ".automount"];

/// Containers without which a host or its cluster cannot be run or watched.
const CONTAINERS: &[&str] = &["skep*", "k8s_POD_*", "kube-*", "kubelet*", "etcd*"];

/// Ports by which a host is reached and run.
const PORTS: &[u32] = &[22, 10_250];

/// Why this unit is protected, if it is.
pub fn protects_unit(unit: &str) -> Option<String> {
    if let Some(kind) = KINDS.iter().find(|kind| unit.ends_with(*kind)) {
        return Some(format!("a {} is no program", &kind[1..]));
    }
    let pattern = UNITS.iter().find(|pattern| matches_name(pattern, unit))?;
    Some(format!("{pattern} is always"))
}

/// Why this container is protected, if it is, by its name.
pub fn protects_container(name: &str) -> Option<String> {
    // Docker's kubelet puts the namespace into the name.
    if name.starts_with("k8s_") && name.contains("_kube-system_") {
        return Some("kube-system is always".to_owned());
    }
    let pattern = CONTAINERS.iter().find(|pattern| matches_name(pattern, name))?;
    Some(format!("{pattern} is always"))
}

/// Why this port is protected, if it is.
pub fn protects_port(port: u32) -> Option<String> {
    PORTS.contains(&port).then(|| "the host is reached and run by it".to_owned())
}

/// Whether a name is the pattern; a `*` at its end stands for the rest of a name.
pub fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Checks the cgroup and everything below it, now.
///
/// # Errors
/// [`Refusal::Protected`].
pub fn check(cgroup: &Cgroup, also: &[String]) -> Result<(), Refusal> {
    let protected = |why: String| Err(Refusal::Protected { subject: format!("cgroup {}", cgroup.path), why });
    if cgroup.path == "/" {
        return protected("it is the root".to_owned());
    }
    if let Some(pattern) = also.iter().find(|pattern| matches(pattern, &cgroup.path)) {
        return protected(format!("the configuration protects {pattern}"));
    }
    let pids = match usage::processes(&cgroup.dir) {
        Ok(pids) => pids,
        Err(error) => return protected(format!("not all it holds can be seen: {error}")),
    };
    for pid in pids {
        if let Some(why) = protects(pid) {
            return protected(why);
        }
    }
    Ok(())
}

/// Why this process is protected, if it is.
pub fn protects(pid: u32) -> Option<String> {
    // The kernel's word for a process outside this pid namespace.
    if pid == 0 {
        return Some("it holds a process that cannot be seen from here".to_owned());
    }
    if pid == 1 {
        return Some("it holds pid 1".to_owned());
    }
    if pid == std::process::id() {
        return Some("it holds the executor itself".to_owned());
    }
    let name = program(pid)?;
    PROGRAMS.contains(&name.as_str()).then(|| format!("it holds {name} (pid {pid})"))
}

/// Name of the executable. Without the right to see that, the task name: a process that gives itself a protected name
/// is left alone, which is the safe way to be wrong.
fn program(pid: u32) -> Option<String> {
    if let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) {
        let name = exe.file_name()?.to_string_lossy().into_owned();
        return Some(name.trim_end_matches(" (deleted)").to_owned());
    }
    let comm = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm")).ok()?;
    Some(comm.trim_end().to_owned())
}

/// `pattern` is a cgroup path; everything below it is meant too. A `*` at the end stands for the rest of a name.
pub fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path
            .strip_prefix(pattern.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_is_below_them() {
        for (pattern, path, expected) in [
            ("/system.slice", "/system.slice", true),
            ("/system.slice", "/system.slice/x.service", true),
            ("/system.slice", "/system.slice2", false),
            ("/system.slice/", "/system.slice/x", true),
            ("/db-*", "/db-1/x", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn what_a_host_cannot_do_without_is_protected_by_name() {
        for (unit, protected) in [
            ("ssh.service", true),
            ("sshd.service", true),
            ("ssh@4.service", true),
            ("systemd-journald.service", true),
            ("skep-executor.service", true),
            ("multi-user.target", true),
            ("-.mount", true),
            ("nginx.service", false),
            ("sshfs.service", false),
        ] {
            assert_eq!(protects_unit(unit).is_some(), protected, "{unit}");
        }
        for (container, protected) in
            [("skep-agent", true), ("k8s_dns_coredns-1_kube-system_7_0", true), ("k8s_web_web-1_shop_7_0", false)]
        {
            assert_eq!(protects_container(container).is_some(), protected, "{container}");
        }
        assert!(protects_port(22).is_some() && protects_port(8080).is_none());
    }

    #[test]
    fn a_cgroup_whose_processes_cannot_be_read_is_protected() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = Cgroup { dir: dir.path().to_owned(), path: "/x".to_owned(), id: 1 };
        assert!(matches!(check(&cgroup, &[]), Err(Refusal::Protected { .. })));
        std::fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        assert_eq!(check(&cgroup, &[]), Ok(()));
    }

    #[test]
    fn this_very_process_and_pid_1_are_protected() {
        assert!(protects(std::process::id()).is_some());
        assert!(protects(1).is_some());
    }
}
