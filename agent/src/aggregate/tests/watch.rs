use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use skep_runtime::shutdown::Shutdown;
use skep_seglog::sim::SimDisk;
use skep_wire::{chunk, envelope, v1};

use super::*;
use crate::aggregate::cgroup::Cgroups;
use crate::aggregate::hierarchy::Hierarchies;
use crate::aggregate::identity::Identities;
use crate::aggregate::lookup::{Found, Lookup};
use crate::govern::Budget;
use crate::ledger::{self, NOT_WATCHING};
use crate::probe::reading::{CpuReading, Exec, Latency, ProbeLedger, ProcessKey, Subject};
use crate::source::DomainCost;
use crate::spool::{SpoolOptions, Store};

/// Probes that outlive the agent, as a model: what the kernel holds.
#[derive(Debug)]
struct Kernel {
    /// Epoch and pid of every exec there ever was.
    ring: Vec<(u64, u32)>,
    /// Up to where the kernel may have the room.
    consumed: usize,
    epoch: u64,
    /// The last epoch whose side was emptied.
    emptied: u64,
    began_ns: [u64; 2],
    sides: [Side; 2],
}

#[derive(Debug, Default)]
struct Side {
    slices: u64,
    attempted: u64,
    lost: u64,
}

impl Kernel {
    fn exec(&mut self, pid: u32) {
        self.sides[(self.epoch & 1) as usize].attempted += 1;
        self.ring.push((self.epoch, pid));
    }

    fn lose(&mut self, execs: u64) {
        let side = &mut self.sides[(self.epoch & 1) as usize];
        side.attempted += execs;
        side.lost += execs;
    }

    fn run(&mut self, slices: u64) {
        self.sides[(self.epoch & 1) as usize].slices += slices;
    }
}

/// One agent's hold on them.
#[derive(Debug)]
struct Pinned {
    kernel: Arc<Mutex<Kernel>>,
    clock: Clock,
    position: usize,
    handed: [u64; 2],
    unsafe_epoch: Option<u64>,
    unread_epoch: Option<u64>,
    adopted_epoch: u64,
    seamless: bool,
}

const INCARNATION: u64 = 9;

impl Pinned {
    fn load(kernel: &Arc<Mutex<Kernel>>, clock: &Clock, mark: Option<Mark>) -> Self {
        let mut held = kernel.lock().unwrap();
        let closed = held.epoch - 1;
        let gone = closed <= held.emptied || mark.is_some_and(|mark| mark.epoch >= closed);
        let first = if gone { held.epoch } else { closed };
        let seamless = mark.is_some_and(|mark| mark.epoch + 1 >= first && mark.position >= held.consumed as u64);
        held.consumed = held.consumed.max(mark.map_or(0, |mark| mark.position as usize));
        if gone {
            held.emptied = closed;
            held.sides[(closed & 1) as usize] = Side::default();
        }
        Self {
            kernel: Arc::clone(kernel),
            clock: clock.clone(),
            position: held.consumed,
            handed: [0; 2],
            unsafe_epoch: None,
            unread_epoch: (!gone).then_some(closed),
            adopted_epoch: held.epoch,
            seamless,
        }
    }

    fn read(&mut self, closed: u64, sink: &mut dyn FnMut(Event, u64)) -> Reading {
        self.drain(sink);
        let kernel = self.kernel.lock().unwrap();
        let parity = (closed & 1) as usize;
        let Side { slices, attempted, lost } = kernel.sides[parity];
        let delivered = std::mem::take(&mut self.handed[parity]);
        let attempted = if closed <= self.adopted_epoch { delivered + lost } else { attempted };
        assert_eq!(attempted, delivered + lost);
        self.unsafe_epoch = Some(closed);
        let lost = if lost == 0 { Vec::new() } else { vec![("ring_full", lost)] };
        Reading {
            blocks: Vec::new(),
            from_ns: kernel.began_ns[parity],
            until_ns: kernel.began_ns[1 - parity],
            cpu: vec![idle(slices)],
            sockets: Vec::new(),
            syscalls: Vec::new(),
            ledger: vec![
                ProbeLedger { probe: "cpu", cpu: Some(0), attempted: slices, delivered: slices, lost: Vec::new() },
                ProbeLedger { probe: "exec", cpu: Some(0), attempted, delivered, lost },
            ],
        }
    }
}

