//! Memory for rows that are not in Parquet yet, and who has how much of it.
//!
//! While less than half is taken, anybody gets more. From then on a node gets more only within its share, an equal part
//! of the whole for each node that holds any: so a node that sends far more than others waits for the next flush, and
//! the others do not.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::shares::{Share, Shares};

/// Unit of the budget: 1 KiB, so that a permit count fits 32 bits.
const UNIT_BYTES: usize = 1024;

/// A node that waits looks again after this time, whatever happens.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The memory there is.
#[derive(Debug)]
pub struct Budget {
    free: Arc<Semaphore>,
    units: usize,
    /// What each node holds or is about to.
    held: Arc<Shares>,
    freed: Notify,
}

/// Leave to put rows into the buffer. Given back when dropped.
#[derive(Debug)]
pub struct Room {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
}

impl Budget {
    /// So many bytes.
    pub fn new(bytes: usize) -> Arc<Self> {
        let units = (bytes / UNIT_BYTES).clamp(1, u32::MAX as usize >> 1);
        let free = Arc::new(Semaphore::new(units));
        Arc::new(Self { free, units, held: Arc::default(), freed: Notify::new() })
    }

    /// Waits until this much is free, and `node` may have it; without a node, whoever asks may.
    /// What is larger than half of the budget counts as half, so that it passes.
    ///
    /// `None` when the budget is closing.
    pub async fn take(self: &Arc<Self>, node: Option<&str>, bytes: usize) -> Option<Room> {
        let units = self.units_of(bytes);
        let share = match node {
            Some(node) => Some(self.share(node, units).await?),
            None => None,
        };
        let permit = Arc::clone(&self.free).acquire_many_owned(units as u32).await.ok()?;
        Some(Room { _permit: permit, _share: share })
    }

    /// The same at once, or not at all.
    pub fn take_now(self: &Arc<Self>, node: &str, bytes: usize) -> Option<Room> {
        let units = self.units_of(bytes);
        let share = self.share_now(node, units)?;
        let permit = Arc::clone(&self.free).try_acquire_many_owned(units as u32).ok()?;
        Some(Room { _permit: permit, _share: Some(share) })
    }

    fn units_of(&self, bytes: usize) -> usize {
        bytes.div_ceil(UNIT_BYTES).min(self.units / 2)
    }

    fn share_now(&self, node: &str, units: usize) -> Option<Share> {
        self.held.take(node, units, |own, nodes| !self.is_half_full() || own + units <= self.units / nodes)
    }

    async fn share(self: &Arc<Self>, node: &str, units: usize) -> Option<Share> {
        loop {
            let freed = self.freed.notified();
            if self.free.is_closed() {
                return None;
            }
            let share = self.share_now(node, units);
            if share.is_some() {
                return share;
            }
            // Whether it was told or not, it looks.
            let _told = tokio::time::timeout(LOOK_AGAIN, freed).await.is_ok();
        }
    }

    /// Whether more than half is taken.
    pub fn is_half_full(&self) -> bool {
        self.free.available_permits() * 2 < self.units
    }

    /// Much came free at once: those who wait look again.
    pub fn tell(&self) {
        self.freed.notify_waiters();
    }

    /// Lets nobody wait any more.
    pub fn close(&self) {
        self.free.close();
        self.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    async fn is_given(budget: &Arc<Budget>, node: &str, kib: usize) -> Option<Room> {
        tokio::time::timeout(Duration::from_millis(50), budget.take(Some(node), kib * KIB)).await.ok().flatten()
    }

    #[tokio::test]
    async fn who_has_more_than_its_share_waits_and_others_do_not() {
        let budget = Budget::new(100 * KIB);
        let greedy: Vec<_> = [
            is_given(&budget, "greedy", 30).await,
            is_given(&budget, "greedy", 30).await,
            is_given(&budget, "greedy", 30).await,
        ]
        .into_iter()
        .collect();
        assert_eq!(greedy.iter().flatten().count(), 3, "it is alone");
        assert!(is_given(&budget, "modest", 5).await.is_some(), "it holds nothing");
        let modest = is_given(&budget, "modest", 5).await;
        assert!(modest.is_some());
        assert!(is_given(&budget, "greedy", 1).await.is_none(), "it has more than half");
        assert!(budget.take_now("greedy", KIB).is_none() && budget.take_now("modest", 4 * KIB).is_some());
        assert!(budget.take_now("new", 11 * KIB).is_none(), "so much is not free");
        let second = is_given(&budget, "modest", 4).await;
        assert!(second.is_some(), "within its share");
        drop(greedy);
        budget.tell();
        assert!(is_given(&budget, "greedy", 1).await.is_some());
        drop((modest, second));
        assert!(budget.held.is_empty());
    }

    #[tokio::test]
    async fn what_is_larger_than_the_budget_passes_alone() {
        let budget = Budget::new(10 * KIB);
        let large = is_given(&budget, "n", 1000).await;
        assert!(large.is_some() && !budget.is_half_full());
        let more = is_given(&budget, "n", 1000).await;
        assert!(more.is_some());
        assert!(is_given(&budget, "n", 1).await.is_none());
        let waiting = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.take(Some("n"), KIB).await.is_some() }
        });
        tokio::task::yield_now().await;
        budget.close();
        assert!(!waiting.await.unwrap());
    }
}
