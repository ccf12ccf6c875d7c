//! What was attempted and what was lost, per CPU and side.
//!
//! A counter is only ever written by one program, and the kernel does not let a program interrupt itself on a CPU, so
//! plain additions are exact.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use skep_common::ledger::{Counters, column};

use crate::epoch::Epoch;

#[map]
static LEDGER: PerCpuArray<Counters> = PerCpuArray::with_max_entries(2, 0);

/// The counters of one side on this CPU.
#[derive(Clone, Copy)]
pub struct Ledger(*mut Counters);

impl Ledger {
    /// The side of `epoch`.
    #[inline(always)]
    pub fn of(epoch: Epoch) -> Option<Self> {
        LEDGER.get_ptr_mut(u32::from(epoch.is_odd())).map(Self)
    }

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

    /// One was lost because a map refused it with `error`.
    #[inline(always)]
    pub fn refused(self, probe: usize, error: i32) {
        const EBUSY: i32 = 16;
        self.add(probe, if error == -EBUSY { column::MAP_BUSY } else { column::MAP_FULL });
    }

    #[inline(always)]
    fn add(self, probe: usize, column: usize) {
        // SAFETY: the map gave the pointer, both indices are constants within the arrays.
        unsafe {
            let count = &raw mut (*self.0).counts[probe][column];
            *count += 1;
        }
    }
}