impl Source for Pinned {
    fn drain(&mut self, sink: &mut dyn FnMut(Event, u64)) {
        let fresh = self.kernel.lock().unwrap().ring[self.position..].to_vec();
        for (epoch, pid) in fresh {
            self.position += 1;
            self.handed[(epoch & 1) as usize] += 1;
            sink(exec(pid, self.clock.boot_ns()), self.position as u64);
        }
    }

    fn flip(&mut self, sink: &mut dyn FnMut(Event, u64)) -> Result<Reading, SourceError> {
        assert!(self.can_flip() && self.unread_epoch.is_none());
        let closed = {
            let mut kernel = self.kernel.lock().unwrap();
            kernel.epoch += 1;
            let parity = (kernel.epoch & 1) as usize;
            kernel.began_ns[parity] = self.clock.boot_ns();
            assert_eq!(kernel.sides[parity].attempted, 0, "counted on a side that was not emptied");
            kernel.epoch - 1
        };
        Ok(self.read(closed, sink))
    }

    fn can_flip(&self) -> bool {
        self.unsafe_epoch.is_none()
    }

    fn catch_up(&mut self, sink: &mut dyn FnMut(Event, u64)) -> Result<Option<Reading>, SourceError> {
        Ok(self.unread_epoch.take().map(|closed| self.read(closed, sink)))
    }

    fn mark(&self) -> Option<Mark> {
        let epoch = self.unread_epoch.unwrap_or_else(|| self.kernel.lock().unwrap().epoch) - 1;
        Some(Mark { incarnation: INCARNATION, epoch, position: self.position as u64 })
    }

    fn commit(&mut self, mark: Mark) -> Result<(), SourceError> {
        let mut kernel = self.kernel.lock().unwrap();
        assert!(mark.position as usize <= self.position);
        kernel.consumed = kernel.consumed.max(mark.position as usize);
        if let Some(epoch) = self.unsafe_epoch.filter(|epoch| *epoch <= mark.epoch) {
            kernel.sides[(epoch & 1) as usize] = Side::default();
            kernel.emptied = epoch;
            self.unsafe_epoch = None;
        }
        Ok(())
    }

    fn is_adopted(&self) -> bool {
        true
    }

    fn is_seamless(&self) -> bool {
        self.seamless
    }

    fn map_bytes(&self) -> u64 {
        0
    }

    fn take_cost(&mut self) -> Vec<DomainCost> {
        Vec::new()
    }

    fn set_detail(&mut self, _: &Detail) -> Result<(), SourceError> {
        Ok(())
    }
}

fn idle(slices: u64) -> CpuReading {
    CpuReading {
        process: ProcessKey { pid: 0, start_ns: 0 },
        comm: *b"swapper/0\0\0\0\0\0\0\0",
        cgroup_id: 1,
        on_cpu_ns: slices,
        slices,
        voluntary_switches: 0,
        involuntary_switches: 0,
        migrations: 0,
        run_queue_delay: Latency::NONE,
        off_cpu: Latency::NONE,
    }
}

fn exec(pid: u32, at_ns: u64) -> Event {
    let subject = Subject {
        cpu: 0,
        at_ns,
        process: ProcessKey { pid, start_ns: 1 },
        parent: ProcessKey { pid: 0, start_ns: 0 },
        comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
        cgroup_id: 0,
        uid: 0,
        gid: 0,
        effective_uid: 0,
    };
    Event::Exec(Box::new(Exec {
        subject,
        filename: Vec::new(),
        exe: b"/bin/worker".to_vec(),
        exe_inode: 1,
        argv: Vec::new(),
        argv_truncated: false,
        cwd: Vec::new(),
        interpreter: Vec::new(),
        capabilities: 0,
        terminal: Vec::new(),
        login_uid: None,
        session: None,
        stream_inodes: [None; 3],
        flags: 0,
    }))
}

/// A host where nothing else runs.
#[derive(Debug)]
struct Nobody;

impl Lookup for Nobody {
    fn ticks_per_second(&self) -> u64 {
        100
    }
    fn all(&self) -> Vec<Found> {
        Vec::new()
    }
    fn find(&self, _: u32) -> Option<Found> {
        None
    }
    fn membership(&self, _: u32) -> Option<String> {
        None
    }
    fn exe(&self, _: u32) -> Option<String> {
        None
    }
}

/// What outlives an agent.
struct Host {
    kernel: Arc<Mutex<Kernel>>,
    disk: SimDisk,
    clock: Clock,
}

