//! The disk under all tables, and which folders on it are there for good.
//!
//! A folder that exists may still go with the power, when the process that made it was killed before its sync. So the
//! first time a folder is needed, the names of it and of its parents up to the root are synced, whoever made them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use skep_seglog::{Disk, Shared, Storage};

/// The disk, with what is known of it. Cloning it shares both.
#[derive(Debug, Clone)]
pub struct Folders {
    disk: Shared,
    /// Nothing above it is looked at; where there is none, only what is made is synced.
    root: Option<PathBuf>,
    durable: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Default for Folders {
    /// The real disk.
    fn default() -> Self {
        Self { disk: Arc::new(Disk), root: None, durable: Arc::default() }
    }
}

impl Folders {
    /// Folders below `root`, which must be there for good.
    pub fn new(disk: Shared, root: &Path) -> Self {
        Self { disk, root: Some(root.to_owned()), durable: Arc::default() }
    }

    /// The disk.
    pub fn disk(&self) -> &Shared {
        &self.disk
    }

    /// Makes `folder` and its missing parents so that they stay after a power loss.
    ///
    /// # Errors
    /// As the file system says.
    pub fn make(&self, folder: &Path) -> io::Result<()> {
        if !self.root.as_ref().is_some_and(|root| folder.starts_with(root) && folder != root) {
            return self.disk.create_dir(folder);
        }
        let there = self.disk.is_dir(folder);
        if there && self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(folder) {
            return Ok(());
        }
        let parent = folder.parent().unwrap_or(Path::new(""));
        self.make(parent)?;
        if !there {
            match self.disk.make_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        self.disk.sync_dir(parent)?;
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use skep_seglog::sim::SimDisk;

    use super::*;

    #[test]
    fn a_folder_whose_maker_died_before_its_sync_stays() {
        let disk = SimDisk::default();
        disk.create_dir(Path::new("/data")).unwrap();
        for folder in ["/data/history", "/data/history/cpu"] {
            disk.make_dir(Path::new(folder)).unwrap();
        }
        let folders = Folders::new(Arc::new(disk.clone()), Path::new("/data"));
        folders.make(Path::new("/data/history/cpu/date=2026-01-31")).unwrap();
        disk.crash(|_| 0);
        assert!(disk.is_dir(Path::new("/data/history/cpu/date=2026-01-31")));
    }

    #[test]
    fn a_folder_that_somebody_removed_is_made_again() {
        let disk = SimDisk::default();
        let folders = Folders::new(Arc::new(disk.clone()), Path::new("/"));
        folders.make(Path::new("/a/b")).unwrap();
        disk.remove_dir(Path::new("/a/b")).unwrap();
        folders.make(Path::new("/a/b")).unwrap();
        assert!(disk.is_dir(Path::new("/a/b")));
    }
}
