//! Processes: forked, executing, ended.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use skep_common::{
    event::{ExecRecord, ExitRecord, ForkRecord, kind},
    exec_flag as flag,
    ledger::probe,
    limit,
};

use crate::{
    here::Here,
    hook::Arguments,
    kernel::{self, Address},
    path::{self, Cursor, Place},
    ring, subject, thread,
};

/// Bytes of text behind an [`ExecRecord`].
const TEXT_BYTES: usize = limit::ARGV_BYTES + limit::FILENAME_BYTES + 2 * limit::PATH_BYTES;

/// Where a record is put together: it is too large for the stack. The kernel does not let the program interrupt itself
/// on a CPU.
#[repr(C)]
struct Scratch {
    record: ExecRecord,
    /// Begins where the record ends: both go into the ring as one.
    text: [u8; TEXT_BYTES + limit::NAME_BYTES],
    cursor: Cursor,
}

const _: () = assert!(size_of::<Scratch>() <= 32_768);

#[map]
static EXEC_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// A process that was said to end.
#[repr(C)]
struct Ended {
    start_ns: u64,
    tgid: u32,
    pad: u32,
}

/// Those that ended last; only used where the kernel does not say which thread is the last.
#[map]
static ENDED: LruHashMap<Ended, u32> = LruHashMap::with_max_entries(1_024, 0);

/// `SIGNAL_GROUP_EXIT`: the whole group ends with the group's code.
const SIGNAL_GROUP_EXIT: u32 = 4;

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_ISUID: u16 = 0o4000;
const S_ISGID: u16 = 0o2000;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

// Source: kernel/fork.c `kernel_clone`, `(struct task_struct *parent, struct task_struct *child)`.
hook!(sched_process_fork, raw_sched_process_fork, forked);

#[inline(always)]
fn forked(arguments: Arguments) {
    let child = arguments.address(1);
    let tid = load!(child, task_pid as u32);
    // Whatever an earlier thread of this number may have left, should nobody have seen it die.
    thread::forget(tid);
    if fact!(process) == 0 || tid != load!(child, task_tgid as u32) {
        return;
    }
    let now_ns = kernel::now_ns();
    ring::emit::<ForkRecord>(probe::FORK, kind::FORK, |record| {
        // SAFETY: the ring gave the room.
        subject::describe(unsafe { &raw mut (*record).subject }, child, now_ns);
    });
}

// Source: kernel/exit.c `do_exit`, `(struct task_struct *p, bool group_dead)`; the last since 6.16.
hook!(sched_process_exit, raw_sched_process_exit, ended);

#[inline(always)]
fn ended(arguments: Arguments) {
    let task = arguments.address(0);
    // Should it be preempted on its way, its last switch does the same.
    thread::forget(load!(task, task_pid as u32));
    if fact!(process) == 0 {
        return;
    }
    let signal = load!(task, task_signal as Address);
    let last =
        if fact!(exit_has_last) != 0 { arguments.number(1) & 1 != 0 } else { load!(signal, signal_live as u32) == 0 };
    if !last || (fact!(exit_has_last) == 0 && !is_first_end(task)) {
        return;
    }
    let status = if load!(signal, signal_flags as u32) & SIGNAL_GROUP_EXIT != 0 {
        load!(signal, signal_exit_code as u32)
    } else {
        let leader = load!(task, task_leader as Address);
        load!(leader, task_exit_code as u32)
    };
    let now_ns = kernel::now_ns();
    ring::emit::<ExitRecord>(probe::EXIT, kind::EXIT, |record| {
        // SAFETY: the ring gave the room; every field is written.
        unsafe {
            subject::describe(&raw mut (*record).subject, task, now_ns);
            (*record).status = status;
            (*record).pad = 0;
        }
    });
}

/// Whether this process has not been said to end yet. Where the kernel does not say who is last, two threads that end at
/// once may both find that none is left.
#[inline(always)]
fn is_first_end(task: Address) -> bool {
    const NO_EXIST: u64 = 1;
    let key = Ended { start_ns: subject::start_ns(task), tgid: load!(task, task_tgid as u32), pad: 0 };
    ENDED.insert(key, 0, NO_EXIST).is_ok()
}

// Source: fs/exec.c `exec_binprm`, `(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
hook!(sched_process_exec, raw_sched_process_exec, executing);

#[inline(always)]
fn executing(arguments: Arguments) {
    let task = arguments.address(0);
    let old_tid = arguments.number(1) as u32;
    let tid = load!(task, task_pid as u32);
    if old_tid != tid {
        // A thread took the place of its leader.
        thread::renumber(task, old_tid, tid);
    }
    if fact!(process) != 0 {
        executed(task, arguments.address(2));
    }
}

