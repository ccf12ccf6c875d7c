//! What each CPU keeps for itself, seen from user space: read and written in place, without system calls.

use std::{
    mem::offset_of,
    os::fd::{AsFd, BorrowedFd},
    ptr,
};

use aya::maps::MapData;
use skep_common::{
    aggregate::{Line, TrafficLine, UsageLine, WaitLine},
    ledger::{Counters, column, price, probe},
    limit,
    plain::Plain,
    state::{CpuState, Orders, Price, Running, Side, Tail},
};

use super::{error::ProbeError, mapping::Mapping, sys};

/// The states of all CPUs.
#[derive(Debug)]
pub(super) struct Cpus {
    map: MapData,
    states: Mapping,
    count: u32,
    /// System calls attempted in epochs that were emptied.
    calls_before: u64,
}

/// The quiet side of one CPU: nobody writes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quiet<'a> {
    pub(super) cpu: u32,
    side: &'a Side,
    calls_attempted: u64,
}

impl Cpus {
    const NAME: &'static str = "CPUS";

    /// Maps the states of `count` CPUs.
    pub(super) fn new(map: MapData, count: u32) -> Result<Self, ProbeError> {
        let length = (count as usize * size_of::<CpuState>()).next_multiple_of(rustix::param::page_size());
        let states = Mapping::new(map.fd().as_fd(), 0, length, true).map_err(|source| ProbeError::Map {
            name: Self::NAME,
            operation: "mapping",
            source,
        })?;
        Ok(Self { map, states, count, calls_before: 0 })
    }

    /// Memory the kernel holds for it.
    pub(super) fn bytes(&self) -> u64 {
        sys::map_bytes(self.map.fd().as_fd())
    }

    /// How many CPUs this host can have.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The epoch the programs work in, and since when.
    pub(super) fn epoch(&self) -> (u64, u64) {
        let orders: Orders = self.read(0, offset_of!(CpuState, orders));
        (orders.epoch, orders.began_ns[(orders.epoch & 1) as usize])
    }

    /// The name of this set of maps; 0 before it has one.
    pub(super) fn incarnation(&self) -> u64 {
        self.read(0, offset_of!(CpuState, incarnation))
    }

    /// Names this set of maps.
    pub(super) fn name(&self, incarnation: u64) {
        self.write(0, offset_of!(CpuState, incarnation), incarnation);
    }

    /// The last epoch whose side was emptied, wholly or in part.
    pub(super) fn emptied(&self) -> u64 {
        self.read(0, offset_of!(CpuState, emptied))
    }

    /// The side of an epoch is about to be emptied: what is left of it is not to be read again.
    pub(super) fn begin_to_empty(&self, epoch: u64) {
        self.write(0, offset_of!(CpuState, emptied), epoch);
    }

    /// When an epoch began: the current one, or the one before.
    pub(super) fn began_ns(&self, epoch: u64) -> u64 {
        let orders: Orders = self.read(0, offset_of!(CpuState, orders));
        orders.began_ns[(epoch & 1) as usize]
    }

    /// Tells every CPU what the first was told, should the one who told them not have come to an end.
    pub(super) fn agree(&self) {
        let (epoch, began_ns) = self.epoch();
        self.announce(epoch, began_ns);
    }

    /// Notes the refused runs, by program, that are accounted in the readings up to `epoch`.
    pub(super) fn note(&self, epoch: u64, accounted: &[u64]) {
        for (index, count) in accounted.iter().take(limit::PROGRAMS).enumerate() {
            self.write(0, Self::accounted_at(epoch) + 8 * index, *count);
        }
    }

    /// What was noted when `epoch` was read, one of the last two that were.
    pub(super) fn noted(&self, epoch: u64) -> [u64; limit::PROGRAMS] {
        let mut accounted = [0; limit::PROGRAMS];
        for (index, count) in accounted.iter_mut().enumerate() {
            *count = self.read(0, Self::accounted_at(epoch) + 8 * index);
        }
        accounted
    }

    fn accounted_at(epoch: u64) -> usize {
        offset_of!(CpuState, accounted) + (epoch & 1) as usize * size_of::<[u64; limit::PROGRAMS]>()
    }

    /// The map itself.
    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    /// Tells the programs who the agent is.
    pub(super) fn own(&self, tgid: u32) {
        for cpu in 0..self.count {
            self.write(cpu, offset_of!(CpuState, owner), u64::from(tgid));
        }
    }

    /// The map alone.
    pub(super) fn into_map(self) -> MapData {
        self.map
    }

    /// Tells the programs that an epoch begins.
    pub(super) fn announce(&self, epoch: u64, now_ns: u64) {
        for cpu in 0..self.count {
            let began = offset_of!(CpuState, orders) + offset_of!(Orders, began_ns) + 8 * (epoch & 1) as usize;
            self.write(cpu, began, now_ns);
            // The programs must not see the number before the time.
            std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
            self.write(cpu, offset_of!(CpuState, orders) + offset_of!(Orders, epoch), epoch);
        }
    }

    /// Tells the programs to measure one system call in `1 << shift`.
    pub(super) fn sample_syscalls(&self, shift: u32) {
        for cpu in 0..self.count {
            let at = offset_of!(CpuState, orders) + offset_of!(Orders, syscall_shift);
            self.write(cpu, at, u64::from(shift));
        }
    }

