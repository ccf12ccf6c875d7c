//! The C library's allocator, told to give memory back.
//!
//! Left alone it raises the size from which it maps allocations one by one, each time such a one is freed, up to 32 MiB;
//! what is below comes from heaps that shrink only at their end, and every thread may have one of its own. The agent reads
//! megabytes of type descriptions once and holds large windows now and then: its resident memory stayed at the peak of
//! them. Fixed bounds end that.
//!
//! Source: mallopt(3), "dynamic mmap threshold".

/// From here on an allocation is a mapping of its own, which goes when it is freed; also how much may lie free at the end
/// of a heap. The allocator's own first values.
#[cfg(target_env = "gnu")]
const BOUND_BYTES: libc::c_int = 128 << 10;

/// Heaps; more would serve threads that allocate at the same time, which ours hardly do.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Sets the bounds; to be called before there is a second thread. Other C libraries than glibc have nothing to set.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    for (bound, value) in
        [(libc::M_MMAP_THRESHOLD, BOUND_BYTES), (libc::M_TRIM_THRESHOLD, BOUND_BYTES), (libc::M_ARENA_MAX, HEAPS)]
    {
        // SAFETY: takes two numbers and keeps them. What it does not know it refuses; then nothing changes.
        unsafe { libc::mallopt(bound, value) };
    }
}