#[inline(always)]
fn executed(task: Address, program: Address) {
    let Some(here) = Here::now() else { return };
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: the map gave the pointer.
    let (record, text, cursor) =
        unsafe { (&raw mut (*scratch).record, (&raw mut (*scratch).text).cast::<u8>(), &raw mut (*scratch).cursor) };
    let file = load!(program, bprm_file as Address);

    // SAFETY: the map gave the pointer.
    let cell = unsafe { &raw mut (*cursor).cell };

    let argv = copy_argv(task, text, cell);
    let filename_len = kernel::forget(cell, copy_filename(program, text, argv.length));
    let argv_len = kernel::forget(cell, argv.length);
    let end = argv_len + filename_len;
    let mut flags = kernel::forget(cell, u64::from(argv.flags)) as u32;

    let fs = load!(task, task_fs as Address);
    let root = Place { mount: fetch!(fs, fs_root_mnt as Address), name: fetch!(fs, fs_root_dentry as Address) };
    let cwd = Place { mount: fetch!(fs, fs_pwd_mnt as Address), name: fetch!(fs, fs_pwd_dentry as Address) };
    let exe = Place { mount: fetch!(file, file_path_mnt as Address), name: fetch!(file, file_path_dentry as Address) };
    let exe_end = path::walk(cursor, text, end, TEXT_BYTES as u64, exe, root);
    flags |= kernel::forget(cell, if exe_end.truncated { u64::from(flag::EXE_TRUNCATED) } else { 0 }) as u32;
    let cwd_end = path::walk(cursor, text, exe_end.end, TEXT_BYTES as u64, cwd, root);
    flags |= kernel::forget(cell, if cwd_end.truncated { u64::from(flag::CWD_TRUNCATED) } else { 0 }) as u32;
    flags |= kernel::forget(cell, u64::from(file_flags(file))) as u32;
    flags |= stream_flags(task, cell);
    flags |= kernel::forget(cell, u64::from(privilege_flags(program))) as u32;
    // SAFETY: the map gave the pointer; every field is written.
    unsafe {
        (*record).header = ring::header(here, kind::EXEC);
        subject::describe(&raw mut (*record).subject, task, kernel::now_ns());
        (*record).inode = fetch!(fetch!(file, file_inode as Address), inode_number as u64);
        (*record).flags = flags;
        (*record).argv_len = argv_len as u32;
        (*record).filename_len = filename_len as u32;
        (*record).exe_len = (exe_end.end - end) as u32;
        (*record).cwd_len = (cwd_end.end - exe_end.end) as u32;
        (*record).pad = 0;
    }
    if cwd_end.end <= TEXT_BYTES as u64 {
        ring::emit_bytes(here, probe::EXEC, scratch.cast(), size_of::<ExecRecord>() as u64 + cwd_end.end);
    }
}

/// What was copied of the arguments.
struct Argv {
    length: u64,
    flags: u32,
}

/// Copies the arguments to the beginning of `text`.
#[inline(always)]
fn copy_argv(task: Address, text: *mut u8, cell: *mut u64) -> Argv {
    let mm = load!(task, task_mm as Address);
    let begin = fetch!(mm, mm_arg_start as u64);
    let given = kernel::forget(cell, fetch!(mm, mm_arg_end as u64).saturating_sub(begin));
    let flags = if given > limit::ARGV_BYTES as u64 { flag::ARGV_TRUNCATED } else { 0 };
    // Once more: to older verifiers what is too long for the one may be short enough for the other.
    let mut length = kernel::forget(cell, given);
    if length > limit::ARGV_BYTES as u64 {
        length = limit::ARGV_BYTES as u64;
    }
    // SAFETY: `text` has room for `ARGV_BYTES`; the helper checks the source.
    let refused = unsafe { bpf_probe_read_user(text.cast(), length as u32, begin as *const _) };
    if refused != 0 {
        return Argv { length: 0, flags: flags | flag::ARGV_UNREADABLE };
    }
    Argv { length, flags }
}

/// Copies the path given to execve into `text` at `begin`; returns its length.
#[inline(always)]
fn copy_filename(program: Address, text: *mut u8, begin: u64) -> u64 {
    if begin > limit::ARGV_BYTES as u64 {
        return 0;
    }
    let source = load!(program, bprm_filename as Address);
    // SAFETY: `text` has room for `FILENAME_BYTES` behind `ARGV_BYTES`; the helper checks the source.
    let copied = unsafe {
        bpf_probe_read_kernel_str(text.add(begin as usize).cast(), limit::FILENAME_BYTES as u32, source.cast())
    };
    if copied > 0 && copied <= limit::FILENAME_BYTES as i64 { copied as u64 } else { 0 }
}

/// What kind of file is executed.
#[inline(always)]
fn file_flags(file: Address) -> u32 {
    let inode = fetch!(file, file_inode as Address);
    let mode = fetch!(inode, inode_mode as u16);
    let mut flags = 0;
    if mode & S_ISUID != 0 {
        flags |= flag::SETUID;
    }
    if mode & S_ISGID != 0 {
        flags |= flag::SETGID;
    }
    let linked = fetch!(inode, inode_links as u32) != 0;
    if !linked && is_memfd(file) {
        return flags | flag::MEMFD;
    }
    if !linked {
        flags |= flag::DELETED;
    }
    if fetch!(fetch!(inode, inode_super as Address), super_magic as u64) == TMPFS_MAGIC {
        flags |= flag::TMPFS;
    }
    flags
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

/// Which of the standard streams are sockets.
#[inline(always)]
fn stream_flags(task: Address, cell: *mut u64) -> u32 {
    let files = load!(task, task_files as Address);
    let table = load!(files, files_table as Address);
    let slots = fetch!(table, table_fd as Address);
    let mut flags = 0;
    for fd in 0..3u64 {
        let file = kernel::fetch_at::<Address>(slots, fd * 8);
        flags |= kernel::forget(cell, u64::from(stream_flag(file) << fd)) as u32;
    }
    flags
}

/// What the standard input would be if it were this file.
#[inline(always)]
fn stream_flag(file: Address) -> u32 {
    let mode = fetch!(fetch!(file, file_inode as Address), inode_mode as u16);
    if mode & S_IFMT != S_IFSOCK {
        return 0;
    }
    let socket = fetch!(file, file_private as Address);
    let family = fetch!(fetch!(socket, socket_sk as Address), sock_family as u16);
    if family == AF_INET || family == AF_INET6 { flag::STDIN_SOCKET | flag::STDIN_INET } else { flag::STDIN_SOCKET }
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
