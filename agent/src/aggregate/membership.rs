//! The paths of one process in the hierarchies that matter.

use std::sync::Arc;

/// One path a hierarchy; `None` where it is not known or the host has no such hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// In the version 1 hierarchy with the cpu controller.
    pub cpu: Option<Arc<str>>,
    /// In the unified hierarchy.
    pub unified: Option<Arc<str>>,
    /// In systemd's own version 1 hierarchy.
    pub systemd: Option<Arc<str>>,
}

impl Membership {
    /// Reads the text of `/proc/PID/cgroup`.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            if number == "0" && controllers.is_empty() {
                found.unified = Some(path.into());
            } else if controllers == "name=systemd" {
                found.systemd = Some(path.into());
            } else if controllers.split(',').any(|controller| controller == "cpu") {
                found.cpu = Some(path.into());
            }
        }
        found
    }

    /// The path that says most about who this is: the first that is not the top.
    pub fn naming(&self) -> &str {
        [&self.unified, &self.systemd, &self.cpu]
            .into_iter()
            .flatten()
            .find(|path| !is_top(path))
            .map_or("/", |path| path)
    }
}

/// Whether a path names nobody. One that is relative to a namespace may lead above it.
pub fn is_top(path: &str) -> bool {
    path.split('/').all(|part| part.is_empty() || part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_comes_from_the_hierarchy_that_knows_it() {
        let check = |text: &str, cpu: Option<&str>, naming: &str| {
            let membership = Membership::parse(text);
            assert_eq!((membership.cpu.as_deref(), membership.naming()), (cpu, naming), "{text}");
        };
        check("4:cpu,cpuacct:/a\n1:name=systemd:/b.service\n0::/c.service\n", Some("/a"), "/c.service");
        check("4:cpu,cpuacct:/a\n1:name=systemd:/b.service\n0::/\n", Some("/a"), "/b.service");
        check("4:cpu:/a\n3:cpuset:/z\n1:name=systemd:/\n0::/\n", Some("/a"), "/a");
        check("4:cpu:/a\n0::/../..\n", Some("/a"), "/a");
        check("0::/x:y\n", None, "/x:y");
        check("nonsense", None, "/");
    }
}
