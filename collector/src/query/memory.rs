//! How much memory one statement may take of what all have.
//!
//! All statements draw on one pool; each has a cap of its own below it, so that one that is greedy fails by itself and
//! leaves the others theirs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// A cap on the way to the pool of all.
#[derive(Debug)]
pub struct Capped {
    all: Arc<dyn MemoryPool>,
    cap_bytes: usize,
    used_bytes: AtomicUsize,
}

impl Capped {
    /// At most `cap_bytes` of what `all` has.
    pub fn new(all: Arc<dyn MemoryPool>, cap_bytes: usize) -> Self {
        Self { all, cap_bytes, used_bytes: AtomicUsize::new(0) }
    }
}

impl fmt::Display for Capped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} bytes of {}", self.cap_bytes, self.all)
    }
}

impl MemoryPool for Capped {
    fn name(&self) -> &str {
        "statement"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used_bytes.fetch_add(additional, Ordering::Relaxed);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used_bytes.fetch_sub(shrink, Ordering::Relaxed);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let grown = |used: usize| used.checked_add(additional).filter(|used| *used <= self.cap_bytes);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).map_err(|used| {
            let (mib, consumer) = (1 << 20, reservation.consumer().name());
            resources_datafusion_err!(
                "{consumer} asked for {} MiB more; it has {} of at most {} MiB",
                additional.div_ceil(mib),
                used.div_ceil(mib),
                self.cap_bytes / mib
            )
        })?;
        self.all.try_grow(reservation, additional).inspect_err(|_| {
            self.used_bytes.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.cap_bytes)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn a_statement_stops_at_its_cap_and_at_what_all_have() {
        let all: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let pool = |cap| -> Arc<dyn MemoryPool> { Arc::new(Capped::new(Arc::clone(&all), cap)) };
        let (one, other) = (pool(60), pool(60));
        let first = MemoryConsumer::new("first").register(&one);
        let second = MemoryConsumer::new("second").register(&other);
        first.try_grow(60).unwrap();
        assert!(first.try_grow(1).unwrap_err().to_string().contains("first asked for"));
        second.try_grow(40).unwrap();
        assert!(second.try_grow(1).is_err(), "all have no more");
        assert_eq!((one.reserved(), other.reserved(), all.reserved()), (60, 40, 100));
        first.shrink(10);
        second.try_grow(10).unwrap();
        drop((first, second));
        assert_eq!((one.reserved(), other.reserved(), all.reserved()), (0, 0, 0));
    }
}
