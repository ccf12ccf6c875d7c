//! System calls for which the loader has no call of its own, and what must be asked of the host.

use std::{
    ffi::CString,
    io,
    mem::size_of,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::thread::{CapabilitySet, MembarrierCommand, membarrier};

/// Where the kernel describes its types.
pub(super) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Commands of bpf(2), include/uapi/linux/bpf.h.
mod command {
    pub(super) const OBJ_PIN: libc::c_long = 6;
    pub(super) const OBJ_GET: libc::c_long = 7;
    pub(super) const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
    pub(super) const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
    pub(super) const MAP_LOOKUP_BATCH: libc::c_long = 24;
    pub(super) const MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
}

/// `union bpf_attr` for a batch.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr` for pins.
#[repr(C)]
struct PinAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr` for a raw tracepoint.
#[repr(C)]
struct TracepointAttr {
    name: u64,
    program: u32,
    pad: u32,
}

/// `union bpf_attr` for information on an object.
#[repr(C)]
struct InfoAttr {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// Waits until every program that was running has returned.
///
/// Errors: `EINVAL` on kernels with `nohz_full`. Cost: an RCU grace period, some tens of milliseconds, blocking.
pub(super) fn grace_period() -> io::Result<()> {
    Ok(membarrier(MembarrierCommand::Global)?)
}

/// Nanoseconds of `CLOCK_BOOTTIME`, the clock of the probes.
pub(super) fn boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// The kernel's lockdown mode; `None` when it does not show it.
pub fn lockdown() -> Option<String> {
    let modes = std::fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    Some(modes.split('[').nth(1)?.split(']').next()?.to_owned())
}

/// Which capabilities loading needs and this thread does not have.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    const NEEDED: [(CapabilitySet, &str); 2] =
        [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    if effective.contains(CapabilitySet::SYS_ADMIN) {
        return Vec::new();
    }
    NEEDED.iter().filter(|(needed, _)| !effective.contains(*needed)).map(|(_, name)| *name).collect()
}

/// Memory the kernel holds for a map, in bytes; 0 when it does not say.
pub(super) fn map_bytes(map: BorrowedFd<'_>) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// What a batch call does with the entries it hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    /// They stay in the map.
    Read,
    /// They are gone from it.
    Take,
}

/// Copies up to `capacity` entries out of a hash map. Returns how many, and whether that was all.
///
/// `position` says where to go on: 0 and `first` for the beginning, afterwards what the call before left.
pub(super) fn batch(
    map: BorrowedFd<'_>,
    batch: Batch,
    (position, first): (&mut u32, bool),
    (keys, values): (&mut [u8], &mut [u8]),
    capacity: u32,
) -> io::Result<(usize, bool)> {
    let command = match batch {
        Batch::Read => command::MAP_LOOKUP_BATCH,
        Batch::Take => command::MAP_LOOKUP_AND_DELETE_BATCH,
    };
    let resume = *position;
    let mut attr = BatchAttr {
        in_batch: if first { 0 } else { &raw const resume as u64 },
        out_batch: &raw mut *position as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: capacity,
        map_fd: fd(map),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the attribute is laid out as the command asks; both buffers hold `capacity` entries of the map's sizes.
    match unsafe { bpf(command, &mut attr) } {
        Ok(_) => Ok((attr.count as usize, false)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attr.count as usize, true)),
        Err(error) => Err(error),
    }
}

/// Attaches a program to the raw tracepoint `name`, or to the one it was loaded for. Closing the link detaches it.
pub(super) fn attach(program: BorrowedFd<'_>, name: Option<&str>) -> io::Result<OwnedFd> {
    let name = name.map(CString::new).transpose()?;
    let name = name.as_ref().map_or(0, |name| name.as_ptr() as u64);
    let mut attr = TracepointAttr { name, program: fd(program), pad: 0 };
    // SAFETY: the attribute is laid out as the command asks, and the name outlives the call.
    let link = unsafe { bpf(command::RAW_TRACEPOINT_OPEN, &mut attr) }?;
    owned(link)
}

/// Gives an object a name in the bpf file system, by which it lives on without this process.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = PinAttr { path: path.as_ptr() as u64, fd: fd(object), flags: 0 };
    // SAFETY: the attribute is laid out as the command asks, and the path outlives the call.
    unsafe { bpf(command::OBJ_PIN, &mut attr) }.map(drop)
}

/// The object with a name in the bpf file system.
pub(super) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = PinAttr { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the attribute is laid out as the command asks, and the path outlives the call.
    let object = unsafe { bpf(command::OBJ_GET, &mut attr) }?;
    owned(object)
}

fn owned(descriptor: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel just made the descriptor for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// What the kernel says of a loaded program.
pub(super) fn program_info(program: BorrowedFd<'_>) -> io::Result<aya_obj::generated::bpf_prog_info> {
    // SAFETY: the struct is integers and pointers, for all of which zero is a value.
    let mut info: aya_obj::generated::bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = InfoAttr {
        fd: fd(program),
        info_len: size_of::<aya_obj::generated::bpf_prog_info>() as u32,
        info: &raw mut info as u64,
    };
    // SAFETY: the attribute is laid out as the command asks, and `info` is as long as it says.
    unsafe { bpf(command::OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

fn fd(of: BorrowedFd<'_>) -> u32 {
    of.as_raw_fd().unsigned_abs()
}

/// # Safety
/// `attr` is what `command` asks for, and every pointer in it is good for what the command does with it.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
