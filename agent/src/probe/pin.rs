//! Maps, programs and links with names in the bpf file system: they outlive the agent, so counting goes on while it
//! restarts.
//!
//! One set of them is a folder, named after everything its layout depends on and after how many names are in it. An agent
//! that finds a whole set of its own layout adopts it; any other set it removes. A set appears whole or not at all: it is
//! filled under another name and then renamed. Nothing else in the folder is touched.
//!
//! Two agents on one set would each read half: whoever holds the lock of the folder has it to itself.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use aya::maps::MapData;
use rustix::fs::{FlockOperation, Mode, OFlags};
use skep_common::{aggregate, event, ledger, limit, state};

use super::{
    attach,
    kernel::Kernel,
    options::ProbeOptions,
    programs::{Attached, Standing, hooks},
    report::Feature,
    sys,
};

/// Magic number of the bpf file system, include/uapi/linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// What a name begins with; the file system allows no dots in names.
const MAP: &str = "map_";
const PROGRAM: &str = "prog_";
const LINK: &str = "link_";

/// What the name of a set begins with.
const SET: &str = "skep-";

/// Folder of a set that is not whole yet.
const UNFINISHED: &str = "skep-unfinished";

/// An agent that was killed may take a moment to let go of the folder.
const HOLD_TRIES: u32 = 20;
const HOLD_PAUSE: Duration = Duration::from_millis(100);

/// Where the sets of one agent are, held for this process.
#[derive(Debug)]
pub(super) struct Pins {
    folder: PathBuf,
    layout: String,
    /// Keeps other agents away.
    _held: OwnedFd,
}

/// What was pinned and is not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The set's folder.
    pub path: PathBuf,
    /// Programs that were pinned there.
    pub programs: usize,
    /// Maps that were pinned there.
    pub maps: usize,
}

impl Pins {
    /// Pins below `folder`, which is made if need be, for what `kernel` and `options` ask for.
    ///
    /// Errors: the folder is not in a bpf file system, may not be written, or belongs to an agent that runs.
    pub(super) fn open(folder: &Path, kernel: &Kernel, options: &ProbeOptions) -> io::Result<Self> {
        must_be_bpf(folder)?;
        fs::create_dir_all(folder)?;
        let held = hold(folder, HOLD_TRIES)?;
        Ok(Self { folder: folder.to_owned(), layout: layout(kernel, options), _held: held })
    }

    /// What stands there in this layout; `None` when nothing does. What stands there in another layout, or is not whole,
    /// is removed: its programs stop.
    pub(super) fn adopt(&self) -> io::Result<Option<Standing>> {
        let mut found = None;
        for name in sets(&self.folder)? {
            let set = self.folder.join(&name);
            let whole = name.strip_prefix(&self.layout).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
            if found.is_none() && whole.is_some_and(|names: usize| entries(&set).is_ok_and(|all| all.len() == names)) {
                match standing(&set) {
                    Ok(standing) => {
                        found = Some(standing);
                        continue;
                    }
                    Err(error) => tracing::warn!(%error, "{}: what is pinned there cannot be used", set.display()),
                }
            }
            remove(&set)?;
            tracing::info!("{}: removed, it was pinned in another layout or is not whole", set.display());
        }
        Ok(found)
    }

