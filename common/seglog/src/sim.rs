//! A disk in memory that behaves as badly as a real one may.
//!
//! What was not synced is at risk: [`SimDisk::crash`] keeps of it what the caller says. Clones share the disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{SegmentFile, Storage};

/// The disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, File>,
    /// Bytes that still fit; `None` is without limit.
    free: Option<u64>,
    fail_sync: bool,
}

#[derive(Debug, Default, Clone)]
struct File {
    bytes: Vec<u8>,
    /// What a crash leaves for certain.
    synced: Vec<u8>,
    /// Whether the folder was synced since the file was made.
    name_synced: bool,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    path: PathBuf,
}

impl SimDisk {
    /// Lets only `bytes` more be written; `None` lifts the limit.
    pub fn set_free(&self, bytes: Option<u64>) {
        self.state().free = bytes;
    }

    /// Makes every sync of a file fail, or succeed again.
    pub fn fail_sync(&self, fail: bool) {
        self.state().fail_sync = fail;
    }

    /// Loses power. Of each file's bytes behind what was synced, `keep(unsynced)` survive; files whose names were not
    /// synced are gone.
    pub fn crash(&self, mut keep: impl FnMut(usize) -> usize) {
        let mut state = self.state();
        state.files.retain(|_, file| file.name_synced);
        for file in state.files.values_mut() {
            let synced = file.synced.len();
            let unsynced = file.bytes.len().saturating_sub(synced);
            let kept = keep(unsynced).min(unsynced);
            let mut after = file.synced.clone();
            after.extend_from_slice(&file.bytes[synced.min(file.bytes.len())..][..kept]);
            file.bytes = after.clone();
            file.synced = after;
        }
    }

    /// Changes one byte of a file behind the log's back.
    pub fn flip(&self, path: &Path, offset: usize) {
        let mut state = self.state();
        if let Some(byte) = state.files.get_mut(path).and_then(|file| file.bytes.get_mut(offset)) {
            *byte ^= 0x55;
        }
    }

    /// Cuts a file behind the log's back.
    pub fn cut(&self, path: &Path, size: usize) {
        if let Some(file) = self.state().files.get_mut(path) {
            file.bytes.truncate(size);
            file.synced.truncate(size);
        }
    }

    /// Puts bytes at the end of a file behind the log's back.
    pub fn extend(&self, path: &Path, bytes: &[u8]) {
        if let Some(file) = self.state().files.get_mut(path) {
            file.bytes.extend_from_slice(bytes);
            file.synced = file.bytes.clone();
        }
    }

    /// Size of a file, if it is there.
    pub fn size(&self, path: &Path) -> Option<usize> {
        self.state().files.get(path).map(|file| file.bytes.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut File) -> T) -> io::Result<T> {
        let mut state = self.disk.state();
        state.files.get_mut(&self.path).map(act).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl SegmentFile for SimFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let allowed = {
            let mut state = self.disk.state();
            let allowed = state.free.map_or(bytes.len(), |free| bytes.len().min(free as usize));
            state.free = state.free.map(|free| free - allowed as u64);
            allowed
        };
        self.with(|file| {
            let offset = offset as usize;
            file.bytes.resize(file.bytes.len().max(offset + allowed), 0);
            file.bytes[offset..offset + allowed].copy_from_slice(&bytes[..allowed]);
        })?;
        if allowed < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| {
            let from = file.bytes.get(offset as usize..).unwrap_or_default();
            let n = from.len().min(buffer.len());
            buffer[..n].copy_from_slice(&from[..n]);
            n
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.with(|file| file.bytes.len() as u64)
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.with(|file| file.bytes.truncate(size as usize))
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.disk.state().fail_sync {
            return Err(io::Error::other("the device failed"));
        }
        self.with(|file| file.synced = file.bytes.clone())
    }
}

impl Storage for SimDisk {
    type File = SimFile;

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.files.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state();
        if state.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(path.to_owned(), File::default());
        Ok(SimFile { disk: self.clone(), path: path.to_owned() })
    }

    fn open(&self, path: &Path, _writable: bool) -> io::Result<SimFile> {
        if !self.state().files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(SimFile { disk: self.clone(), path: path.to_owned() })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().files.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        for (_, file) in state.files.iter_mut().filter(|(path, _)| path.parent() == Some(dir)) {
            file.name_synced = true;
        }
        Ok(())
    }
}
