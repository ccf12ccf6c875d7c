//! Hash maps as tables of records: read whole while they are quiet, emptied when what was read is safe.

use std::{
    io,
    marker::PhantomData,
    mem::size_of,
    os::fd::{AsFd, BorrowedFd},
};

use aya::maps::MapData;
use skep_common::plain::{self, Plain};

use super::{
    error::ProbeError,
    sys::{self, Batch},
};

/// Entries moved in one system call.
const BATCH: usize = 1_024;

/// A hash map.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    name: &'static str,
    map: MapData,
    records: PhantomData<(K, V)>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// A table over a map whose keys are `K` and whose values are `V`.
    pub(super) fn new(name: &'static str, map: MapData) -> Self {
        Self { name, map, records: PhantomData }
    }

    /// What the map is called, and the map.
    pub(super) fn map(&self) -> (&str, BorrowedFd<'_>) {
        (self.name, self.map.fd().as_fd())
    }

    /// Memory the kernel holds for it.
    pub(super) fn bytes(&self) -> u64 {
        sys::map_bytes(self.map.fd().as_fd())
    }

    /// Hands out every entry. Nobody may write the map meanwhile.
    ///
    /// Cost: a system call for every [`BATCH`] entries.
    pub(super) fn read(&self, each: impl FnMut(K, V)) -> Result<(), ProbeError> {
        self.walk(Batch::Read, each)
    }

    /// Empties the map. Nobody may write it meanwhile.
    pub(super) fn clear(&self) -> Result<(), ProbeError> {
        self.walk(Batch::Take, |_, _| {})
    }

    fn walk(&self, batch: Batch, mut each: impl FnMut(K, V)) -> Result<(), ProbeError> {
        let mut capacity = BATCH;
        let (mut keys, mut values) = (vec![0; capacity * size_of::<K>()], vec![0; capacity * size_of::<V>()]);
        let (mut position, mut first) = (0, true);
        loop {
            let buffers = (&mut keys[..], &mut values[..]);
            let moved = sys::batch(self.map.fd().as_fd(), batch, (&mut position, first), buffers, capacity as u32);
            let (count, all) = match moved {
                // One bucket of the map holds more than the buffers: rare, but a flood of keys can make it.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    capacity *= 2;
                    keys.resize(capacity * size_of::<K>(), 0);
                    values.resize(capacity * size_of::<V>(), 0);
                    continue;
                }
                moved => moved.map_err(|source| self.fault(batch, source))?,
            };
            first = false;
            let entries = keys.chunks_exact(size_of::<K>()).zip(values.chunks_exact(size_of::<V>()));
            for (key, value) in entries.take(count) {
                if let (Some(key), Some(value)) = (plain::read(key), plain::read(value)) {
                    each(key, value);
                }
            }
            if all {
                return Ok(());
            }
        }
    }

    fn fault(&self, batch: Batch, source: io::Error) -> ProbeError {
        let operation = match batch {
            Batch::Read => "reading",
            Batch::Take => "emptying",
        };
        ProbeError::Map { name: self.name, operation, source }
    }
}
