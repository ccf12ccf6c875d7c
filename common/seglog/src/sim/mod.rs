//! A disk in memory that behaves as badly as a real one may.
//!
//! What was not synced is at risk: contents until the file is synced, names until their folder is. [`SimDisk::crash`]
//! takes the most it may and keeps of contents what the caller says; [`SimDisk::power_on`] after [`SimDisk::cut_after`]
//! leaves any mixture of old and new sectors, sizes and names. A sync that fails forgets what it had to write, so that
//! one tried again says yes and means nothing. Clones share the disk.

mod inode;

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::inode::Inode;
use self::names::{Names, Node};
use crate::storage::{SegmentFile, Storage};

/// The disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    names: Names,
    next_inode: u64,
    /// Bytes that still fit; `None` is without limit.
    free: Option<u64>,
    fail_sync: bool,
    /// Only the next one.
    fail_next_sync: bool,
    /// What a sync takes longer.
    slow: Duration,
    /// One in so many reads comes back with a wrong bit; 0 is none.
    rot_every: u64,
    reads: u64,
    /// Operations that change something, since the disk was made.
    operations: u64,
    /// The operation power goes with, and whether that one still takes effect.
    cut_at: Option<(u64, bool)>,
    /// Grows with every power loss: handles of before it are dead.
    life: u64,
    off: bool,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
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

    /// Makes the next sync of a file fail, and that one only; or takes that back.
    pub fn fail_next_sync(&self, fail: bool) {
        self.state().fail_next_sync = fail;
    }

    /// Makes every sync take this long.
    pub fn set_slow(&self, by: Duration) {
        self.state().slow = by;
    }

    /// Makes one in `every` reads come back with a wrong bit; 0 ends it.
    pub fn rot_reads(&self, every: u64) {
        self.state().rot_every = every;
    }

    /// Operations that changed something so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets power go with the `operations`th operation from now, which may (`done`) or may not still take effect.
    /// Everything after it fails until [`SimDisk::power_on`].
    pub fn cut_after(&self, operations: u64, done: bool) {
        let mut state = self.state();
        state.cut_at = Some((state.operations + operations, done));
    }

    /// Whether power is gone.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// Cuts the power, if it is not gone yet, and brings it back: what was not synced is there in part, as `choose(n)`
    /// picks among `0..n`. Files that were open are dead.
    pub fn power_on(&self, choose: &mut dyn FnMut(u64) -> u64) {
        let mut state = self.state();
        state.names.cut_power(&mut |count| choose(count + 1));
        state.inodes.values_mut().for_each(|inode| inode.cut_power(choose));
        state.forget();
    }

    /// Loses power. Of each file's bytes behind what was synced, `keep(unsynced)` survive; of names that were not synced,
    /// none does.
    pub fn crash(&self, mut keep: impl FnMut(usize) -> usize) {
        let mut state = self.state();
        state.names.cut_power(&mut |_| 0);
        state.inodes.values_mut().for_each(|inode| inode.crash(&mut keep));
        state.forget();
    }

    /// Changes one byte of a file behind its writer's back.
    pub fn flip(&self, path: &Path, offset: usize) {
        self.behind(path, |inode| {
            if let Some(byte) = inode.bytes.get_mut(offset) {
                *byte ^= 0x55;
            }
        });
    }

    /// Cuts a file behind its writer's back.
    pub fn cut(&self, path: &Path, size: usize) {
        self.behind(path, |inode| inode.bytes.truncate(size));
    }

    /// Puts bytes at the end of a file behind its writer's back.
    pub fn extend(&self, path: &Path, bytes: &[u8]) {
        self.behind(path, |inode| inode.bytes.extend_from_slice(bytes));
    }

    /// Size of a file, if it is there.
    pub fn size(&self, path: &Path) -> Option<usize> {
        let state = self.state();
        let Some(Node::File(inode)) = state.names.get(path) else { return None };
        state.inodes.get(&inode).map(|inode| inode.bytes.len())
    }

    fn behind(&self, path: &Path, act: impl FnOnce(&mut Inode)) {
        let mut state = self.state();
        let Some(Node::File(inode)) = state.names.get(path) else { return };
        if let Some(inode) = state.inodes.get_mut(&inode) {
            act(inode);
            inode.settle();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Power is back: nothing of the old life is left but the device.
    fn forget(&mut self) {
        let named: BTreeSet<u64> = self.names.files().collect();
        self.inodes.retain(|number, _| named.contains(number));
        self.life += 1;
        self.off = false;
        self.cut_at = None;
    }

    fn check_on(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Does one operation, unless power is gone or goes with it.
    fn operate<T>(&mut self, act: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.check_on()?;
        self.operations += 1;
        let Some((_, done)) = self.cut_at.filter(|(at, _)| *at <= self.operations) else { return act(self) };
        if done {
            // Nobody will hear how it went.
            let _unheard = act(self).is_ok();
        }
        self.off = true;
        Err(io::Error::other("the power is off"))
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        match self.names.get(path.parent().unwrap_or(Path::new(""))) {
            Some(Node::Folder) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn check_free_name(&self, path: &Path) -> io::Result<()> {
        self.check_parent(path)?;
        if self.names.get(path).is_some() { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life != self.life {
            return Err(io::Error::other("opened before the power went"));
        }
        state.check_on()?;
        Ok(state)
    }

    fn operate<T>(&self, act: impl FnOnce(&mut Inode) -> io::Result<T>) -> io::Result<T> {
        let number = self.inode;
        self.state()?.operate(|state| act(state.inodes.get_mut(&number).ok_or(io::ErrorKind::NotFound)?))
    }
}

impl SegmentFile for SimFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let allowed = {
            let mut state = self.state()?;
            let allowed = state.free.map_or(bytes.len(), |free| bytes.len().min(free as usize));
            state.free = state.free.map(|free| free - allowed as u64);
            allowed
        };
        self.operate(|inode| {
            inode.write(&bytes[..allowed], offset as usize);
            Ok(())
        })?;
        if allowed < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        let inode = state.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let from = inode.bytes.get(offset as usize..).unwrap_or_default();
        let n = from.len().min(buffer.len());
        buffer[..n].copy_from_slice(&from[..n]);
        state.reads += 1;
        if n > 0 && state.rot_every > 0 && state.reads % state.rot_every == 0 {
            buffer[state.reads as usize % n] ^= 1;
        }
        Ok(n)
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.state()?;
        Ok(state.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?.bytes.len() as u64)
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.operate(|inode| {
            inode.truncate(size as usize);
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let (fail, slow) = {
            let mut state = self.state()?;
            (state.fail_sync | std::mem::take(&mut state.fail_next_sync), state.slow)
        };
        if !slow.is_zero() {
            std::thread::sleep(slow);
        }
        self.operate(|inode| {
            if fail {
                inode.fail_sync();
                return Err(io::Error::other("the device failed"));
            }
            inode.sync();
            Ok(())
        })
    }
}

impl Storage for SimDisk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().operate(|state| {
            state.check_free_name(dir)?;
            state.names.change(vec![(dir.to_owned(), Some(Node::Folder))]);
            Ok(())
        })
    }

    fn is_dir(&self, dir: &Path) -> bool {
        self.state().names.get(dir) == Some(Node::Folder)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_on()?;
        match state.names.get(dir) {
            Some(Node::Folder) => {
                let names = state.names.inside(dir).filter_map(|path| path.file_name()?.to_str());
                Ok(names.map(str::to_owned).collect())
            }
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Ok(Vec::new()),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let (inode, life) = self.state().operate(|state| {
            state.check_free_name(path)?;
            let inode = state.next_inode;
            state.next_inode += 1;
            state.inodes.insert(inode, Inode::default());
            state.names.change(vec![(path.to_owned(), Some(Node::File(inode)))]);
            Ok((inode, state.life))
        })?;
        Ok(Box::new(SimFile { disk: self.clone(), inode, life }))
    }

    fn open(&self, path: &Path, _writable: bool) -> io::Result<Box<dyn SegmentFile>> {
        let state = self.state();
        state.check_on()?;
        Ok(Box::new(SimFile { disk: self.clone(), inode: state.file(path)?, life: state.life }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().operate(|state| {
            state.file(path)?;
            state.names.change(vec![(path.to_owned(), None)]);
            Ok(())
        })
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().operate(|state| {
            if state.names.get(dir) != Some(Node::Folder) {
                return Err(io::ErrorKind::NotFound.into());
            }
            if state.names.inside(dir).next().is_some() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            state.names.change(vec![(dir.to_owned(), None)]);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().operate(|state| {
            let inode = state.file(from)?;
            state.check_parent(to)?;
            state.names.change(vec![(from.to_owned(), None), (to.to_owned(), Some(Node::File(inode)))]);
            Ok(())
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().operate(|state| {
            let inode = state.file(from)?;
            state.check_free_name(to)?;
            state.names.change(vec![(to.to_owned(), Some(Node::File(inode)))]);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().operate(|state| {
            if state.names.get(dir) != Some(Node::Folder) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.names.sync(dir);
            Ok(())
        })
    }
}
