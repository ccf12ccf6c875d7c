//! All channels and tasks of the agent.
//!
//! ```text
//! thread watch   probes -> aggregator --Append--> thread spool --Read--> task ship --Up--> collector
//! task relay     executor receipts ----Append-->      ^                     |
//!       ^                                             +--Acknowledge--------+
//!       +----------------------------- commands ----------------------------+
//! task canary  announcements ---Append--> thread spool
//!       ^
//!       +--- what is observed --- thread watch
//! task cri       names of pods -> thread watch
//! task checks  outcomes -> task services ---Append--> thread spool
//!                               +--------- gauges ---> thread watch
//! ```
//!
//! | channel | holds | when full |
//! |---|---|---|
//! | requests to the spool | [`worker::QUEUE`] | the sender waits; the ring buffer counts what it cannot hold meanwhile |
//! | spool state | the newest | replaced |
//! | what is observed | the newest | replaced |
//! | uids of pods without a name | [`cri::QUEUE`] | dropped, and asked for again when other names come |
//! | names of pods | the newest | replaced |
//! | outcomes of checks | [`task::QUEUE`](crate::service::task::QUEUE) | the checks wait, and are late |
//! | gauges of checks | [`task::GAUGES`](crate::service::task::GAUGES) | dropped; they are in `checks` too |
//! | commands to the relay | [`relay::QUEUE`] | dropped with a line in the log; the command runs out of time |
//!
//! Stop: probes and relay first, then the spool settles, then the shipper goes on until everything is acknowledged or its
//! time is over; what is left waits on disk for the next start.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use skep_checks::peer::Looker;
use skep_checks::schedule::Runner;
use skep_runtime::clock::Clock;
use skep_runtime::shutdown::{Component, DrainTimeout, Shutdown, SignalError};
use skep_seglog::Disk;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::aggregate::Aggregator;
use crate::aggregate::cgroup::Cgroups;
use crate::aggregate::gauges::Gauge;
use crate::aggregate::hierarchy::Hierarchies;
use crate::aggregate::identity::Identities;
use crate::aggregate::lookup::Host;
use crate::aggregate::watch::{PodNaming, Progress, Watch, WatchError};
use crate::canary::Canary;
use crate::command::relay::Unanswered;
use crate::command::{Relay, relay};
use crate::config::Config;
use crate::cri::{self, Cri};
use crate::govern::desk::{Desk, Look};
use crate::host;
use crate::probe::{Mark, ProbeError, ProbeReport, Probes};
use crate::service::{Services, task as service};
use crate::ship::session::SessionContext;
use crate::ship::{Credentials, CredentialsError, Greeting, Shipper};
use crate::source::{DOMAINS, Detail, Source};
use crate::spool::store::SpoolError;
use crate::spool::{Opened, Request, SpoolOptions, SpoolState, Store, worker};

/// How long probes and relay may take to stop.
const INTAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long to go on sending after the stop.
const LINGER: Duration = Duration::from_secs(5);

