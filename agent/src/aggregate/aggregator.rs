//! Readings and events in, batches out.

use std::time::Duration;

use skep_runtime::clock::Clock;
use skep_wire::chunk::{Builder, ChunkError};
use skep_wire::{tables, v1};

use super::account::{Account, Statement, coverage};
use super::block::{self, Devices};
use super::files::Files;
use super::gauges::{Gauge, Gauges, OwnState};
use super::identity::Identities;
use super::pods::{Pods, Wanted};
use super::rows::{self, Family, SocketCoverage, Who};
use super::security;
use super::window::{Span, Windows};
use crate::ledger::{self, LossRow};
use crate::probe::reading::{
    Connection, CpuReading, Event, Exec, Exit, Fork, ProcessKey, Reading, Security, SocketReading, SyscallReading,
};

/// Looks into `/proc` for the events of one drain: some 5 ms at worst.
const LOOKS_PER_DRAIN: u32 = 256;

/// Looks into `/proc` for the processes of one window: some 80 ms at worst.
const LOOKS_PER_WINDOW: u32 = 4096;

/// Event rows that are sealed without waiting for more.
const FULL_BATCH_ROWS: usize = 20_000;

/// A batch ready to be numbered and written.
#[derive(Debug)]
pub struct Sealed {
    /// Rows, and what they claim.
    pub batch: v1::Batch,
    /// Set on a window's batch: everything up to this moment was watched and is in a batch, or a row says that it was
    /// not watched. For the latter also set on the first batch, at the start.
    pub watched_until_us: Option<i64>,
}

/// The stage's state; one thread owns it.
#[derive(Debug)]
pub struct Aggregator {
    clock: Clock,
    windows: Windows,
    identities: Identities,
    account: Account,
    gauges: Gauges,
    files: Files,
    processes: Builder,
    connections: Builder,
    security: Builder,
    devices: Devices,
    /// Start of the window under way, wall clock in microseconds.
    from_us: i64,
    /// Rows of `loss` for the next batch.
    notes: Vec<LossRow>,
    /// Up to when the next batch says that nobody watched.
    told_until_us: Option<i64>,
    /// No window has ended yet.
    first: bool,
    /// Whether the processes of before the agent have their rows.
    introduced: bool,
    own: OwnState,
    /// Gauges of what the agent spends and gives up.
    spending: Vec<Gauge>,
}

impl Aggregator {
    /// Starts at the moment of the call, with every process there is.
    ///
    /// `watched_until_us` is where the last run of the agent left off; the time since then becomes a row of `loss`.
    pub fn start(
        clock: Clock,
        window: Duration,
        mut identities: Identities,
        attached_ns: u64,
        watched_until_us: Option<i64>,
    ) -> Self {
        identities.refill(u32::MAX);
        identities.seed(attached_ns);
        identities.refill(LOOKS_PER_DRAIN);
        let from_us = clock.wall_us_at(attached_ns);
        let mut notes = Vec::new();
        let mut told_until_us = None;
        if let Some(left_off) = watched_until_us.filter(|left_off| *left_off < from_us) {
            let detail = "no agent was running".to_owned();
            notes.push(LossRow::uncounted((left_off, from_us), ledger::NOT_WATCHING, detail));
            told_until_us = Some(from_us);
        }
        Self {
            clock,
            windows: Windows::new(window),
            identities,
            account: Account::default(),
            gauges: Gauges::start(),
            files: Files::start(),
            processes: Builder::new(&tables::PROCESSES),
            connections: Builder::new(&tables::CONNECTIONS),
            security: Builder::new(&tables::SECURITY),
            devices: Devices::default(),
            from_us,
            notes,
            told_until_us,
            first: true,
            introduced: false,
            own: OwnState::default(),
            spending: Vec::new(),
        }
    }

    /// The probes were there before: the first window began with a flip, like any other.
    pub fn go_on(&mut self) {
        self.first = false;
    }

    /// Wall clock of the end of the window under way, in microseconds.
    pub fn boundary_us(&self) -> i64 {
        self.windows.next_boundary_us(self.from_us)
    }

    /// What other stages say of themselves, for the next window's gauges.
    pub fn set_own(&mut self, own: OwnState) {
        self.own = own;
    }

    /// What was spent in the window that is about to be sealed, and given up.
    pub fn set_spending(&mut self, spending: Vec<Gauge>) {
        self.spending = spending;
    }

    /// Rows of `loss` for the next batch.
    pub fn note(&mut self, rows: Vec<LossRow>) {
        self.notes.extend(rows);
    }

    /// Knows at most so many processes from now on.
    pub fn know_at_most(&mut self, processes: usize) {
        self.identities.set_limit(processes);
    }