    /// Switches are watched from now on, after a pause in which no program wrote: what is on the CPUs began now.
    pub(super) fn resume_switches(&self, now_ns: u64) {
        for cpu in 0..self.count {
            let running = offset_of!(CpuState, running);
            self.write(cpu, running + offset_of!(Running, since_ns), now_ns);
            self.write(cpu, running + offset_of!(Running, start_ns), 0);
            // Thread group and thread: nobody's.
            self.write(cpu, running + offset_of!(Running, tgid), 0);
            self.write(cpu, offset_of!(CpuState, orders) + offset_of!(Orders, switches_since_ns), now_ns);
        }
    }

    /// System calls are watched from now on, after a pause.
    pub(super) fn resume_calls(&self, now_ns: u64) {
        for cpu in 0..self.count {
            self.write(cpu, offset_of!(CpuState, orders) + offset_of!(Orders, calls_since_ns), now_ns);
        }
    }

    /// The slice on a CPU, and what the first switch after a flip left: read again until two readings agree, for the
    /// kernel may be writing.
    pub(super) fn running(&self, cpu: u32) -> (Running, Tail) {
        loop {
            let before: Running = self.read(cpu, offset_of!(CpuState, running));
            std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
            let tail: Tail = self.read(cpu, offset_of!(CpuState, tail));
            std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
            let after: Running = self.read(cpu, offset_of!(CpuState, running));
            if before == after && after.sequence & 1 == 0 {
                return (after, tail);
            }
        }
    }

    /// What the programs of each domain cost since they were loaded, all CPUs.
    pub(super) fn prices(&self) -> [Price; price::LEN] {
        let mut sum = [Price { runs: 0, whole: 0, timed: 0, timed_ns: 0 }; price::LEN];
        for cpu in 0..self.count {
            for (domain, sum) in sum.iter_mut().enumerate() {
                let at = offset_of!(CpuState, prices) + domain * size_of::<Price>();
                let one: Price = self.read(cpu, at);
                sum.runs += one.runs;
                sum.whole += one.whole;
                sum.timed += one.timed;
                sum.timed_ns += one.timed_ns;
            }
        }
        sum[price::SYSCALL].runs = self.calls_before + self.calls_attempted(0) + self.calls_attempted(1);
        sum
    }

    /// System calls attempted in the epoch of a parity that was not emptied yet.
    fn calls_attempted(&self, parity: usize) -> u64 {
        (0..self.count).map(|cpu| self.read::<u64>(cpu, Self::calls_attempted_at(parity))).sum()
    }

    fn calls_attempted_at(parity: usize) -> usize {
        offset_of!(CpuState, orders) + offset_of!(Orders, calls_attempted) + parity * size_of::<u64>()
    }

    /// The sides of one parity, CPU by CPU.
    ///
    /// They are quiet: since the flip a grace period has passed, so every program that may have written them has
    /// returned, and none will until the next flip, for which this must be given back.
    pub(super) fn quiet(&mut self, parity: usize) -> impl Iterator<Item = Quiet<'_>> {
        (0..self.count).map(move |cpu| {
            let side = self.states.at::<Side>(Self::side_at(cpu, parity));
            // SAFETY: mapped, aligned, integers of which all values are good, and not written as long as it is quiet.
            let side = unsafe { &*side };
            Quiet { cpu, side, calls_attempted: self.read(cpu, Self::calls_attempted_at(parity)) }
        })
    }

    /// Empties the sides of one parity, which must be quiet.
    pub(super) fn clear(&mut self, parity: usize) {
        self.calls_before += self.calls_attempted(parity);
        for cpu in 0..self.count {
            self.write(cpu, Self::calls_attempted_at(parity), 0);
            let side = self.states.at::<Side>(Self::side_at(cpu, parity));
            // SAFETY: mapped and aligned, integers for which zero is a value; no program writes a quiet side.
            unsafe { ptr::write_bytes(side, 0, 1) };
        }
    }

    fn side_at(cpu: u32, parity: usize) -> usize {
        cpu as usize * size_of::<CpuState>() + offset_of!(CpuState, sides) + parity * size_of::<Side>()
    }

    fn read<T: Plain>(&self, cpu: u32, offset: usize) -> T {
        let place = self.states.at::<T>(cpu as usize * size_of::<CpuState>() + offset);
        // SAFETY: mapped and aligned, any bytes are a `T`; volatile because the kernel may be writing.
        unsafe { ptr::read_volatile(place) }
    }

    fn write(&self, cpu: u32, offset: usize, value: u64) {
        let place = self.states.at::<u64>(cpu as usize * size_of::<CpuState>() + offset);
        // SAFETY: mapped and aligned; what is written here no program writes, or none of an epoch that is over.
        unsafe { ptr::write_volatile(place, value) };
    }
}

impl<'a> Quiet<'a> {
    /// Lines of system calls in use.
    pub(super) fn calls(self) -> impl Iterator<Item = &'a Line> {
        self.side.calls.iter().filter(|line| line.word != 0)
    }

    /// Lines of waits in use.
    pub(super) fn waits(self) -> impl Iterator<Item = &'a WaitLine> {
        self.side.waits.iter().filter(|line| line.word != 0)
    }

    /// Lines of time on the CPU in use.
    pub(super) fn usage(self) -> impl Iterator<Item = &'a UsageLine> {
        self.side.usage.iter().filter(|line| line.tgid != 0)
    }

    /// Lines of sends and receives in use.
    pub(super) fn traffic(self) -> impl Iterator<Item = &'a TrafficLine> {
        self.side.traffic.iter().filter(|line| line.tgid != 0)
    }

    /// The ledger.
    pub(super) fn counters(self) -> Counters {
        let mut counters = self.side.ledger;
        counters.counts[probe::SYSCALL][column::ATTEMPTED] += self.calls_attempted;
        counters
    }
}
