//! Events handed out, by parity of their epoch, probe and CPU.

use std::collections::BTreeMap;

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Handed(BTreeMap<(u32, usize, u32), u64>);

impl Handed {
    /// One more of `probe`, counted on `cpu` in an epoch.
    pub(super) fn count(&mut self, epoch: u32, probe: usize, cpu: u32) {
        *self.0.entry((epoch & 1, probe, cpu)).or_default() += 1;
    }

    /// What was handed out of an epoch that is over.
    pub(super) fn of(&self, epoch: u64, probe: usize, cpu: u32) -> u64 {
        self.0.get(&((epoch & 1) as u32, probe, cpu)).copied().unwrap_or(0)
    }

    /// Forgets an epoch: the next of its parity begins.
    pub(super) fn forget(&mut self, epoch: u64) {
        self.0.retain(|(parity, ..), _| *parity != (epoch & 1) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_of_two_parities_are_kept_apart() {
        let mut handed = Handed::default();
        handed.count(6, 1, 0);
        handed.count(7, 1, 0);
        handed.count(7, 1, 0);
        assert_eq!((handed.of(6, 1, 0), handed.of(7, 1, 0), handed.of(7, 1, 1)), (1, 2, 0));
        handed.forget(7);
        assert_eq!((handed.of(6, 1, 0), handed.of(7, 1, 0)), (1, 0));
    }
}
