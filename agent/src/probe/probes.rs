//! The probes in the kernel.

use std::{
    fmt,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use skep_common::{
    aggregate::{Amount, BlockKey, CellKey, Count, MishapKey, Mishaps, Traffic, TrafficKey, Usage, UsageKey, Wait},
    ledger::{Counters, column, price, probe},
    offset::need,
    state::Price,
};

use super::{
    account::{Tally, account, is_event},
    attach,
    btf::KernelBtf,
    cost,
    cpus::{Cpus, Quiet},
    error::ProbeError,
    handed::Handed,
    kernel::Kernel,
    log::ProbeLog,
    merge::Merge,
    options::ProbeOptions,
    pin::Pins,
    programs::Standing,
    reading::{Event, Mark, ProbeLedger, ProcessKey, Reading},
    report::ProbeReport,
    ring,
    ring_buffer::RingBuffer,
    slices::{self, Span},
    sys,
    table::Table,
};

/// How long a flip waits for records that are being written. They take microseconds.
const RING_PATIENCE: Duration = Duration::from_millis(200);

/// Which probes of the ledger belong to which group.
const LEDGER_GROUPS: [u32; probe::LEN] = [
    need::CPU,
    need::CPU,
    need::CPU,
    need::SYSCALL,
    need::TCP,
    need::PROCESS,
    need::PROCESS,
    need::PROCESS,
    need::CGROUP,
    need::SOCKET,
    need::TCP,
    need::TCP,
    need::SECURITY,
    need::BLOCK,
];

/// The probes, attached. Dropping this detaches them unless they are pinned.
pub struct Probes {
    pub(super) standing: Standing,
    pub(super) cpus: Cpus,
    pub(super) ring: RingBuffer,
    pub(super) sides: [Side; 2],
    log: ProbeLog,
    /// Bits of [`need`]: the groups that are attached.
    pub(super) able: u32,
    pub(super) epoch: u64,
    /// When the epoch began.
    pub(super) from_ns: u64,
    handed: Handed,
    /// The epoch handed out last, until it is said to be safe: its side cannot be written again before.
    unsafe_epoch: Option<u64>,
    /// The epoch that was closed before this process and is still to be handed out.
    pub(super) unread_epoch: Option<u64>,
    /// The last epoch that began before this process; 0 for none.
    pub(super) adopted_epoch: u64,
    /// Nothing is missing between what an earlier process stored and what this one hands out.
    pub(super) seamless: bool,
    /// Where they are pinned. Without pins nobody could read anything again, so what is handed out is taken for safe.
    pub(super) pins: Option<Pins>,
    /// Bits of [`need`]: the groups that are switched off now, and those that were all through the epoch.
    pub(super) off: u32,
    silent: u32,
    /// The prices at the last [`Probes::take_costs`].
    paid: [Price; price::LEN],
}

/// The maps behind the caches, of one parity.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) calls: Table<CellKey, Count>,
    pub(super) waits: Table<CellKey, Wait>,
    pub(super) usage: Table<UsageKey, Usage>,
    pub(super) traffic: Table<TrafficKey, Traffic>,
    pub(super) mishaps: Table<MishapKey, Mishaps>,
    pub(super) blocks: Table<BlockKey, Amount>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("epoch", &self.epoch).field("able", &self.able).finish_non_exhaustive()
    }
}

impl Probes {
    /// Loads and attaches every probe this kernel allows; the report says which, and why the others are not there.
    ///
    /// # Errors
    /// [`ProbeError`]; nothing stays loaded. Cost: some tenths of a second.
    pub fn load(options: &ProbeOptions) -> Result<(Self, ProbeReport), ProbeError> {
        let (kernel, mut report) = examine(options)?;
        let probes = Self::fresh(options, kernel, None, &mut report)?;
        Ok((probes, report))
    }

