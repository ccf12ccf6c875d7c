//! The state of the CPU a program runs on, and the epoch it works in.
//!
//! User space writes the time, then the number of an epoch, then waits until every program that may have seen the old
//! number has returned (an RCU grace period), and only then reads the old side.

use aya_ebpf::{macros::map, maps::Array};
use skep_common::state::{CpuState, Side};

use crate::kernel;

/// `BPF_F_MMAPABLE`: user space reads and writes it without system calls.
const MMAPABLE: u32 = 1 << 10;

/// By CPU; user space sets the number of entries.
#[map]
static CPUS: Array<CpuState> = Array::with_max_entries(1, MMAPABLE);

/// This CPU and the current epoch. Made once in each program.
#[derive(Clone, Copy)]
pub struct Here {
    /// This CPU's state.
    pub state: *mut CpuState,
    /// Its number.
    pub cpu: u32,
    /// Number of the epoch.
    pub epoch: u64,
}

impl Here {
    /// Now; `None` only if user space made the array too short.
    #[inline(always)]
    pub fn now() -> Option<Self> {
        let cpu = kernel::cpu();
        let state = CPUS.get_ptr_mut(cpu)?;
        // SAFETY: the map gave the pointer; volatile because user space writes it at any time.
        let epoch = unsafe { core::ptr::read_volatile(&raw const (*state).orders.epoch) };
        Some(Self { state, cpu, epoch })
    }

    /// The side the epoch is counted on.
    #[inline(always)]
    pub fn side(self) -> *mut Side {
        // SAFETY: the index is 0 or 1.
        unsafe { (&raw mut (*self.state).sides).cast::<Side>().add((self.epoch & 1) as usize) }
    }

    /// Whether the epoch's number is odd.
    #[inline(always)]
    pub fn is_odd(self) -> bool {
        self.epoch & 1 == 1
    }

    /// When it began.
    #[inline(always)]
    pub fn began_ns(self) -> u64 {
        self.began(self.epoch & 1)
    }

    /// When the one before began.
    #[inline(always)]
    pub fn previous_began_ns(self) -> u64 {
        self.began(!self.epoch & 1)
    }

    /// Since when switches have been watched without a pause.
    #[inline(always)]
    pub fn switches_since_ns(self) -> u64 {
        // SAFETY: the map gave the pointer; volatile because user space writes it at any time.
        unsafe { core::ptr::read_volatile(&raw const (*self.state).orders.switches_since_ns) }
    }

    /// The same of system calls.
    #[inline(always)]
    pub fn calls_since_ns(self) -> u64 {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(&raw const (*self.state).orders.calls_since_ns) }
    }

    #[inline(always)]
    fn began(self, parity: u64) -> u64 {
        // SAFETY: the map gave the pointer, the index is 0 or 1; volatile because user space writes it at any time.
        unsafe {
            let times = (&raw const (*self.state).orders.began_ns).cast::<u64>();
            core::ptr::read_volatile(times.add((parity & 1) as usize))
        }
    }
}