    /// Seconds since the window under way began.
    pub fn elapsed_s(&self) -> f64 {
        (self.clock.wall_us() - self.from_us).max(0) as f64 / 1e6
    }

    /// Before each drain: allows looks into `/proc` again, and a step of the search for cgroups.
    pub fn refill(&mut self) {
        self.identities.refill(LOOKS_PER_DRAIN);
        self.identities.work(self.clock.boot_ns());
    }

    /// Takes new names of pods.
    pub fn set_pods(&mut self, pods: Pods) {
        self.identities.set_pods(pods);
    }

    /// Uids of pods without a name, met since the last call.
    pub fn take_wanted_pods(&mut self) -> Wanted {
        self.identities.take_wanted()
    }

    /// Whether so many event rows are waiting that they should be sealed now.
    pub fn is_full(&self) -> bool {
        self.event_rows() >= FULL_BATCH_ROWS
    }

    fn event_rows(&self) -> usize {
        self.processes.rows() + self.connections.rows() + self.security.rows()
    }

    /// Takes an event in.
    ///
    /// # Errors
    /// [`ChunkError`]: the row does not fit its table, which is a fault of this program.
    pub fn on_event(&mut self, event: &Event) -> Result<(), ChunkError> {
        let (probe, cpu) = match event {
            Event::Fork(fork) => self.on_fork(fork).map(|()| ("fork", fork.subject.cpu)),
            Event::Exec(exec) => self.on_exec(exec).map(|()| ("exec", exec.subject.cpu)),
            Event::Exit(exit) => self.on_exit(exit).map(|()| ("exit", exit.subject.cpu)),
            Event::Connection(seen) => self.on_connection(seen).map(|()| ("tcp", seen.subject.cpu)),
            Event::Security(seen) => self.on_security(seen).map(|()| ("security", seen.subject.cpu)),
            Event::Cgroup(cgroup) => {
                self.identities.on_cgroup(cgroup);
                Ok(("cgroup", cgroup.cpu))
            }
        }?;
        self.account.count(probe, cpu);
        Ok(())
    }

    fn on_fork(&mut self, fork: &Fork) -> Result<(), ChunkError> {
        let subject = &fork.subject;
        self.identities.on_fork(subject);
        self.identities.set_capabilities(subject.process, fork.capabilities);
        let family = self.family(subject.parent);
        let time_us = self.clock.wall_us_at(subject.at_ns);
        let who = who(self.identities.get(subject.process), subject.process, &subject.comm, Some(subject.uid));
        rows::fork(&mut self.processes, time_us, &who, &family, subject)
    }

    fn on_exec(&mut self, exec: &Exec) -> Result<(), ChunkError> {
        let subject = &exec.subject;
        let before = self.identities.get(subject.process).and_then(|process| process.capabilities);
        self.identities.on_exec(exec);
        let family = self.family(subject.parent);
        let time_us = self.clock.wall_us_at(subject.at_ns);
        let who = who(self.identities.get(subject.process), subject.process, &subject.comm, Some(subject.uid));
        rows::exec(&mut self.processes, time_us, &who, &family, exec, before)
    }

    fn on_exit(&mut self, exit: &Exit) -> Result<(), ChunkError> {
        let subject = &exit.subject;
        self.identities.on_exit(exit);
        let family = self.family(subject.parent);
        let time_us = self.clock.wall_us_at(subject.at_ns);
        let who = who(self.identities.get(subject.process), subject.process, &subject.comm, Some(subject.uid));
        rows::exit(&mut self.processes, time_us, &who, &family, exit)
    }

    fn on_security(&mut self, seen: &Security) -> Result<(), ChunkError> {
        let subject = &seen.subject;
        let time_us = self.clock.wall_us_at(subject.at_ns);
        // Where the kernel tells a number only, the newest process of that number is meant.
        let only_number = subject.process.start_ns == 0;
        let comm = (!only_number).then_some(&subject.comm);
        self.identities.resolve(subject.process, comm);
        let process = self.identities.any_start(subject.process);
        let key = process.filter(|_| only_number).map_or(subject.process, |process| process.key);
        let who = who(process, key, &subject.comm, (!only_number).then_some(subject.uid));
        security::row(&mut self.security, time_us, &who, seen)
    }

    fn on_connection(&mut self, seen: &Connection) -> Result<(), ChunkError> {
        let subject = &seen.subject;
        let time_us = self.clock.wall_us_at(subject.at_ns);
        let who = if subject.process.pid == 0 {
            Who::nobody()
        } else {
            let process = self.identities.meet(subject);
            who(process, subject.process, &subject.comm, Some(subject.uid))
        };
        rows::connection(&mut self.connections, time_us, &who, seen)
    }

