//! A program that is executed: everything the kernel knows of it.
//!
//! The parts are functions the verifier checks one by one. What they work on, and the flags, are in
//! [`crate::scratch`]: read back, they are unknown numbers to the verifier, so that it does not follow every combination
//! of what happened before.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use skep_common::{
    event::{ExecRecord, NO_ID, kind},
    exec_flag as flag,
    ledger::probe,
    limit,
};

use crate::{
    here::Here,
    kernel::{self, Address},
    path::{self, Place},
    ring,
    scratch::{self, Scratch, TEXT_BYTES},
    subject,
};

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFIFO: u16 = 0o010_000;
const S_ISUID: u16 = 0o4000;
const S_ISGID: u16 = 0o2000;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `task` executes `program`, a `struct linux_binprm *`.
#[inline(always)]
pub fn executed(task: Address, program: Address) {
    let Some(here) = Here::now() else { return };
    let Some(scratch) = scratch::here() else { return };
    // SAFETY: the map gave the pointer; the parts write what is not written here.
    unsafe {
        (*scratch).program = program as u64;
        (*scratch).end = 0;
        let record = &raw mut (*scratch).record;
        (*record).header = ring::header(here, kind::EXEC);
        subject::describe(&raw mut (*record).subject, task, kernel::now_ns());
        (*record).capabilities = subject::capabilities(task);
        (*record).flags = 0;
    }
    exec_session();
    exec_arguments();
    exec_names();
    exec_file();
    exec_streams();
    exec_paths();
    // SAFETY: the map gave the pointer; volatile because the parts wrote it.
    let end = unsafe { read_volatile(&raw const (*scratch).end) };
    if end <= TEXT_BYTES as u64 {
        ring::emit_bytes(here, probe::EXEC, scratch.cast(), size_of::<ExecRecord>() as u64 + end);
    }
}

/// Sets bits of the record's flags.
#[inline(always)]
fn raise(scratch: *mut Scratch, bits: u32) {
    // SAFETY: the caller's scratch is this CPU's; volatile so that the verifier forgets the bits.
    unsafe {
        let flags = &raw mut (*scratch).record.flags;
        write_volatile(flags, read_volatile(flags) | bits);
    }
}

/// Where the next text begins.
#[inline(always)]
fn end_of(scratch: *mut Scratch) -> u64 {
    // SAFETY: as in `raise`.
    unsafe { read_volatile(&raw const (*scratch).end) }
}

#[inline(always)]
fn set_end(scratch: *mut Scratch, end: u64) {
    // SAFETY: as in `raise`.
    unsafe { write_volatile(&raw mut (*scratch).end, end) };
}

/// Who logged in, and where.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn exec_session() -> u64 {
    let Some(scratch) = scratch::here() else { return 0 };
    let task = kernel::current();
    // SAFETY: the map gave the pointer; the helper checks the source, and the record has room for what it copies.
    unsafe {
        let record = &raw mut (*scratch).record;
        (*record).login_uid = if has!(task_login) { fetch!(task, task_login as u32) } else { NO_ID };
        (*record).session = if has!(task_session) { fetch!(task, task_session as u32) } else { NO_ID };
        (*record).terminal = [0; 16];
        if has!(signal_tty) && has!(tty_name) {
            let signal = fetch!(task, task_signal as Address);
            let tty = fetch!(signal, signal_tty as Address);
            let name = tty.wrapping_add(offset!(tty_name) as usize);
            if !tty.is_null() {
                bpf_probe_read_kernel_str((&raw mut (*record).terminal).cast(), 16, name.cast());
            }
        }
    }
    0
}

