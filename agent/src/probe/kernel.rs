//! What the probes must be told of the running kernel, and which of them it allows.

use skep_common::offset::{Facts, Field, MISSING, Offsets, Watched, need};

use super::{btf::KernelBtf, options::ProbeOptions, report::ProbeReport};

/// A hook of the kernel and the program for it. The order is the order of attachment: what makes room for a thread comes
/// before what begins a call of it, and that before what ends one.
pub(super) const PROGRAMS: [Program; 19] = [
    Program { hook: "sched_process_fork", needed_by: need::PROCESS | need::THREADS, first: need::PROCESS },
    Program { hook: "sched_process_exec", needed_by: need::PROCESS | need::THREADS, first: need::PROCESS },
    Program { hook: "sched_process_exit", needed_by: need::PROCESS | need::THREADS, first: need::PROCESS },
    Program { hook: "sched_switch", needed_by: need::CPU, first: need::CPU },
    Program { hook: "inet_sock_set_state", needed_by: need::TCP, first: need::TCP },
    Program { hook: "tcp_retransmit_skb", needed_by: need::TCP, first: need::TCP },
    Program { hook: "tcp_send_reset", needed_by: need::TCP, first: need::TCP },
    Program { hook: "tcp_receive_reset", needed_by: need::TCP, first: need::TCP },
    Program { hook: "sock_send_length", needed_by: need::SOCKET, first: need::SOCKET },
    Program { hook: "sock_recv_length", needed_by: need::SOCKET, first: need::SOCKET },
    Program { hook: "cgroup_mkdir", needed_by: need::CGROUP, first: need::CGROUP },
    Program { hook: "cgroup_rmdir", needed_by: need::CGROUP, first: need::CGROUP },
    Program { hook: "cgroup_attach_task", needed_by: need::CGROUP, first: need::CGROUP },
    Program { hook: "block_rq_issue", needed_by: need::BLOCK, first: need::BLOCK },
    Program { hook: "block_rq_complete", needed_by: need::BLOCK, first: need::BLOCK },
    Program { hook: "mark_victim", needed_by: need::SECURITY, first: need::SECURITY },
    Program { hook: OPTIONAL, needed_by: need::SECURITY, first: need::SECURITY },
    Program { hook: "sys_enter", needed_by: need::SYSCALL | need::SECURITY, first: need::SECURITY },
    Program { hook: "sys_exit", needed_by: need::SYSCALL | need::SECURITY, first: need::SECURITY },
];

/// The hook a kernel built without modules does not have; nothing else is left out with it.
pub(super) const OPTIONAL: &str = "module_load";

/// A program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    /// Its hook, by which it is called too; the untyped program has `raw_` before that.
    pub(super) hook: &'static str,
    /// Bits of [`need`].
    pub(super) needed_by: u32,
    /// Of these, what is left out first when the kernel refuses the program.
    pub(super) first: u32,
}

/// Hooks where a connection is seen in use.
const USERS: [&str; 2] = ["sock_send_length", "sock_recv_length"];

/// The groups of probes that are switched on and off together.
pub(super) const GROUPS: [(u32, &str, &str); 8] = [
    (need::CPU, "cpu", "time on a CPU, switches, run-queue delay, time away"),
    (need::SYSCALL, "syscall", "count, errors and latency of system calls"),
    (need::TCP, "tcp", "connections, retransmissions, resets"),
    (need::SOCKET, "socket", "bytes and messages of TCP and UDP by process"),
    (need::PROCESS, "process", "forks, execs and exits"),
    (need::CGROUP, "cgroup", "names of cgroups however short they live"),
    (
        need::SECURITY,
        "security",
        "OOM kills, modules, credential changes, ptrace, bpf, io_uring; stands on entry and return of all system calls",
    ),
    (need::BLOCK, "block", "latency and size of requests to block devices"),
];

/// What is known before loading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    pub(super) offsets: Offsets,
    pub(super) facts: Facts,
    /// Bits of [`need`]: the groups that have all they need.
    pub(super) able: u32,
    /// Ways to find who accepts a connection that this kernel allows.
    pub(super) finders: Finders,
    /// The kernel has modules.
    modules: bool,
}

/// Ways to find who accepts a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finders {
    /// When the system call returns. Costs every system call, so it is used where system calls are watched anyway, or
    /// where there is no other way.
    pub(super) accept: bool,
    /// When the connection is first used.
    pub(super) first_use: bool,
}

