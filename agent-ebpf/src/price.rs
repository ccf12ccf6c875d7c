//! What the programs cost, by their own measure.
//!
//! The kernel measures programs too, but only for whoever may administrate the system, and then it looks at the clock
//! twice in every run. Here the runs are counted and one in [`TIMED`] of the whole ones is timed to its end.

use skep_common::state::Price;

use crate::{here::Here, kernel};

/// One whole run in so many is timed; a power of two.
const TIMED: u64 = 64;

/// Times a run, perhaps.
pub struct Meter {
    price: *mut Price,
    /// 0 when this run is not timed.
    began_ns: u64,
}

impl Meter {
    /// Counts a whole run of a domain's program, which may have looked at the clock already.
    #[inline(always)]
    pub fn start(here: Here, domain: usize, looked_ns: Option<u64>) -> Self {
        // SAFETY: the state is this CPU's, the domain a constant within the array. A program that interrupts another of
        // its domain may make a count slip; prices are estimates.
        unsafe {
            let price = &raw mut (*here.state).prices[domain];
            let whole = (*price).whole;
            (*price).runs += 1;
            (*price).whole = whole + 1;
            let timed = whole & (TIMED - 1) == 0;
            Self { price, began_ns: if timed { looked_ns.unwrap_or_else(kernel::now_ns) } else { 0 } }
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
