//! The tables' place on a disk, and which folders on it are there for good.
//!
//! A file is written under another name, synced, and then moved to its own; a name that must be free is linked to, which
//! fails when it is taken.
//!
//! A folder that exists may still go with the power, when the process that made it was killed before its sync. So the
//! first time a folder is needed, the names of it and of its parents up to the root are synced, whoever made them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use skep_seglog::{Disk, SegmentFile, Shared, Storage};

use super::part_reader::PartReader;
use super::place::{About, NewFile, Place};

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

impl Place for Folders {
    fn begin(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        self.make(path.parent().unwrap_or(Path::new(".")))?;
        let temporary = with_ending(path, ".tmp");
        let file = self.disk.create_anew(&temporary)?;
        let disk = Shared::clone(&self.disk);
        Ok(Box::new(Draft { disk, path: path.to_owned(), temporary: Some(temporary), file, bytes: 0 }))
    }

    fn put(&self, path: &Path, bytes: &[u8], writer: &str) -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        self.make(dir)?;
        let temporary = dir.join(format!(".put-{writer}.tmp"));
        self.write_synced(&temporary, bytes)?;
        self.disk.rename(&temporary, path)?;
        self.disk.sync_dir(dir)
    }

    fn put_new(&self, path: &Path, bytes: &[u8], writer: &str) -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        self.make(dir)?;
        let temporary = dir.join(format!(".commit-{writer}.tmp"));
        self.write_synced(&temporary, bytes)?;
        let linked = self.disk.link(&temporary, path);
        // The link is what counts; the next one removes a leftover name before it writes under it.
        let _left_behind = self.disk.remove(&temporary).is_err();
        linked
    }

    fn settle(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)?;
        self.make(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        self.disk.read(path).map(Bytes::from)
    }

    fn open(&self, path: &Path, _bytes: Option<u64>) -> io::Result<PartReader> {
        File::open(path).map(PartReader::Near)
    }

    fn fetch(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    fn about(&self, path: &Path) -> io::Result<Option<About>> {
        match self.disk.open(path, false) {
            Ok(file) => {
                // The disk may be one of a test's, whose files have no times.
                let modified = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
                Ok(Some(About { bytes: file.size()?, modified }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn list_hours(&self, dir: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let mut level = vec![dir.to_owned()];
        for prefix in ["date=", "hour=", ""] {
            let mut next = Vec::new();
            for path in level {
                match self.disk.list(&path) {
                    Ok(names) => {
                        next.extend(names.iter().filter(|name| name.starts_with(prefix)).map(|name| path.join(name)));
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                    Err(error) => return Err((path, error)),
                }
            }
            level = next;
        }
        Ok(level)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
}

impl Folders {
    /// Writes a new file. A name left over by a crash may be a second one of a commit, so it goes before anything is
    /// written.
    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.disk.create_anew(path)?;
        file.write_all_at(bytes, 0)?;
        file.sync()
    }
}

/// A file being written under another name; it goes when this is dropped before it is finished.
#[derive(Debug)]
struct Draft {
    disk: Shared,
    path: PathBuf,
    temporary: Option<PathBuf>,
    file: Box<dyn SegmentFile>,
    bytes: u64,
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Draft {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.file.sync()?;
        if let Some(temporary) = &self.temporary {
            self.disk.rename(temporary, &self.path)?;
            self.disk.sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing to be done if this fails too; the next start removes it.
            let _left_behind = self.disk.remove(temporary).is_err();
        }
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
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
