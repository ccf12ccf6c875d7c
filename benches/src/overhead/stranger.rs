//! Programs of others that watch the kernel: with one of them attached, "nothing" is not nothing.
//!
//! Source: include/uapi/linux/bpf.h.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use aya_obj::generated::{bpf_prog_info, bpf_prog_type};

use super::floor;

const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// The kernel frees what was detached when nobody can be running it any more.
const PATIENCE: Duration = Duration::from_secs(3);

/// Kinds that are called wherever something happens.
const WATCHERS: [bpf_prog_type; 6] = [
    bpf_prog_type::BPF_PROG_TYPE_KPROBE,
    bpf_prog_type::BPF_PROG_TYPE_TRACEPOINT,
    bpf_prog_type::BPF_PROG_TYPE_PERF_EVENT,
    bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT,
    bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE,
    bpf_prog_type::BPF_PROG_TYPE_TRACING,
];

#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    flags: u32,
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// Fails while anybody else's program watches.
pub(crate) fn none_watches() -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let watchers = watchers();
        if watchers.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("other programs watch this kernel, and would be measured with it: {}", watchers.join(", "));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn watchers() -> Vec<String> {
    let mut found = Vec::new();
    let mut attr = IdAttr { id: 0, next_id: 0, flags: 0 };
    // SAFETY: the attribute is laid out as the command asks; it has no pointer.
    while unsafe { floor::call(BPF_PROG_GET_NEXT_ID, &mut attr) }.is_ok() {
        attr.id = attr.next_id;
        found.extend(watcher(attr.id));
    }
    found
}

/// The name of a program that watches; `None` for another, and for one that is gone.
fn watcher(id: u32) -> Option<String> {
    let mut attr = IdAttr { id, next_id: 0, flags: 0 };
    // SAFETY: the attribute is laid out as the command asks; it has no pointer.
    let program = unsafe { floor::bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) }.ok()?;
    // SAFETY: the struct is integers, for all of which zero is a value.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = InfoAttr {
        fd: program.as_raw_fd().unsigned_abs(),
        info_len: size_of::<bpf_prog_info>() as u32,
        info: &raw mut info as u64,
    };
    // SAFETY: the attribute is laid out as the command asks, and `info` is as long as it says.
    unsafe { floor::call(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.ok()?;
    let name: String = info.name.iter().map(|byte| *byte as u8 as char).take_while(|letter| *letter != '\0').collect();
    WATCHERS.iter().any(|kind| *kind as u32 == info.type_).then(|| format!("{name:?} (program {id})"))
}
