//! Where an exec record is put together: it is too large for the stack.
//!
//! The parts of the work are functions the verifier checks one by one. They share nothing but this, one a CPU; the kernel
//! does not let the program interrupt itself on a CPU.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use skep_common::{event::ExecRecord, limit};

use crate::path::Cursor;

/// Bytes of text behind an [`ExecRecord`].
pub const TEXT_BYTES: usize =
    limit::ARGV_BYTES + limit::FILENAME_BYTES + limit::INTERPRETER_BYTES + 2 * limit::PATH_BYTES;

/// The record, and how far it is.
#[repr(C)]
pub struct Scratch {
    /// What goes into the ring, with as much of the text as is used.
    pub record: ExecRecord,
    /// Begins where the record ends: both go into the ring as one.
    pub text: [u8; TEXT_BYTES + limit::NAME_BYTES],
    /// First free byte of the text.
    pub end: u64,
    /// The `struct linux_binprm *`.
    pub program: u64,
    /// Where the walk along a path is.
    pub cursor: Cursor,
}

const _: () = assert!(size_of::<Scratch>() <= 32_768);

#[map]
static EXEC_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's.
#[inline(always)]
pub fn here() -> Option<*mut Scratch> {
    EXEC_SCRATCH.get_ptr_mut(0)
}