impl Kernel {
    /// Looks everything up; what is missing goes into `report`.
    pub(super) fn probe(btf: &KernelBtf, options: &ProbeOptions, report: &mut ProbeReport) -> Self {
        let mut values = [MISSING; Offsets::LEN];
        for (value, field) in values.iter_mut().zip(&Offsets::FIELDS) {
            *value = offset_of(btf, field).unwrap_or(MISSING);
        }
        let offsets = Offsets::from_array(values);
        let mut able = 0;
        for (bit, name, _) in GROUPS {
            if !wanted(options, bit) {
                report.add(name, false, "switched off");
                continue;
            }
            match lacking(btf, bit, &values) {
                None => able |= bit,
                Some(reason) => report.add(name, false, reason),
            }
        }
        let finders = Finders {
            accept: offsets.regs_syscall != MISSING && btf.hook_arguments("sys_exit").is_some(),
            first_use: USERS.iter().all(|hook| btf.hook_arguments(hook).is_some()),
        };
        let facts = facts(btf, &offsets, able, options);
        let modules = btf.hook_arguments(OPTIONAL).is_some();
        let kernel = Self { offsets, facts, able, finders, modules }.settle();
        if able & need::CPU != 0 && facts.run_queue == 0 {
            report.add("run_queue", false, "this kernel keeps no account of waits (CONFIG_SCHED_INFO)");
        }
        if able & need::TCP != 0 && !finders.accept && !finders.first_use {
            report.add("tcp_accept_owner", false, "this kernel does not say which system call returns");
        }
        kernel
    }

    /// The same with fewer groups.
    pub(super) fn without(mut self, bits: u32) -> Self {
        self.able &= !bits;
        self.settle()
    }

    /// The same with one way less to find who accepts.
    pub(super) fn without_finder(mut self, hook: &str) -> Self {
        if USERS.contains(&hook) {
            self.finders.first_use = false;
        } else {
            self.finders.accept = false;
        }
        self.settle()
    }

    /// Tells the programs what is there.
    fn settle(mut self) -> Self {
        let able = |bit: u32| u64::from(self.able & bit != 0);
        self.facts.cpu = able(need::CPU);
        self.facts.syscall = able(need::SYSCALL);
        self.facts.process = able(need::PROCESS);
        self.facts.socket = able(need::SOCKET);
        self.facts.security = able(need::SECURITY);
        let Finders { accept, first_use } = self.finders;
        self.facts.first_use = able(need::TCP) & u64::from(first_use);
        let wanted = accept && (self.facts.syscall != 0 || !first_use);
        self.facts.accept = able(need::TCP) & u64::from(wanted);
        self
    }

    /// Whether a program has anything to do.
    pub(super) fn wants(&self, program: &Program) -> bool {
        if program.hook == OPTIONAL && !self.modules {
            return false;
        }
        program.needed_by & self.able != 0
            || (program.hook == "sys_exit" && self.facts.accept != 0)
            || (USERS.contains(&program.hook) && self.facts.first_use != 0)
    }

    /// The calls the programs are to look at.
    pub(super) fn watched(&self) -> Watched {
        let mut watched = Watched::NONE;
        if self.able & need::SECURITY == 0 {
            return watched;
        }
        for nr in CREDENTIAL_CALLS {
            set(&mut watched.at_entry, nr);
            set(&mut watched.at_return, nr);
        }
        for nr in [libc::SYS_ptrace, libc::SYS_bpf, libc::SYS_io_uring_setup] {
            set(&mut watched.at_return, nr);
        }
        watched
    }

    /// Whether the programs' arguments have types.
    pub(super) fn is_typed(&self) -> bool {
        self.facts.typed != 0
    }
}

/// Calls that may change what a thread is allowed.
const CREDENTIAL_CALLS: [libc::c_long; 9] = [
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_capset,
    libc::SYS_unshare,
    libc::SYS_setns,
];

fn set(bits: &mut [u64; Watched::WORDS], nr: libc::c_long) {
    if let Some(word) = bits.get_mut(nr as usize / 64) {
        *word |= 1 << (nr & 63);
    }
}

/// Whether a group is switched on.
pub(super) fn wanted(options: &ProbeOptions, bit: u32) -> bool {
    match bit {
        need::CPU => options.cpu,
        need::SYSCALL => options.syscall,
        need::TCP => options.tcp,
        need::CGROUP => options.cgroup,
        need::SOCKET => options.socket,
        need::SECURITY => options.security,
        need::BLOCK => options.block,
        _ => options.process,
    }
}

/// What a group needs and this kernel does not have.
fn lacking(btf: &KernelBtf, bit: u32, values: &[u64; Offsets::LEN]) -> Option<String> {
    let fields = Offsets::FIELDS.iter().zip(values);
    let field = fields
        .filter(|(field, value)| field.needed_by & bit != 0 && **value == MISSING)
        .map(|(field, _)| format!("this kernel has no field {} in struct {}", field.path, field.object))
        .next();
    let hook = PROGRAMS
        .iter()
        .filter(|program| {
            program.needed_by & bit != 0 && program.hook != OPTIONAL && btf.hook_arguments(program.hook).is_none()
        })
        .map(|program| format!("this kernel has no tracepoint {}", program.hook))
        .next();
    let at = |name: &str| Offsets::FIELDS.iter().zip(values).any(|(f, value)| f.path == name && *value != MISSING);
    let disk = (bit == need::BLOCK && !at("rq_disk") && !at("disk"))
        .then(|| "this kernel does not say which disk a request is for".to_owned());
    hook.or(field).or(disk)
}

