//! Where a process stands in the host's cgroup hierarchies.
//!
//! The path that counts is the one in the hierarchy that controls cpu, because that is where an action can aim; the name
//! comes from whichever hierarchy knows it best. On a pure version 2 host both are one. On a hybrid host the kernel's
//! cgroup id is that of the unified hierarchy and says nothing about the cpu controller.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::workload::Workload;

/// Paths remembered. A host has hundreds; one that makes a directory per job has thousands. When full the memory is
/// emptied and fills up again, at the price of naming each path once more.
const REMEMBERED: usize = 16_384;

/// Directories looked at in one search for an id.
const SEARCHED: usize = 65_536;

/// An id that was not found starts another search no sooner than this: a search reads the whole tree.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);

/// A cgroup as the tables show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Path in the hierarchy that controls cpu, with its leading slash.
    pub path: String,
    /// Inode of that directory; `None` when it was gone before it could be looked at.
    pub id: Option<u64>,
    /// Who.
    pub workload: Workload,
}

/// One line of `/proc/PID/cgroup`, or all of them as far as they matter here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Membership<'a> {
    /// Path in the version 1 hierarchy with the cpu controller.
    pub cpu: Option<&'a str>,
    /// Path in the unified hierarchy.
    pub unified: Option<&'a str>,
    /// Path in systemd's own version 1 hierarchy.
    pub systemd: Option<&'a str>,
}

impl<'a> Membership<'a> {
    /// Reads the text of `/proc/PID/cgroup`.
    pub fn parse(text: &'a str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            if number == "0" && controllers.is_empty() {
                found.unified = Some(path);
            } else if controllers == "name=systemd" {
                found.systemd = Some(path);
            } else if controllers.split(',').any(|controller| controller == "cpu") {
                found.cpu = Some(path);
            }
        }
        found
    }

    /// The path that says most about who this is.
    fn naming(&self) -> &'a str {
        let named = |path: &Option<&'a str>| path.is_some_and(|path| path != "/");
        [self.unified, self.systemd, self.cpu].into_iter().find(named).flatten().unwrap_or("/")
    }
}

/// The hierarchy that controls cpu on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Whether it is the unified one.
    pub unified: bool,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Which directory of it is mounted there; `/` outside containers.
    pub root: String,
}

impl Hierarchy {
    /// Finds it in the text of `/proc/self/mountinfo`. `controllers` reads `cgroup.controllers` of a mount point.
    pub fn find(mountinfo: &str, controllers: impl Fn(&Path) -> String) -> Option<Self> {
        let mut legacy = None;
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut before = before.split(' ').skip(3);
            let (Some(root), Some(mount)) = (before.next(), before.next()) else { continue };
            let mut after = after.split(' ');
            let (kind, options) = (after.next(), after.nth(1));
            let found = |unified| Self { unified, mount: PathBuf::from(mount), root: root.to_owned() };
            match kind {
                Some("cgroup2") if controllers(Path::new(mount)).split_whitespace().any(|c| c == "cpu") => {
                    return Some(found(true));
                }
                Some("cgroup") if options.is_some_and(|o| o.split(',').any(|option| option == "cpu")) => {
                    legacy.get_or_insert_with(|| found(false));
                }
                _ => {}
            }
        }
        legacy
    }

    /// That of the running host.
    pub fn of_host() -> Option<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Self::find(&mountinfo, |mount| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default())
    }

    fn directory(&self, path: &str) -> PathBuf {
        let below = path.strip_prefix(self.root.trim_end_matches('/')).unwrap_or(path);
        self.mount.join(below.trim_start_matches('/'))
    }

    fn id(&self, path: &str) -> Option<u64> {
        fs::metadata(self.directory(path)).ok().map(|meta| meta.ino())
    }
}

/// Names cgroups and remembers them.
#[derive(Debug)]
pub struct Cgroups {
    hierarchy: Option<Hierarchy>,
    /// By cpu path and naming path.
    by_path: HashMap<(String, String), Arc<Cgroup>>,
    by_id: HashMap<u64, Arc<Cgroup>>,
    /// Boot clock of the last search of the tree.
    searched_ns: Option<u64>,
}

impl Cgroups {
    /// Nothing remembered yet. Without a hierarchy nothing is ever found.
    pub fn new(hierarchy: Option<Hierarchy>) -> Self {
        Self { hierarchy, by_path: HashMap::new(), by_id: HashMap::new(), searched_ns: None }
    }

    /// Whether the kernel's cgroup ids are those of the hierarchy that controls cpu.
    pub fn kernel_ids_count(&self) -> bool {
        self.hierarchy.as_ref().is_some_and(|hierarchy| hierarchy.unified)
    }

    /// The cgroup of a process from the text of its `/proc/PID/cgroup`. Cost: one `stat`.
    pub fn of_membership(&mut self, text: &str) -> Option<Arc<Cgroup>> {
        let hierarchy = self.hierarchy.as_ref()?;
        let membership = Membership::parse(text);
        let path = if hierarchy.unified { membership.unified? } else { membership.cpu? };
        let key = (path.to_owned(), membership.naming().to_owned());
        let id = hierarchy.id(path);
        match self.by_path.get(&key) {
            // A directory that is gone keeps the inode it had; one that was made anew is another cgroup.
            Some(known) if id.is_none() || known.id == id => Some(Arc::clone(known)),
            _ => Some(self.remember(key, id)),
        }
    }