/// Why the agent could not start or go on.
#[derive(Debug, Error)]
pub enum AppError {
    /// Certificates.
    #[error("this node's credentials cannot be used")]
    Credentials(#[from] CredentialsError),
    /// The state folder is in use.
    #[error("another agent uses {}", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// Probes.
    #[error("the probes cannot be loaded")]
    Probes(#[from] ProbeError),
    /// Spool.
    #[error("the spool cannot be opened")]
    Spool(#[from] SpoolError),
    /// Threads.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The canary is this program, called in another way.
    #[error("this program's own file is not known")]
    OwnFile(#[source] std::io::Error),
    /// Signals.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The loop that reads the probes ended by itself.
    #[error("the agent stopped watching")]
    Watch(#[from] WatchError),
    /// A thread broke.
    #[error("the {name} thread broke")]
    Broken {
        /// Which.
        name: &'static str,
    },
    /// Something did not stop.
    #[error(transparent)]
    Drain(#[from] DrainTimeout),
}

/// Loads the probes and runs until a signal.
///
/// # Errors
/// [`AppError`].
pub async fn run(config: Config) -> Result<(), AppError> {
    run_with(config, Shutdown::new(), load).await
}

/// The probes, pinned where the settings say.
fn load(config: &Config, mark: Option<Mark>) -> Result<(Probes, ProbeReport), ProbeError> {
    match &config.pin {
        Some(folder) => Probes::load_pinned(&config.probes, folder, mark),
        None => Probes::load(&config.probes),
    }
}

/// As [`run`], with another source of readings and a stop of the caller's.
///
/// # Errors
/// [`AppError`].
pub async fn run_with<S: Source + 'static>(
    config: Config,
    shutdown: Shutdown,
    load: impl FnOnce(&Config, Option<Mark>) -> Result<(S, ProbeReport), ProbeError>,
) -> Result<(), AppError> {
    let credentials = Credentials::load(&config.credentials)?;
    let _lock = lock(&config)?;
    let clock = Clock::system();
    let options = SpoolOptions {
        dir: config.state_dir.join("spool"),
        max_bytes: config.spool_max_bytes,
        node: credentials.node.clone(),
        boot: host::boot_id(),
    };
    let Opened { store, watched_until_us, mark } = Store::open(Disk, options, clock.wall_us())?;
    let (source, report) = load(&config, mark)?;
    let greeting = greet(&report, &credentials.node);
    tracing::info!(node = %credentials.node, probes = %greeting.probes.join(" "), "watching");
    for missing in &greeting.missing {
        tracing::warn!("missing: {missing}");
    }

    let cgroups = Cgroups::new(Hierarchies::of_host(), tells_cgroups(&report));
    let identities = Identities::new(Box::new(Host), cgroups, config.processes);
    let since_ns = source.since_ns().unwrap_or_else(|| clock.boot_ns());
    // Where nothing is missing there is no gap to tell of.
    let watched_until_us = watched_until_us.filter(|_| !source.is_seamless());
    let mut aggregator = Aggregator::start(clock.clone(), config.window, identities, since_ns, watched_until_us);
    if source.is_adopted() {
        aggregator.go_on();
    }
    let running = Running::start(&config, shutdown.clone(), Parts { clock, store, source, aggregator, greeting })?;
    shutdown.on_signal().await?;
    running.stop().await
}

/// Every thread and task.
struct Running {
    /// Stops probes and relay.
    intake: Shutdown,
    /// Stops the shipper, when the last batch is in the spool.
    ending: Shutdown,
    spool: mpsc::Sender<Request>,
    spool_thread: JoinHandle<()>,
    watch_thread: JoinHandle<Result<(), WatchError>>,
    relay_task: tokio::task::JoinHandle<()>,
    canary_task: tokio::task::JoinHandle<()>,
    services_task: tokio::task::JoinHandle<()>,
    ship_task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start<S: Source + 'static>(config: &Config, intake: Shutdown, parts: Parts<S>) -> Result<Self, AppError> {
        let Parts { clock, store, source, aggregator, greeting } = parts;
        let program = std::env::current_exe().map_err(AppError::OwnFile)?;
        let ending = Shutdown::new();
        let state = SpoolState::of(&store);
        let receipt = state.receipt;
        let (spool_state_sender, spool_state) = watch::channel(state);
        let (spool, requests) = mpsc::channel(worker::QUEUE);
        let (commands, commands_in) = mpsc::channel(relay::QUEUE);

        let spool_clock = clock.clone();
        let spool_thread = thread("spool", move || worker::run(store, requests, &spool_state_sender, &spool_clock))?;
        let (detail, observed) = watch::channel(Detail::default());
        let (gauges, services) = mpsc::channel(service::GAUGES);
        let services_task = check_services(config, &intake, &clock, spool.clone(), gauges);
        let watching = Watch {
            desk: desk(config, &clock, &greeting.probes),
            source,
            aggregator,
            detail,
            spool: spool.clone(),
            spool_state: spool_state.clone(),
            pods: config.cri_socket.clone().map(|socket| name_pods(socket, &intake)),
            services,
            stop: intake.token(),
            clock: clock.clone(),
            progress: Progress::default(),
        };
        let (component, stopper) = (intake.component("watch"), intake.clone());
        let watch_thread = thread("watch", move || {
            let result = watching.run();
            stopper.begin();
            drop(component);
            result
        })?;
        let relay = Relay {
            socket: config.executor_socket.clone(),
            node: greeting.node.clone(),
            commands: commands_in,
            spool: spool.clone(),
            receipt,
            stop: intake.token(),
            clock: clock.clone(),
            unanswered: Unanswered::default(),
        };
        let relay_task = task(intake.component("relay"), relay.run());
        let canary = Canary {
            interval: config.canary_interval,
            program,
            sees: seen_parts(&greeting.probes),
            detail: observed,
            spool: spool.clone(),
            stop: intake.token(),
            clock: clock.clone(),
        };
        let canary_task = task(intake.component("canary"), canary.run());
        let looker = Arc::new(Looker::new(config.peers.clone(), config.checks.clone()));
        let stop = ending.token();
        let context =
            SessionContext { spool: spool.clone(), spool_state, commands, stop, clock, linger: LINGER, looker };
        let shipper = Shipper {
            collectors: config.collectors.clone(),
            return_after: config.return_after,
            credentials: config.credentials.clone(),
            state_dir: config.state_dir.clone(),
            greeting,
            context,
        };
        let ship_task = task(ending.component("ship"), shipper.run());
        Ok(Self {
            intake,
            ending,
            spool,
            spool_thread,
            watch_thread,
            relay_task,
            canary_task,
            services_task,
            ship_task,
        })
    }

    /// Whatever else goes wrong, the spool's thread is waited for: it may be writing.
    async fn stop(self) -> Result<(), AppError> {
        // Without this the probes' thread still holds the spool, which then never ends.
        self.intake.drain(INTAKE_DEADLINE).await?;
        let watched = join("watch", self.watch_thread);
        settle(&self.spool).await;
        self.ending.begin();
        let drained = self.ending.drain(LINGER * 2).await;
        if drained.is_err() {
            self.ship_task.abort();
        }
        let relay = self.relay_task.await;
        let canary = self.canary_task.await;
        let services = self.services_task.await;
        let ship = self.ship_task.await;
        drop(self.spool);
        join("spool", self.spool_thread)?;
        watched??;
        relay.map_err(|_| AppError::Broken { name: "relay" })?;
        canary.map_err(|_| AppError::Broken { name: "canary" })?;
        services.map_err(|_| AppError::Broken { name: "services" })?;
        drained?;
        ship.map_err(|_| AppError::Broken { name: "ship" })?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// What [`Running::start`] puts to work.
struct Parts<S> {
    clock: Clock,
    store: Store<Disk>,
    source: S,
    aggregator: Aggregator,
    greeting: Greeting,
}

/// Starts the task that asks the container runtime. It has nothing to finish and ends with the runtime at the latest.
fn name_pods(socket: PathBuf, intake: &Shutdown) -> PodNaming {
    let (wanted, asked) = mpsc::channel(cri::QUEUE);
    let (answers, names) = watch::channel(Arc::default());
    let cri = Cri { socket, wanted: asked, names: answers, stop: intake.token() };
    // Not joined: the watch thread holds its other ends and goes on without it.
    drop(task(intake.component("cri"), cri.run()));
    PodNaming { wanted, names }
}

/// Starts the checks, and what brings their outcomes in. The one ends with the other.
fn check_services(
    config: &Config,
    intake: &Shutdown,
    clock: &Clock,
    spool: mpsc::Sender<Request>,
    gauges: mpsc::Sender<Vec<Gauge>>,
) -> tokio::task::JoinHandle<()> {
    let (found, outcomes) = mpsc::channel(service::QUEUE);
    let (checks, stop) = (config.checks.clone(), intake.token());
    let runner = Runner { checks, outcomes: found, stop, clock: clock.clone() };
    // Not joined: it holds the other end of what the task below waits for.
    drop(task(intake.component("checks"), runner.run()));
    task(intake.component("services"), Services { outcomes, spool, gauges, clock: clock.clone() }.run())
}

/// Spawns a task that counts as running until it returns.
fn task(component: Component, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        work.await;
        drop(component);
    })
}

/// Waits until everything the spool was asked so far is done.
async fn settle(spool: &mpsc::Sender<Request>) {
    let (done, settled) = oneshot::channel();
    if spool.send(Request::Settle { done }).await.is_ok() {
        // An error means that its thread is gone, which the join tells.
        drop(settled.await);
    }
}

fn thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, AppError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(AppError::Thread)
}

fn join<T>(name: &'static str, thread: JoinHandle<T>) -> Result<T, AppError> {
    thread.join().map_err(|_| AppError::Broken { name })
}

/// One agent a state folder. A folder that cannot be written has no lock, and the spool stays in memory.
fn lock(config: &Config) -> Result<Option<std::fs::File>, AppError> {
    let path = config.state_dir.join("lock");
    let open = || {
        std::fs::create_dir_all(&config.state_dir)?;
        std::fs::File::options().create(true).truncate(false).write(true).open(&path)
    };
    match open() {
        Ok(file) => match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(AppError::InUse { path }),
            Err(std::fs::TryLockError::Error(error)) => {
                tracing::warn!("{}: cannot lock: {error}", path.display());
                Ok(None)
            }
        },
        Err(error) => {
            tracing::error!("{}: {error}", path.display());
            Ok(None)
        }
    }
}

/// What the attached probes would see of a canary, and the domain each part belongs to.
fn seen_parts(probes: &[String]) -> Vec<(&'static str, &'static str)> {
    let watched = |domain: &str| probes.iter().any(|probe| probe == domain);
    skep_wire::canary::PARTS.into_iter().filter(|(_, domain)| watched(domain)).collect()
}

fn desk(config: &Config, clock: &Clock, probes: &[String]) -> Desk {
    let watched = DOMAINS.into_iter().filter(|domain| probes.iter().any(|probe| probe == domain));
    let now = Look {
        now_ns: clock.boot_ns(),
        now_us: clock.wall_us(),
        own_ns: host::own_cpu_ns(),
        costs: Vec::new(),
        held_bytes: 0,
    };
    Desk::start(config.budget, config.window, watched.collect(), config.processes, &now)
}

/// Whether the probes tell of cgroups.
fn tells_cgroups(report: &ProbeReport) -> bool {
    report.features.iter().any(|feature| feature.name == "cgroup" && feature.ok)
}

fn greet(report: &ProbeReport, node: &str) -> Greeting {
    let works = report.features.iter().filter(|feature| feature.ok).map(|feature| feature.name.to_owned());
    let missing = report.features.iter().filter(|feature| !feature.ok);
    Greeting {
        node: node.to_owned(),
        boot: host::boot_id(),
        kernel_release: host::kernel_release(),
        probes: works.collect(),
        missing: missing.map(|feature| format!("{}: {}", feature.name, feature.reason)).collect(),
    }
}