/// The first of a field's alternatives that this kernel has; in bytes, except for a single bit.
fn offset_of(btf: &KernelBtf, field: &Field) -> Option<u64> {
    let find = |path: &str| {
        let (path, words) = path.split_once('+').unwrap_or((path, "0"));
        Some(btf.member_bits(field.object, path)? + 64 * words.parse::<u64>().ok()?)
    };
    let bits = field.path.split('|').find_map(find)?;
    if field.path == "secureexec" { Some(bits) } else { (bits % 8 == 0).then_some(bits / 8) }
}

fn facts(btf: &KernelBtf, offsets: &Offsets, able: u32, options: &ProbeOptions) -> Facts {
    let at_least = |hook, arguments| u64::from(btf.hook_arguments(hook).is_some_and(|count| count >= arguments));
    let (compat_bit, compat_in_status) = compat(offsets);
    // Without it nobody knows the type of the task that runs.
    let current = btf.enumerator("bpf_func_id", "BPF_FUNC_get_current_task_btf").is_some();
    let (fork, vfork) = births();
    Facts {
        typed: u64::from(current && !options.untyped),
        cpu: u64::from(able & need::CPU != 0),
        run_queue: u64::from(able & need::CPU != 0 && keeps_waits(offsets)),
        off_cpu: u64::from(able & need::CPU != 0 && options.off_cpu),
        syscall: u64::from(able & need::SYSCALL != 0),
        process: u64::from(able & need::PROCESS != 0),
        socket: u64::from(able & need::SOCKET != 0),
        security: u64::from(able & need::SECURITY != 0),
        nr_ptrace: libc::SYS_ptrace as u64,
        nr_bpf: libc::SYS_bpf as u64,
        nr_io_uring_setup: libc::SYS_io_uring_setup as u64,
        victim_is_task: at_least("mark_victim", 2),
        issue_has_queue: at_least("block_rq_issue", 2),
        // These two are settled afterwards.
        accept: 0,
        first_use: 0,
        retransmit_has_error: at_least("tcp_retransmit_skb", 3),
        switch_has_state: at_least("sched_switch", 4),
        exit_has_last: at_least("sched_process_exit", 2),
        compat_bit,
        compat_in_status,
        nr_accept: libc::SYS_accept as u64,
        nr_accept4: libc::SYS_accept4 as u64,
        nr_clone: libc::SYS_clone as u64,
        nr_clone3: libc::SYS_clone3 as u64,
        nr_fork: fork,
        nr_vfork: vfork,
        // The second of `enum sock_flags` since the beginning.
        sock_done_bit: btf.enumerator("sock_flags", "SOCK_DONE").unwrap_or(1),
        // The first.
        sock_dead_bit: btf.enumerator("sock_flags", "SOCK_DEAD").unwrap_or(0),
        thread_mask: u64::from(options.thread_places) - 1,
    }
}

/// Numbers of `fork` and `vfork`; where there are none, that of `clone`.
fn births() -> (u64, u64) {
    #[cfg(target_arch = "x86_64")]
    let numbers = (libc::SYS_fork, libc::SYS_vfork);
    #[cfg(not(target_arch = "x86_64"))]
    let numbers = (libc::SYS_clone, libc::SYS_clone);
    (numbers.0 as u64, numbers.1 as u64)
}

/// Whether the kernel keeps since when a thread waits for a CPU, and what it waited in all.
fn keeps_waits(offsets: &Offsets) -> bool {
    let needed = [
        offsets.info_queued,
        offsets.info_waited,
        offsets.info_runs,
        offsets.entity_queue,
        offsets.queue_rq,
        offsets.rq_clock,
    ];
    !needed.contains(&MISSING)
}

/// How a 32-bit call is known: the bit, and whether it is in `thread_info.status`.
///
/// Source: `TS_COMPAT` in arch/x86/include/asm/thread_info.h, `TIF_32BIT` in arch/arm64/include/asm/thread_info.h.
fn compat(offsets: &Offsets) -> (u64, u64) {
    if cfg!(target_arch = "x86_64") && offsets.thread_status != MISSING {
        (0x2, 1)
    } else if cfg!(target_arch = "aarch64") && offsets.thread_flags != MISSING {
        (1 << 22, 0)
    } else {
        (0, 0)
    }
}