    /// The cgroup with the kernel's id. `None` on hosts where [`Cgroups::kernel_ids_count`] is false, and for
    /// directories that were removed before they were seen. Cost: a search of the tree on a miss, at most one a second.
    pub fn of_kernel_id(&mut self, id: u64, now_ns: u64) -> Option<Arc<Cgroup>> {
        if !self.kernel_ids_count() || id == 0 {
            return None;
        }
        if let Some(known) = self.by_id.get(&id) {
            return Some(Arc::clone(known));
        }
        let pause = u64::try_from(SEARCH_PAUSE.as_nanos()).unwrap_or(u64::MAX);
        if self.searched_ns.is_some_and(|last| now_ns.saturating_sub(last) < pause) {
            return None;
        }
        self.searched_ns = Some(now_ns);
        self.search();
        self.by_id.get(&id).map(Arc::clone)
    }

    fn search(&mut self) {
        let Some(hierarchy) = self.hierarchy.clone() else { return };
        let mut queue = VecDeque::from([(hierarchy.mount.clone(), "/".to_owned())]);
        let mut left = SEARCHED;
        while let Some((dir, path)) = queue.pop_front() {
            let Some(fewer) = left.checked_sub(1) else { return };
            left = fewer;
            if let Ok(meta) = fs::metadata(&dir) {
                let known = self.by_id.get(&meta.ino()).is_some_and(|cgroup| cgroup.path == path);
                if !known {
                    self.remember((path.clone(), path.clone()), Some(meta.ino()));
                }
            }
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                if let Ok(name) = entry.file_name().into_string() {
                    queue.push_back((entry.path(), format!("{}/{name}", path.trim_end_matches('/'))));
                }
            }
        }
    }

    fn remember(&mut self, key: (String, String), id: Option<u64>) -> Arc<Cgroup> {
        if self.by_path.len() >= REMEMBERED || self.by_id.len() >= REMEMBERED {
            self.by_path.clear();
            self.by_id.clear();
        }
        let cgroup = Arc::new(Cgroup { path: key.0.clone(), id, workload: Workload::of(&key.1) });
        if let Some(id) = id {
            self.by_id.insert(id, Arc::clone(&cgroup));
        }
        self.by_path.insert(key, Arc::clone(&cgroup));
        cgroup
    }
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

    #[test]
    fn the_cpu_hierarchy_of_a_hybrid_host_is_version_1() {
        let found = Hierarchy::find(HYBRID, |_| "hugetlb".to_owned()).unwrap();
        let expected =
            Hierarchy { unified: false, mount: PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"), root: "/".to_owned() };
        assert_eq!(found, expected);
    }

    #[test]
    fn the_unified_hierarchy_wins_where_it_controls_cpu() {
        let found = Hierarchy::find(HYBRID, |_| "cpuset cpu io".to_owned()).unwrap();
        assert!(found.unified);
        assert_eq!(Hierarchy::find("", |_| String::new()), None);
    }

    #[test]
    fn a_mount_of_a_part_is_looked_up_below_that_part() {
        let hierarchy =
            Hierarchy { unified: true, mount: PathBuf::from("/sys/fs/cgroup"), root: "/docker/abc".to_owned() };
        assert_eq!(hierarchy.directory("/docker/abc/x"), Path::new("/sys/fs/cgroup/x"));
        assert_eq!(hierarchy.directory("/"), Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn the_name_comes_from_the_hierarchy_that_knows_it() {
        let check = |text: &str, cpu: Option<&str>, naming: &str| {
            let membership = Membership::parse(text);
            assert_eq!((membership.cpu, membership.naming()), (cpu, naming), "{text}");
        };
        check("4:cpu,cpuacct:/a\n1:name=systemd:/b.service\n0::/c.service\n", Some("/a"), "/c.service");
        check("4:cpu,cpuacct:/a\n1:name=systemd:/b.service\n0::/\n", Some("/a"), "/b.service");
        check("4:cpu:/a\n3:cpuset:/z\n1:name=systemd:/\n0::/\n", Some("/a"), "/a");
        check("0::/x:y\n", None, "/x:y");
        check("nonsense", None, "/");
    }

    #[test]
    fn a_directory_made_again_is_another_cgroup() {
        let root = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy { unified: true, mount: root.path().to_owned(), root: "/".to_owned() };
        let mut cgroups = Cgroups::new(Some(hierarchy));
        let dir = root.path().join("job");
        fs::create_dir(&dir).unwrap();
        let first = cgroups.of_membership("0::/job\n").unwrap();
        assert_eq!(first.workload.key, "cgroup:/job");
        assert_eq!(cgroups.of_membership("0::/job\n").unwrap(), first);
        fs::remove_dir(&dir).unwrap();
        assert_eq!(cgroups.of_membership("0::/job\n").unwrap(), first, "gone but remembered");
        fs::create_dir(root.path().join("other")).unwrap();
        fs::create_dir(&dir).unwrap();
        let second = cgroups.of_membership("0::/job\n").unwrap();
        assert_eq!(second.id, Some(fs::metadata(&dir).unwrap().ino()));
    }

    #[test]
    fn a_kernel_id_is_found_by_searching() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("system.slice/nginx.service");
        fs::create_dir_all(&dir).unwrap();
        let hierarchy = Hierarchy { unified: true, mount: root.path().to_owned(), root: "/".to_owned() };
        let mut cgroups = Cgroups::new(Some(hierarchy));
        let id = fs::metadata(&dir).unwrap().ino();
        assert_eq!(cgroups.of_kernel_id(id, 0).unwrap().workload.key, "unit:nginx.service");
        assert_eq!(cgroups.of_kernel_id(id + 1_000_000, 1), None, "searched a moment ago");
        assert_eq!(Cgroups::new(None).of_kernel_id(id, 0), None);
    }
}
