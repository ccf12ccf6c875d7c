//! Maps as tables of records: read whole, emptied while they are read.

use std::{marker::PhantomData, mem::size_of, os::fd::AsFd};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use skep_common::plain::{self, Plain};

use super::{error::ProbeError, sys};

/// Entries moved in one system call.
const BATCH: usize = 4_096;

/// A hash map that is drained.
#[derive(Debug)]
pub(super) struct Drain<K, V> {
    name: &'static str,
    map: MapData,
    records: PhantomData<(K, V)>,
}

impl<K: Plain, V: Plain> Drain<K, V> {
    /// Takes the map out of the object.
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, ProbeError> {
        match ebpf.take_map(name) {
            Some(Map::HashMap(map)) => Ok(Self { name, map, records: PhantomData }),
            _ => Err(ProbeError::NoMap { name }),
        }
    }

    /// Memory the kernel holds for it.
    pub(super) fn bytes(&self) -> u64 {
        sys::map_bytes(self.map.fd().as_fd())
    }

    /// Hands out every entry and empties the map. Nobody may write it meanwhile.
    ///
    /// Cost: a system call for every [`BATCH`] entries.
    pub(super) fn drain(&self, mut each: impl FnMut(K, V)) -> Result<(), ProbeError> {
        let mut keys = vec![0; BATCH * size_of::<K>()];
        let mut values = vec![0; BATCH * size_of::<V>()];
        let (mut position, mut first) = (0, true);
        loop {
            let (count, all) =
                sys::take_batch(self.map.fd().as_fd(), &mut position, first, (&mut keys, &mut values), BATCH as u32)
                    .map_err(|source| ProbeError::Map { name: self.name, operation: "draining", source })?;
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
}

/// An array of records.
#[derive(Debug)]
pub(super) struct Slots<V> {
    name: &'static str,
    map: MapData,
    /// Values to an index: 1, or the possible CPUs of a per-CPU array.
    copies: usize,
    records: PhantomData<V>,
}

impl<V: Plain> Slots<V> {
    /// Takes an array out of the object.
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, ProbeError> {
        match ebpf.take_map(name) {
            Some(Map::Array(map)) => Ok(Self { name, map, copies: 1, records: PhantomData }),
            _ => Err(ProbeError::NoMap { name }),
        }
    }

    /// Takes a per-CPU array out of the object.
    pub(super) fn take_per_cpu(ebpf: &mut Ebpf, name: &'static str, cpus: usize) -> Result<Self, ProbeError> {
        match ebpf.take_map(name) {
            Some(Map::PerCpuArray(map)) => Ok(Self { name, map, copies: cpus, records: PhantomData }),
            _ => Err(ProbeError::NoMap { name }),
        }
    }

    /// Memory the kernel holds for it.
    pub(super) fn bytes(&self) -> u64 {
        sys::map_bytes(self.map.fd().as_fd())
    }

    /// The value of an index, or one for each CPU.
    pub(super) fn read(&self, index: u32) -> Result<Vec<V>, ProbeError> {
        let mut bytes = vec![0; self.stride() * self.copies];
        sys::lookup(self.map.fd().as_fd(), index, &mut bytes).map_err(|source| ProbeError::Map {
            name: self.name,
            operation: "reading",
            source,
        })?;
        Ok(bytes.chunks_exact(self.stride()).filter_map(plain::read).collect())
    }

    /// Sets the value of an index, on every CPU.
    pub(super) fn write(&self, index: u32, value: &V) -> Result<(), ProbeError> {
        let mut bytes = vec![0; self.stride() * self.copies];
        for copy in bytes.chunks_exact_mut(self.stride()) {
            copy[..size_of::<V>()].copy_from_slice(plain::bytes(value));
        }
        sys::update(self.map.fd().as_fd(), index, &bytes).map_err(|source| ProbeError::Map {
            name: self.name,
            operation: "writing",
            source,
        })
    }

    /// The kernel pads values of per-CPU arrays to eight bytes.
    fn stride(&self) -> usize {
        size_of::<V>().next_multiple_of(8)
    }
}
