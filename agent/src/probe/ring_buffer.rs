//! The ring buffer, read without giving its space back before what was read is safe.
//!
//! The kernel may write over whatever the consumer position has passed. The loader's own reader moves it with every
//! record; this one moves it when told to, so that an agent that dies reads again what it had not yet stored.
//!
//! Source: kernel/bpf/ringbuf.c: a page for the consumer's position, one for the producer's, then the data, mapped twice
//! in a row so that no record is broken.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::MapData;

use super::{error::ProbeError, mapping::Mapping, sys};

/// Bits of a record's length word.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// Bytes before a record.
const HEADER: usize = 8;

/// The ring.
#[derive(Debug)]
pub(super) struct RingBuffer {
    map: MapData,
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    bytes: u64,
    /// Up to where it was read.
    position: u64,
}

impl RingBuffer {
    const NAME: &'static str = "EVENTS";

    /// Maps a ring of `bytes` and goes on where its reader left off.
    pub(super) fn new(map: MapData, bytes: u32) -> Result<Self, ProbeError> {
        let fault = |source| ProbeError::Map { name: Self::NAME, operation: "mapping", source };
        let page = rustix::param::page_size();
        let consumer = Mapping::new(map.fd().as_fd(), 0, page, true).map_err(fault)?;
        let producer = Mapping::new(map.fd().as_fd(), page as u64, page + 2 * bytes as usize, false).map_err(fault)?;
        let mut ring = Self { map, consumer, producer, page, bytes: u64::from(bytes), position: 0 };
        ring.position = ring.consumed().load(Ordering::Acquire);
        Ok(ring)
    }

    /// The map itself.
    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    /// Memory the kernel holds for it.
    pub(super) fn map_bytes(&self) -> u64 {
        sys::map_bytes(self.map.fd().as_fd())
    }

    /// Up to where it was read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// What was read before `position` is safe already: goes on there. A place the ring does not hold is passed over.
    pub(super) fn resume(&mut self, position: u64) {
        if (self.position..=self.produced()).contains(&position) {
            self.position = position;
            self.release(position);
        }
    }

    /// Up to where programs have reserved room.
    pub(super) fn produced(&self) -> u64 {
        // SAFETY: mapped, aligned, and only ever accessed as an atomic here.
        unsafe { AtomicU64::from_ptr(self.producer.at(0)) }.load(Ordering::Acquire)
    }

    /// The next record and the position behind it; `None` when there is none, or the next one is still being written.
    pub(super) fn next(&mut self) -> Option<(&[u8], u64)> {
        loop {
            if self.position >= self.produced() {
                return None;
            }
            let at = self.page + (self.position & (self.bytes - 1)) as usize;
            // SAFETY: mapped, aligned to eight bytes, and only ever accessed as an atomic here.
            let word = unsafe { AtomicU32::from_ptr(self.producer.at(at)) }.load(Ordering::Acquire);
            if word & BUSY != 0 {
                return None;
            }
            let length = (word & !(BUSY | DISCARDED)) as usize;
            self.position += (length + HEADER).next_multiple_of(HEADER) as u64;
            if word & DISCARDED == 0 && (length as u64) < self.bytes {
                let begin = self.producer.at::<u8>(at + HEADER);
                // SAFETY: the data is mapped twice in a row, so `length` bytes follow; the kernel does not write a
                // record that is not busy until its space is released, for which this must be given back.
                return Some((unsafe { std::slice::from_raw_parts(begin, length) }, self.position));
            }
        }
    }

    /// What was read before `position` is safe: the kernel may have the room.
    pub(super) fn release(&mut self, position: u64) {
        if position <= self.position {
            self.consumed().fetch_max(position, Ordering::Release);
        }
    }

    fn consumed(&self) -> &AtomicU64 {
        // SAFETY: mapped, aligned, and only ever accessed as an atomic here.
        unsafe { AtomicU64::from_ptr(self.consumer.at(0)) }
    }
}
