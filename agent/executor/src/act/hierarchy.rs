//! Where the cgroup hierarchies are mounted, and a cgroup in one.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

/// Which interface files a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for a few controllers, with files of its own for each.
    V1,
    /// The unified one.
    V2,
}

/// The mounted hierarchies. The one that controls cpu names the targets; the others are there or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    /// Controls cpu.
    pub cpu: Hierarchy,
    /// Accounts for memory.
    pub memory: Option<Hierarchy>,
    /// Accounts for block devices.
    pub io: Option<Hierarchy>,
    /// The unified one, which freezes and kills whatever controllers it has.
    pub unified: Option<Hierarchy>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its root folder.
    pub root: PathBuf,
    /// Its interface.
    pub version: Version,
}

/// Why no hierarchy could be used.
#[derive(Debug, Error)]
pub enum HierarchyError {
    /// The list of mounts cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither cgroup v2 with the cpu controller nor a v1 cpu hierarchy, seen from its root.
    #[error("no mounted cgroup hierarchy controls cpu")]
    None,
}

/// A cgroup that exists and is the one that was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Its folder.
    pub dir: PathBuf,
    /// Below the hierarchy's root, with a leading slash.
    pub path: String,
    /// Inode of the folder.
    pub id: i64,
}

/// Why a path is not the cgroup that was meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CgroupError {
    /// Not of the form `/a/b`.
    #[error("cgroup path {path:?} is not a plain absolute path")]
    NotPlain {
        /// As given.
        path: String,
    },
    /// There is none.
    #[error("cgroup {path} is gone")]
    Gone {
        /// As given.
        path: String,
    },
    /// Another one of the same name, made since.
    #[error("cgroup {path} is another one than was meant: its inode is {found}, not {expected}")]
    Recreated {
        /// As given.
        path: String,
        /// Inode meant.
        expected: i64,
        /// Inode found.
        found: i64,
    },
    /// Not a folder of this hierarchy.
    #[error("{path} is not a cgroup of the cpu hierarchy")]
    Foreign {
        /// As given.
        path: String,
    },
    /// The operating system refused.
    #[error("cannot look at cgroup {path}: {kind}")]
    Io {
        /// As given.
        path: String,
        /// Why.
        kind: io::ErrorKind,
    },
}

/// A cgroup's folder, held open: what is reached through it is this cgroup's, whatever is made at its path meanwhile.
#[derive(Debug)]
pub struct Held {
    /// Keeps `dir` meaning what it means.
    _folder: OwnedFd,
    dir: PathBuf,
}

impl Held {
    /// The folder, to reach its files by; gone with this value.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Cgroup {
    /// Opens the folder and makes sure that it still is the one that was meant.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn hold(&self) -> Result<Held, CgroupError> {
        let failed = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::NODEV => CgroupError::Gone { path: self.path.clone() },
            error => CgroupError::Io { path: self.path.clone(), kind: io::Error::from(error).kind() },
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.dir, flags, Mode::empty()).map_err(failed)?;
        let found = i64::try_from(rustix::fs::fstat(&folder).map_err(failed)?.st_ino).unwrap_or(-1);
        if found != self.id {
            return Err(CgroupError::Recreated { path: self.path.clone(), expected: self.id, found });
        }
        let dir = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        Ok(Held { _folder: folder, dir })
    }
}

impl Hierarchies {
    /// Finds them in this process's mounts.
    ///
    /// # Errors
    /// [`HierarchyError`].
    pub fn discover() -> Result<Self, HierarchyError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(|source| HierarchyError::Read { path: path.to_owned(), source })?;
        let controllers = |root: &Path| fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        Ok(Self {
            cpu: choose(&text, ("cpu", "cpu"), controllers).ok_or(HierarchyError::None)?,
            memory: choose(&text, ("memory", "memory"), controllers),
            io: choose(&text, ("io", "blkio"), controllers),
            unified: mounts(&text).find(|mount| mount.kind == "cgroup2").map(|mount| mount.hierarchy(Version::V2)),
        })
    }

    /// One hierarchy for everything.
    pub fn of(one: Hierarchy) -> Self {
        let some = Some(one.clone());
        Self { memory: some.clone(), io: some.clone(), unified: some, cpu: one }
    }
}

impl Hierarchy {
    /// The folder of the cgroup at `path`, there or not.
    pub fn folder(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The cgroup at `path`, if it is the one with inode `id`.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn cgroup(&self, path: &str, id: i64) -> Result<Cgroup, CgroupError> {
        let cgroup = self.named(path)?;
        if cgroup.id != id {
            return Err(CgroupError::Recreated { path: path.to_owned(), expected: id, found: cgroup.id });
        }
        Ok(cgroup)
    }

    /// The cgroup at `path`, whichever it is.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn named(&self, path: &str) -> Result<Cgroup, CgroupError> {
        let owned = || path.to_owned();
        let parts = path.strip_prefix('/').map(|rest| rest.split('/'));
        let plain = parts.is_some_and(|mut parts| parts.all(|part| !matches!(part, "" | "." | "..")));
        if (!plain && path != "/") || path.contains('\0') {
            return Err(CgroupError::NotPlain { path: owned() });
        }
        let dir = self.folder(path);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => CgroupError::Gone { path: owned() },
            kind => CgroupError::Io { path: owned(), kind },
        };
        let meta = fs::symlink_metadata(&dir).map_err(failed)?;
        let root = fs::metadata(&self.root).map_err(failed)?;
        let canonical = fs::canonicalize(&dir).map_err(failed)?;
        let canonical_root = fs::canonicalize(&self.root).map_err(failed)?;
        if !meta.is_dir() || meta.dev() != root.dev() || canonical != canonical_root.join(path.trim_start_matches('/'))
        {
            return Err(CgroupError::Foreign { path: owned() });
        }
        Ok(Cgroup { dir, path: owned(), id: i64::try_from(meta.ino()).unwrap_or(-1) })
    }
}

