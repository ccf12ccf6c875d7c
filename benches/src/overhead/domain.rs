//! The domains of the probes, as data: one line adds one.

use anyhow::{Result, bail};
use skep_agent::probe::{ProbeOptions, Probes};

/// Probes that are switched on and off together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Domain {
    /// Its name in settings and figures.
    pub(crate) name: &'static str,
    /// Its switch.
    switch: fn(&mut ProbeOptions, bool),
    /// The hooks nobody can do without who answers the domain's question: where the floor's empty programs go. Which
    /// hooks the probes use today is asked of them.
    pub(crate) floor: &'static [&'static str],
}

/// All of them.
pub(crate) const DOMAINS: [Domain; 9] = [
    Domain {
        name: "cpu",
        switch: |options, on| options.cpu = on,
        floor: &["sched_switch", "sched_wakeup", "sched_wakeup_new"],
    },
    // It is part of cpu, which can do without.
    Domain {
        name: "off_cpu",
        switch: |options, on| {
            options.off_cpu = on;
            options.cpu |= on;
        },
        floor: &["sched_switch"],
    },
    Domain { name: "syscall", switch: |options, on| options.syscall = on, floor: &["sys_enter", "sys_exit"] },
    Domain { name: "tcp", switch: |options, on| options.tcp = on, floor: &["inet_sock_set_state"] },
    Domain {
        name: "socket",
        switch: |options, on| options.socket = on,
        floor: &["sock_send_length", "sock_recv_length"],
    },
    Domain {
        name: "process",
        switch: |options, on| options.process = on,
        floor: &["sched_process_fork", "sched_process_exec", "sched_process_exit"],
    },
    Domain { name: "block", switch: |options, on| options.block = on, floor: &["block_rq_issue", "block_rq_complete"] },
    Domain { name: "security", switch: |options, on| options.security = on, floor: &["sys_enter", "sys_exit"] },
    Domain {
        name: "cgroup",
        switch: |options, on| options.cgroup = on,
        floor: &["cgroup_mkdir", "cgroup_rmdir", "cgroup_attach_task"],
    },
];

impl Domain {
    /// The domain of this name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        DOMAINS.into_iter().find(|domain| domain.name == name)
    }

    /// Loads some domains and no other.
    pub(crate) fn load(wanted: &[Self]) -> Result<Probes> {
        let mut options = ProbeOptions::default();
        for domain in DOMAINS {
            (domain.switch)(&mut options, false);
        }
        for domain in wanted {
            (domain.switch)(&mut options, true);
        }
        let (probes, report) = Probes::load(&options)?;
        let broken = report.features.iter().find(|on| !on.ok && wanted.iter().any(|domain| domain.name == on.name));
        broken.map_or(Ok(probes), |broken| bail!("the probes cannot watch {}: {}", broken.name, broken.reason))
    }
}
