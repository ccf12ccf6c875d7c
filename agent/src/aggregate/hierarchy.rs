//! Which cgroup hierarchies this host has, and where this process can look into them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Inode of the top of every hierarchy, in any namespace: the first number its file system gives.
///
/// Source: fs/kernfs/dir.c `kernfs_create_root`.
const TOP_INODE: u64 = 1;

/// One hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its number in `/proc/PID/cgroup`; 0 is the unified one.
    pub number: u32,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Path of the directory that is mounted there; `/` when all of it is.
    pub root: String,
}

/// Those that matter for names and actions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Version 2, whose inodes are the kernel's cgroup ids.
    pub unified: Option<Hierarchy>,
    /// Whether it controls cpu.
    pub unified_controls_cpu: bool,
    /// The version 1 hierarchy with the cpu controller; `None` where the unified one controls cpu.
    pub cpu: Option<Hierarchy>,
    /// Number of systemd's own version 1 hierarchy.
    pub systemd: Option<u32>,
}

/// What a mount point tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Inode of the directory.
    pub inode: u64,
    /// Text of its `cgroup.controllers`.
    pub controllers: String,
}

impl Hierarchies {
    /// Those of the running host.
    pub fn of_host() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::find(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), |mount| Seen {
            inode: fs::metadata(mount).map_or(0, |meta| meta.ino()),
            controllers: fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default(),
        })
    }

    /// Finds them in the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`. Of several mounts of one hierarchy the
    /// one that shows all of it is taken, then the first.
    pub fn find(mountinfo: &str, own: &str, look: impl Fn(&Path) -> Seen) -> Self {
        let mut found = Self { systemd: number_of(own, "name=systemd"), ..Self::default() };
        let mut whole = (false, false);
        for mount in mountinfo.lines().filter_map(Mount::parse) {
            let seen = look(Path::new(mount.point));
            let is_whole = seen.inode == TOP_INODE;
            let (place, has_whole) = match (mount.kind, mount.controls_cpu()) {
                ("cgroup2", _) => (&mut found.unified, &mut whole.0),
                ("cgroup", true) => (&mut found.cpu, &mut whole.1),
                _ => continue,
            };
            if place.is_some() && (*has_whole || !is_whole) {
                continue;
            }
            *has_whole = is_whole;
            if mount.kind == "cgroup2" {
                found.unified_controls_cpu = seen.controllers.split_whitespace().any(|controller| controller == "cpu");
            }
            let number = if mount.kind == "cgroup2" { Some(0) } else { number_of(own, "cpu") };
            *place = number.map(|number| Hierarchy {
                number,
                mount: PathBuf::from(mount.point),
                root: if is_whole { "/".to_owned() } else { mount.root.to_owned() },
            });
        }
        if found.unified_controls_cpu {
            found.cpu = None;
        }
        found
    }

    /// The one an action on cpu aims at.
    pub fn controlling_cpu(&self) -> Option<&Hierarchy> {
        self.cpu.as_ref().or(self.unified.as_ref().filter(|_| self.unified_controls_cpu))
    }
}

impl Hierarchy {
    /// The directory of a path; `None` for one that is not below what is mounted, or that is relative to a namespace.
    pub fn directory(&self, path: &str) -> Option<PathBuf> {
        if path.split('/').any(|part| part == "..") {
            return None;
        }
        let below = path.strip_prefix(self.root.trim_end_matches('/'))?;
        (below.is_empty() || below.starts_with('/')).then(|| self.mount.join(below.trim_start_matches('/')))
    }

    /// Inode of the directory of a path. Cost: a system call.
    pub fn inode(&self, path: &str) -> Option<u64> {
        fs::metadata(self.directory(path)?).ok().map(|meta| meta.ino())
    }
}

/// A line of `mountinfo`.
struct Mount<'a> {
    kind: &'a str,
    root: &'a str,
    point: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let kind = after.next()?;
        Some(Self { kind, root, point, options: after.nth(1).unwrap_or_default() })
    }

    fn controls_cpu(&self) -> bool {
        self.options.split(',').any(|option| option == "cpu")
    }
}

/// Number of the version 1 hierarchy with a controller, from the text of `/proc/self/cgroup`.
fn number_of(own: &str, controller: &str) -> Option<u32> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then(|| number.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const OWN: &str = "9:name=systemd:/\n4:cpu,cpuacct:/\n3:cpuset:/\n0::/\n";

    fn top(controllers: &str) -> impl Fn(&Path) -> Seen {
        move |_| Seen { inode: TOP_INODE, controllers: controllers.to_owned() }
    }

    fn hierarchy(number: u32, mount: &str, root: &str) -> Hierarchy {
        Hierarchy { number, mount: PathBuf::from(mount), root: root.to_owned() }
    }

    #[test]
    fn a_hybrid_host_has_ids_in_one_hierarchy_and_cpu_in_another() {
        let expected = Hierarchies {
            unified: Some(hierarchy(0, "/sys/fs/cgroup/unified", "/")),
            unified_controls_cpu: false,
            cpu: Some(hierarchy(4, "/sys/fs/cgroup/cpu,cpuacct", "/")),
            systemd: Some(9),
        };
        assert_eq!(Hierarchies::find(HYBRID, OWN, top("hugetlb")), expected);
    }

    #[test]
    fn the_unified_hierarchy_is_enough_where_it_controls_cpu() {
        let found = Hierarchies::find(HYBRID, OWN, top("cpuset cpu io"));
        assert_eq!((found.controlling_cpu(), &found.cpu), (found.unified.as_ref(), &None));
        assert_eq!(Hierarchies::find("", "", top("")), Hierarchies::default());
    }

    #[test]
    fn the_mount_that_shows_everything_is_taken() {
        // As in a container that has the host's tree beside its own.
        let mounts = "\
51 40 0:38 / /sys/fs/cgroup ro - cgroup2 cgroup ro
52 40 0:38 /../../.. /host/cgroup ro - cgroup2 cgroup ro
53 40 0:38 /x /third ro - cgroup2 cgroup ro
";
        let look = |mount: &Path| Seen { inode: if mount.starts_with("/host") { 1 } else { 77 }, ..Seen::default() };
        assert_eq!(Hierarchies::find(mounts, "0::/\n", look).unified, Some(hierarchy(0, "/host/cgroup", "/")));
    }

    #[test]
    fn a_mount_of_a_part_is_looked_up_below_that_part() {
        let part = hierarchy(0, "/sys/fs/cgroup", "/docker/abc");
        assert_eq!(part.directory("/docker/abc/x"), Some(PathBuf::from("/sys/fs/cgroup/x")));
        assert_eq!(part.directory("/docker/abc"), Some(PathBuf::from("/sys/fs/cgroup/")));
        assert_eq!(part.directory("/docker/abcd"), None);
        assert_eq!(part.directory("/elsewhere"), None);
        assert_eq!(hierarchy(0, "/sys/fs/cgroup", "/").directory("/../up"), None);
    }
}
