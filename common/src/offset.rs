//! The kernel fields the probes read.
//!
//! Nothing about the kernel's layout is compiled in: the programs are compiled with placeholders, and user space, which
//! looks each field up in the running kernel's BTF, writes its offset into the instructions before it loads them. Read-only
//! data would do as well, at the price of two instructions for every use.

/// Value of an entry whose field the running kernel does not have.
pub const MISSING: u64 = u64::MAX;

/// Upper half of every placeholder: a number that no program has for another reason.
pub const PLACEHOLDER_MARK: u32 = 0x5ce9_0ff5;

/// The placeholder of entry `index`: the offsets come first, then the facts.
const fn placeholder(index: usize) -> u64 {
    (PLACEHOLDER_MARK as u64) << 32 | index as u64
}

/// Which probes cannot do without a field.
pub mod need {
    /// Scheduling and everything that stands on the switch.
    pub const CPU: u32 = 1 << 0;
    /// System calls.
    pub const SYSCALL: u32 = 1 << 1;
    /// Connections.
    pub const TCP: u32 = 1 << 2;
    /// Forks, execs, exits.
    pub const PROCESS: u32 = 1 << 3;
    /// Cgroups made, removed and joined.
    pub const CGROUP: u32 = 1 << 4;
    /// Sends and receives.
    pub const SOCKET: u32 = 1 << 5;
    /// What deserves a look.
    pub const SECURITY: u32 = 1 << 8;
    /// Requests to block devices.
    pub const BLOCK: u32 = 1 << 9;
    /// No probe: what stands on the field is left out when it is missing.
    pub const NOBODY: u32 = 0;
    /// Whoever names a process.
    pub const ALL: u32 = CPU | SYSCALL | TCP | PROCESS | CGROUP | SOCKET | SECURITY | BLOCK;
    /// Whoever remembers something of threads.
    pub const THREADS: u32 = CPU | SYSCALL;
}

/// One field: where it is and who needs it.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Name of the struct.
    pub object: &'static str,
    /// Members from outermost to innermost, with dots; alternatives for other kernels follow a bar; a
    /// sum is so many words of eight bytes further on.
    pub path: &'static str,
    /// Bits of [`need`].
    pub needed_by: u32,
}

