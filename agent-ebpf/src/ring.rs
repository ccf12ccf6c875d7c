//! The one ring buffer, which wakes nobody: user space comes by on a timer.

use aya_ebpf::{macros::map, maps::RingBuf};
use aya_log_ebpf::debug;
use skep_common::{event::Header, ledger::column, limit};

use crate::here::Here;

/// `BPF_RB_NO_WAKEUP`.
const NO_WAKEUP: u64 = 1;

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(limit::RING_BYTES, 0);

/// Counts an event and hands `fill` room for its record, already begun with its header.
#[inline(always)]
pub fn emit<T: 'static>(probe: usize, kind: u16, fill: impl FnOnce(*mut T)) {
    let Some(here) = Here::now() else { return };
    here.attempted(probe);
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        here.lost(probe, column::RING_FULL);
        debug!(&EVENTS, "no room for a record of kind {}", kind);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the ring gave `size_of::<T>()` bytes; every record begins with a header.
    unsafe { record.cast::<Header>().write(header(here, kind)) };
    fill(record);
    entry.submit(NO_WAKEUP);
}

/// Counts an event and copies the first `length` bytes of `record`, which has its header.
#[inline(always)]
pub fn emit_bytes(here: Here, probe: usize, record: *mut u8, length: u64) {
    here.attempted(probe);
    // SAFETY: the verifier checks that `length` bytes are there.
    let refused = unsafe {
        aya_ebpf::helpers::generated::bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            record.cast(),
            length,
            NO_WAKEUP,
        )
    };
    if refused != 0 {
        here.lost(probe, column::RING_FULL);
        debug!(&EVENTS, "no room for a record of {} bytes", length);
    }
}

/// The header of a record.
#[inline(always)]
pub fn header(here: Here, kind: u16) -> Header {
    Header { kind, cpu: here.cpu as u16, epoch: here.epoch as u32 }
}