    fn family(&mut self, parent: ProcessKey) -> Family {
        self.identities.resolve(parent, None);
        let Some(process) = self.identities.any_start(parent) else { return Family::default() };
        Family {
            parent_comm: Some(process.comm.clone()),
            parent_exe: process.exe.as_deref().map(str::to_owned),
            ancestors: self.identities.ancestors(parent),
        }
    }

    /// The events taken in since the last batch, if there are any.
    ///
    /// # Errors
    /// As [`Aggregator::on_event`].
    pub fn seal_events(&mut self) -> Result<Option<Sealed>, ChunkError> {
        if self.event_rows() == 0 && self.notes.is_empty() {
            return Ok(None);
        }
        let statement = self.account.state_events((self.from_us, self.boundary_us()));
        self.seal(Vec::new(), statement, None).map(Some)
    }

    /// The end of a window: what its reading counted, its gauges, its ledger, and the events not sealed yet.
    ///
    /// # Errors
    /// As [`Aggregator::on_event`].
    pub fn seal_window(&mut self, reading: &Reading) -> Result<Sealed, ChunkError> {
        let until_us = self.clock.wall_us_at(reading.until_ns);
        let span = self.span(self.clock.wall_us_at(reading.from_ns), until_us);
        self.identities.refill(LOOKS_PER_WINDOW);
        let cpu = self.cpu_chunk(span, reading)?;
        let syscalls = self.syscalls_chunk(span, reading)?;
        let sockets = self.sockets_chunk(span, reading)?;
        let blocks = self.block_chunk(span, reading)?;
        let ran = reading.cpu.iter().map(|seen| seen.process);
        let files = self.files.read(span.length_s, ran, &self.identities);
        let host = self.host_chunk(span, files)?;
        self.introduce(until_us)?;
        let statement = self.account.state_window((span.from_us, span.until_us), &reading.ledger);
        let chunks = [cpu, syscalls, sockets, blocks, host].into_iter().flatten().collect();
        let sealed = self.seal(chunks, statement, Some(until_us))?;
        self.identities.end_window();
        self.from_us = span.until_us;
        Ok(sealed)
    }

    /// A window whose counters could not be read; its span is a row without counts.
    ///
    /// # Errors
    /// As [`Aggregator::on_event`].
    pub fn seal_unread(&mut self, until_ns: u64, detail: String) -> Result<Sealed, ChunkError> {
        let until_us = self.clock.wall_us_at(until_ns);
        let span = self.span(self.from_us, until_us);
        // Its rates end here too: the next window's are over that window only.
        let host = self.host_chunk(span, Vec::new())?;
        self.notes.push(LossRow::uncounted((span.from_us, span.until_us), ledger::READ_FAILED, detail));
        let statement = self.account.state_events((span.from_us, span.until_us));
        let sealed = self.seal(host.into_iter().collect(), statement, Some(until_us))?;
        self.identities.end_window();
        self.from_us = span.until_us;
        Ok(sealed)
    }

    /// The very last batch: what was counted as handed out and never came. `None` when all is well.
    ///
    /// # Errors
    /// As [`Aggregator::on_event`].
    pub fn seal_end(&mut self) -> Result<Option<Sealed>, ChunkError> {
        let missing = self.account.state_missing((self.from_us, self.clock.wall_us()));
        self.notes.extend(missing);
        self.seal_events()
    }

    fn span(&mut self, from_us: i64, until_us: i64) -> Span {
        let first = std::mem::replace(&mut self.first, false);
        if first { self.windows.first_span(from_us, until_us) } else { self.windows.span(from_us, until_us) }
    }

    fn seal(
        &mut self,
        mut chunks: Vec<v1::Chunk>,
        statement: Statement,
        watched_until_us: Option<i64>,
    ) -> Result<Sealed, ChunkError> {
        let processes = std::mem::replace(&mut self.processes, Builder::new(&tables::PROCESSES));
        let connections = std::mem::replace(&mut self.connections, Builder::new(&tables::CONNECTIONS));
        let security = std::mem::replace(&mut self.security, Builder::new(&tables::SECURITY));
        let mut loss = std::mem::take(&mut self.notes);
        loss.extend(statement.rows);
        let events = [processes.finish(), connections.finish(), security.finish()];
        chunks.extend(events.into_iter().flatten());
        chunks.extend(ledger::chunk(&loss)?);
        let batch = v1::Batch { sealed_us: self.clock.wall_us(), chunks, deliveries: statement.deliveries };
        let told_until_us = self.told_until_us.take();
        Ok(Sealed { batch, watched_until_us: watched_until_us.or(told_until_us) })
    }