macro_rules! offsets {
    ($($name:ident: $object:literal, $path:literal, $need:expr;)*) => {
        /// Byte offset of each field in its struct, or [`MISSING`]; `bprm_secureexec` is in bits.
        #[derive(Debug, Clone, Copy)]
        #[repr(C)]
        pub struct Offsets {
            $(#[doc = concat!("`", $object, "`: `", $path, "`.")] pub $name: u64,)*
        }

        impl Offsets {
            /// How many fields there are.
            pub const LEN: usize = [$($object),*].len();

            /// Every field unresolved.
            pub const NONE: Self = Self { $($name: MISSING,)* };

            /// The fields, in the order of the table.
            pub const FIELDS: [Field; Self::LEN] =
                [$(Field { object: $object, path: $path, needed_by: $need },)*];

            /// What the programs are compiled with.
            pub const fn placeholder() -> Self {
                let mut index = 0;
                $(
                    let $name = placeholder(index);
                    index += 1;
                )*
                let _ = index;
                Self { $($name),* }
            }

            /// A table from offsets in the order of [`Self::FIELDS`].
            pub fn from_array(values: [u64; Self::LEN]) -> Self {
                let [$($name),*] = values;
                Self { $($name),* }
            }
        }

        const _: () = assert!(core::mem::size_of::<Offsets>() == 8 * Offsets::LEN);
    };
}

offsets! {
    task_pid: "task_struct", "pid", need::ALL;
    task_tgid: "task_struct", "tgid", need::ALL;
    task_leader: "task_struct", "group_leader", need::ALL;
    task_start: "task_struct", "start_boottime|real_start_time", need::ALL;
    task_comm: "task_struct", "comm", need::ALL;
    task_parent: "task_struct", "real_parent", need::TCP | need::PROCESS | need::SECURITY;
    task_cred: "task_struct", "cred", need::TCP | need::PROCESS | need::SECURITY;
    cred_uid: "cred", "uid.val", need::TCP | need::PROCESS | need::SECURITY;
    cred_gid: "cred", "gid.val", need::TCP | need::PROCESS | need::SECURITY;
    cred_euid: "cred", "euid.val", need::TCP | need::PROCESS | need::SECURITY;
    cred_egid: "cred", "egid.val", need::NOBODY;
    cred_capabilities: "cred", "cap_effective", need::NOBODY;

    task_state: "task_struct", "__state|state", need::CPU;
    thread_flags: "task_struct", "thread_info.flags", need::NOBODY;
    thread_status: "task_struct", "thread_info.status", need::NOBODY;

    task_cgroups: "task_struct", "cgroups", need::NOBODY;
    css_default: "css_set", "dfl_cgrp", need::NOBODY;
    cgroup_node: "cgroup", "kn", need::CGROUP;
    cgroup_root: "cgroup", "root", need::CGROUP;
    root_hierarchy: "cgroup_root", "hierarchy_id", need::CGROUP;
    node_id: "kernfs_node", "id", need::CGROUP;

    regs_syscall: "pt_regs", "orig_ax|syscallno", need::SYSCALL | need::SECURITY;

    regs_first: "pt_regs", "di|orig_x0", need::SECURITY;
    regs_second: "pt_regs", "si|regs+1", need::SECURITY;
    module_name: "module", "name", need::NOBODY;
    module_taints: "module", "taints", need::NOBODY;

    request_flags: "request", "cmd_flags", need::BLOCK;
    request_bytes: "request", "__data_len", need::BLOCK;
    request_disk: "request", "rq_disk", need::NOBODY;
    request_queue: "request", "q", need::BLOCK;
    queue_disk: "request_queue", "disk", need::NOBODY;
    disk_major: "gendisk", "major", need::BLOCK;
    disk_minor: "gendisk", "first_minor", need::BLOCK;

    info_queued: "task_struct", "sched_info.last_queued", need::NOBODY;
    info_waited: "task_struct", "sched_info.run_delay", need::NOBODY;
    info_runs: "task_struct", "sched_info.pcount", need::NOBODY;
    entity_queue: "task_struct", "se.cfs_rq", need::NOBODY;
    queue_rq: "cfs_rq", "rq", need::NOBODY;
    rq_clock: "rq", "clock", need::NOBODY;

    task_mm: "task_struct", "mm", need::PROCESS;
    mm_arg_start: "mm_struct", "arg_start", need::PROCESS;
    mm_arg_end: "mm_struct", "arg_end", need::PROCESS;
    bprm_file: "linux_binprm", "file", need::PROCESS;
    bprm_filename: "linux_binprm", "filename", need::PROCESS;
    bprm_secureexec: "linux_binprm", "secureexec", need::NOBODY;

    bprm_interp: "linux_binprm", "interp", need::NOBODY;

    task_login: "task_struct", "loginuid.val", need::NOBODY;
    task_session: "task_struct", "sessionid", need::NOBODY;
    signal_tty: "signal_struct", "tty", need::NOBODY;
    tty_name: "tty_struct", "name", need::NOBODY;

    task_signal: "task_struct", "signal", need::PROCESS;
    task_exit_code: "task_struct", "exit_code", need::PROCESS;
    signal_live: "signal_struct", "live.counter", need::PROCESS;
    signal_flags: "signal_struct", "flags", need::PROCESS;
    signal_exit_code: "signal_struct", "group_exit_code", need::PROCESS;

    task_fs: "task_struct", "fs", need::PROCESS;
    fs_root_mnt: "fs_struct", "root.mnt", need::PROCESS;
    fs_root_dentry: "fs_struct", "root.dentry", need::PROCESS;
    fs_pwd_mnt: "fs_struct", "pwd.mnt", need::PROCESS;
    fs_pwd_dentry: "fs_struct", "pwd.dentry", need::PROCESS;
    file_path_mnt: "file", "f_path.mnt", need::PROCESS;
    file_path_dentry: "file", "f_path.dentry", need::PROCESS;
    file_inode: "file", "f_inode", need::PROCESS;
    file_private: "file", "private_data", need::TCP | need::PROCESS;
    inode_mode: "inode", "i_mode", need::PROCESS;
    inode_number: "inode", "i_ino", need::PROCESS;
    inode_links: "inode", "i_nlink", need::PROCESS;
    inode_super: "inode", "i_sb", need::PROCESS;
    super_magic: "super_block", "s_magic", need::PROCESS;
    dentry_name: "dentry", "d_name.name", need::PROCESS;
    dentry_parent: "dentry", "d_parent", need::PROCESS;
    mount_vfs: "mount", "mnt", need::PROCESS;
    mount_parent: "mount", "mnt_parent", need::PROCESS;
    mount_point: "mount", "mnt_mountpoint", need::PROCESS;
    vfs_root: "vfsmount", "mnt_root", need::PROCESS;

    task_files: "task_struct", "files", need::TCP | need::PROCESS;
    files_table: "files_struct", "fdt", need::TCP | need::PROCESS;
    table_fd: "fdtable", "fd", need::TCP | need::PROCESS;
    table_max: "fdtable", "max_fds", need::TCP | need::PROCESS;
    socket_sk: "socket", "sk", need::TCP | need::PROCESS;

    sock_family: "sock", "__sk_common.skc_family", need::TCP | need::PROCESS | need::SOCKET;
    sock_protocol: "sock", "sk_protocol", need::TCP | need::SOCKET;
    sock_error: "sock", "sk_err", need::TCP;
    sock_flags: "sock", "__sk_common.skc_flags", need::TCP;
    sock_local: "sock", "__sk_common.skc_rcv_saddr", need::TCP;
    sock_remote: "sock", "__sk_common.skc_daddr", need::TCP;
    sock_remote_port: "sock", "__sk_common.skc_dport", need::TCP;
    sock_local6: "sock", "__sk_common.skc_v6_rcv_saddr", need::NOBODY;
    sock_remote6: "sock", "__sk_common.skc_v6_daddr", need::NOBODY;
    inet_local_port: "inet_sock", "inet_sport", need::TCP;
    tcp_received: "tcp_sock", "bytes_received", need::TCP;
    tcp_sent: "tcp_sock", "bytes_sent", need::TCP;
    tcp_resent: "tcp_sock", "bytes_retrans", need::TCP;
    tcp_retransmits: "tcp_sock", "total_retrans", need::TCP;
    tcp_segments_out: "tcp_sock", "segs_out", need::TCP;
    tcp_segments_in: "tcp_sock", "segs_in", need::TCP;
    tcp_srtt: "tcp_sock", "srtt_us", need::TCP;
    tcp_rtt_min: "tcp_sock", "rtt_min.s", need::NOBODY;
    packet_control: "sk_buff", "cb", need::NOBODY;
    control_segments: "tcp_skb_cb", "tcp_gso_segs", need::NOBODY;
}

macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What else the probes are told, as constants.
        #[derive(Debug, Clone, Copy)]
        #[repr(C)]
        pub struct Facts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Facts {
            /// Nothing is known.
            pub const NONE: Self = Self { $($name: 0,)* };
            /// How many there are.
            pub const LEN: usize = [$(stringify!($name)),*].len();

            /// What the programs are compiled with.
            pub const fn placeholder() -> Self {
                let mut index = Offsets::LEN;
                $(
                    let $name = placeholder(index);
                    index += 1;
                )*
                let _ = index;
                Self { $($name),* }
            }
        }

        const _: () = assert!(core::mem::size_of::<Facts>() == 8 * Facts::LEN);
    };
}