    /// Loads and attaches everything; pins it where `pins` say.
    pub(super) fn fresh(
        options: &ProbeOptions,
        kernel: Kernel,
        pins: Option<Pins>,
        report: &mut ProbeReport,
    ) -> Result<Self, ProbeError> {
        let loaded = attach::load(options, kernel, report)?;
        let able = loaded.kernel.able;
        let (mut unattached, log) = loaded.unpack(options);
        // Before anything runs there must be an epoch. The mapping is dropped again: the probes make their own.
        let cpus = Cpus::new(unattached.standing.take("CPUS")?, attach::cpus())?;
        cpus.name(incarnation());
        cpus.own(std::process::id());
        cpus.announce(1, sys::boot_ns());
        unattached.standing.maps.push(("CPUS".to_owned(), cpus.into_map()));
        let standing = unattached.attach(report)?;
        attach::report_groups(able, report);
        let mut probes = Self::over(options, standing, (able, log))?;
        if let Some(pins) = pins {
            probes.keep(pins, report);
        }
        Ok(probes)
    }

    /// Probes over what stands in the kernel, not pinned.
    pub(super) fn over(
        options: &ProbeOptions,
        mut standing: Standing,
        (able, log): (u32, ProbeLog),
    ) -> Result<Self, ProbeError> {
        let cpus = Cpus::new(standing.take("CPUS")?, attach::cpus())?;
        let ring = RingBuffer::new(standing.take("EVENTS")?, options.ring_bytes)?;
        let sides = [Side::take(&mut standing, EVEN)?, Side::take(&mut standing, ODD)?];
        cpus.own(std::process::id());
        let (epoch, from_ns) = cpus.epoch();
        Ok(Self {
            standing,
            paid: cpus.prices(),
            cpus,
            ring,
            sides,
            log,
            able,
            epoch,
            from_ns,
            handed: Handed::default(),
            unsafe_epoch: None,
            unread_epoch: None,
            adopted_epoch: 0,
            seamless: false,
            pins: None,
            off: 0,
            silent: 0,
        })
    }

    /// How far the probes were read: everything handed out so far. To be stored with it. `None` without pins, where
    /// nobody would read it again.
    pub fn mark(&self) -> Option<Mark> {
        let epoch = self.unread_epoch.unwrap_or(self.epoch) - 1;
        let mark = Mark { incarnation: self.cpus.incarnation(), epoch, position: self.ring.position() };
        self.pins.is_some().then_some(mark)
    }

    /// What was handed out before `mark` is safe: the kernel may have the room.
    ///
    /// # Errors
    /// [`ProbeError::Map`]; it is tried again with the next mark.
    pub fn commit(&mut self, mark: Mark) -> Result<(), ProbeError> {
        if mark.incarnation != self.cpus.incarnation() {
            return Ok(());
        }
        self.ring.release(mark.position);
        match self.unsafe_epoch {
            Some(epoch) if epoch <= mark.epoch => self.clear(epoch),
            _ => Ok(()),
        }
    }

    /// Whether [`Probes::flip`] may be called: what the flip before handed out is safe.
    pub fn can_flip(&self) -> bool {
        self.unsafe_epoch.is_none()
    }

    /// Hands out the events that have happened, in order, each with the place in the ring behind it (see [`Mark`]).
    /// Nothing says when there are any: call this on a timer, often enough that the ring does not fill up.
    ///
    /// Cost: no system calls.
    pub fn drain_events(&mut self, events: &mut dyn FnMut(Event, u64)) {
        self.log.flush();
        while let Some((record, behind)) = self.ring.next() {
            // A record nobody can read is missing in the ledger's sum, which says so.
            if let Some(decoded) = ring::decode(record) {
                self.handed.count(decoded.epoch, decoded.probe, decoded.cpu);
                events(decoded.event, behind);
            }
        }
        if self.pins.is_none() {
            self.ring.release(self.ring.position());
        }
    }

    /// What an earlier process closed and did not store; to be asked once, before the first flip.
    ///
    /// # Errors
    /// As [`Probes::flip`].
    pub fn catch_up(&mut self, events: &mut dyn FnMut(Event, u64)) -> Result<Option<Reading>, ProbeError> {
        let Some(closed) = self.unread_epoch.take() else { return Ok(None) };
        // The earlier process may have died between the time of an epoch and its number.
        let from_ns = self.cpus.began_ns(closed).min(self.from_ns);
        let span = Span { next_epoch: self.epoch, from_ns, until_ns: self.from_ns };
        self.read(closed, span, events).map(Some)
    }

