//! What the running host says of itself, and of this process.

use std::fs;

/// Kernel boot id; empty when the kernel does not tell.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// As `uname -r`; empty when the kernel does not tell.
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Time this process has spent on a CPU, all threads.
pub fn own_cpu_ns() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(spent.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(spent.tv_nsec).unwrap_or(0)
}

/// Memory this process holds; 0 when the kernel does not tell.
pub fn own_resident_bytes() -> u64 {
    // Once a second: `procfs` would open a handful of files for the same number.
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * procfs::page_size()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_spends_time_and_holds_memory() {
        let before = own_cpu_ns();
        let mut sum = 0u64;
        (0..1_000_000u64).for_each(|n| sum = std::hint::black_box(sum.wrapping_add(n)));
        assert!(own_cpu_ns() > before);
        assert!((1 << 20..1 << 36).contains(&own_resident_bytes()));
    }
}
