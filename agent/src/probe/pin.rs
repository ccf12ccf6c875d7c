//! Maps, programs and links with names in the bpf file system: they outlive the agent, so counting goes on while it
//! restarts.
//!
//! One set of them is a folder, named after everything its layout depends on. An agent that finds a folder of its own
//! layout adopts what is in it; any other it removes. The folder appears whole or not at all: it is filled under another
//! name and then renamed.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::maps::MapData;
use skep_common::{aggregate, event, ledger, limit, state};

use super::{
    kernel::Kernel,
    options::ProbeOptions,
    programs::{Attached, Standing, hooks},
    sys,
};

/// Magic number of the bpf file system, include/uapi/linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// What a name begins with; the file system allows no dots in names.
const MAP: &str = "map_";
const PROGRAM: &str = "prog_";
const LINK: &str = "link_";

/// Folder of a set that is not whole yet.
const UNFINISHED: &str = "unfinished";

/// Where the sets of one agent are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pins {
    folder: PathBuf,
    layout: String,
}

impl Pins {
    /// Pins below `folder`, which is made if need be, for what `kernel` and `options` ask for.
    ///
    /// Errors: the folder is not in a bpf file system, or may not be written.
    pub(super) fn open(folder: &Path, kernel: &Kernel, options: &ProbeOptions) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        if rustix::fs::statfs(folder)?.f_type as i64 != BPF_FS_MAGIC {
            // Nothing of ours belongs there.
            drop(fs::remove_dir(folder));
            return Err(io::Error::other(format!("{} is in no bpf file system", folder.display())));
        }
        Ok(Self { folder: folder.to_owned(), layout: layout(kernel, options) })
    }

    /// What stands there in this layout; `None` when nothing does. What stands there in another layout, or is not whole,
    /// is removed: its programs stop.
    pub(super) fn adopt(&self) -> io::Result<Option<Standing>> {
        for name in entries(&self.folder)? {
            if name != self.layout {
                remove(&self.folder.join(name))?;
            }
        }
        let set = self.folder.join(&self.layout);
        if !set.exists() {
            return Ok(None);
        }
        match standing(&set) {
            Ok(standing) => Ok(Some(standing)),
            Err(error) => {
                tracing::warn!(%error, "{}: what is pinned there cannot be used", set.display());
                remove(&set)?;
                Ok(None)
            }
        }
    }

    /// Folder of the set of this layout.
    pub(super) fn set(&self) -> PathBuf {
        self.folder.join(&self.layout)
    }

    /// Gives everything that stands its name.
    pub(super) fn keep(&self, standing: &Standing) -> io::Result<()> {
        let unfinished = self.folder.join(UNFINISHED);
        fs::create_dir(&unfinished)?;
        for (name, map) in &standing.maps {
            sys::pin(map.fd().as_fd(), &unfinished.join(format!("{MAP}{}", name.replace('.', "_"))))?;
        }
        for Attached { hook, program, link, .. } in &standing.programs {
            sys::pin(program.as_fd(), &unfinished.join(format!("{PROGRAM}{hook}")))?;
            if let Some(held) = link {
                sys::pin(held.as_fd(), &self::link(&unfinished, hook))?;
            }
        }
        fs::rename(unfinished, self.folder.join(&self.layout))
    }
}

/// Where the link of a hook is pinned in the folder of a set.
pub(super) fn link(set: &Path, hook: &str) -> PathBuf {
    set.join(format!("{LINK}{hook}"))
}

/// Removes every set below `folder`: the programs stop and the maps are gone, unless an agent still holds them. Returns
/// how many there were.
///
/// # Errors
/// What the file system says.
pub fn detach(folder: &Path) -> io::Result<usize> {
    let sets = match entries(folder) {
        Ok(sets) => sets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    for set in &sets {
        remove(&folder.join(set))?;
    }
    fs::remove_dir(folder)?;
    Ok(sets.len())
}

fn entries(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Links go first, so that no program runs on maps that are going.
fn remove(set: &Path) -> io::Result<()> {
    let mut names = entries(set)?;
    names.sort_unstable_by_key(|name| !name.starts_with(LINK));
    for name in names {
        fs::remove_file(set.join(name))?;
    }
    fs::remove_dir(set)
}

fn standing(set: &Path) -> io::Result<Standing> {
    let names = entries(set)?;
    let mut maps = Vec::new();
    for name in names.iter().filter_map(|name| name.strip_prefix(MAP)) {
        let map = MapData::from_fd(sys::pinned(&set.join(format!("{MAP}{name}")))?).map_err(io::Error::other)?;
        maps.push((name.to_owned(), map));
    }
    let mut programs = Vec::new();
    let is_pinned = |what: &str, hook: &str| names.iter().any(|name| name.strip_prefix(what) == Some(hook));
    for hook in hooks().filter(|hook| is_pinned(PROGRAM, hook)) {
        let program = sys::pinned(&set.join(format!("{PROGRAM}{hook}")))?;
        // One that was switched off has no link.
        let held = if is_pinned(LINK, hook) { Some(sys::pinned(&link(set, hook))?) } else { None };
        programs.push(Attached::new(hook, program, held));
    }
    Ok(Standing { maps, programs })
}

/// Everything the layout of the maps depends on, as one name: two agents with the same name can use each other's.
fn layout(kernel: &Kernel, options: &ProbeOptions) -> String {
    let sizes = [
        size_of::<state::CpuState>(),
        size_of::<state::Side>(),
        size_of::<state::Thread>(),
        size_of::<aggregate::CellKey>() + size_of::<aggregate::Count>(),
        size_of::<aggregate::UsageKey>() + size_of::<aggregate::Usage>(),
        size_of::<aggregate::TrafficKey>() + size_of::<aggregate::Traffic>(),
        size_of::<aggregate::MishapKey>() + size_of::<aggregate::Mishaps>(),
        size_of::<event::ExecRecord>() + size_of::<event::ConnectionRecord>(),
        ledger::probe::LEN,
        ledger::column::LEN,
    ];
    let mut text = format!("{} {sizes:?} {:?} {}", limit::LAYOUT, kernel.facts, kernel.able);
    text.push_str(&format!("{options:?}"));
    format!("v{}-{:08x}", limit::LAYOUT, crc32c::crc32c(text.as_bytes()))
}
