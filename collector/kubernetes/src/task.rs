//! Commands in, receipts out: one task that owns the [`Engine`].

use std::path::PathBuf;
use std::time::{Duration, Instant};

use skep_journal::fault::Fault;
use skep_journal::state::mark;
use skep_journal::{Journal, JournalError, Now};
use skep_runtime::clock::Clock;
use skep_seglog::Disk;
use skep_wire::v1;
use tokio::sync::{mpsc, oneshot};

use crate::cluster::{Cluster, ClusterError};
use crate::engine::{Engine, Setup};
use crate::fault;
use crate::settings::Settings;

/// How often changes are looked at that are under way.
const LOOK: Duration = Duration::from_millis(500);

/// Leases end by the wall clock, which may be set: it is looked at this often at least.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// How often the API server is asked whether it is there, and still the same, while nothing else is asked.
const GREET: Duration = Duration::from_secs(30);

/// The first wait for an API server that does not answer; twice as long each time, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Which boot of this host it is: the hour of the budget is one of a clock that nobody sets.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the task has to say.
#[derive(Debug)]
pub enum Word {
    /// The cluster answers: commands for it are taken.
    Connected {
        /// Which: the uid of its first namespace.
        identity: String,
        /// Its version.
        version: String,
    },
    /// It still does.
    Seen,
    /// What became of an action.
    Receipt {
        /// The receipt.
        receipt: Box<v1::Receipt>,
        /// Answered once it is stored.
        stored: oneshot::Sender<()>,
    },
}

/// Acts on one cluster.
#[derive(Debug)]
pub struct Task {
    /// What may be done.
    pub settings: Settings,
    /// Folder of the journal.
    pub dir: PathBuf,
    /// Clocks.
    pub clock: Clock,
    /// To whoever stores and tells.
    pub words: mpsc::Sender<Word>,
    /// Commands.
    pub commands: mpsc::Receiver<v1::Command>,
}

/// Whoever listened is gone: the program ends.
struct Stopping;

/// Why serving ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// The program ends.
    Stopping,
    /// Another cluster answers.
    Other,
}

impl Task {
    /// Serves until nobody listens, or the journal cannot be written; then nothing more is done to the cluster.
    pub async fn run(mut self) {
        loop {
            match self.serve().await {
                Ok(Ended::Other) => tracing::warn!("another cluster answers now"),
                Ok(Ended::Stopping) => return,
                Err(error) => {
                    tracing::error!(%error, "nothing more is done to the cluster: its journal cannot be kept");
                    return;
                }
            }
        }
    }

    async fn serve(&mut self) -> Result<Ended, JournalError> {
        let Some((cluster, identity, version)) = self.reach().await else { return Ok(Ended::Stopping) };
        let boot = std::fs::read_to_string(BOOT_ID).map_or(0, |id| mark(id.trim()));
        let now = Now { wall_us: self.clock.wall_us(), boot_ns: self.clock.boot_ns(), boot };
        let journal = Journal::open(Disk, &self.dir, now)?;
        let fault = Fault::of_environment(fault::ENVIRONMENT);
        let setup = Setup {
            settings: self.settings.clone(),
            cluster,
            identity: identity.clone(),
            clock: self.clock.clone(),
            boot,
            fault,
        };
        let mut greeting = Greeting {
            cluster: setup.cluster.clone(),
            identity: identity.clone(),
            next: Instant::now() + GREET,
            away: false,
        };
        let mut engine = Engine::start(setup, journal).await?;
        tracing::info!(version, standing = engine.standing().len(), "the cluster answers");
        if self.words.send(Word::Connected { identity, version }).await.is_err() {
            return Ok(Ended::Stopping);
        }
        loop {
            if self.tell(&mut engine).await?.is_err() {
                return Ok(Ended::Stopping);
            }
            let pause = self.pause(&engine);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => engine.execute(&command).await?,
                    None => return Ok(Ended::Stopping),
                },
                () = tokio::time::sleep(pause) => {
                    engine.run_due().await?;
                    engine.look().await?;
                    match greeting.greet().await {
                        Some(true) => match self.words.send(Word::Seen).await {
                            Ok(()) => {}
                            Err(_) => return Ok(Ended::Stopping),
                        },
                        Some(false) => return Ok(Ended::Other),
                        None => {}
                    }
                }
            }
        }
    }

    /// Until something is to be looked at.
    fn pause(&self, engine: &Engine) -> Duration {
        if engine.is_following() {
            return LOOK;
        }
        self.clock.reanchor();
        let left_us = engine.next_due_us().map(|at_us| (at_us - self.clock.wall_us()).max(0).unsigned_abs());
        left_us.map_or(LONGEST_SLEEP, |left_us| Duration::from_micros(left_us).min(LONGEST_SLEEP))
    }

    /// Waits for the API server to answer; `None` when nobody waits for that any more.
    async fn reach(&mut self) -> Option<(Cluster, String, String)> {
        let (mut wait, mut told) = (FIRST_WAIT, None);
        loop {
            match self.ask().await {
                Ok(found) => return Some(found),
                Err(error) => {
                    let text = error.to_string();
                    if told.as_ref() != Some(&text) {
                        tracing::warn!(error = text, "the cluster cannot be acted on; this is tried again");
                        told = Some(text);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
                () = self.words.closed() => return None,
            }
        }
    }

    async fn ask(&self) -> Result<(Cluster, String, String), ClusterError> {
        let cluster = Cluster::of(&self.settings).await?;
        let (identity, version) = cluster.identity().await?;
        Ok((cluster, identity, version))
    }

    /// Hands out all receipts there are, and waits until each is stored.
    async fn tell(&self, engine: &mut Engine) -> Result<Result<(), Stopping>, JournalError> {
        for receipt in engine.receipts() {
            let number = receipt.number;
            let (stored, is_stored) = oneshot::channel();
            if self.words.send(Word::Receipt { receipt: Box::new(receipt), stored }).await.is_err() {
                return Ok(Err(Stopping));
            }
            if is_stored.await.is_err() {
                return Ok(Err(Stopping));
            }
            engine.acknowledge(number)?;
        }
        Ok(Ok(()))
    }
}

/// Asks now and then whether the API server is there.
struct Greeting {
    cluster: Cluster,
    identity: String,
    next: Instant,
    /// It was said already that it is not.
    away: bool,
}

impl Greeting {
    /// Whether it is the same as before; `None` where it does not answer, or it is not time to ask.
    async fn greet(&mut self) -> Option<bool> {
        if Instant::now() < self.next {
            return None;
        }
        self.next = Instant::now() + GREET;
        match self.cluster.identity().await {
            Ok((identity, _)) => {
                self.away = false;
                Some(identity == self.identity)
            }
            Err(error) => {
                if !self.away {
                    tracing::warn!(%error, "the cluster does not answer; what is to be undone in it waits");
                }
                self.away = true;
                None
            }
        }
    }
}
