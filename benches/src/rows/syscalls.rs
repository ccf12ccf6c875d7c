//! Rows of `syscalls`.

use anyhow::{Context, Result};
use skep_wire::chunk::Builder;
use skep_wire::{tables, v1};

use super::cpu;
use super::host::Host;
use super::random::Random;
use super::waits::Waits;

/// What processes call, with the median of how long it takes, nanoseconds.
const CALLS: [(&str, u64, f64); 20] = [
    ("read", 0, 900.0),
    ("write", 1, 1_500.0),
    ("close", 3, 250.0),
    ("stat", 4, 600.0),
    ("poll", 7, 90_000.0),
    ("lseek", 8, 120.0),
    ("mmap", 9, 1_200.0),
    ("mprotect", 10, 900.0),
    ("munmap", 11, 2_500.0),
    ("ioctl", 16, 700.0),
    ("access", 21, 800.0),
    ("sendto", 44, 6_000.0),
    ("recvfrom", 45, 2_000.0),
    ("futex", 202, 40_000.0),
    ("epoll_wait", 232, 800_000.0),
    ("openat", 257, 2_200.0),
    ("getpid", 39, 90.0),
    ("clock_nanosleep", 230, 1_060_000.0),
    ("fsync", 74, 3_000_000.0),
    ("getrandom", 318, 400.0),
];

/// One of so many pairs of process and call is in use.
const SPARSENESS: u64 = 14;

/// One window of every process of `host`, or `None` when nobody called anything. The host's own numbers stay as they are,
/// so that its rows of `cpu` are the same with these and without.
pub(crate) fn chunk(host: &Host, random: &mut Random, time_us: i64, window_s: f64) -> Result<Option<v1::Chunk>> {
    let mut chunk = Builder::new(&tables::SYSCALLS);
    for process in &host.processes {
        for (name, number, median_ns) in CALLS {
            // Always the same calls of the same process.
            if !(process.pid.wrapping_mul(2_654_435_761) + number * 40_503).is_multiple_of(SPARSENESS) {
                continue;
            }
            let count = random.log_normal(40.0 * window_s, 1.3).round().max(1.0) as u64;
            let waits = Waits::draw(random, count, median_ns, 1.0);
            let again = waits.count() / 20;
            chunk.int("time", time_us).float("window_s", window_s);
            cpu::identity(&mut chunk, process);
            chunk.text("syscall", name).count("syscall_nr", number);
            chunk.count("count", waits.count()).count("timed", waits.count()).count("errors", again);
            chunk.int("errors_interrupted", 0).count("errors_again", again);
            for kind in ["not_found", "denied", "invalid", "limit", "network", "timeout", "conflict", "io", "other"] {
                chunk.int(&format!("errors_{kind}"), 0);
            }
            chunk.count("latency_sum_ns", waits.sum());
            chunk.maybe_int("latency_min_ns", waits.min().map(u64::cast_signed));
            chunk.maybe_int("latency_max_ns", waits.max().map(u64::cast_signed));
            chunk.histogram("latency", waits.buckets()).float("coverage", 1.0);
            chunk.end_row().context("a row of syscalls")?;
        }
    }
    Ok(chunk.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_passes_the_collectors_check() {
        let host = Host::new("h", 7, 500);
        let chunk = chunk(&host, &mut Random::new(1), 1, 10.0).unwrap().unwrap();
        assert!((500..1000).contains(&chunk.rows), "{}", chunk.rows);
        assert_eq!(skep_wire::chunk::check(&chunk, &tables::SYSCALLS), Ok(0));
    }
}
