//! Names the workload behind a cgroup path. Pure: a path in, names out.
//!
//! Forms are those of systemd, Docker, Podman, CRI-O, containerd (both cgroup drivers), LXC, nspawn, ECS and nested
//! clusters. A container id wins over the unit around it, the last one over an outer one, and a pod over its containers.

use std::sync::Arc;

/// Prefixes that runtimes put before a container id, each followed by `-` or `:`.
const RUNTIMES: [&str; 6] = ["docker", "cri-containerd", "crio", "libpod", "nerdctl", "containerd"];

/// Processes that only keep a container's terminal; their cgroup bears the container's id but is not the container.
const MONITORS: [&str; 2] = ["crio-conmon-", "libpod-conmon-"];

/// Unit types that can hold processes. Slices only group them.
const UNIT_SUFFIXES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Who a process works for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// `unit:NAME`, `pod:NAMESPACE/NAME` (`pod:UID` while the names are not known), `container:ID`, `session:ID`,
    /// `cgroup:PATH` or `host`.
    pub key: String,
    /// 64 hex digits.
    pub container_id: Option<String>,
    /// Pod uid, with dashes where the orchestrator writes them.
    pub pod: Option<String>,
    /// Kubernetes namespace; a cgroup path never tells it.
    pub namespace: Option<String>,
    /// Labels of the pod; likewise.
    pub labels: Option<Arc<str>>,
    /// Innermost systemd unit that is not a slice.
    pub unit: Option<String>,
}

impl Workload {
    /// Names `path`, which starts at the root of its hierarchy.
    pub fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != "..").collect();
        let container_id = parts.iter().rev().find_map(|part| container_id(part)).map(str::to_owned);
        let pod = parts.iter().rev().find_map(|part| pod_uid(part));
        let unit = unit(&parts).map(str::to_owned);
        let lxc = parts.iter().rev().find_map(|part| part.strip_prefix("lxc.payload."));
        let key = if let Some(pod) = &pod {
            format!("pod:{pod}")
        } else if let Some(id) = &container_id {
            format!("container:{id}")
        } else if let Some(name) = lxc {
            format!("container:{name}")
        } else if let Some(unit) = &unit {
            session(unit).map_or_else(|| format!("unit:{unit}"), |id| format!("session:{id}"))
        } else if parts.is_empty() {
            "host".to_owned()
        } else {
            format!("cgroup:{path}")
        };
        Self { key, container_id, pod, namespace: None, labels: None, unit }
    }
}

fn container_id(part: &str) -> Option<&str> {
    let part = part.rsplit(':').next()?;
    let part = part.strip_suffix(".scope").unwrap_or(part);
    if MONITORS.iter().any(|monitor| part.starts_with(monitor)) {
        return None;
    }
    let bare = RUNTIMES.iter().find_map(|runtime| part.strip_prefix(runtime)?.strip_prefix('-')).unwrap_or(part);
    (bare.len() == 64 && is_hex(bare)).then_some(bare)
}

/// Finds `pod<uid>` at the start of the part or behind a dash.
fn pod_uid(part: &str) -> Option<String> {
    let part = part.split(':').next()?;
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let starts = part.match_indices("pod").filter(|(at, _)| *at == 0 || part.as_bytes()[at - 1] == b'-');
    starts.map(|(at, _)| &part[at + 3..]).find(|uid| is_pod_uid(uid)).map(|uid| uid.replace('_', "-"))
}

/// A UUID with dashes or underscores, or the 32 bare digits of a static pod.
fn is_pod_uid(text: &str) -> bool {
    if text.len() == 32 {
        return is_hex(text);
    }
    let groups: Vec<&str> = text.split(['-', '_']).collect();
    let lengths = [8, 4, 4, 4, 12];
    groups.len() == lengths.len() && groups.iter().zip(lengths).all(|(group, n)| group.len() == n && is_hex(group))
}

/// The innermost unit; a manager's own `init.scope` counts as the manager.
fn unit<'a>(parts: &[&'a str]) -> Option<&'a str> {
    let units: Vec<&str> =
        parts.iter().copied().filter(|part| UNIT_SUFFIXES.iter().any(|suffix| part.ends_with(suffix))).collect();
    match units.as_slice() {
        [.., outer, "init.scope"] => Some(outer),
        [.., last] => Some(last),
        [] => None,
    }
}

