//! Memory shared with the kernel.

use std::{io, os::fd::BorrowedFd, ptr::NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Pages of a map, mapped into this process until dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    begin: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to no thread; whoever reads or writes it does so through volatile or atomic accesses.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `map` from `offset` on.
    ///
    /// Errors: what the kernel says; maps made without `BPF_F_MMAPABLE` are refused.
    pub(super) fn new(map: BorrowedFd<'_>, offset: u64, length: usize, writable: bool) -> io::Result<Self> {
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: the kernel chooses the address; nothing of ours lies there.
        let begin = unsafe { mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, map, offset) }?;
        let begin = NonNull::new(begin.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { begin, length })
    }

    /// Where a `T` lies at `offset`. It stays mapped as long as the mapping lives.
    ///
    /// Panics: outside the mapping, or when the place does not suit `T`.
    pub(super) fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.length, "outside the mapping");
        // SAFETY: within the mapping, as just checked.
        let place = unsafe { self.begin.as_ptr().add(offset) }.cast::<T>();
        assert!(place.is_aligned(), "not aligned");
        place
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and pointers from `at` do not outlive it.
        let unmapped = unsafe { munmap(self.begin.as_ptr().cast(), self.length) };
        if let Err(error) = unmapped {
            tracing::warn!(%error, "memory shared with the kernel was not given back");
        }
    }
}
