//! A file's bytes: as programs read them, and as a power loss would leave them.

use std::collections::BTreeSet;

/// What a device writes whole or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) bytes: Vec<u8>,
    /// What is on the device for certain.
    pub(super) durable: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: BTreeSet<usize>,
}

impl Inode {
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        self.touch(self.bytes.len().min(offset), end);
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    pub(super) fn truncate(&mut self, size: usize) {
        self.bytes.resize(size, 0);
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.bytes.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            copy(&self.bytes, &mut self.durable, sector);
        }
    }

    /// A sync that fails: the cache forgets that it still had to write, as Linux does. A later sync says yes, and what
    /// was written before is not there after a power loss.
    pub(super) fn fail_sync(&mut self) {
        self.dirty.clear();
    }

    /// Loses power: of what was not synced, each sector may have come to the device or not, and so may the size.
    /// `choose(n)` picks one of `0..n`.
    pub(super) fn cut_power(&mut self, choose: &mut dyn FnMut(u64) -> u64) {
        if self.bytes.len() != self.durable.len() && choose(2) == 1 {
            self.durable.resize(self.bytes.len(), 0);
        }
        // All, none, or each by itself: the first two are rare where many sectors are dirty, and both happen.
        let keep = choose(3);
        for sector in std::mem::take(&mut self.dirty) {
            if keep == 0 || (keep == 1 && choose(2) == 0) {
                copy(&self.bytes, &mut self.durable, sector);
            }
        }
        self.bytes.clone_from(&self.durable);
    }

    /// Loses power: `keep` of the bytes behind what was synced survive.
    pub(super) fn crash(&mut self, keep: impl FnOnce(usize) -> usize) {
        let synced = self.durable.len().min(self.bytes.len());
        let unsynced = self.bytes.len() - synced;
        let kept = keep(unsynced).min(unsynced);
        self.durable.extend_from_slice(&self.bytes[synced..][..kept]);
        self.bytes.clone_from(&self.durable);
        self.dirty.clear();
    }

    /// Somebody changed the file behind its writer's back, and it is on the device.
    pub(super) fn settle(&mut self) {
        self.durable.clone_from(&self.bytes);
        self.dirty.clear();
    }

    fn touch(&mut self, from: usize, to: usize) {
        self.dirty.extend(from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES));
    }
}

/// Copies what of a sector lies in both.
fn copy(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}
