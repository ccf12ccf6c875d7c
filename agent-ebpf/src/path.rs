//! Paths, from the name up to the root.
//!
//! The kernel keeps a path as a chain of names from the last to the first. The walk copies them in that order, each
//! with its zero byte; user space turns them round.
//!
//! A turn of the walk is a function the verifier checks once, by itself: what it works on is in [`crate::scratch`], and
//! it takes and gives numbers only. Inlined, verifiers before 6.3 follow every turn of every walk anew.

use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use skep_common::limit;

use crate::{
    kernel::Address,
    scratch::{self, TEXT_BYTES},
};

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

/// Where a walk is.
#[repr(C)]
pub struct Cursor {
    mount: u64,
    name: u64,
    root_mount: u64,
    root_name: u64,
    /// First free byte.
    end: u64,
    /// Last byte at which a name may begin.
    stop: u64,
}

/// How a turn ended.
mod turn {
    pub const ONWARD: u64 = 0;
    pub const DONE: u64 = 1;
    pub const CUT: u64 = 2;
}

/// Copies the names from `place` up to `root` into the scratch text, from byte `begin` on.
#[inline(always)]
pub fn walk(cursor: *mut Cursor, begin: u64, place: Place, root: Place) -> Walked {
    // SAFETY: the cursor is in the scratch of this CPU, which only its program uses.
    unsafe {
        cursor.write(Cursor {
            mount: place.mount as u64,
            name: place.name as u64,
            root_mount: root.mount as u64,
            root_name: root.name as u64,
            end: begin,
            stop: begin + (limit::PATH_BYTES - limit::NAME_BYTES) as u64,
        });
    }
    let mut truncated = true;
    for _ in 0..limit::PATH_DEPTH {
        let ended = path_turn();
        if ended != turn::ONWARD {
            truncated = ended != turn::DONE;
            break;
        }
    }
    // SAFETY: as above; volatile because the turns wrote it.
    Walked { end: unsafe { read_volatile(&raw const (*cursor).end) }, truncated }
}

/// One turn of the walk in the scratch of this CPU: copies a name, or steps off the top of a mount. Says how it ended.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn path_turn() -> u64 {
    let Some(scratch) = scratch::here() else { return turn::CUT };
    // SAFETY: the map gave the pointer.
    let (cursor, text) = unsafe { (&raw mut (*scratch).cursor, (&raw mut (*scratch).text).cast::<u8>()) };
    // SAFETY: as in `walk`.
    let Cursor { mount, name, root_mount, root_name, end, stop } = unsafe { cursor.read() };
    let (mount, name) = (mount as Address, name as Address);
    if name.is_null() || (name as u64 == root_name && mount as u64 == root_mount) {
        return turn::DONE;
    }
    if name == fetch!(mount, vfs_root as Address) {
        // The top of a mount: go on below, where it is mounted.
        let holder = mount.wrapping_sub(offset!(mount_vfs) as usize);
        let parent = fetch!(holder, mount_parent as Address);
        if parent == holder || parent.is_null() {
            return turn::DONE;
        }
        // SAFETY: as in `walk`.
        unsafe {
            (*cursor).name = fetch!(holder, mount_point as u64);
            (*cursor).mount = parent.wrapping_add(offset!(mount_vfs) as usize) as u64;
        }
        return turn::ONWARD;
    }
    if end > stop || end > TEXT_BYTES as u64 {
        return turn::CUT;
    }
    let source = fetch!(name, dentry_name as Address);
    // SAFETY: behind `TEXT_BYTES` there is room for a name; the helper checks the source.
    let copied =
        unsafe { bpf_probe_read_kernel_str(text.add(end as usize).cast(), limit::NAME_BYTES as u32, source.cast()) };
    if copied <= 0 {
        return turn::CUT;
    }
    let above = fetch!(name, dentry_parent as Address);
    // SAFETY: as in `walk`.
    unsafe {
        (*cursor).end = end + copied as u64;
        (*cursor).name = above as u64;
    }
    // A name that is its own parent and on top of no mount: a memfd, a pipe.
    if above == name { turn::DONE } else { turn::ONWARD }
}
