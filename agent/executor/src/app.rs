//! Wires the executor: the one place that makes channels and spawns tasks.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use skep_runtime::clock::Clock;
use skep_runtime::shutdown::{Shutdown, SignalError};
use skep_seglog::{Disk, Storage};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::act::hierarchy::{Hierarchies, HierarchyError};
use crate::act::host::Host;
use crate::config::Config;
use crate::engine::{Engine, Found, STOPPING, Setup};
use crate::fault;
use crate::journal::fault::Fault;
use crate::journal::state::mark;
use crate::journal::{Journal, JournalError, Now};
use crate::socket::server::{Ask, Server, SocketError};
use crate::verify::key::{KeyError, Trusted};

/// Requests that wait for the engine.
const ASKS: usize = 64;

/// Timers do not run while the host sleeps and leases do: what is due is looked at this often at least.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// How often undoing is tried at the end.
const STOP_TRIES: u32 = 4;

/// Time between these tries.
const STOP_PAUSE: Duration = Duration::from_millis(500);

/// What the executor is started with.
#[derive(Debug)]
pub struct Options {
    /// Where to listen.
    pub socket: PathBuf,
    /// Journal and lock.
    pub state_dir: PathBuf,
    /// Public keys in PEM form.
    pub trusted_keys: Vec<PathBuf>,
    /// This node's name.
    pub node: String,
    /// This boot; `None` has the kernel asked.
    pub boot: Option<String>,
    /// Own policy.
    pub config: Config,
}

