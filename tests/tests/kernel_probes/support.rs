//! A watch: probes, and everything they said while something ran.

use std::{
    process::Child,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use skep_agent::probe::{
    Event, Feature, ProbeOptions, Probes, ProgramCost, Reading,
    reading::{
        BlockReading, Connection, CpuReading, Exec, Exit, Fork, ProbeLedger, Protocol, Security, SocketReading,
        SyscallReading,
    },
    syscall_name,
};

/// One test at a time: the probes see the whole host, and the tests would be each other's noise.
pub(crate) static ONE: Mutex<()> = Mutex::new(());

/// Probes and what they have said so far.
pub(crate) struct Watch {
    probes: Probes,
    pub(crate) events: Vec<Event>,
    pub(crate) readings: Vec<Reading>,
    _alone: MutexGuard<'static, ()>,
}

impl Watch {
    /// Loads every probe.
    pub(crate) fn start(options: &ProbeOptions) -> Self {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (probes, report) = Probes::load(options).expect("the probes load: run the tests as root");
        let is_there = |feature: &Feature| feature.ok || feature.reason.contains("this kernel has no tracepoint");
        assert!(report.features.iter().all(is_there), "{report}");
        Self { probes, events: Vec::new(), readings: Vec::new(), _alone: alone }
    }

    /// Loads only some probes and closes an epoch of a tenth of a second.
    pub(crate) fn of_some(options: &ProbeOptions) -> Self {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (probes, _) = Probes::load(options).expect("the probes load: run the tests as root");
        let mut watch = Self { probes, events: Vec::new(), readings: Vec::new(), _alone: alone };
        let end = Instant::now() + Duration::from_millis(100);
        watch.until(|_| Instant::now() >= end);
        watch.flip();
        watch
    }

    /// The reading of the epoch closed last.
    pub(crate) fn last(&self) -> &Reading {
        self.readings.last().expect("an epoch was closed")
    }

    /// Drains events, as the agent does on its timer, until `done`; flips about once a second.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&[Event]) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut next_flip = Instant::now() + Duration::from_secs(1);
        loop {
            self.probes.drain_events(&mut |event, _| self.events.push(event));
            if done(&self.events) {
                return;
            }
            assert!(Instant::now() < deadline, "what the test waits for did not happen; {}", self.what_happened());
            if Instant::now() > next_flip {
                self.flip();
                next_flip = Instant::now() + Duration::from_secs(1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The last events, what was lost, and programs the kernel would not run, for whoever has to find out why.
    fn what_happened(&self) -> String {
        let events: Vec<_> = self.events.iter().rev().take(20).collect();
        let lost: Vec<_> = self.ledger().filter(|row| row.attempted != row.delivered).collect();
        let refused: Vec<_> = self.cost().into_iter().filter(|program| program.refused > 0).collect();
        format!("of {} events the last: {events:#?}; lost: {lost:?}; refused: {refused:?}", self.events.len())
    }

    /// Watches until `child` has ended, then closes the epoch.
    pub(crate) fn until_ended(&mut self, child: &mut Child) {
        self.until(|_| child.try_wait().expect("the child can be waited for").is_some());
        self.flip();
    }

    /// Closes the epoch.
    pub(crate) fn flip(&mut self) -> &Reading {
        let reading = self.probes.flip(&mut |event, _| self.events.push(event)).expect("the epoch closes");
        self.readings.push(reading);
        self.readings.last().expect("one was just pushed")
    }

    /// Every event so far.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Every row of a process's system call.
    pub(crate) fn syscalls(&self, pid: u32, name: &'static str) -> impl Iterator<Item = &SyscallReading> {
        let rows = self.readings.iter().flat_map(|reading| &reading.syscalls);
        rows.filter(move |row| row.process.pid == pid && syscall_name(row.nr) == Some(name))
    }

    /// Every row of a process's scheduling.
    pub(crate) fn cpu(&self, pid: u32) -> impl Iterator<Item = &CpuReading> {
        self.readings.iter().flat_map(|reading| &reading.cpu).filter(move |row| row.process.pid == pid)
    }

    /// What a process moved through a protocol, all epochs.
    pub(crate) fn traffic(&self, pid: u32, protocol: Protocol) -> Traffic {
        let rows = self.readings.iter().flat_map(|reading| &reading.sockets);
        let of_it = rows.filter(|row| row.process.pid == pid && row.protocol == protocol);
        of_it.fold(Traffic::default(), Traffic::plus)
    }

    /// Hooks that have a program.
    pub(crate) fn hooks(&self) -> Vec<&'static str> {
        self.probes.own_cost().iter().map(|cost| cost.name).collect()
    }

    /// Execs of a process.
    pub(crate) fn execs(&self, pid: u32) -> Vec<&Exec> {
        let matching = self.events.iter().filter_map(|event| match event {
            Event::Exec(exec) if exec.subject.process.pid == pid => Some(&**exec),
            _ => None,
        });
        matching.collect()
    }

    /// Execs of children of a process.
    pub(crate) fn execs_below(&self, parent: u32) -> Vec<&Exec> {
        let matching = self.events.iter().filter_map(|event| match event {
            Event::Exec(exec) if exec.subject.parent.pid == parent => Some(&**exec),
            _ => None,
        });
        matching.collect()
    }

    /// Ends of a process.
    pub(crate) fn exits(&self, pid: u32) -> Vec<&Exit> {
        let matching = self.events.iter().filter_map(|event| match event {
            Event::Exit(exit) if exit.subject.process.pid == pid => Some(exit),
            _ => None,
        });
        matching.collect()
    }

    /// Children of a process.
    pub(crate) fn forks_of(&self, parent: u32) -> Vec<&Fork> {
        let matching = self.events.iter().filter_map(|event| match event {
            Event::Fork(fork) if fork.subject.parent.pid == parent => Some(fork),
            _ => None,
        });
        matching.collect()
    }

    /// What a process did that deserves a look.
    pub(crate) fn security(&self, pid: u32) -> Vec<&Security> {
        let matching = self.events.iter().filter_map(|event| match event {
            Event::Security(seen) if seen.subject.process.pid == pid => Some(&**seen),
            _ => None,
        });
        matching.collect()
    }

    /// Every row of a process's requests to block devices.
    pub(crate) fn blocks(&self, pid: u32, operation: &'static str) -> impl Iterator<Item = &BlockReading> {
        let rows = self.readings.iter().flat_map(|reading| &reading.blocks);
        rows.filter(move |row| row.process.pid == pid && row.operation == operation)
    }

    /// Connection events that match.
    pub(crate) fn connections(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<&Connection> {
        let matching = self.events.iter().filter_map(|event| match event {
            Event::Connection(connection) if wanted(connection) => Some(connection),
            _ => None,
        });
        matching.collect()
    }

    /// Asserts that every ledger balances and that nothing happened that nobody can explain.
    pub(crate) fn assert_balanced(&self) {
        for row in self.ledger() {
            let lost: u64 = row.lost.iter().map(|(_, count)| count).sum();
            assert_eq!(row.attempted, row.delivered + lost, "{row:?}");
            assert!(!row.lost.iter().any(|(reason, _)| matches!(*reason, "unexplained" | "unreadable")), "{row:?}");
        }
    }

    /// Switches some domains off, and all others on.
    pub(crate) fn switch_off(&mut self, domains: &[&'static str]) {
        self.probes.switch_off(domains).expect("programs can be switched");
    }

    /// Memory the kernel holds for the maps.
    pub(crate) fn map_bytes(&self) -> u64 {
        self.probes.map_bytes()
    }

    /// The programs.
    pub(crate) fn cost(&self) -> Vec<ProgramCost> {
        self.probes.own_cost()
    }

    /// Every row of every ledger.
    pub(crate) fn ledger(&self) -> impl Iterator<Item = &ProbeLedger> {
        self.readings.iter().flat_map(|reading| &reading.ledger)
    }

    /// Sums a probe's ledger: attempted, delivered.
    pub(crate) fn account(&self, probe: &str) -> (u64, u64) {
        let rows = self.ledger().filter(|row| row.probe == probe);
        rows.fold((0, 0), |sum, row| (sum.0 + row.attempted, sum.1 + row.delivered))
    }
}

/// Sums of rows of sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_messages: u64,
    pub(crate) received_messages: u64,
    pub(crate) retransmits: u64,
    pub(crate) resets_sent: u64,
    pub(crate) resets_received: u64,
}

impl Traffic {
    fn plus(self, row: &SocketReading) -> Self {
        Self {
            sent_bytes: self.sent_bytes + row.sent_bytes,
            received_bytes: self.received_bytes + row.received_bytes,
            sent_messages: self.sent_messages + row.sent_messages,
            received_messages: self.received_messages + row.received_messages,
            retransmits: self.retransmits + row.retransmits,
            resets_sent: self.resets_sent + row.resets_sent,
            resets_received: self.resets_received + row.resets_received,
        }
    }
}

/// A shell that runs `script` with the arguments.
pub(crate) fn shell(script: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", script]).args(arguments).stdin(std::process::Stdio::null());
    command
}