impl Host {
    fn new() -> Self {
        let kernel = Kernel {
            ring: Vec::new(),
            consumed: 0,
            epoch: 1,
            emptied: 0,
            began_ns: [0, S_NS],
            sides: [Side::default(), Side::default()],
        };
        Self {
            kernel: Arc::new(Mutex::new(kernel)),
            disk: SimDisk::default(),
            clock: Clock::manual(S_NS, 1_700_000_003_000_000),
        }
    }
}

const S_NS: u64 = 1_000_000_000;

/// An agent whose threads take their turns when the test says so.
struct Agent {
    watch: Watch<Pinned>,
    requests: mpsc::Receiver<Request>,
    state: watch::Sender<SpoolState>,
    store: Store<SimDisk>,
}

impl Agent {
    fn start(host: &Host) -> Self {
        let options =
            SpoolOptions { dir: "/spool".into(), max_bytes: 1 << 30, node: "n".to_owned(), boot: "b".to_owned() };
        let opened = Store::open(host.disk.clone(), options, 1).unwrap();
        let source = Pinned::load(&host.kernel, &host.clock, opened.mark);
        let identities = Identities::new(Box::new(Nobody), Cgroups::new(Hierarchies::default(), false), 1000);
        let watched = opened.watched_until_us.filter(|_| !source.is_seamless());
        let aggregator =
            Aggregator::start(host.clock.clone(), Duration::from_secs(10), identities, host.clock.boot_ns(), watched);
        let (state, spool_state) = watch::channel(SpoolState::of(&opened.store));
        let (spool, requests) = mpsc::channel(4096);
        let now = Look {
            now_ns: host.clock.boot_ns(),
            now_us: host.clock.wall_us(),
            own_ns: 0,
            costs: Vec::new(),
            held_bytes: 0,
        };
        let unbound = Budget { cpu_ratio: None, memory_bytes: None };
        let watch = Watch {
            desk: Desk::start(unbound, Duration::from_secs(10), Vec::new(), 1000, &now),
            detail: watch::channel(Detail::default()).0,
            source,
            aggregator,
            spool,
            spool_state,
            pods: None,
            services: mpsc::channel(1).1,
            stop: Shutdown::new().token(),
            clock: host.clock.clone(),
            progress: Progress::default(),
        };
        let mut agent = Self { watch, requests, state, store: opened.store };
        agent.watch.catch_up().unwrap();
        agent
    }

    /// The spool's thread takes at most `count` requests.
    fn take(&mut self, count: usize) {
        for _ in 0..count {
            let Ok(Request::Append(append)) = self.requests.try_recv() else { return };
            self.store.append(append.batch, append.receipt, append.mark).unwrap();
        }
    }

    fn sync(&mut self) {
        self.store.sync();
        self.state.send_replace(SpoolState::of(&self.store));
        self.watch.commit();
    }

    /// Everything there is, stored and told.
    fn settle(&mut self) {
        self.watch.drain().unwrap();
        self.take(usize::MAX);
        self.sync();
        assert!(self.watch.source.can_flip());
        self.watch.end_window().unwrap();
        self.take(usize::MAX);
        self.sync();
    }

    fn collected(&mut self) -> Collected {
        let mut collected = Collected::default();
        let stream = self.store.stream_to_send().unwrap().to_owned();
        let mut after = 0;
        loop {
            let batches = self.store.read(&stream, after, 64, 1 << 30, 1);
            let Some(last) = batches.last() else { return collected };
            after = last.seq;
            batches.iter().for_each(|one| collected.take(&envelope::open(one).unwrap()));
        }
    }
}

/// What the tables say.
#[derive(Debug, Default)]
struct Collected {
    execs: Vec<i64>,
    slices: i64,
    delivered: i64,
    lost: i64,
    reasons: Vec<String>,
}