    /// Closes the epoch: hands out the events that are left of it (and the first of the next), and returns what was
    /// counted in it.
    ///
    /// # Errors
    /// [`ProbeError::GracePeriod`], [`ProbeError::Map`]; the epoch's counts may then be incomplete.
    /// [`ProbeError::NotSafe`] when [`Probes::can_flip`] says no.
    /// Cost: blocks for an RCU grace period, some tens of milliseconds; a system call for every thousand entries that
    /// the CPUs' caches had no room for, else none.
    pub fn flip(&mut self, events: &mut dyn FnMut(Event, u64)) -> Result<Reading, ProbeError> {
        if !self.can_flip() || self.unread_epoch.is_some() {
            return Err(ProbeError::NotSafe);
        }
        let until_ns = sys::boot_ns();
        let closed = self.epoch;
        let span = Span { next_epoch: closed + 1, from_ns: self.from_ns, until_ns };
        self.cpus.announce(span.next_epoch, until_ns);
        self.epoch = span.next_epoch;
        self.from_ns = until_ns;
        sys::grace_period().map_err(|source| ProbeError::GracePeriod { source })?;
        self.read(closed, span, events)
    }

    /// The programs in the kernel and what they cost by its own measure, while run-time statistics are on (see
    /// [`RunStatistics`](super::RunStatistics)); zeroes otherwise.
    pub fn own_cost(&self) -> Vec<super::ProgramCost> {
        cost::by_program(&self.standing)
    }

    /// What the programs cost since they were loaded, by their own measure.
    pub fn domain_costs(&self) -> Vec<super::DomainCost> {
        cost::by_domain(&self.cpus)
    }

    /// What the programs cost since the last call, or since the start, by their own measure.
    pub fn take_costs(&mut self) -> Vec<super::DomainCost> {
        let now = self.cpus.prices();
        let costs = cost::between(&self.paid, &now);
        self.paid = now;
        costs
    }

    /// Measures one system call in `1 << shift` from now on; at most one in 32,768.
    pub fn sample_syscalls(&mut self, shift: u32) {
        self.cpus.sample_syscalls(shift.min(15));
    }

