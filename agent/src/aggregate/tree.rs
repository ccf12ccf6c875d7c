//! Paths of the unified hierarchy by the kernel's cgroup id.
//!
//! The kernel tells of directories that are made and removed; what was there before is found by walking the mounted tree,
//! and so is everything where the kernel does not tell. The walk asks `/proc` nothing, so it is right from inside a
//! cgroup namespace too.
//!
//! A walk goes a bounded step at a time, at every drain. One that found nothing to the purpose is followed by a pause that
//! grows with its cost. A removed directory is remembered until the windows that may mention it are sealed.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, ReadDir};
use std::os::unix::fs::DirEntryExt;
use std::sync::Arc;
use std::time::Duration;

use super::hierarchy::Hierarchy;

/// Paths remembered; with [`MOST_BYTES`] a bound of some 16 MB.
const MOST: usize = 65_536;

/// Bytes of all paths remembered.
const MOST_BYTES: usize = 8 << 20;

/// Windows for which a removed directory is remembered.
const KEPT_WINDOWS: u64 = 3;

/// Directory entries read in one step, files included: some 5 ms.
const STEP_ENTRIES: usize = 8_192;

/// Entries read at the start at once, some 100 ms; the rest follows in steps.
const FIRST_ENTRIES: usize = 131_072;

/// A search starts no sooner than this after the last.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Nanoseconds of pause for each entry the last search read: fifty times what reading it takes.
const PAUSE_PER_ENTRY_NS: u64 = 30_000;

/// A directory.
#[derive(Debug)]
struct Known {
    path: Arc<str>,
    /// Number of the walk during or after which it was last seen.
    seen: u32,
    removed: bool,
}

/// A walk under way.
#[derive(Debug)]
struct Walk {
    open: Option<(ReadDir, Arc<str>)>,
    waiting: Vec<Arc<str>>,
    entries: u64,
}

/// The tree.
#[derive(Debug)]
pub struct Tree {
    hierarchy: Hierarchy,
    known: HashMap<u64, Known>,
    bytes: usize,
    /// Removed ones with the window of their removal, oldest first.
    removed: VecDeque<(u64, u64)>,
    window: u64,
    walk: Option<Walk>,
    walks: u32,
    /// Somebody asked for an id that is not known.
    wanted: bool,
    /// Boot clock before which no walk starts.
    rest_until_ns: u64,
    refused: u64,
}

impl Tree {
    /// Knows nothing yet.
    pub fn new(hierarchy: Hierarchy) -> Self {
        Self {
            hierarchy,
            known: HashMap::new(),
            bytes: 0,
            removed: VecDeque::new(),
            window: 0,
            walk: None,
            walks: 0,
            wanted: false,
            rest_until_ns: 0,
            refused: 0,
        }
    }

    /// Takes in what is there; to be called once. Cost: see [`FIRST_ENTRIES`].
    pub fn seed(&mut self, now_ns: u64) {
        self.begin();
        self.step(FIRST_ENTRIES, now_ns);
    }

    /// The path of an id; one that is not known is searched for by the next [`Tree::work`].
    pub fn path(&mut self, id: u64) -> Option<Arc<str>> {
        let known = self.known.get(&id).map(|known| Arc::clone(&known.path));
        self.wanted |= known.is_none();
        known
    }

    /// The id of a path, asked of the file system.
    pub fn inode(&self, path: &str) -> Option<u64> {
        self.hierarchy.inode(path)
    }

    /// A directory was made.
    pub fn made(&mut self, id: u64, path: Arc<str>) {
        if let Some(known) = self.known.get_mut(&id) {
            known.seen = self.walks;
            return;
        }
        if !self.make_room(path.len()) {
            self.refused += 1;
            return;
        }
        self.bytes += path.len();
        self.known.insert(id, Known { path, seen: self.walks, removed: false });
    }

    /// A directory was removed.
    pub fn removed(&mut self, id: u64) {
        let Some(known) = self.known.get_mut(&id) else { return };
        if !std::mem::replace(&mut known.removed, true) {
            self.removed.push_back((self.window, id));
        }
    }

    /// Walks a step, when there is a reason to. To be called at every drain.
    pub fn work(&mut self, now_ns: u64) {
        if self.walk.is_none() {
            if !self.wanted || now_ns < self.rest_until_ns {
                return;
            }
            self.begin();
        }
        self.step(STEP_ENTRIES, now_ns);
    }

    /// Whether a walk is under way.
    pub fn is_searching(&self) -> bool {
        self.walk.is_some()
    }

    /// A window was sealed: forgets what was removed long enough ago.
    pub fn end_window(&mut self) {
        self.window += 1;
        while let Some((window, id)) = self.removed.front().copied() {
            if self.window - window < KEPT_WINDOWS {
                return;
            }
            self.removed.pop_front();
            self.forget(id);
        }
    }

    /// Directories known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Times a directory was not remembered for want of room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn begin(&mut self) {
        self.wanted = false;
        self.walks += 1;
        let root: Arc<str> = Arc::from(self.hierarchy.root.as_str());
        if let Some(id) = self.hierarchy.inode(&root) {
            self.made(id, Arc::clone(&root));
        }
        self.walk = Some(Walk { open: None, waiting: vec![root], entries: 0 });
    }

    fn step(&mut self, mut budget: usize, now_ns: u64) {
        let Some(mut walk) = self.walk.take() else { return };
        while budget > 0 {
            budget -= 1;
            walk.entries += 1;
            let Some((entries, parent)) = &mut walk.open else {
                let Some(next) = walk.waiting.pop() else { return self.finish(&walk, now_ns) };
                let listed = self.hierarchy.directory(&next).and_then(|dir| fs::read_dir(dir).ok());
                walk.open = listed.map(|entries| (entries, next));
                continue;
            };
            let Some(entry) = entries.next() else {
                walk.open = None;
                continue;
            };
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            if let (Some(name), Ok(true)) = (name.to_str(), entry.file_type().map(|kind| kind.is_dir())) {
                let path: Arc<str> = format!("{}/{name}", parent.trim_end_matches('/')).into();
                self.made(entry.ino(), Arc::clone(&path));
                // What there is no room for has nothing below it either that could be remembered.
                if self.known.contains_key(&entry.ino()) {
                    walk.waiting.push(path);
                }
            }
        }
        self.walk = Some(walk);
    }

    /// What this walk did not see is gone: the kernel did not tell, or telling it was lost.
    fn finish(&mut self, walk: &Walk, now_ns: u64) {
        let pause_ns = u64::try_from(SHORTEST_PAUSE.as_nanos()).unwrap_or(u64::MAX);
        self.rest_until_ns = now_ns + pause_ns.max(walk.entries.saturating_mul(PAUSE_PER_ENTRY_NS));
        let walks = self.walks;
        let gone: Vec<u64> =
            self.known.iter().filter(|(_, known)| known.seen < walks && !known.removed).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.removed(id));
    }

    /// Forgets removed ones, oldest first, until `length` more bytes fit.
    fn make_room(&mut self, length: usize) -> bool {
        while self.known.len() >= MOST || self.bytes + length > MOST_BYTES {
            let Some((_, id)) = self.removed.pop_front() else { return false };
            self.forget(id);
        }
        true
    }

    fn forget(&mut self, id: u64) {
        if let Some(known) = self.known.remove(&id) {
            self.bytes -= known.path.len();
        }
    }
}

#[cfg(test)]
#[path = "tests/tree.rs"]
mod tests;