    fn cpu_chunk(&mut self, span: Span, reading: &Reading) -> Result<Option<v1::Chunk>, ChunkError> {
        // A row holds run-queue delays too, which have a line of their own where they are counted.
        let delays = reading.ledger.iter().any(|probe| probe.probe == "run_queue");
        let delays = if delays { coverage(&reading.ledger, "run_queue") } else { 1.0 };
        let coverage = coverage(&reading.ledger, "cpu").min(delays);
        let mut builder = Builder::new(&tables::CPU);
        for seen in &reading.cpu {
            let CpuReading { process, comm, cgroup_id, .. } = seen;
            let known = self.identities.resolve_current(*process, comm, *cgroup_id, reading.from_ns);
            rows::cpu(&mut builder, span, &who(known, *process, comm, None), seen, coverage)?;
        }
        Ok(builder.finish())
    }

    fn syscalls_chunk(&mut self, span: Span, reading: &Reading) -> Result<Option<v1::Chunk>, ChunkError> {
        let coverage = coverage(&reading.ledger, "syscall");
        let mut builder = Builder::new(&tables::SYSCALLS);
        for seen in &reading.syscalls {
            let SyscallReading { process, comm, .. } = seen;
            let known = self.identities.resolve(*process, Some(comm));
            rows::syscall(&mut builder, span, &who(known, *process, comm, None), seen, coverage)?;
        }
        Ok(builder.finish())
    }

    fn sockets_chunk(&mut self, span: Span, reading: &Reading) -> Result<Option<v1::Chunk>, ChunkError> {
        let watched = |probe: &str| {
            let is_there = reading.ledger.iter().any(|row| row.probe == probe);
            is_there.then(|| coverage(&reading.ledger, probe))
        };
        let mishaps = watched("retransmit").zip(watched("reset")).map(|(one, other)| one.min(other));
        let coverage = SocketCoverage { traffic: watched("socket"), mishaps };
        let mut builder = Builder::new(&tables::SOCKETS);
        for seen in &reading.sockets {
            let SocketReading { process, comm, .. } = seen;
            let who = if process.pid == 0 {
                Who::nobody()
            } else {
                who(self.identities.resolve(*process, Some(comm)), *process, comm, None)
            };
            rows::socket(&mut builder, span, &who, seen, coverage)?;
        }
        Ok(builder.finish())
    }

    fn block_chunk(&mut self, span: Span, reading: &Reading) -> Result<Option<v1::Chunk>, ChunkError> {
        let coverage = coverage(&reading.ledger, "block");
        let mut builder = Builder::new(&tables::BLOCK_IO);
        for seen in &reading.blocks {
            let known = self.identities.resolve(seen.process, None);
            let who = who(known, seen.process, &[0; 16], None);
            block::row(&mut builder, span, &who, self.devices.name(seen.major, seen.minor), seen, coverage)?;
        }
        Ok(builder.finish())
    }

    fn host_chunk(&mut self, span: Span, files: Vec<Gauge>) -> Result<Option<v1::Chunk>, ChunkError> {
        self.own.identities = self.identities.len() as u64;
        self.own.identities_evicted = self.identities.evicted();
        (self.own.cgroups, self.own.cgroups_refused) = self.identities.cgroups();
        let mut builder = Builder::new(&tables::HOST);
        let spending = std::mem::take(&mut self.spending);
        for gauge in self.gauges.read(span.length_s, self.own).into_iter().chain(files).chain(spending) {
            builder
                .int("time", span.from_us)
                .float("window_s", span.length_s)
                .text("metric", gauge.metric)
                .text("label", &gauge.label)
                .float("value", gauge.value)
                .end_row()?;
        }
        Ok(builder.finish())
    }

    /// Rows for what ran before the agent: all of it once, and a process again when its exact start becomes known, so
    /// that its other rows can be joined to it.
    fn introduce(&mut self, time_us: i64) -> Result<(), ChunkError> {
        let settled = self.identities.take_settled();
        let keys: Vec<ProcessKey> = if self.introduced {
            settled
        } else {
            self.introduced = true;
            let from_us = self.from_us;
            let before = |start_ns: u64| self.clock.wall_us_at(start_ns) <= from_us;
            self.identities.running().map(|process| process.key).filter(|key| before(key.start_ns)).collect()
        };
        for key in keys {
            let Some(process) = self.identities.get(key) else { continue };
            let parent = process.parent;
            let family = self.family(parent);
            let Some(process) = self.identities.get(key) else { continue };
            rows::running(&mut self.processes, time_us, &Who::known(process, key), &family, parent)?;
        }
        Ok(())
    }
}

fn who<'a>(
    process: Option<&'a super::identity::Process>,
    key: ProcessKey,
    comm: &[u8; 16],
    uid: Option<u32>,
) -> Who<'a> {
    match process {
        Some(process) => Who::known(process, key),
        None => Who::unknown(key, comm, uid),
    }
}

#[cfg(test)]
#[path = "tests/aggregator.rs"]
mod tests;
