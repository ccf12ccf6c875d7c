//! Which of the two sides the programs write, and since when.
//!
//! User space writes the time, then the number, then waits until every program that may have seen the old number has
//! returned (an RCU grace period), and only then reads the old side.

use aya_ebpf::{macros::map, maps::Array};
use skep_common::aggregate::control;

#[map]
static CONTROL: Array<u64> = Array::with_max_entries(control::LEN, 0);

/// The epoch a program works in. Read once in each program.
#[derive(Clone, Copy)]
pub struct Epoch {
    /// Its number.
    pub number: u64,
}

impl Epoch {
    /// The current one.
    #[inline(always)]
    pub fn now() -> Self {
        Self { number: entry(control::EPOCH) }
    }

    /// Which side belongs to it.
    #[inline(always)]
    pub fn is_odd(self) -> bool {
        self.number & 1 == 1
    }

    /// When it began.
    #[inline(always)]
    pub fn began_ns(self) -> u64 {
        entry(control::FLIPPED_EVEN + u32::from(self.is_odd()))
    }

    /// When the one before began.
    #[inline(always)]
    pub fn previous_began_ns(self) -> u64 {
        entry(control::FLIPPED_EVEN + u32::from(!self.is_odd()))
    }
}

#[inline(always)]
fn entry(index: u32) -> u64 {
    match CONTROL.get_ptr(index) {
        // SAFETY: the map gave the pointer; volatile because user space writes it at any time.
        Some(value) => unsafe { core::ptr::read_volatile(value) },
        None => 0,
    }
}
