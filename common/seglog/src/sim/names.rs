//! What folders hold: as programs see it, and as a power loss would leave it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    /// A file, by its number.
    File(u64),
}

/// One operation on names: happens whole or not at all, as in a journal.
type Change = Vec<(PathBuf, Option<Node>)>;

#[derive(Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Not synced yet, in the order they were made.
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        if is_root(path) { Some(Node::Folder) } else { self.now.get(path).copied() }
    }

    /// Paths directly in `dir`.
    pub(super) fn inside<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a Path> {
        self.now.keys().map(PathBuf::as_path).filter(move |path| path.parent() == Some(dir))
    }

    pub(super) fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.pending.push(change);
    }

    /// Makes what happened in `dir` durable.
    pub(super) fn sync(&mut self, dir: &Path) {
        for change in std::mem::take(&mut self.pending) {
            if change.iter().any(|(path, _)| path.parent() == Some(dir)) {
                apply(&mut self.durable, &change);
            } else {
                self.pending.push(change);
            }
        }
    }

    /// Loses power. Of what was not synced, each folder keeps as many changes as `keep(folder's)` says, the oldest.
    pub(super) fn cut_power(&mut self, keep: &mut dyn FnMut(u64) -> u64) {
        let mut left: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for change in &self.pending {
            *left.entry(folder(change)).or_default() += 1;
        }
        for count in left.values_mut() {
            *count = keep(*count);
        }
        for change in std::mem::take(&mut self.pending) {
            let left = left.entry(folder(&change)).or_default();
            if *left > 0 {
                *left -= 1;
                apply(&mut self.durable, &change);
            }
        }
        // What lies in a folder that is gone is gone.
        let paths: Vec<PathBuf> = self.durable.keys().cloned().collect();
        for path in paths {
            let parent = path.parent().unwrap_or(Path::new(""));
            if !is_root(parent) && self.durable.get(parent) != Some(&Node::Folder) {
                self.durable.remove(&path);
            }
        }
        self.now.clone_from(&self.durable);
    }

    /// Files that still have a name.
    pub(super) fn files(&self) -> impl Iterator<Item = u64> {
        self.now.values().filter_map(|node| match node {
            Node::File(number) => Some(*number),
            Node::Folder => None,
        })
    }
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

fn folder(change: &Change) -> PathBuf {
    let first = change.first().and_then(|(path, _)| path.parent());
    first.unwrap_or(Path::new("")).to_owned()
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &Change) {
    for (path, node) in change {
        match node {
            Some(node) => names.insert(path.clone(), *node),
            None => names.remove(path),
        };
    }
}
