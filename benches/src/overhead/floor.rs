//! Empty programs: `r0 = 0; exit`, attached as the probes are.
//!
//! Source: include/uapi/linux/bpf.h for the numbers and for the layout of `union bpf_attr`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result};
use aya_obj::btf::{Btf, BtfKind};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_RAW_TP: u32 = 23;

/// `mov r0, 0` and `exit`.
const EMPTY: [u64; 2] = [0xb7, 0x95];

/// `union bpf_attr` for loading, up to the last field that is used.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// `union bpf_attr` for attaching; without a name the hook is the one the program was loaded for.
#[repr(C)]
struct OpenAttr {
    name: u64,
    prog_fd: u32,
    pad: u32,
}

/// An empty program on each of some hooks. Dropping this detaches them.
#[derive(Debug)]
pub(crate) struct Floor {
    _links: Vec<OwnedFd>,
}

impl Floor {
    /// Attaches one to each hook.
    pub(crate) fn attach(types: &Btf, hooks: &[String]) -> Result<Self> {
        let attach = |hook: &String| empty_program(types, hook).with_context(|| format!("an empty program on {hook}"));
        Ok(Self { _links: hooks.iter().map(attach).collect::<Result<_>>()? })
    }
}

fn empty_program(types: &Btf, hook: &str) -> Result<OwnedFd> {
    let attach_btf_id = types
        .id_by_type_name_kind(&format!("btf_trace_{hook}"), BtfKind::Typedef)
        .context("this kernel has no such tracepoint")?;
    let license = c"GPL";
    let mut load = LoadAttr {
        prog_type: BPF_PROG_TYPE_TRACING,
        insn_cnt: EMPTY.len() as u32,
        insns: EMPTY.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: BPF_TRACE_RAW_TP,
        attach_btf_id,
        ..LoadAttr::default()
    };
    // SAFETY: the attribute is laid out as the command asks, and its pointers are to constants.
    let program = unsafe { bpf(BPF_PROG_LOAD, &mut load) }.context("cannot be loaded")?;
    let mut open = OpenAttr { name: 0, prog_fd: program.as_raw_fd().unsigned_abs(), pad: 0 };
    // SAFETY: the attribute is laid out as the command asks; it has no pointer.
    unsafe { bpf(BPF_RAW_TRACEPOINT_OPEN, &mut open) }.context("cannot be attached")
}

/// Calls bpf(2) for one of the commands that return a file descriptor.
///
/// # Safety
/// `attr` is what `command` asks for, and every pointer in it is good for what the command does with it.
pub(super) unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let result = unsafe { call(command, attr) }?;
    // SAFETY: these commands return a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

/// Calls bpf(2).
///
/// # Safety
/// As for [`bpf`].
pub(super) unsafe fn call<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