    /// Switches the programs of some domains off, and those of all others on. What was counted in this epoch stays.
    ///
    /// # Errors
    /// [`ProbeError::Switch`]: some may be switched, others not.
    pub fn switch_off(&mut self, domains: &[&'static str]) -> Result<(), ProbeError> {
        let off = domains.iter().map(|domain| domain_groups(domain)).fold(0, |off, groups| off | groups);
        let back = self.off & !off & self.able;
        let now_ns = sys::boot_ns();
        if back & need::CPU != 0 {
            self.cpus.resume_switches(now_ns);
        }
        if back & need::SYSCALL != 0 {
            self.cpus.resume_calls(now_ns);
        }
        if self.standing.switch(self.able, off).map_err(|source| ProbeError::Switch { source })? {
            self.keep_switched().map_err(|source| ProbeError::Switch { source })?;
        }
        self.off = off;
        self.silent &= off;
        Ok(())
    }

    /// Memory the kernel holds for the maps, in bytes, by its own account.
    pub fn map_bytes(&self) -> u64 {
        self.sides.iter().map(Side::bytes).sum::<u64>()
            + self.cpus.bytes()
            + self.ring.map_bytes()
            + self.standing.map_bytes()
    }

    /// Reads an epoch that is closed and quiet.
    fn read(&mut self, closed: u64, span: Span, events: &mut dyn FnMut(Event, u64)) -> Result<Reading, ProbeError> {
        self.drain_all(events);
        let (mut merge, counters) = self.merge((closed & 1) as usize, span)?;
        let ledger = self.close_ledger(closed, &counters, &merge);
        self.cpus.note(closed, &self.standing.misses());
        self.unsafe_epoch = Some(closed);
        if self.pins.is_none() {
            self.clear(closed)?;
        }
        let blocks = std::mem::take(&mut merge.requests).into_rows();
        let (cpu, syscalls, sockets) = merge.into_rows();
        Ok(Reading { from_ns: span.from_ns, until_ns: span.until_ns, cpu, syscalls, sockets, blocks, ledger })
    }

    /// Empties the side of a closed epoch.
    pub(super) fn clear(&mut self, closed: u64) -> Result<(), ProbeError> {
        let quiet = (closed & 1) as usize;
        self.cpus.begin_to_empty(closed);
        self.sides[quiet].clear()?;
        self.cpus.clear(quiet);
        self.unsafe_epoch = None;
        Ok(())
    }

    /// Drains the ring until every record that was begun by now is out. One of the new epoch may stand before them, still
    /// being written.
    fn drain_all(&mut self, events: &mut dyn FnMut(Event, u64)) {
        let target = self.ring.produced();
        let deadline = Instant::now() + RING_PATIENCE;
        loop {
            self.drain_events(events);
            if self.ring.position() >= target || Instant::now() > deadline {
                return;
            }
            std::thread::yield_now();
        }
    }

    fn merge(&mut self, quiet: usize, span: Span) -> Result<(Merge, Vec<Counters>), ProbeError> {
        let mut merge = Merge::default();
        let counters = self.cpus.quiet(quiet).map(|side| add_caches(&mut merge, side)).collect();
        let side = &self.sides[quiet];
        side.usage.read(|key, usage| {
            merge.add_usage(key.cpu, ProcessKey { pid: key.tgid, start_ns: key.start_ns }, &usage);
        })?;
        side.waits.read(|key, wait| merge.add_wait(key.cpu, key.word, key.start_ns, &wait))?;
        side.traffic.read(|key, seen| {
            let process = ProcessKey { pid: key.tgid, start_ns: key.start_ns };
            merge.add_traffic(u32::from(key.cpu), process, key.protocol, &seen);
        })?;
        side.mishaps.read(|key, seen| {
            merge.add_mishaps(key.cpu, ProcessKey { pid: key.tgid, start_ns: key.start_ns }, key.kind, &seen);
        })?;
        side.calls.read(|key, count| merge.add_call(key.cpu, key.word, key.start_ns, &count))?;
        side.blocks.read(|key, seen| merge.requests.add(&key, &seen))?;
        if self.able & need::CPU & !self.off != 0 {
            for cpu in 0..self.cpus.count() {
                let (running, tail) = self.cpus.running(cpu);
                if let Some(head) = slices::head(&running, &tail, span) {
                    merge.add_head(cpu, &head, task_name);
                }
            }
        }
        Ok((merge, counters))
    }

    /// The ledger of a closed epoch: every attached probe by CPU.
    fn close_ledger(&mut self, closed: u64, counters: &[Counters], merge: &Merge) -> Vec<ProbeLedger> {
        let missed = self.standing.take_misses();
        let mut ledger = Vec::new();
        for index in (0..probe::LEN).filter(|index| self.able & !self.silent & LEDGER_GROUPS[*index] != 0) {
            let begin = ledger.len();
            for (cpu, counters) in (0..).zip(counters) {
                ledger.push(account(&self.tally(closed, (index, cpu), counters, merge)));
            }
            ledger.push(account(&Tally { missed: missed[index], ..Tally::nowhere(index) }));
            let mut seen = ledger.split_off(begin);
            seen.retain(|row: &ProbeLedger| row.attempted > 0);
            if seen.is_empty() {
                seen.push(account(&Tally::nowhere(index)));
            }
            ledger.append(&mut seen);
        }
        self.handed.forget(closed);
        self.silent = self.off;
        ledger
    }

    fn tally(&self, closed: u64, (index, cpu): (usize, u32), counters: &Counters, merge: &Merge) -> Tally {
        let mut counted = counters.counts[index];
        for (row, _) in probe::SHARES.iter().filter(|(_, probe)| *probe == index) {
            counted.iter_mut().zip(&counters.counts[*row]).for_each(|(sum, one)| *sum += one);
        }
        let delivered = if is_event(index) { self.handed.of(closed, index, cpu) } else { merge.delivered(index, cpu) };
        if is_event(index) && closed <= self.adopted_epoch {
            // An earlier agent has told of those it stored.
            counted[column::ATTEMPTED] = delivered + counted[column::ATTEMPTED + 1..].iter().sum::<u64>();
        }
        let added = if index == probe::CPU { merge.heads(cpu) } else { 0 };
        Tally { probe: index, cpu: Some(cpu), counted, added, missed: 0, delivered }
    }
}

/// Adds what a CPU keeps; returns its counters.
fn add_caches(merge: &mut Merge, side: Quiet<'_>) -> Counters {
    for line in side.usage() {
        merge.add_usage(side.cpu, ProcessKey { pid: line.tgid, start_ns: line.start_ns }, &line.usage);
    }
    for line in side.waits() {
        merge.add_wait(side.cpu, line.word, line.start_ns, &line.wait);
    }
    for line in side.traffic() {
        let process = ProcessKey { pid: line.tgid, start_ns: line.start_ns };
        merge.add_traffic(side.cpu, process, line.protocol, &line.traffic);
    }
    for line in side.calls() {
        merge.add_call(side.cpu, line.word, line.start_ns, &line.count);
    }
    side.counters()
}

/// The maps of each side.
const EVEN: [&str; 6] = ["CALLS_EVEN", "WAITS_EVEN", "USAGE_EVEN", "TRAFFIC_EVEN", "MISHAPS_EVEN", "BLOCK_EVEN"];
const ODD: [&str; 6] = ["CALLS_ODD", "WAITS_ODD", "USAGE_ODD", "TRAFFIC_ODD", "MISHAPS_ODD", "BLOCK_ODD"];

impl Side {
    fn take(standing: &mut Standing, names: [&'static str; 6]) -> Result<Self, ProbeError> {
        let [calls, waits, usage, traffic, mishaps, blocks] = names;
        Ok(Self {
            calls: Table::new(calls, standing.take(calls)?),
            waits: Table::new(waits, standing.take(waits)?),
            usage: Table::new(usage, standing.take(usage)?),
            traffic: Table::new(traffic, standing.take(traffic)?),
            mishaps: Table::new(mishaps, standing.take(mishaps)?),
            blocks: Table::new(blocks, standing.take(blocks)?),
        })
    }

    /// Every map of it, by name.
    pub(super) fn maps(&self) -> [(&str, BorrowedFd<'_>); 6] {
        let (calls, waits, usage) = (self.calls.map(), self.waits.map(), self.usage.map());
        [calls, waits, usage, self.traffic.map(), self.mishaps.map(), self.blocks.map()]
    }

    fn bytes(&self) -> u64 {
        let traffic = self.traffic.bytes() + self.mishaps.bytes();
        self.calls.bytes() + self.waits.bytes() + self.usage.bytes() + traffic + self.blocks.bytes()
    }

    fn clear(&self) -> Result<(), ProbeError> {
        self.calls.clear()?;
        self.waits.clear()?;
        self.usage.clear()?;
        self.traffic.clear()?;
        self.mishaps.clear()?;
        self.blocks.clear()
    }
}

/// Groups of a domain as the governor names it; `process` is never switched off.
fn domain_groups(domain: &str) -> u32 {
    match domain {
        "cpu" => need::CPU,
        // What deserves a look stands on the same programs: left alone it would cost as much.
        "syscall" => need::SYSCALL | need::SECURITY,
        "tcp" => need::TCP,
        "socket" => need::SOCKET,
        _ => 0,
    }
}

/// Looks at this kernel.
pub(super) fn examine(options: &ProbeOptions) -> Result<(Kernel, ProbeReport), ProbeError> {
    let names = sys::missing_capabilities();
    if !names.is_empty() {
        return Err(ProbeError::Capabilities { names });
    }
    let described = std::fs::read(sys::BTF_PATH)
        .map_err(|source| ProbeError::NoBtf { path: sys::BTF_PATH, source })
        .and_then(KernelBtf::parse)?;
    sys::grace_period().map_err(|source| ProbeError::GracePeriod { source })?;
    let mut report = ProbeReport::default();
    let kernel = Kernel::probe(&described, options, &mut report);
    Ok((kernel, report))
}

/// A name no other set of maps has.
fn incarnation() -> u64 {
    // Without randomness, early in a boot, the clock is as good.
    getrandom::u64().unwrap_or_else(|_| sys::boot_ns()) | 1
}

/// Task name of a process that runs right now; zeroes when it is gone.
fn task_name(pid: u32) -> [u8; 16] {
    let mut name = [0; 16];
    let text = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let length = text.len().min(15);
    name[..length].copy_from_slice(&text[..length]);
    name
}
