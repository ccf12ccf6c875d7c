//! What the probes must be told of the running kernel, and which of them it allows.

use skep_common::offset::{Facts, Field, MISSING, Offsets, need};

use super::{btf::KernelBtf, options::ProbeOptions, report::ProbeReport};

/// A hook of the kernel and the program for it. The order is the order of attachment: what makes room for a thread comes
/// before what begins a call of it, and that before what ends one.
pub(super) const PROGRAMS: [Program; 15] = [
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
    Program { hook: "sys_enter", needed_by: need::SYSCALL, first: need::SYSCALL },
    Program { hook: "sys_exit", needed_by: need::SYSCALL, first: need::SYSCALL },
    Program { hook: "cgroup_mkdir", needed_by: need::CGROUP, first: need::CGROUP },
    Program { hook: "cgroup_rmdir", needed_by: need::CGROUP, first: need::CGROUP },
    Program { hook: "cgroup_attach_task", needed_by: need::CGROUP, first: need::CGROUP },
];

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
pub(super) const GROUPS: [(u32, &str, &str); 6] = [
    (need::CPU, "cpu", "time on a CPU, switches, run-queue delay, time away"),
    (need::SYSCALL, "syscall", "count, errors and latency of system calls"),
    (need::TCP, "tcp", "connections, retransmissions, resets"),
    (need::SOCKET, "socket", "bytes and messages of TCP and UDP by process"),
    (need::PROCESS, "process", "forks, execs and exits"),
    (need::CGROUP, "cgroup", "names of cgroups however short they live"),
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
        let kernel = Self { offsets, facts, able, finders }.settle();
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
        let Finders { accept, first_use } = self.finders;
        self.facts.first_use = able(need::TCP) & u64::from(first_use);
        let wanted = accept && (self.facts.syscall != 0 || !first_use);
        self.facts.accept = able(need::TCP) & u64::from(wanted);
        self
    }

    /// Whether a program has anything to do.
    pub(super) fn wants(&self, program: &Program) -> bool {
        program.needed_by & self.able != 0
            || (program.hook == "sys_exit" && self.facts.accept != 0)
            || (USERS.contains(&program.hook) && self.facts.first_use != 0)
    }

    /// Whether the programs' arguments have types.
    pub(super) fn is_typed(&self) -> bool {
        self.facts.typed != 0
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
        .filter(|program| program.needed_by & bit != 0 && btf.hook_arguments(program.hook).is_none())
        .map(|program| format!("this kernel has no tracepoint {}", program.hook))
        .next();
    hook.or(field)
}

/// The first of a field's alternatives that this kernel has; in bytes, except for a single bit.
fn offset_of(btf: &KernelBtf, field: &Field) -> Option<u64> {
    let bits = field.path.split('|').find_map(|path| btf.member_bits(field.object, path))?;
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