/// Copies the arguments.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn exec_arguments() -> u64 {
    let Some(scratch) = scratch::here() else { return 0 };
    let mm = fetch!(kernel::current(), task_mm as Address);
    let begin = fetch!(mm, mm_arg_start as u64);
    let mut length = fetch!(mm, mm_arg_end as u64).saturating_sub(begin);
    if length > limit::ARGV_BYTES as u64 {
        length = limit::ARGV_BYTES as u64;
        raise(scratch, flag::ARGV_TRUNCATED);
    }
    // SAFETY: the map gave the pointer; there is room for `ARGV_BYTES` and the helper checks the source.
    let refused = unsafe { bpf_probe_read_user((&raw mut (*scratch).text).cast(), length as u32, begin as *const _) };
    if refused != 0 {
        raise(scratch, flag::ARGV_UNREADABLE);
        length = 0;
    }
    // SAFETY: as above.
    unsafe { (*scratch).record.argv_len = length as u32 };
    set_end(scratch, length);
    0
}

/// Copies the path given to execve, and that of the interpreter a script asks for.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn exec_names() -> u64 {
    let Some(scratch) = scratch::here() else { return 0 };
    // SAFETY: the map gave the pointer.
    let program = unsafe { (*scratch).program } as Address;
    let filename = fetch!(program, bprm_filename as Address);
    let copied = copy_name(scratch, filename, limit::ARGV_BYTES, limit::FILENAME_BYTES);
    let mut interpreter_len = 0;
    if has!(bprm_interp) {
        let interpreter = fetch!(program, bprm_interp as Address);
        if interpreter != filename {
            raise(scratch, flag::SCRIPT);
            interpreter_len =
                copy_name(scratch, interpreter, limit::ARGV_BYTES + limit::FILENAME_BYTES, limit::INTERPRETER_BYTES);
        }
    }
    // SAFETY: the map gave the pointer.
    unsafe {
        (*scratch).record.filename_len = copied as u32;
        (*scratch).record.interpreter_len = interpreter_len as u32;
    }
    0
}

/// Copies a text of up to `room` bytes, if no more than `last` bytes stand before it; returns its length.
#[inline(always)]
fn copy_name(scratch: *mut Scratch, source: Address, last: usize, room: usize) -> u64 {
    let begin = end_of(scratch);
    if begin > last as u64 {
        return 0;
    }
    // SAFETY: the caller's scratch is this CPU's and has room behind `last`; the helper checks the source.
    let copied = unsafe {
        let text = (&raw mut (*scratch).text).cast::<u8>();
        bpf_probe_read_kernel_str(text.add(begin as usize).cast(), room as u32, source.cast())
    };
    if copied <= 0 || copied > room as i64 {
        return 0;
    }
    set_end(scratch, begin + copied as u64);
    copied as u64
}

/// Says what kind of file is executed, and whether the exec gave more than the process had.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn exec_file() -> u64 {
    let Some(scratch) = scratch::here() else { return 0 };
    // SAFETY: the map gave the pointer.
    let program = unsafe { (*scratch).program } as Address;
    let file = fetch!(program, bprm_file as Address);
    let inode = fetch!(file, file_inode as Address);
    // SAFETY: the map gave the pointer.
    unsafe { (*scratch).record.inode = fetch!(inode, inode_number as u64) };
    let mode = fetch!(inode, inode_mode as u16);
    if mode & S_ISUID != 0 {
        raise(scratch, flag::SETUID);
    }
    if mode & S_ISGID != 0 {
        raise(scratch, flag::SETGID);
    }
    raise(scratch, place_flags(file, inode) | privilege_flags(program));
    0
}

/// Whether anybody finds the file.
#[inline(always)]
fn place_flags(file: Address, inode: Address) -> u32 {
    let linked = fetch!(inode, inode_links as u32) != 0;
    if !linked && is_memfd(file) {
        return flag::MEMFD;
    }
    let deleted = if linked { 0 } else { flag::DELETED };
    let magic = fetch!(fetch!(inode, inode_super as Address), super_magic as u64);
    deleted | if magic == TMPFS_MAGIC { flag::TMPFS } else { 0 }
}

