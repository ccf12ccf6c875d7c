//! Names with `*`, and whom no policy may act on.
//!
//! The list saves a round trip and an operator's surprise. The executor asks the host itself, process by process, and its
//! answer cannot be overridden from here.

/// Patterns of workloads that are always protected.
pub const BUILT_IN: &[&str] = &[
    "host",
    "cgroup:/",
    "unit:init.scope",
    "unit:ssh.service",
    "unit:ssh@*",
    "unit:sshd*",
    "unit:containerd*",
    "unit:docker*",
    "unit:podman*",
    "unit:crio*",
    "unit:cri-o*",
    "unit:kubelet*",
    "unit:dbus*",
    "unit:systemd-*",
    "unit:skep*",
    "container:skep*",
    "*:kube-system/*",
    "*:skep/*",
];

/// Whether `text` is what `pattern` says; `*` at either end of the pattern stands for anything.
pub fn matches(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) if pattern.len() == 1 => true,
        (Some(_), Some(_)) => text.contains(&pattern[1..pattern.len() - 1]),
        (Some(end), None) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => text == pattern,
    }
}

/// Whether any of `patterns` fits.
pub fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, text))
}

/// The pattern that protects this target, if one does. The root cgroup is protected whatever the list says.
pub fn pattern_for<'a>(patterns: &'a [String], workload: &str, cgroup: &str) -> Option<&'a str> {
    if cgroup.trim_matches('/').is_empty() {
        return Some("cgroup:/");
    }
    patterns.iter().map(String::as_str).find(|pattern| matches(pattern, workload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("host", "host", true),
            ("host", "hosting", false),
            ("unit:ssh@*", "unit:ssh@1.service", true),
            ("unit:ssh@*", "unit:ssh.service", false),
            ("*sh*", "unit:sshd", true),
            ("*.scope", "unit:init.scope", true),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_root_cgroup_is_protected_by_no_list_at_all() {
        assert!(pattern_for(&[], "cgroup:/", "/").is_some());
        assert!(pattern_for(&[], "cgroup:/x", "/x").is_none());
        let built_in: Vec<String> = BUILT_IN.iter().map(|&pattern| pattern.to_owned()).collect();
        assert!(pattern_for(&built_in, "unit:sshd.service", "/system.slice/sshd.service").is_some());
        assert!(pattern_for(&built_in, "cgroup:/skep-test", "/skep-test").is_none());
    }
}
