//! Probes that see what the test says, and count it as the real ones do.

use std::sync::{Arc, Mutex};

use skep_agent::probe::reading::{CpuReading, Event, Exec, Latency, ProbeLedger, ProcessKey, Reading, Subject};
use skep_agent::source::{Detail, DomainCost, Source, SourceError};
use skep_runtime::clock::Clock;

/// Shared with the test.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// Not handed out yet.
    events: Vec<Event>,
    /// Of the epoch under way.
    attempted: u64,
    delivered: u64,
    lost: u64,
    slices: u64,
    /// What system calls cost between two looks while every one is observed.
    pub(crate) syscalls_cost_ns: u64,
    /// Every detail that was asked for.
    pub(crate) detail: Vec<Detail>,
}

/// The probes.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) stage: Arc<Mutex<Stage>>,
    clock: Clock,
    from_ns: u64,
}

impl Script {
    pub(crate) fn new() -> Self {
        let clock = Clock::system();
        Self { stage: Arc::default(), from_ns: clock.boot_ns(), clock }
    }

    /// A program is executed.
    pub(crate) fn exec(&self, pid: u32, argument: &str) {
        let at_ns = self.clock.boot_ns();
        let subject = Subject {
            cpu: 0,
            at_ns,
            process: ProcessKey { pid, start_ns: at_ns - 1_000_000 },
            parent: ProcessKey { pid: std::process::id(), start_ns: 0 },
            comm: *b"scripted\0\0\0\0\0\0\0\0",
            cgroup_id: 0,
            uid: 0,
            gid: 0,
            effective_uid: 0,
        };
        let exec = Exec {
            subject,
            filename: b"/bin/scripted".to_vec(),
            exe: b"/bin/scripted".to_vec(),
            exe_inode: 5,
            argv: vec![b"scripted".to_vec(), argument.as_bytes().to_vec()],
            argv_truncated: false,
            cwd: b"/".to_vec(),
            interpreter: Vec::new(),
            capabilities: 0,
            terminal: Vec::new(),
            login_uid: None,
            session: None,
            stream_inodes: [None; 3],
            flags: 0,
        };
        let mut stage = self.stage.lock().unwrap();
        stage.events.push(Event::Exec(Box::new(exec)));
        stage.attempted += 1;
        stage.delivered += 1;
    }

    /// Programs the ring buffer had no room for.
    pub(crate) fn lose_execs(&self, count: u64) {
        let mut stage = self.stage.lock().unwrap();
        stage.attempted += count;
        stage.lost += count;
    }

    /// Slices of the idle task.
    pub(crate) fn slices(&self, count: u64) {
        self.stage.lock().unwrap().slices += count;
    }
}

impl Source for Script {
    fn drain(&mut self, sink: &mut dyn FnMut(Event, u64)) {
        let events = std::mem::take(&mut self.stage.lock().unwrap().events);
        events.into_iter().for_each(|event| sink(event, 0));
    }

    fn flip(&mut self, sink: &mut dyn FnMut(Event, u64)) -> Result<Reading, SourceError> {
        let mut stage = self.stage.lock().unwrap();
        std::mem::take(&mut stage.events).into_iter().for_each(|event| sink(event, 0));
        let from_ns = std::mem::replace(&mut self.from_ns, self.clock.boot_ns());
        let attempted = std::mem::take(&mut stage.attempted);
        let delivered = std::mem::take(&mut stage.delivered);
        let lost = std::mem::take(&mut stage.lost);
        let slices = std::mem::take(&mut stage.slices);
        let lost = if lost == 0 { Vec::new() } else { vec![("ring_full", lost)] };
        Ok(Reading {
            blocks: Vec::new(),
            from_ns,
            until_ns: self.from_ns,
            cpu: vec![idle(slices)],
            syscalls: Vec::new(),
            sockets: Vec::new(),
            ledger: vec![
                ProbeLedger { probe: "cpu", cpu: Some(0), attempted: slices, delivered: slices, lost: Vec::new() },
                ProbeLedger { probe: "exec", cpu: Some(0), attempted, delivered, lost },
            ],
        })
    }

    fn map_bytes(&self) -> u64 {
        4096
    }

    fn take_cost(&mut self) -> Vec<DomainCost> {
        let stage = self.stage.lock().unwrap();
        let one_in = u64::from(stage.detail.last().map_or(1, |detail| detail.syscall_one_in));
        vec![DomainCost { domain: "syscall", run_ns: stage.syscalls_cost_ns / one_in, calling_ns: 0, runs: 1 }]
    }

    fn set_detail(&mut self, detail: &Detail) -> Result<(), SourceError> {
        self.stage.lock().unwrap().detail.push(detail.clone());
        Ok(())
    }
}

fn idle(slices: u64) -> CpuReading {
    CpuReading {
        process: ProcessKey { pid: 0, start_ns: 0 },
        comm: *b"swapper/0\0\0\0\0\0\0\0",
        cgroup_id: 1,
        on_cpu_ns: 1000 * slices,
        slices,
        voluntary_switches: 0,
        involuntary_switches: 0,
        migrations: 0,
        run_queue_delay: Latency::NONE,
        off_cpu: Latency::NONE,
    }
}
