//! The probes in the kernel.

use std::{
    fmt,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use skep_common::{
    aggregate::{CpuKey, CpuValue, DelayKey, Running, SyscallKey, SyscallValue, Tail, control},
    ledger::{Counters, column, probe},
    offset::need,
};

use super::{
    account::{Tally, account, is_event, submitted},
    attach::{self, Loaded},
    btf::KernelBtf,
    cost::Programs,
    error::ProbeError,
    kernel::Kernel,
    log::ProbeLog,
    merge::Merge,
    options::ProbeOptions,
    reading::{Event, ProbeLedger, Reading},
    report::ProbeReport,
    ring,
    slices::{self, Span},
    sys,
    table::{Drain, Slots},
};

/// How long a flip waits for records that are being written. They take microseconds.
const RING_PATIENCE: Duration = Duration::from_millis(200);

/// Which probes of the ledger belong to which group.
const LEDGER_GROUPS: [u32; probe::LEN] =
    [need::CPU, need::CPU, need::SYSCALL, need::TCP, need::PROCESS, need::PROCESS, need::PROCESS];

/// The probes, attached. Dropping this detaches them.
pub struct Probes {
    programs: Programs,
    ring: RingBuf<MapData>,
    log: ProbeLog,
    sides: [Side; 2],
    control: Slots<u64>,
    ledger: Slots<Counters>,
    running: Slots<Running>,
    tails: Slots<Tail>,
    cpus: u32,
    able: u32,
    epoch: u64,
    /// When the epoch began.
    from_ns: u64,
    /// Records handed out, by parity of their epoch.
    delivered: [[u64; probe::LEN]; 2],
}

/// The counting maps of one parity.
#[derive(Debug)]
struct Side {
    syscalls: Drain<SyscallKey, SyscallValue>,
    cpu: Drain<CpuKey, CpuValue>,
    delays: Drain<DelayKey, u64>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("epoch", &self.epoch).field("cpus", &self.cpus).finish_non_exhaustive()
    }
}

impl Probes {
    /// Loads and attaches every probe this kernel allows; the report says which, and why the others are not there.
    ///
    /// # Errors
    /// [`ProbeError`]; nothing stays loaded. Cost: some tenths of a second.
    pub fn load(options: &ProbeOptions) -> Result<(Self, ProbeReport), ProbeError> {
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
        drop(described);
        let loaded = attach::load(options, kernel, &mut report)?;
        Self::attach(loaded, options, &mut report).map(|probes| (probes, report))
    }

    fn attach(mut loaded: Loaded, options: &ProbeOptions, report: &mut ProbeReport) -> Result<Self, ProbeError> {
        let ebpf = &mut loaded.ebpf;
        let cpus = aya::util::nr_cpus().map_or(1, |cpus| cpus);
        let ring = ebpf.take_map("EVENTS").ok_or(ProbeError::NoMap { name: "EVENTS" })?;
        let ring = RingBuf::try_from(ring).map_err(|_| ProbeError::NoMap { name: "EVENTS" })?;
        let log = ProbeLog::take(ebpf, options);
        let control = Slots::take(ebpf, "CONTROL")?;
        let sides = [
            Side::take(ebpf, "SYSCALLS_EVEN", "CPU_EVEN", "DELAYS_EVEN")?,
            Side::take(ebpf, "SYSCALLS_ODD", "CPU_ODD", "DELAYS_ODD")?,
        ];
        let (ledger, running, tails) =
            (Slots::take_per_cpu(ebpf, "LEDGER", cpus)?, Slots::take(ebpf, "RUNNING")?, Slots::take(ebpf, "TAILS")?);
        let from_ns = sys::boot_ns();
        let epoch = 1;
        announce(&control, epoch, from_ns)?;
        attach::attach(&mut loaded, report)?;
        Ok(Self {
            able: loaded.kernel.able,
            programs: Programs::new(loaded),
            ring,
            log,
            sides,
            control,
            ledger,
            running,
            tails,
            cpus: cpus as u32,
            epoch,
            from_ns,
            delivered: [[0; probe::LEN]; 2],
        })
    }

    /// Hands out the events that have happened, in order. Nothing says when there are any: call this on a timer, often
    /// enough that the ring does not fill up.
    ///
    /// Cost: no system calls.
    pub fn drain_events(&mut self, events: &mut dyn FnMut(Event)) {
        self.log.flush();
        while let Some(record) = self.ring.next() {
            // A record nobody can read is missing in the ledger's sum, which says so.
            if let Some(decoded) = ring::decode(&record) {
                self.delivered[(decoded.epoch & 1) as usize][decoded.probe] += 1;
                events(decoded.event);
            }
        }
    }

    /// Closes the epoch: hands out the events that are left of it (and the first of the next), and returns what was
    /// counted in it.
    ///
    /// # Errors
    /// [`ProbeError::GracePeriod`], [`ProbeError::Map`]; the epoch's counts may then be incomplete.
    /// Cost: blocks for an RCU grace period, some tens of milliseconds; a system call for every few thousand entries.
    pub fn flip(&mut self, events: &mut dyn FnMut(Event)) -> Result<Reading, ProbeError> {
        let until_ns = sys::boot_ns();
        let span = Span { next_epoch: self.epoch + 1, from_ns: self.from_ns, until_ns };
        announce(&self.control, span.next_epoch, until_ns)?;
        self.epoch = span.next_epoch;
        self.from_ns = until_ns;
        sys::grace_period().map_err(|source| ProbeError::GracePeriod { source })?;

        let quiet = (self.epoch & 1 ^ 1) as usize;
        let counted = self.take_counters(quiet)?;
        self.drain_epoch(quiet, &counted, events);
        let merge = self.merge(quiet, span)?;
        let ledger = self.close_ledger(quiet, &counted, &merge);
        let (cpu, syscalls) = merge.into_rows();
        Ok(Reading { from_ns: span.from_ns, until_ns, cpu, syscalls, ledger })
    }

