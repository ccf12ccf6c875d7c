//! Reading the kernel's records from bytes.

use core::mem::{MaybeUninit, size_of};

use crate::{aggregate, event, ledger, offset, state};

/// A type of which any bytes of the right number are a value.
///
/// # Safety
/// `repr(C)`, made of integers and arrays of them, without padding that is not spelt out.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($kind:ty),* $(,)?) => {
        // SAFETY: the records in this crate are `repr(C)`, of integers only, with their layout asserted.
        $(unsafe impl Plain for $kind {})*
    };
}

plain!(
    u32,
    u64,
    aggregate::Line,
    aggregate::Count,
    aggregate::Wait,
    aggregate::WaitLine,
    aggregate::CellKey,
    aggregate::BlockKey,
    aggregate::Amount,
    aggregate::UsageLine,
    aggregate::Usage,
    aggregate::UsageKey,
    aggregate::TrafficLine,
    aggregate::Traffic,
    aggregate::TrafficKey,
    aggregate::Mishaps,
    aggregate::MishapKey,
    state::CpuState,
    state::Orders,
    state::Running,
    state::Tail,
    state::Price,
    state::Side,
    state::Thread,
    event::Header,
    event::ForkRecord,
    event::ExitRecord,
    event::ExecRecord,
    event::SecurityRecord,
    event::ConnectionRecord,
    event::CgroupRecord,
    ledger::Counters,
    offset::Offsets,
    offset::Facts,
    offset::Watched,
);

/// The value at the beginning of `bytes`; `None` when there are too few.
pub fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: source and destination are `size_of::<T>()` bytes long and cannot overlap; any bytes are a `T` (`Plain`).
    unsafe {
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast(), size_of::<T>());
        Some(value.assume_init())
    }
}

/// The bytes of `value`.
pub fn bytes<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a `Plain` value has no padding that is not spelt out, so all its bytes are initialised.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The bytes of `values`, in their order.
pub fn slice_bytes<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: as above; a slice is its elements, one after the other.
    unsafe { core::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}
