//! Paths, from the name up to the root.
//!
//! The kernel keeps a path as a chain of names from the last to the first. The walk copies them in that order, each
//! with its zero byte; user space turns them round.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use skep_common::limit;

use crate::kernel::{self, Address};

/// A place in the tree: a mount and a name on it.
#[derive(Clone, Copy)]
pub struct Place {
    /// `struct vfsmount *`.
    pub mount: Address,
    /// `struct dentry *`.
    pub name: Address,
}

/// What a walk left.
#[derive(Clone, Copy)]
pub struct Walked {
    /// First free byte behind the names.
    pub end: u64,
    /// There were more names than the bounds allow.
    pub truncated: bool,
}

/// Where a walk is. Kept in a map, so that the verifier takes what is read back for unknown: every turn of the loop then
/// looks to it like the one before, and it need not follow each way through all of them.
#[repr(C)]
pub struct Cursor {
    mount: u64,
    name: u64,
    end: u64,
    /// For [`kernel::forget`].
    pub cell: u64,
}

/// How a turn of the loop ended.
enum Turn {
    Onward,
    Done,
    Cut,
}

/// Copies the names from `place` up to `root` into `text`, from byte `begin` on.
///
/// `text` has room for [`limit::NAME_BYTES`] beyond `last`, the last byte at which a name may begin.
#[inline(always)]
pub fn walk(cursor: *mut Cursor, text: *mut u8, begin: u64, last: u64, place: Place, root: Place) -> Walked {
    let stop = begin + (limit::PATH_BYTES - limit::NAME_BYTES) as u64;
    // SAFETY: the cursor is in a map value of this CPU, which only this program uses.
    let cell = unsafe { &raw mut (*cursor).cell };
    let stop = kernel::forget(cell, if stop < last { stop } else { last });
    // SAFETY: the cursor is in a map value of this CPU, which only this program uses.
    unsafe {
        write_volatile(&raw mut (*cursor).mount, place.mount as u64);
        write_volatile(&raw mut (*cursor).name, place.name as u64);
        write_volatile(&raw mut (*cursor).end, begin);
    }
    let mut truncated = true;
    for _ in 0..limit::PATH_DEPTH {
        match turn(cursor, text, stop, last, root) {
            Turn::Onward => {}
            Turn::Done => {
                truncated = false;
                break;
            }
            Turn::Cut => break,
        }
    }
    // SAFETY: as above.
    Walked { end: unsafe { read_volatile(&raw const (*cursor).end) }, truncated }
}

#[inline(always)]
fn turn(cursor: *mut Cursor, text: *mut u8, stop: u64, last: u64, root: Place) -> Turn {
    // SAFETY: as in `walk`.
    let (mount, name, end) = unsafe {
        (
            read_volatile(&raw const (*cursor).mount) as Address,
            read_volatile(&raw const (*cursor).name) as Address,
            read_volatile(&raw const (*cursor).end),
        )
    };
    if name.is_null() || (name == root.name && mount == root.mount) {
        return Turn::Done;
    }
    if name == fetch!(mount, vfs_root as Address) {
        // The top of a mount: go on below, where it is mounted.
        let holder = mount.wrapping_sub(offset!(mount_vfs) as usize);
        let parent = fetch!(holder, mount_parent as Address);
        if parent == holder || parent.is_null() {
            return Turn::Done;
        }
        // SAFETY: as in `walk`.
        unsafe {
            write_volatile(&raw mut (*cursor).name, fetch!(holder, mount_point as u64));
            write_volatile(&raw mut (*cursor).mount, parent.wrapping_add(offset!(mount_vfs) as usize) as u64);
        }
        return Turn::Onward;
    }
    if end > stop || end > last {
        return Turn::Cut;
    }
    let source = fetch!(name, dentry_name as Address);
    // SAFETY: `end` is at most `last`, behind which there is room for a name; the helper checks the source.
    let copied =
        unsafe { bpf_probe_read_kernel_str(text.add(end as usize).cast(), limit::NAME_BYTES as u32, source.cast()) };
    if copied <= 0 {
        return Turn::Cut;
    }
    let above = fetch!(name, dentry_parent as Address);
    // SAFETY: as in `walk`.
    unsafe {
        write_volatile(&raw mut (*cursor).end, end + copied as u64);
        write_volatile(&raw mut (*cursor).name, above as u64);
    }
    // A name that is its own parent and on top of no mount: a memfd, a pipe.
    if above == name { Turn::Done } else { Turn::Onward }
}