fn session(unit: &str) -> Option<&str> {
    unit.strip_prefix("session-")?.strip_suffix(".scope")
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OUTER: &str = "ffffffffffffffff0123456789abcdef0123456789abcdef0123456789abcdef";
    const POD: &str = "12345678-1234-1234-1234-123456789abc";
    const POD_: &str = "12345678_1234_1234_1234_123456789abc";
    const STATIC_POD: &str = "0123456789abcdef0123456789abcdef";

    /// Writes `C`, `O`, `P`, `Q` and `S` in braces for the ids above.
    fn expand(text: &str) -> String {
        text.replace("{C}", CID)
            .replace("{O}", OUTER)
            .replace("{P}", POD)
            .replace("{Q}", POD_)
            .replace("{S}", STATIC_POD)
    }

    fn check(path: &str, key: &str) {
        assert_eq!(Workload::of(&expand(path)).key, expand(key), "{path}");
    }

    #[test]
    fn containers_of_every_runtime() {
        for path in [
            "/libpod_parent/libpod-{C}",
            "/libpod_parent/{O}/libpod-{C}",
            "/docker/{C}",
            "/system.slice/docker-{C}.scope",
            "/machine.slice/libpod-{C}.scope",
            "/machine.slice/libpod-{C}.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{C}.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{C}.scope/container",
            "/system.slice/docker-{O}.scope/kubelet.slice/docker-{C}.scope",
            "/system.slice:cri-containerd:{C}",
            "/ecs/0a1b2c3d-task/{C}",
            "/docker/{C}/system.slice/nginx.service",
            "/../libpod-{C}",
        ] {
            check(path, "container:{C}");
            assert_eq!(Workload::of(&expand(path)).container_id.as_deref(), Some(CID), "{path}");
        }
    }

    #[test]
    fn pods_of_both_cgroup_drivers() {
        for path in [
            "/kubepods/burstable/pod{P}/{C}",
            "/kubepods/besteffort/pod{P}/{C}",
            "/kubepods/pod{P}/{C}",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{Q}.slice/cri-containerd-{C}.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{Q}.slice/crio-{C}.scope",
            "/kubepods.slice/kubepods-pod{Q}.slice/docker-{C}.scope",
            "/system.slice/containerd.service/kubepods-burstable-pod{Q}.slice:cri-containerd:{C}",
            "/docker/{O}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{Q}.slice/cri-containerd-{C}.scope",
        ] {
            check(path, "pod:{P}");
            let workload = Workload::of(&expand(path));
            assert_eq!(workload.container_id.as_deref(), Some(CID), "{path}");
            assert_eq!(workload.pod.as_deref(), Some(POD), "{path}");
        }
        check("/kubepods/burstable/pod{S}/{C}", "pod:{S}");
        check("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{S}.slice/crio-{C}.scope", "pod:{S}");
    }

    #[test]
    fn monitors_are_not_their_containers() {
        check("/machine.slice/libpod-conmon-{C}.scope", "unit:libpod-conmon-{C}.scope");
        check("/system.slice/crio-conmon-{C}.scope", "unit:crio-conmon-{C}.scope");
        assert_eq!(Workload::of(&expand("/machine.slice/libpod-conmon-{C}.scope")).container_id, None);
    }

    #[test]
    fn units_and_sessions() {
        check("/system.slice/nginx.service", "unit:nginx.service");
        check("/system.slice/system-getty.slice/getty@tty1.service", "unit:getty@tty1.service");
        check("/system.slice/postgresql.service/worker", "unit:postgresql.service");
        check("/payload/system.slice/foo.service", "unit:foo.service");
        check("/machine.slice/systemd-nspawn@box.service/payload/system.slice/foo.service", "unit:foo.service");
        check("/init.scope", "unit:init.scope");
        check("/user.slice/user-1000.slice/user@1000.service/init.scope", "unit:user@1000.service");
        check("/user.slice/user-1000.slice/user@1000.service/app.slice/editor.service", "unit:editor.service");
        check("/user.slice/user-1000.slice/session-3.scope", "session:3");
        assert_eq!(
            Workload::of("/user.slice/user-1000.slice/session-c2.scope").unit.as_deref(),
            Some("session-c2.scope")
        );
    }

    #[test]
    fn everything_else() {
        check("/", "host");
        check("", "host");
        check("/..", "host");
        check("/lxc.payload.web", "container:web");
        check("/default/my-ctr-task", "cgroup:/default/my-ctr-task");
        check("/user.slice", "cgroup:/user.slice");
        check("/skep-test-1", "cgroup:/skep-test-1");
        check("/podman/podcast-{C}", "cgroup:/podman/podcast-{C}");
        // One digit short and one too many of an id.
        check("/docker/abc{S}", "cgroup:/docker/abc{S}");
        check("/docker/{C}0", "cgroup:/docker/{C}0");
    }
}