    /// The programs in the kernel and what they cost, while run-time statistics are on (see
    /// [`RunStatistics`](super::RunStatistics)); zeroes otherwise.
    pub fn own_cost(&self) -> Vec<super::ProgramCost> {
        self.programs.cost()
    }

    /// Memory the kernel holds for the maps, in bytes, by its own account.
    pub fn map_bytes(&self) -> u64 {
        let side = |side: &Side| side.syscalls.bytes() + side.cpu.bytes() + side.delays.bytes();
        self.sides.iter().map(side).sum::<u64>()
            + self.control.bytes()
            + self.ledger.bytes()
            + self.running.bytes()
            + self.tails.bytes()
            + sys::map_bytes(self.ring.as_fd())
            + self.programs.map_bytes()
    }

    /// Sums the counters of the quiet side over the CPUs and sets them to zero.
    fn take_counters(&self, quiet: usize) -> Result<Counters, ProbeError> {
        let mut sum = Counters { counts: [[0; column::LEN]; probe::ROWS] };
        for one in self.ledger.read(quiet as u32)? {
            let pairs = sum.counts.iter_mut().flatten().zip(one.counts.iter().flatten());
            pairs.for_each(|(sum, one)| *sum += one);
        }
        let accepted = std::mem::replace(&mut sum.counts[probe::TCP_ACCEPTED], [0; column::LEN]);
        sum.counts[probe::TCP].iter_mut().zip(accepted).for_each(|(sum, one)| *sum += one);
        self.ledger.write(quiet as u32, &Counters { counts: [[0; column::LEN]; probe::ROWS] })?;
        Ok(sum)
    }

    /// Drains the ring until every record of the closed epoch is out. A record of the new one may stand before them,
    /// still being written.
    fn drain_epoch(&mut self, quiet: usize, counted: &Counters, events: &mut dyn FnMut(Event)) {
        let of_events = |index: &usize| is_event(*index);
        let submitted: u64 = (0..probe::LEN).filter(of_events).map(|index| submitted(&counted.counts[index])).sum();
        let deadline = Instant::now() + RING_PATIENCE;
        loop {
            self.drain_events(events);
            let delivered: u64 = self.delivered[quiet].iter().sum();
            if delivered >= submitted || Instant::now() > deadline {
                return;
            }
            std::thread::yield_now();
        }
    }

    fn merge(&self, quiet: usize, span: Span) -> Result<Merge, ProbeError> {
        let mut merge = Merge::new().map_err(|_| ProbeError::Map {
            name: "histogram",
            operation: "creating",
            source: std::io::ErrorKind::InvalidInput.into(),
        })?;
        let side = &self.sides[quiet];
        side.cpu.drain(|key, value| merge.add_cpu(&key, &value))?;
        side.delays.drain(|key, count| merge.add_delay(&key, count))?;
        side.syscalls.drain(|key, value| merge.add_syscall(&key, &value))?;
        if self.able & need::CPU != 0 {
            for cpu in 0..self.cpus {
                if let Some(head) = self.read_head(cpu, span)? {
                    merge.add_head(&head, task_name);
                }
            }
        }
        Ok(merge)
    }

    /// Reads one CPU's slice, which the kernel may be writing: again until two readings agree.
    fn read_head(&self, cpu: u32, span: Span) -> Result<Option<slices::Head>, ProbeError> {
        loop {
            let before = self.running.read(cpu)?;
            let tail = self.tails.read(cpu)?;
            let after = self.running.read(cpu)?;
            let ([running], [tail]) = (after.as_slice(), tail.as_slice()) else { return Ok(None) };
            if before == after && running.sequence & 1 == 0 {
                return Ok(slices::head(running, tail, span));
            }
        }
    }

    fn close_ledger(&mut self, quiet: usize, counted: &Counters, merge: &Merge) -> Vec<ProbeLedger> {
        let handed_out = std::mem::replace(&mut self.delivered[quiet], [0; probe::LEN]);
        let missed = self.programs.take_misses();
        let able = |index: &usize| self.able & LEDGER_GROUPS[*index] != 0;
        let tally = |index: usize| Tally {
            probe: index,
            counted: counted.counts[index],
            added: if index == probe::CPU { merge.heads } else { 0 },
            missed: missed[index],
            delivered: match index {
                probe::CPU => merge.slices,
                probe::RUN_QUEUE => merge.delays,
                probe::SYSCALL => merge.calls,
                _ => handed_out[index],
            },
        };
        (0..probe::LEN).filter(able).map(|index| account(&tally(index))).collect()
    }
}

impl Side {
    fn take(
        ebpf: &mut aya::Ebpf,
        syscalls: &'static str,
        cpu: &'static str,
        delays: &'static str,
    ) -> Result<Self, ProbeError> {
        Ok(Self {
            syscalls: Drain::take(ebpf, syscalls)?,
            cpu: Drain::take(ebpf, cpu)?,
            delays: Drain::take(ebpf, delays)?,
        })
    }
}

/// Tells the programs that an epoch begins.
fn announce(control: &Slots<u64>, epoch: u64, now_ns: u64) -> Result<(), ProbeError> {
    control.write(control::FLIPPED_EVEN + (epoch & 1) as u32, &now_ns)?;
    control.write(control::EPOCH, &epoch)
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