impl Collected {
    fn take(&mut self, batch: &v1::Batch) {
        for one in &batch.chunks {
            match one.table.as_str() {
                "processes" => {
                    let execs = chunk::rows(one).filter(|row| row.text("event") == Some("exec"));
                    self.execs.extend(execs.filter_map(|row| row.int("pid")));
                }
                "cpu" => self.slices += chunk::rows(one).filter_map(|row| row.int("slices")).sum::<i64>(),
                _ => {}
            }
            for row in ledger::rows(one) {
                if row.probe == "exec" {
                    let counts = row.counts.unwrap();
                    self.delivered += counts.delivered;
                    self.lost += counts.lost;
                }
                self.reasons.push(row.reason);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Exec(u32),
    Lose(u64),
    Run(u64),
    Drain,
    Flip,
    Take(usize),
    Sync,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..5u32).prop_map(Step::Exec),
        2 => (1..5u64).prop_map(Step::Lose),
        4 => (1..9u64).prop_map(Step::Run),
        5 => Just(Step::Drain),
        4 => Just(Step::Flip),
        6 => (1..4usize).prop_map(Step::Take),
        5 => Just(Step::Sync),
        2 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever moment the agent is killed at, whatever it had handed on by then: the tables and the ledger hold
    /// everything once.
    #[test]
    fn a_kill_at_any_moment_loses_and_doubles_nothing(steps in steps()) {
        let host = Host::new();
        let mut agent = Agent::start(&host);
        let (mut execs, mut lost, mut slices) = (0, 0, 0);
        for step in steps {
            host.clock.advance_ns(S_NS);
            match step {
                Step::Exec(count) => (0..count).for_each(|_| {
                    execs += 1;
                    host.kernel.lock().unwrap().exec(execs);
                }),
                Step::Lose(count) => {
                    lost += count;
                    host.kernel.lock().unwrap().lose(count);
                }
                Step::Run(count) => {
                    slices += count;
                    host.kernel.lock().unwrap().run(count);
                }
                Step::Drain => agent.watch.drain().unwrap(),
                Step::Flip if agent.watch.source.can_flip() => agent.watch.end_window().unwrap(),
                Step::Flip => {}
                Step::Take(count) => agent.take(count),
                Step::Sync => agent.sync(),
                Step::Kill => agent = Agent::start(&host),
            }
        }
        agent = Agent::start(&host);
        agent.settle();
        let collected = agent.collected();
        prop_assert_eq!(&collected.execs, &(1..=i64::from(execs)).collect::<Vec<_>>(), "in order, once each");
        prop_assert_eq!(collected.slices as u64, slices);
        prop_assert_eq!(collected.delivered, i64::from(execs));
        prop_assert_eq!(collected.lost as u64, lost);
        prop_assert!(!collected.reasons.iter().any(|reason| reason == NOT_WATCHING));
    }
}

#[test]
fn batches_sealed_in_the_middle_of_a_drain_say_how_far_they_reach() {
    for stored in 0..=3 {
        let host = Host::new();
        let mut agent = Agent::start(&host);
        (1..=45_000).for_each(|pid| host.kernel.lock().unwrap().exec(pid));
        agent.watch.drain().unwrap();
        agent.take(stored);
        let mut agent = Agent::start(&host);
        agent.settle();
        let collected = agent.collected();
        assert_eq!(collected.execs, (1..=45_000).collect::<Vec<i64>>(), "{stored} batches were stored");
        assert_eq!(collected.delivered, 45_000);
    }
}

#[test]
fn a_window_does_not_end_before_the_one_before_is_stored() {
    let host = Host::new();
    let mut agent = Agent::start(&host);
    agent.watch.end_window().unwrap();
    assert!(!agent.watch.source.can_flip());
    host.clock.advance_ns(20 * S_NS);
    assert_eq!(agent.watch.pause(agent.watch.aggregator.boundary_us()), LATE_PULSE);
    host.kernel.lock().unwrap().exec(1);
    agent.watch.drain().unwrap();
    agent.take(1);
    agent.sync();
    assert!(agent.watch.source.can_flip());
    agent.settle();
    assert_eq!(agent.collected().execs, [1]);
}

#[test]
fn what_was_in_memory_only_when_the_agent_was_killed_is_a_gap() {
    let host = Host::new();
    let mut agent = Agent::start(&host);
    agent.watch.end_window().unwrap();
    agent.take(1);
    agent.sync();
    agent.store.set_watched(host.clock.wall_us());
    host.disk.set_free(Some(0));
    host.clock.advance_ns(10 * S_NS);
    agent.watch.end_window().unwrap();
    agent.take(1);
    agent.sync();
    host.clock.advance_ns(10 * S_NS);
    host.disk.set_free(None);
    let mut agent = Agent::start(&host);
    agent.settle();
    assert!(agent.collected().reasons.iter().any(|reason| reason == NOT_WATCHING));
}
