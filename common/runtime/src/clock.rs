//! Two clocks: nanoseconds since boot for ordering and durations, wall microseconds for stamps.
//!
//! Wall time is the boot clock plus an offset, so that stamps made from kernel events and stamps made here agree. The
//! offset is taken anew by [`Clock::reanchor`]: an administrator's step of the clock shows at a moment the caller picks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Where now comes from.
#[derive(Debug)]
enum Source {
    System,
    /// Set by a test.
    Manual {
        boot_ns: AtomicU64,
    },
}

/// A clock shared by everything in a process. Cloning it shares the anchor.
#[derive(Debug, Clone)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    /// Wall minus boot.
    offset_ns: AtomicI64,
}

impl Clock {
    /// The kernel's clocks, anchored now.
    pub fn system() -> Self {
        Self { inner: Arc::new(Inner { source: Source::System, offset_ns: AtomicI64::new(system_offset_ns()) }) }
    }

    /// A clock that stands at `boot_ns` and `wall_us` until it is moved by [`Clock::advance_ns`].
    pub fn manual(boot_ns: u64, wall_us: i64) -> Self {
        let offset = wall_us.saturating_mul(1000).saturating_sub_unsigned(boot_ns);
        let source = Source::Manual { boot_ns: AtomicU64::new(boot_ns) };
        Self { inner: Arc::new(Inner { source, offset_ns: AtomicI64::new(offset) }) }
    }

    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub fn boot_ns(&self) -> u64 {
        match &self.inner.source {
            Source::System => system_ns(ClockId::Boottime).unsigned_abs(),
            Source::Manual { boot_ns } => boot_ns.load(Ordering::Relaxed),
        }
    }

    /// Wall clock now, microseconds since the epoch.
    pub fn wall_us(&self) -> i64 {
        self.wall_us_at(self.boot_ns())
    }

    /// Wall clock at a moment of the boot clock, microseconds since the epoch.
    pub fn wall_us_at(&self, boot_ns: u64) -> i64 {
        self.offset_ns().saturating_add_unsigned(boot_ns).div_euclid(1000)
    }

    /// Takes the offset between the clocks anew; returns by how many microseconds wall time moved.
    pub fn reanchor(&self) -> i64 {
        match self.inner.source {
            Source::System => {
                let fresh = system_offset_ns();
                let before = self.inner.offset_ns.swap(fresh, Ordering::Relaxed);
                fresh.saturating_sub(before) / 1000
            }
            Source::Manual { .. } => 0,
        }
    }

    /// Moves a manual clock on; the system's cannot be moved.
    pub fn advance_ns(&self, by_ns: u64) {
        if let Source::Manual { boot_ns } = &self.inner.source {
            boot_ns.fetch_add(by_ns, Ordering::Relaxed);
        }
    }

    fn offset_ns(&self) -> i64 {
        self.inner.offset_ns.load(Ordering::Relaxed)
    }
}

fn system_ns(id: ClockId) -> i64 {
    let now = clock_gettime(id);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// Wall minus boot, the tightest of a few readings: a task switch between the two calls would count as an offset.
fn system_offset_ns() -> i64 {
    let one = || {
        let before = system_ns(ClockId::Boottime);
        let wall = wall_ns();
        let after = system_ns(ClockId::Boottime);
        (after - before, wall - (before + (after - before) / 2))
    };
    (0..5).map(|_| one()).min().map_or(0, |(_, offset)| offset)
}

/// Through the C library, as any program does it: `skep-chaos` puts another clock in front of that.
fn wall_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_agrees_with_the_wall() {
        let clock = Clock::system();
        let wall = system_ns(ClockId::Realtime) / 1000;
        assert!((clock.wall_us() - wall).abs() < 1_000_000);
        assert!(clock.boot_ns() > 0);
        assert!(clock.reanchor().abs() < 1_000_000);
    }

    #[test]
    fn a_moment_of_the_boot_clock_has_its_wall_time() {
        let clock = Clock::manual(5_000_000_000, 1_700_000_000_000_000);
        assert_eq!(clock.wall_us(), 1_700_000_000_000_000);
        assert_eq!(clock.wall_us_at(6_000_000_000), 1_700_000_001_000_000);
        clock.advance_ns(1_500_000);
        assert_eq!(clock.wall_us(), 1_700_000_000_001_500);
    }
}
