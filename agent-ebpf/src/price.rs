//! What the programs cost, by their own measure.
//!
//! The kernel measures programs too, but only for whoever may administrate the system, and then it looks at the clock
//! twice in every run. Here the runs are counted and one in [`TIMED`] is timed, from its first look at the clock, which
//! it takes anyway, to its end.

use skep_common::state::Price;

use crate::{here::Here, kernel};

/// One run in so many is timed; a power of two.
const TIMED: u64 = 256;

/// Times a run, perhaps.
pub struct Meter {
    price: *mut Price,
    /// 0 when this run is not timed.
    began_ns: u64,
}

impl Meter {
    /// Counts a run of a domain's program that began at `now_ns`.
    #[inline(always)]
    pub fn start(here: Here, domain: usize, now_ns: u64) -> Self {
        // SAFETY: the state is this CPU's, the domain a constant within the array. A program that interrupts another of
        // its domain may make a count slip; prices are estimates.
        unsafe {
            let price = &raw mut (*here.state).prices[domain];
            let runs = (*price).runs;
            (*price).runs = runs + 1;
            Self { price, began_ns: if runs & (TIMED - 1) == 0 { now_ns } else { 0 } }
        }
    }

    /// The run is over.
    #[inline(always)]
    pub fn stop(self) {
        if self.began_ns == 0 {
            return;
        }
        let took_ns = kernel::now_ns().saturating_sub(self.began_ns);
        // SAFETY: as above.
        unsafe {
            (*self.price).timed += 1;
            (*self.price).timed_ns += took_ns;
        }
    }
}
