//! What is attached while a workload is measured.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya_obj::btf::Btf;
use skep_agent::probe::Probes;

use super::arguments::OverheadArguments;
use super::domain::{DOMAINS, Domain};
use super::floor::Floor;
use super::measure::{OTHER_CPU, pin};
use super::peer::{Peer, SCRIPTS, Script};
use super::workload::Workload;

/// Name of the configuration that the others are compared with.
pub(crate) const NOTHING: &str = "nothing";

/// How often the agent would read.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// One thing to attach.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Nothing,
    /// Empty programs on these hooks.
    Floor(Vec<String>),
    /// The probes of these domains, unread.
    Probes(Vec<Domain>),
    /// The same, and a thread on the other CPU that reads them once a second.
    ProbesRead(Vec<Domain>),
    Bpftrace(Script),
}

/// What is attached. Dropping this detaches it.
#[derive(Debug)]
pub(crate) enum Attached {
    Nothing,
    Floor { _floor: Floor },
    Probes { _probes: Box<Probes> },
    Reader(Reader),
    Peer(Peer),
}

/// All that a workload is measured under.
pub(crate) fn of_workload(workload: &Workload, arguments: &OverheadArguments) -> Result<Vec<Configuration>> {
    let mut all = vec![Configuration::new(NOTHING, Kind::Nothing)];
    let domain = Domain::find(workload.domain).context("a workload without a domain")?;
    let hooks = domain.floor.iter().map(|hook| (*hook).to_owned()).collect();
    all.push(Configuration::new("floor", Kind::Floor(hooks)));
    all.push(Configuration::new("floor_own_hooks", Kind::Floor(own_hooks(domain)?)));
    all.push(Configuration::new(format!("{}_read", domain.name), Kind::ProbesRead(vec![domain])));
    all.extend(DOMAINS.map(|domain| Configuration::new(domain.name, Kind::Probes(vec![domain]))));
    all.push(Configuration::new("all", Kind::Probes(DOMAINS.to_vec())));
    if !arguments.no_bpftrace {
        let scripts = SCRIPTS.iter().filter(|script| script.domain == workload.domain);
        all.extend(scripts.map(|script| Configuration::new(script.name, Kind::Bpftrace(*script))));
    }
    Ok(all)
}

impl Configuration {
    fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind }
    }

    /// Attaches it.
    pub(crate) fn attach(&self, types: &Btf) -> Result<Attached> {
        Ok(match &self.kind {
            Kind::Nothing => Attached::Nothing,
            Kind::Floor(hooks) => Attached::Floor { _floor: Floor::attach(types, hooks)? },
            Kind::Probes(domains) => Attached::Probes { _probes: Box::new(Domain::load(domains)?) },
            Kind::ProbesRead(domains) => Attached::Reader(Reader::start(Domain::load(domains)?)),
            Kind::Bpftrace(script) => Attached::Peer(script.start()?),
        })
    }

    /// For how long to measure it at least: a reader needs its turn.
    pub(crate) fn at_least(&self) -> Duration {
        if matches!(self.kind, Kind::ProbesRead(_)) { READ_INTERVAL } else { Duration::ZERO }
    }
}

impl Attached {
    /// Detaches it and makes sure that it did what it was there for.
    pub(crate) fn detach(self) -> Result<()> {
        match self {
            Self::Nothing | Self::Floor { .. } | Self::Probes { .. } => Ok(()),
            Self::Reader(reader) => reader.stop(),
            Self::Peer(peer) => peer.stop(),
        }
    }
}

/// The hooks a domain attaches to today: its programs have the names of their hooks.
fn own_hooks(domain: Domain) -> Result<Vec<String>> {
    let probes = Domain::load(&[domain])?;
    Ok(probes.own_cost().iter().map(|cost| cost.name.to_owned()).collect())
}

/// A thread that reads the probes.
#[derive(Debug)]
pub(crate) struct Reader {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Reader {
    fn start(mut probes: Probes) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            pin(OTHER_CPU)?;
            let mut counted = 0;
            loop {
                let reading = probes.flip(&mut |event, _| _ = std::hint::black_box(event))?;
                counted += reading.ledger.iter().map(|probe| probe.delivered).sum::<u64>();
                if stopped.recv_timeout(READ_INTERVAL) != Err(mpsc::RecvTimeoutError::Timeout) {
                    ensure!(counted > 0, "the probes saw nothing");
                    return Ok(());
                }
            }
        });
        Self { stop, thread }
    }

    fn stop(self) -> Result<()> {
        // An error means that the thread has ended, which the join tells.
        let _ = self.stop.send(());
        self.thread.join().ok().context("the reading thread broke")?
    }
}
