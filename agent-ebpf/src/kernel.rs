//! Fields of the kernel's structs, at the offsets of the running kernel.
//!
//! Each use of an offset or a fact is an instruction that loads a placeholder. User space puts the value there before it
//! loads the programs ([`skep_common::offset`]): a branch on a fact costs nothing, and a load at an offset is checked
//! against the type of the pointer like one at an offset compiled in.

/// The offset of a field.
macro_rules! offset {
    ($field:ident) => {
        $crate::kernel::constant::<{ skep_common::offset::Offsets::placeholder().$field }>()
    };
}

/// A fact.
macro_rules! fact {
    ($field:ident) => {
        $crate::kernel::constant::<{ skep_common::offset::Facts::placeholder().$field }>()
    };
}

/// Whether the running kernel has a field.
macro_rules! has {
    ($field:ident) => {
        offset!($field) != skep_common::offset::MISSING
    };
}

/// Loads a field through a pointer whose type the verifier knows: a program's argument, the current task, or a pointer
/// loaded from either. Where this kernel gives no types it is [`fetch!`]. A bad address reads as zero.
macro_rules! load {
    ($base:expr, $field:ident as $kind:ty) => {
        $crate::kernel::load_at::<$kind>($base, offset!($field))
    };
}

/// Reads a field through any pointer, with a helper call. A bad address reads as zero.
macro_rules! fetch {
    ($base:expr, $field:ident as $kind:ty) => {
        $crate::kernel::fetch_at::<$kind>($base, offset!($field))
    };
}

/// A kernel address.
pub type Address = *const u8;

/// What user space puts in the place of a placeholder.
#[inline(always)]
pub fn constant<const PLACEHOLDER: u64>() -> u64 {
    let value;
    // SAFETY: the instruction loads a number into a register.
    unsafe {
        core::arch::asm!("{0} = {1} ll", out(reg) value, const PLACEHOLDER, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Loads `T` at `base + offset`, of a type the verifier knows where this kernel has types.
#[inline(always)]
pub fn load_at<T: Zero>(base: Address, offset: u64) -> T {
    if fact!(typed) == 0 {
        return fetch_at(base, offset);
    }
    // SAFETY: the verifier checks type and offset, the kernel handles the fault.
    unsafe { core::ptr::read_volatile(base.wrapping_add(offset as usize).cast::<T>()) }
}

/// Reads `T` at `base + offset`; zero when that fails.
#[inline(always)]
pub fn fetch_at<T: Zero>(base: Address, offset: u64) -> T {
    let source = base.wrapping_add(offset as usize).cast::<T>();
    // SAFETY: the helper checks the address.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel(source) }.unwrap_or(T::ZERO)
}

/// The same value, of which the verifier knows nothing any more: it went through `cell`, which is in a map.
#[inline(always)]
pub fn forget(cell: *mut u64, value: u64) -> u64 {
    // SAFETY: the caller's cell is in a map value that only this program uses on this CPU.
    unsafe {
        core::ptr::write_volatile(cell, value);
        core::ptr::read_volatile(cell)
    }
}

/// Types whose zero stands for "could not be read".
pub trait Zero: Copy {
    /// Zero.
    const ZERO: Self;
}

impl Zero for u8 {
    const ZERO: Self = 0;
}
impl Zero for u16 {
    const ZERO: Self = 0;
}
impl Zero for u32 {
    const ZERO: Self = 0;
}
impl Zero for u64 {
    const ZERO: Self = 0;
}
impl Zero for Address {
    const ZERO: Self = core::ptr::null();
}

/// Nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns() }
}

/// The task that runs; its type is known to the verifier where this kernel has types.
#[inline(always)]
pub fn current() -> Address {
    // SAFETY: the helpers have no preconditions.
    unsafe {
        if fact!(typed) == 0 {
            aya_ebpf::helpers::generated::bpf_get_current_task() as Address
        } else {
            aya_ebpf::helpers::generated::bpf_get_current_task_btf() as Address
        }
    }
}

/// The CPU the program runs on.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { aya_ebpf::helpers::generated::bpf_get_smp_processor_id() }
}

/// Adds one, all CPUs agreeing on the order.
///
/// # Safety
/// `counter` is valid.
#[inline(always)]
pub unsafe fn atomic_increment(counter: *mut u64) {
    // SAFETY: the caller's.
    unsafe { atomic_add(counter, 1) };
}

/// Adds a number, which wraps, all CPUs agreeing on the order.
///
/// # Safety
/// `counter` is valid.
#[inline(always)]
pub unsafe fn atomic_add(counter: *mut u64, change: u64) {
    // SAFETY: the caller's. The instruction without a result is older than 5.12, which brought those with one.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) change) };
}
