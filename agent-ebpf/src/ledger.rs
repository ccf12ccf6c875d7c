//! What was attempted and what was lost, per CPU and side.

use skep_common::ledger::column;

use crate::here::Here;

impl Here {
    /// One more was offered to `probe`.
    #[inline(always)]
    pub fn attempted(self, probe: usize) {
        self.add(probe, column::ATTEMPTED, 1);
    }

    /// So many were offered to `probe` at once.
    #[inline(always)]
    pub fn attempted_many(self, probe: usize, count: u64) {
        self.add(probe, column::ATTEMPTED, count);
    }

    /// One more call was offered to [`skep_common::ledger::probe::SYSCALL`].
    #[inline(always)]
    pub fn attempted_call(self) {
        // SAFETY: the map gave the pointer, the index is 0 or 1; only the program at the return of calls writes it.
        unsafe {
            let counts = (&raw mut (*self.state).orders.calls_attempted).cast::<u64>();
            *counts.add((self.epoch & 1) as usize) += 1;
        }
    }

    /// One was lost, for the reason of a column.
    #[inline(always)]
    pub fn lost(self, probe: usize, reason: usize) {
        self.add(probe, reason, 1);
    }

    /// One was lost because a map refused an entry with `error`: it was full, or its lock was not to be had.
    #[inline(always)]
    pub fn refused(self, probe: usize, error: i32) {
        self.refused_many(probe, error, 1);
    }

    /// So many were lost at once in this way.
    #[inline(always)]
    pub fn refused_many(self, probe: usize, error: i32, count: u64) {
        const E2BIG: i32 = 7;
        const ENOMEM: i32 = 12;
        let full = error == -E2BIG || error == -ENOMEM;
        self.add(probe, if full { column::MAP_FULL } else { column::MAP_BUSY }, count);
    }

    #[inline(always)]
    fn add(self, probe: usize, column: usize, count: u64) {
        // SAFETY: the map gave the pointer, both indices are constants within the arrays.
        unsafe {
            let side = self.side();
            let counter = &raw mut (*side).ledger.counts[probe][column];
            *counter += count;
        }
    }
}