/// A mounted hierarchy that shows its root.
struct Mount<'a> {
    root: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl Mount<'_> {
    fn hierarchy(self, version: Version) -> Hierarchy {
        Hierarchy { root: self.root, version }
    }
}

/// The cgroup mounts in the text of a mountinfo file.
fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        // Fields before " - ": id, parent, device, root, mount point, options, optional fields. After: type, source,
        // options.
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (Some("/"), Some(mount_point)) = (before.next(), before.next()) else { return None };
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1).unwrap_or_default());
        kind.starts_with("cgroup").then(|| Mount { root: PathBuf::from(unescape(mount_point)), kind, options })
    })
}

/// Picks from the text of a mountinfo file: v2 where it has the controller (first of the names), else v1's (second).
fn choose(mountinfo: &str, (name, name_v1): (&str, &str), controllers: impl Fn(&Path) -> String) -> Option<Hierarchy> {
    let mut v1 = None;
    for mount in mounts(mountinfo) {
        match mount.kind {
            "cgroup2" if controllers(&mount.root).split_whitespace().any(|controller| controller == name) => {
                return Some(mount.hierarchy(Version::V2));
            }
            "cgroup" if v1.is_none() && mount.options.split(',').any(|option| option == name_v1) => {
                v1 = Some(mount.hierarchy(Version::V1));
            }
            _ => {}
        }
    }
    v1
}

/// Mountinfo writes blanks and the like as three octal digits behind a backslash.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_unified_hierarchy_wins_where_it_has_cpu() {
        let found = choose(HYBRID, ("cpu", "cpu"), |_| "hugetlb cpu io".to_owned()).unwrap();
        assert_eq!(found, Hierarchy { root: "/sys/fs/cgroup/unified".into(), version: Version::V2 });
        let found = choose(HYBRID, ("cpu", "cpu"), |_| "cpuset hugetlb".to_owned()).unwrap();
        assert_eq!(found, Hierarchy { root: "/sys/fs/cgroup/cpu,cpuacct".into(), version: Version::V1 });
    }

    #[test]
    fn a_mount_that_does_not_show_the_root_is_not_used() {
        assert_eq!(
            choose("1 2 0:3 /docker/abc /cg rw - cgroup cgroup rw,cpu\n", ("cpu", "cpu"), |_| String::new()),
            None
        );
        let spaced =
            choose("1 2 0:3 / /my\\040cg rw - cgroup cgroup rw,cpu\n", ("cpu", "cpu"), |_| String::new()).unwrap();
        assert_eq!(spaced.root, Path::new("/my cg"));
    }

    #[test]
    fn a_held_folder_stays_the_one_that_was_meant_when_its_name_is_given_away() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("cpu.max"), "first").unwrap();
        let hierarchy = Hierarchy { root: root.path().to_owned(), version: Version::V2 };
        let id = fs::metadata(&dir).unwrap().ino() as i64;
        let cgroup = hierarchy.cgroup("/a", id).unwrap();
        let held = cgroup.hold().unwrap();
        fs::rename(&dir, root.path().join("b")).unwrap();
        assert!(matches!(cgroup.hold(), Err(CgroupError::Gone { .. })));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("cpu.max"), "second").unwrap();
        assert!(matches!(cgroup.hold(), Err(CgroupError::Recreated { .. })));
        assert_eq!(fs::read_to_string(held.dir().join("cpu.max")).unwrap(), "first");
    }

    #[test]
    fn only_the_folder_that_was_meant_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy { root: dir.path().to_owned(), version: Version::V1 };
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("a"), dir.path().join("link")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let id = |path: &str| fs::metadata(dir.path().join(path)).unwrap().ino() as i64;
        assert_eq!(hierarchy.cgroup("/a/b", id("a/b")).unwrap().dir, dir.path().join("a/b"));
        for path in ["a/b", "/a/../a", "/a//b", "/a/b/", "/./a", "", "//"] {
            assert!(matches!(hierarchy.cgroup(path, 1), Err(CgroupError::NotPlain { .. })), "{path:?}");
        }
        assert!(matches!(hierarchy.cgroup("/x", 1), Err(CgroupError::Gone { .. })));
        assert!(matches!(hierarchy.cgroup("/a/b", id("a")), Err(CgroupError::Recreated { .. })));
        assert!(matches!(hierarchy.cgroup("/link/b", id("a/b")), Err(CgroupError::Foreign { .. })));
        assert!(matches!(hierarchy.cgroup("/file", id("file")), Err(CgroupError::Foreign { .. })));
    }
}
