//! The domains of the probes, as data: one line adds one.

use skep_agent::probe::ProbeOptions;

/// Probes that are switched on and off together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Domain {
    /// Its name in settings and figures.
    pub(crate) name: &'static str,
    /// Its switch.
    switch: fn(&mut ProbeOptions) -> &mut bool,
    /// The hooks nobody can do without who answers the domain's question: where the floor's empty programs go. Which
    /// hooks the probes use today is asked of them.
    pub(crate) floor: &'static [&'static str],
}

/// All of them.
pub(crate) const DOMAINS: [Domain; 4] = [
    Domain { name: "cpu", switch: |on| &mut on.cpu, floor: &["sched_switch", "sched_wakeup", "sched_wakeup_new"] },
    Domain { name: "syscall", switch: |on| &mut on.syscall, floor: &["sys_enter", "sys_exit"] },
    Domain { name: "tcp", switch: |on| &mut on.tcp, floor: &["inet_sock_set_state"] },
    Domain {
        name: "process",
        switch: |on| &mut on.process,
        floor: &["sched_process_fork", "sched_process_exec", "sched_process_exit"],
    },
];

impl Domain {
    /// The domain of this name, if the probes have it.
    pub(crate) fn find(name: &str) -> Option<Self> {
        DOMAINS.into_iter().find(|domain| domain.name == name)
    }

    /// Settings that load this domain and no other.
    pub(crate) fn alone(&self) -> ProbeOptions {
        let mut options = ProbeOptions::default();
        for domain in DOMAINS {
            *(domain.switch)(&mut options) = domain.name == self.name;
        }
        options
    }
}
