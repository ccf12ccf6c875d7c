//! What was attempted and what was lost, per CPU and side.

use skep_common::ledger::column;

use crate::here::Here;

impl Here {
    /// One more was offered to `probe`.
    #[inline(always)]
    pub fn attempted(self, probe: usize) {
        self.add(probe, column::ATTEMPTED, 1);
    }

    /// One was lost, for the reason of a column.
    #[inline(always)]
    pub fn lost(self, probe: usize, reason: usize) {
        self.add(probe, reason, 1);
    }

    /// `count` were lost because a map refused an entry with `error`.
    #[inline(always)]
    pub fn refused(self, probe: usize, error: i32, count: u64) {
        const EBUSY: i32 = 16;
        self.add(probe, if error == -EBUSY { column::MAP_BUSY } else { column::MAP_FULL }, count);
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