facts! {
    /// The programs' arguments have types: fields are loaded, not fetched.
    typed,
    /// Account slices and waits.
    cpu,
    /// The kernel keeps since when a thread waits for a CPU.
    run_queue,
    /// Account time off the CPU.
    off_cpu,
    /// Account system calls.
    syscall,
    /// Tell of forks, execs and exits.
    process,
    /// Count sends and receives.
    socket,
    /// Name the owners of accepted connections when `accept` returns.
    accept,
    /// Name those that are still unnamed when they are first used.
    first_use,
    /// `tcp_retransmit_skb` says whether it came to that.
    retransmit_has_error,
    /// Look at calls that deserve it.
    security,
    /// `sched_switch` says the state of the task that leaves.
    switch_has_state,
    /// `sched_process_exit` says whether it is the last thread.
    exit_has_last,
    /// Bit of `thread_status` (x86) or `thread_flags` (arm64) that marks a 32-bit call; 0 when there are none.
    compat_bit,
    /// The bit is in `thread_status`, else in `thread_flags`.
    compat_in_status,
    /// Number of `accept`.
    nr_accept,
    /// Number of `accept4`.
    nr_accept4,
    /// Numbers of the calls that return in the child too: `clone`, `clone3`, `fork`, `vfork`.
    nr_clone,
    /// See `nr_clone`.
    nr_clone3,
    /// See `nr_clone`; that of `clone` where there is none.
    nr_fork,
    /// See `nr_clone`; that of `clone` where there is none.
    nr_vfork,
    /// Number of `ptrace`.
    nr_ptrace,
    /// Number of `bpf`.
    nr_bpf,
    /// Number of `io_uring_setup`.
    nr_io_uring_setup,
    /// `mark_victim` says the task, else its number.
    victim_is_task,
    /// `block_rq_issue` has a queue before its request.
    issue_has_queue,
    /// Bit of `sk_flags` that says the peer's FIN was taken in.
    sock_done_bit,
    /// Bit of `sk_flags` that says that no process has the socket any more.
    sock_dead_bit,
    /// One less than the places for threads.
    thread_mask,
}

/// Which system calls are looked at: a bit a call, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Watched {
    /// When they begin.
    pub at_entry: [u64; Self::WORDS],
    /// When they return.
    pub at_return: [u64; Self::WORDS],
}

impl Watched {
    /// Words of a row of bits: numbers below 512.
    pub const WORDS: usize = 8;
    /// None.
    pub const NONE: Self = Self { at_entry: [0; Self::WORDS], at_return: [0; Self::WORDS] };
}

const _: () = assert!(core::mem::size_of::<Watched>() == 128);