/// Whether the file has the name `memfd_create` gives, in no directory.
#[inline(always)]
fn is_memfd(file: Address) -> bool {
    let name = fetch!(file, file_path_dentry as Address);
    if fetch!(name, dentry_parent as Address) != name {
        return false;
    }
    let text = kernel::fetch_at::<u64>(fetch!(name, dentry_name as Address), 0);
    // An empty name makes eight bytes with those behind it; only the first six matter.
    text.to_le() & 0xffff_ffff_ffff == u64::from_le_bytes(*b"memfd:\0\0")
}

/// Whether the exec gave more than the process had.
#[inline(always)]
fn privilege_flags(program: Address) -> u32 {
    if !has!(bprm_secureexec) {
        return 0;
    }
    let bit = offset!(bprm_secureexec);
    let byte = kernel::fetch_at::<u8>(program, bit >> 3);
    if byte >> (bit & 7) & 1 != 0 { flag::PRIVILEGE_GAIN } else { 0 }
}

/// Says which of the standard streams are sockets or pipes, and which.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn exec_streams() -> u64 {
    let Some(scratch) = scratch::here() else { return 0 };
    let files = fetch!(kernel::current(), task_files as Address);
    let table = fetch!(files, files_table as Address);
    let slots = fetch!(table, table_fd as Address);
    for fd in 0..3usize {
        let file = kernel::fetch_at::<Address>(slots, fd as u64 * 8);
        let inode = fetch!(file, file_inode as Address);
        let kind = fetch!(inode, inode_mode as u16) & S_IFMT;
        let mut number = 0;
        if kind == S_IFSOCK || kind == S_IFIFO {
            number = fetch!(inode, inode_number as u64);
        }
        // SAFETY: the map gave the pointer, the index is below three.
        unsafe { (*scratch).record.stream_inodes[fd] = number };
        if kind == S_IFIFO {
            raise(scratch, flag::STDIN_PIPE << fd);
        }
        if kind == S_IFSOCK {
            raise(scratch, flag::STDIN_SOCKET << fd);
            let socket = fetch!(file, file_private as Address);
            let family = fetch!(fetch!(socket, socket_sk as Address), sock_family as u16);
            if family == AF_INET || family == AF_INET6 {
                raise(scratch, flag::STDIN_INET << fd);
            }
        }
    }
    0
}

/// Copies the names on the way to the executable and to the working directory.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn exec_paths() -> u64 {
    let Some(scratch) = scratch::here() else { return 0 };
    // SAFETY: the map gave the pointer.
    let (program, cursor) = unsafe { ((*scratch).program as Address, &raw mut (*scratch).cursor) };
    let file = fetch!(program, bprm_file as Address);
    let fs = fetch!(kernel::current(), task_fs as Address);
    let root = Place { mount: fetch!(fs, fs_root_mnt as Address), name: fetch!(fs, fs_root_dentry as Address) };
    let cwd = Place { mount: fetch!(fs, fs_pwd_mnt as Address), name: fetch!(fs, fs_pwd_dentry as Address) };
    let exe = Place { mount: fetch!(file, file_path_mnt as Address), name: fetch!(file, file_path_dentry as Address) };

    let begin = end_of(scratch);
    let walked = path::walk(cursor, begin, exe, root);
    if walked.truncated {
        raise(scratch, flag::EXE_TRUNCATED);
    }
    // SAFETY: the map gave the pointer.
    unsafe { (*scratch).record.exe_len = (walked.end - begin) as u32 };
    set_end(scratch, walked.end);

    let begin = end_of(scratch);
    let walked = path::walk(cursor, begin, cwd, root);
    if walked.truncated {
        raise(scratch, flag::CWD_TRUNCATED);
    }
    // SAFETY: the map gave the pointer.
    unsafe { (*scratch).record.cwd_len = (walked.end - begin) as u32 };
    set_end(scratch, walked.end);
    0
}
