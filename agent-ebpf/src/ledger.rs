//! What was attempted and what was lost, per CPU and side.

use skep_common::ledger::column;

use crate::here::Here;

impl Here {
    /// One more was offered to `probe`.
    #[inline(always)]
    pub fn attempted(self, probe: usize) {
        self.add(probe, column::ATTEMPTED);
    }

    /// One was lost, for the reason of a column.
    #[inline(always)]
    pub fn lost(self, probe: usize, reason: usize) {
        self.add(probe, reason);
    }

    /// One was lost because a map refused an entry with `error`: it was full, or its lock was not to be had.
    #[inline(always)]
    pub fn refused(self, probe: usize, error: i32) {
        const E2BIG: i32 = 7;
        const ENOMEM: i32 = 12;
        let full = error == -E2BIG || error == -ENOMEM;
        self.add(probe, if full { column::MAP_FULL } else { column::MAP_BUSY });
    }

    #[inline(always)]
    fn add(self, probe: usize, column: usize) {
        // SAFETY: the map gave the pointer, both indices are constants within the arrays.
        unsafe {
            let side = self.side();
            let counter = &raw mut (*side).ledger.counts[probe][column];
            *counter += 1;
        }
    }
}