    /// Gives everything that stands its name. Where that fails, nothing has one.
    pub(super) fn keep(&self, maps: &[(&str, BorrowedFd<'_>)], programs: &[Attached]) -> io::Result<()> {
        let unfinished = self.folder.join(UNFINISHED);
        let kept = self.name_all(&unfinished, maps, programs);
        if kept.is_err() {
            // A link that stays pinned would go on without anybody.
            drop(remove(&unfinished));
        }
        kept
    }

    fn name_all(&self, unfinished: &Path, maps: &[(&str, BorrowedFd<'_>)], programs: &[Attached]) -> io::Result<()> {
        fs::create_dir_all(unfinished)?;
        for (name, map) in maps {
            sys::pin(*map, &unfinished.join(format!("{MAP}{}", name.replace('.', "_"))))?;
        }
        for Attached { hook, program, link, .. } in programs {
            sys::pin(program.as_fd(), &unfinished.join(format!("{PROGRAM}{hook}")))?;
            if let Some(link) = link {
                sys::pin(link.as_fd(), &unfinished.join(format!("{LINK}{hook}")))?;
            }
        }
        fs::rename(unfinished, self.set(names(maps.len(), programs)))
    }

    /// Whether everything still has its name.
    pub(super) fn stand(&self, maps: usize, programs: &[Attached]) -> bool {
        let wanted = names(maps, programs);
        entries(&self.set(wanted)).is_ok_and(|found| found.len() == wanted)
    }

    /// Somebody took names away: gives everything its name again.
    pub(super) fn keep_again(&mut self, maps: &[(&str, BorrowedFd<'_>)], programs: &[Attached]) -> io::Result<()> {
        must_be_bpf(&self.folder)?;
        fs::create_dir_all(&self.folder)?;
        if !is_same(self._held.as_fd(), &self.folder)? {
            self._held = hold(&self.folder, 1)?;
        }
        for name in sets(&self.folder)? {
            remove(&self.folder.join(name))?;
        }
        self.keep(maps, programs)
    }

    fn set(&self, names: usize) -> PathBuf {
        self.folder.join(format!("{}-{names}", self.layout))
    }
}

/// Names a whole set has: a program that is switched off has no link.
fn names(maps: usize, programs: &[Attached]) -> usize {
    maps + programs.len() + programs.iter().filter(|program| program.link.is_some()).count()
}

/// Removes every set below `folder`: the programs stop and the maps are gone. What else is there stays.
///
/// # Errors
/// What the file system says; `folder` is in no bpf file system; an agent runs on what is pinned there.
pub fn detach(folder: &Path) -> io::Result<Vec<Removed>> {
    if !folder.try_exists()? {
        return Ok(Vec::new());
    }
    must_be_bpf(folder)?;
    let _held = hold(folder, 1)?;
    let mut removed = Vec::new();
    for name in sets(folder)? {
        let path = folder.join(name);
        let names = entries(&path)?;
        let count = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
        let (programs, maps) = (count(PROGRAM), count(MAP));
        remove(&path)?;
        removed.push(Removed { path, programs, maps });
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(removed),
    }
}

/// Whether probes could be pinned in `folder`, and what is pinned there: for `doctor`. Changes nothing.
pub fn pin_feature(folder: Option<&Path>) -> Feature {
    let said = |ok, reason| Feature { name: "pinned", ok, reason, figures: Vec::new() };
    let Some(folder) = folder else {
        return said(false, "switched off: counting stops with the agent".to_owned());
    };
    let found = must_be_bpf(folder).and_then(|()| if folder.try_exists()? { sets(folder) } else { Ok(Vec::new()) });
    match found {
        Err(error) => said(false, format!("counting stops with the agent: {error}")),
        Ok(sets) if sets.is_empty() => said(true, format!("an agent can pin its probes in {}", folder.display())),
        Ok(_) => said(true, format!("probes are pinned in {} and count, agent or not", folder.display())),
    }
}

/// The nearest folder there is must be one of the bpf file system.
fn must_be_bpf(folder: &Path) -> io::Result<()> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    // The type differs between architectures.
    #[expect(clippy::useless_conversion, reason = "it is no i64 everywhere")]
    let magic = i64::from(rustix::fs::statfs(there)?.f_type);
    if magic == BPF_FS_MAGIC {
        return Ok(());
    }
    let advice = "`mount -t bpf bpf /sys/fs/bpf` makes one";
    Err(io::Error::other(format!("{} is in no bpf file system ({advice})", folder.display())))
}

fn hold(folder: &Path, tries: u32) -> io::Result<OwnedFd> {
    let open = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for left in (0..tries).rev() {
        match rustix::fs::flock(&open, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(open),
            Err(rustix::io::Errno::WOULDBLOCK) if left > 0 => std::thread::sleep(HOLD_PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other(format!("an agent runs on what is pinned in {}", folder.display())))
}

/// Whether `held` is still the folder of this name.
fn is_same(held: BorrowedFd<'_>, folder: &Path) -> io::Result<bool> {
    let (held, named) = (rustix::fs::fstat(held)?, rustix::fs::stat(folder)?);
    Ok((held.st_dev, held.st_ino) == (named.st_dev, named.st_ino))
}

fn sets(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = entries(folder)?;
    names.retain(|name| name.starts_with(SET));
    Ok(names)
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
        let held = if is_pinned(LINK, hook) { Some(sys::pinned(&set.join(format!("{LINK}{hook}")))?) } else { None };
        programs.push(Attached::new(hook, program, held));
    }
    Ok(Standing { maps, programs })
}

/// Everything the layout of the maps depends on, as one name: two agents with the same name can use each other's. How
/// the probes are debugged is no part of it.
fn layout(kernel: &Kernel, options: &ProbeOptions) -> String {
    let sizes = [
        size_of::<state::CpuState>(),
        size_of::<state::Side>(),
        size_of::<state::Thread>(),
        size_of::<aggregate::CellKey>() + size_of::<aggregate::Count>(),
        size_of::<aggregate::Wait>(),
        size_of::<aggregate::UsageKey>() + size_of::<aggregate::Usage>(),
        size_of::<aggregate::TrafficKey>() + size_of::<aggregate::Traffic>(),
        size_of::<aggregate::MishapKey>() + size_of::<aggregate::Mishaps>(),
        size_of::<aggregate::BlockKey>() + size_of::<aggregate::Amount>(),
        size_of::<event::ExecRecord>() + size_of::<event::ConnectionRecord>(),
        size_of::<event::SecurityRecord>(),
        ledger::probe::LEN,
        ledger::column::LEN,
    ];
    let entries = [
        options.ring_bytes,
        options.call_entries,
        options.wait_entries,
        options.usage_entries,
        options.thread_places,
        options.crowded_entries,
        options.connection_entries,
        options.block_entries,
        options.request_entries,
        attach::cpus(),
    ];
    let text = format!("{sizes:?} {entries:?} {:?} {}", kernel.facts, kernel.able);
    format!("{SET}v{}-{:08x}", limit::LAYOUT, crc32c::crc32c(text.as_bytes()))
}