/// Why the executor could not start or go on.
#[derive(Debug, Error)]
pub enum AppError {
    /// A trusted key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Cgroups.
    #[error(transparent)]
    Hierarchy(#[from] HierarchyError),
    /// Journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Signals.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// What was given as this boot is none.
    #[error("the boot that was given is not 32 hex digits")]
    NotABoot,
    /// The state folder, or a file of the kernel.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Limits that could not be undone at the end; the next life tries again.
    #[error("could not be undone and may still stand: {actions}")]
    StillStanding {
        /// Ids.
        actions: String,
    },
    /// Another executor uses the state folder.
    #[error("another executor uses {}", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
}

/// Runs until a signal. Undoes first what an earlier life left, listens then, and undoes everything at the end.
///
/// # Errors
/// [`AppError`]; what stood was undone as far as possible.
pub async fn run(options: Options) -> Result<(), AppError> {
    let _lock = lock(&options)?;
    // Undoing needs no key: whatever an earlier life left is undone before a bad one ends this life.
    let (trusted, bad_key) = match trusted(&options.trusted_keys) {
        Ok(trusted) => (trusted, None),
        Err(error) => (Trusted::default(), Some(error)),
    };
    let clock = Clock::system();
    let boot = boot_id(options.boot.as_deref())?;
    let now = Now { wall_us: clock.wall_us(), boot_ns: clock.boot_ns(), boot: mark(&boot) };
    let journal = Journal::open(Disk, &options.state_dir.join("journal"), now)?;
    let act = options.config.act;
    let allowed_uids = options.config.allowed_uids.clone();
    let setup = Setup {
        node: options.node,
        boot,
        trusted,
        host: Host::new(Hierarchies::discover()?, options.config.policy.clone()),
        config: options.config,
        clock: clock.clone(),
        fault: Fault::of_environment(fault::ENVIRONMENT),
    };
    let cpu = &setup.host.cgroups.cpu;
    tracing::info!(root = %cpu.root.display(), version = ?cpu.version, act, "cpu hierarchy");
    let mut engine = Engine::start(setup, journal)?;
    if let Some(error) = bad_key {
        stop(&mut engine).await?;
        return Err(error.into());
    }
    let server = match Server::bind(&options.socket, allowed_uids) {
        Ok(server) => server,
        Err(error) => {
            stop(&mut engine).await?;
            return Err(error.into());
        }
    };
    tracing::info!("listening on {}", options.socket.display());

    let shutdown = Shutdown::new();
    let (asks, inbox) = mpsc::channel(ASKS);
    let served = tokio::select! {
        signal = shutdown.on_signal() => signal.map_err(AppError::from),
        () = server.run(asks, engine.receipts()) => Ok(()),
        ended = drive(&mut engine, &clock, inbox) => ended.map_err(AppError::from),
    };
    // Nothing is left standing, whatever ended it.
    if let Err(error) = &served {
        tracing::error!(%error, "ended by a fault");
    }
    stop(&mut engine).await?;
    served
}

fn trusted(paths: &[PathBuf]) -> Result<Trusted, KeyError> {
    let mut trusted = Trusted::default();
    for path in paths {
        trusted.add_file(path)?;
    }
    Ok(trusted)
}

/// Undoes everything, with a few tries for what does not let itself be undone at once.
async fn stop<S: Storage + Clone>(engine: &mut Engine<S>) -> Result<(), AppError> {
    let mut stopped = engine.stop();
    for _ in 1..STOP_TRIES {
        if engine.status().active.is_empty() {
            break;
        }
        tokio::time::sleep(STOP_PAUSE).await;
        stopped = engine.undo_all(STOPPING);
    }
    stopped?;
    let actions = engine.status().active;
    if actions.is_empty() { Ok(()) } else { Err(AppError::StillStanding { actions: actions.join(", ") }) }
}

/// Serves requests, jobs and leases until the journal fails.
async fn drive(engine: &mut Engine, clock: &Clock, mut asks: mpsc::Receiver<Ask>) -> Result<(), JournalError> {
    let mut jobs: JoinSet<(String, Found)> = JoinSet::new();
    loop {
        let next = tokio::select! {
            ask = asks.recv() => match ask {
                Some(Ask::Execute(signed)) => engine.execute(&signed)?,
                Some(Ask::Acknowledge(number)) => {
                    engine.acknowledge(number)?;
                    None
                }
                Some(Ask::Status(answer)) => {
                    // Whoever asked may have gone.
                    let _gone = answer.send(engine.status()).is_err();
                    None
                }
                None => return Ok(()),
            },
            Some(done) = jobs.join_next() => match done {
                Ok((action, found)) => engine.found(&action, found)?,
                Err(error) => {
                    tracing::error!(%error, "a job failed");
                    None
                }
            },
            () = until(clock, engine.next_due_ns()) => {
                engine.run_due()?;
                None
            }
        };
        if let Some(job) = next {
            // As many as actions may stand at a time.
            jobs.spawn_blocking(move || {
                let found = job.run();
                (job.action, found)
            });
        }
    }
}

async fn until(clock: &Clock, due_ns: Option<u64>) {
    match due_ns {
        Some(due_ns) => {
            let left = Duration::from_nanos(due_ns.saturating_sub(clock.boot_ns()));
            tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        }
        None => std::future::pending().await,
    }
}

fn lock(options: &Options) -> Result<File, AppError> {
    let dir = &options.state_dir;
    fs::create_dir_all(dir).map_err(|source| AppError::Io { action: "create", path: dir.clone(), source })?;
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|source| AppError::Io { action: "create", path, source })?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| AppError::Locked { path: dir.clone() })?;
    Ok(file)
}

/// As the kernel writes it: systemd leaves out the dashes.
fn boot_id(given: Option<&str>) -> Result<String, AppError> {
    if let Some(given) = given {
        let hex: Vec<char> = given.chars().filter(|c| *c != '-').collect();
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32]
            .map(|range| hex.get(range).map(|part| part.iter().collect::<String>()));
        let parts: Option<Vec<String>> = parts.into_iter().collect();
        return parts.filter(|_| hex.len() == 32).map(|parts| parts.join("-")).ok_or(AppError::NotABoot);
    }
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(&path).map_err(|source| AppError::Io { action: "read", path, source })?;
    Ok(text.trim().to_owned())
}
