//! What a start finds, and the state it makes of it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use rustls::ServerConfig;
use skep_audit::{Book, BookError, Record};
use skep_rules::detector::Detector;
use skep_runtime::clock::Clock;
use skep_runtime::settings::Faults;
use skep_seglog::{Disk, Log};
use skep_wire::chunk::{Builder, ChunkError};
use skep_wire::tables::LOSS;
use skep_wire::v1;
use thiserror::Error;

use super::remember;
use crate::buffer::{Snapshot, Store};
use crate::config::Config;
use crate::decide::Policy;
use crate::folder::{Folder, FolderError, Identity};
use crate::history::location::LocationError;
use crate::history::{History, Location};
use crate::ingest::{quarantine, substitute};
use crate::maintain::alive::Signs;
use crate::missing;
use crate::query::engine::Limits;
use crate::query::{Engine, QueryError};
use crate::recover::{self, Found, Places, RecoverError};
use crate::response::{Responder, Setup};
use crate::tls::{self, TlsError};
use crate::wal::{Damage, Offsets};

/// Why the collector did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The listener's identity.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The command key cannot be read.
    #[error("cannot read the command key {}", path.display())]
    CommandKey {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The command key is none.
    #[error("{} is not an Ed25519 private key in PKCS#8 PEM", path.display())]
    NotAKey {
        /// Where.
        path: PathBuf,
        /// Why.
        source: ed25519_dalek::pkcs8::Error,
    },
    /// The policy cannot be read.
    #[error("cannot read the policy {}", path.display())]
    PolicyFile {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The policy is wrong.
    #[error("the policy is wrong: {0}")]
    Policy(Faults),
    /// The vocabulary of the rules is wrong.
    #[error(transparent)]
    Words(#[from] skep_rules::words::WordsError),
    /// No randomness.
    #[error("the system gives no random bytes")]
    Random(getrandom::Error),
    /// Where the history is.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The query engine did not start.
    #[error(transparent)]
    Engine(#[from] QueryError),
    /// The audit chain.
    #[error(transparent)]
    Audit(#[from] BookError),
    /// What is on disk.
    #[error(transparent)]
    Recover(#[from] RecoverError),
}

/// The state at start.
#[derive(Debug)]
pub struct Started {
    /// The data folder, locked.
    pub folder: Folder,
    /// Signs of life of the collectors that write to the same tables; `None` where nobody else does.
    pub signs: Option<Signs>,
    /// Answers statements.
    pub engine: Arc<Engine>,
    /// This collector's names.
    pub identity: Identity,
    /// The listener's identity.
    pub tls: Arc<ServerConfig>,
    /// Tables' folders.
    pub history: Arc<History>,
    /// Unflushed rows and live files.
    pub store: Arc<Store>,
    /// The WAL.
    pub log: Log,
    /// How far every stream has come.
    pub offsets: Offsets,
    /// The audit chain.
    pub audit: Book,
    /// Knows of the actions there are.
    pub responder: Responder,
    /// Missing files the ledger has.
    pub told: HashSet<PathBuf>,
    /// What the ledger has to hear about this start.
    pub ledger: Option<v1::Chunk>,
}

/// Opens everything `config` names.
pub(super) async fn start(config: &Config, limits: Limits, clock: &Clock) -> Result<Started, StartError> {
    let tls = tls::server(&config.tls)?;
    let setup = setup(config)?;
    let folder = Folder::open_exclusive(&config.data)?;
    let location = folder.settle(config.history.as_ref())?;
    location.make()?;
    let opened = location.open(&folder.scratch())?;
    let is_own = location == Location::Folder(folder.history());
    let signs = (!is_own).then(|| Signs::new(Arc::clone(&opened.place), &opened.root));
    let identity = folder.identity_or_new()?;
    let engine = Arc::new(Engine::over(limits, &opened, &identity.collector)?);
    let wal = folder.wal();
    let places = Places { wal: &wal, history: &opened.root, collector: &identity.collector };
    let found = recover::open_at(Disk, Arc::clone(&opened.place), places, config.buffer_bytes)?;
    if let Some(trim) = &found.trim {
        tracing::warn!(file = %trim.path.display(), at = trim.position.offset, bytes = trim.bytes,
            "trimmed a torn end of the WAL; it was never acknowledged");
    }
    let now_us = clock.wall_us();
    let key = setup.key.clone();
    let mut responder = Responder::new(setup);
    responder.quiet_after(config.incident_quiet);
    take_up(&mut responder, &folder);
    go_on(&mut responder, &folder);
    let audit = open_chain(&folder, &identity, key, responder.policy_version(), now_us)?;
    remember::remember(&mut responder, &engine, &found.store.snapshot(), now_us).await;
    let resumed = found.replay(|durable| responder.restore(&durable.origin, &durable.batch, now_us))?;
    let ledger = report_damage(&resumed.damage, &folder, now_us);
    tracing::info!(batches = resumed.batches, rows = resumed.rows, "replayed the WAL");
    let (Found { history, store, log, .. }, offsets) = (found, resumed.offsets);
    let told = told(&engine, &store.snapshot()).await;
    Ok(Started { folder, signs, engine, identity, tls, history, store, log, offsets, audit, responder, told, ledger })
}

/// Goes on with the audit chain: this start is a step of it, and so is what was found to be wrong.
fn open_chain(
    folder: &Folder,
    identity: &Identity,
    key: SigningKey,
    policy: &str,
    now_us: i64,
) -> Result<Book, BookError> {
    let (mut book, wrong) = Book::open(&folder.audit(), &identity.collector, key)?;
    let step = |step: &str, detail: String| Record {
        time_us: now_us,
        actor: "collector".to_owned(),
        step: step.to_owned(),
        subject: identity.collector.clone(),
        node: String::new(),
        detail,
        facts: [("policy".to_owned(), policy.to_owned())].into(),
    };
    let mut records: Vec<Record> = Vec::new();
    for line in wrong {
        tracing::error!("the audit chain is not as it was left: {line}");
        records.push(step("chain damaged", line));
    }
    records.push(step("started", concat!("skep-collector ", env!("CARGO_PKG_VERSION")).to_owned()));
    book.append(records, now_us)?;
    Ok(book)
}

/// Takes up what was learned; what cannot be read is kept aside, and learned anew.
fn take_up(responder: &mut Responder, folder: &Folder) {
    if let Some(learned) = learned(&folder.learned()) {
        match responder.take_up(&learned) {
            Ok(0) => {}
            Ok(unread) => tracing::warn!(series = unread, "series of another version are learned anew"),
            Err(error) => learn_anew(folder, &folder.learned(), "series", &error),
        }
    }
    if let Some(habits) = learned(&folder.habits())
        && let Err(error) = responder.take_up_habits(&habits)
    {
        learn_anew(folder, &folder.habits(), "habits", &error);
    }
}

fn learned(path: &Path) -> Option<Vec<u8>> {
    match std::fs::read(path) {
        Ok(learned) => Some(learned),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "what was learned cannot be read");
            None
        }
    }
}

fn learn_anew(folder: &Folder, path: &Path, what: &str, error: &dyn std::error::Error) {
    let kept = quarantine::keep_copy(&folder.quarantine(), path).map(|path| path.display().to_string());
    let kept = kept.unwrap_or_else(|error| format!("no copy could be kept: {error}"));
    tracing::error!(file = %path.display(), %error, kept, "all {what} are learned anew");
}

/// Goes on with what the policy was about; what cannot be read is kept aside.
fn go_on(responder: &mut Responder, folder: &Folder) {
    let path = folder.under_way();
    let read = match std::fs::read(&path) {
        Ok(kept) => responder.go_on(&kept).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = read {
        let kept = quarantine::keep_copy(&folder.quarantine(), &path).map(|path| path.display().to_string());
        let kept = kept.unwrap_or_else(|error| format!("no copy could be kept: {error}"));
        tracing::error!(file = %path.display(), error, kept, "open ladders end; budgets hold by the rows there are");
    }
}

fn setup(config: &Config) -> Result<Setup, StartError> {
    let path = &config.command_key;
    let pem = std::fs::read_to_string(path).map_err(|source| StartError::CommandKey { path: path.clone(), source })?;
    let key = SigningKey::from_pkcs8_pem(&pem).map_err(|source| StartError::NotAKey { path: path.clone(), source })?;
    let text = match &config.policy {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|source| StartError::PolicyFile { path: path.clone(), source })?
        }
        None => Policy::default_text().to_owned(),
    };
    let policy = Policy::parse(&text).map_err(StartError::Policy)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(StartError::Random)?;
    let mut loaded = crate::rules::load(config.rules.as_deref());
    let rules = Detector::new(&mut loaded)?;
    crate::rules::report(&loaded);
    Ok(Setup { policy, key, rules, seed })
}

/// Says what of the WAL could not be read, keeps a copy of it, and makes the ledger's rows.
fn report_damage(damage: &[Damage], folder: &Folder, now_us: i64) -> Option<v1::Chunk> {
    if damage.is_empty() {
        return None;
    }
    let mut lines = Vec::new();
    for damage in damage {
        let kept = damage.segment().map(|id| quarantine::keep_copy(&folder.quarantine(), &id.path(&folder.wal())));
        let kept = match kept {
            Some(Ok(path)) => format!("; a copy is kept as {}", path.display()),
            Some(Err(error)) => format!("; no copy could be kept: {error}"),
            None => String::new(),
        };
        let line = crate::error::chain(damage);
        tracing::error!("the WAL is damaged and acknowledged rows may be lost: {line}{kept}");
        lines.push(line);
    }
    match damage_rows(&lines, now_us) {
        Ok(rows) => rows,
        Err(error) => {
            tracing::error!(%error, "the ledger cannot say so");
            None
        }
    }
}

fn damage_rows(lines: &[String], now_us: i64) -> Result<Option<v1::Chunk>, ChunkError> {
    let mut builder = Builder::new(&LOSS);
    for line in lines {
        builder.int("time", now_us).int("until", now_us).text("probe", missing::PROBE);
        builder.text("reason", substitute::COLLECTOR_LOST).text("detail", line).end_row()?;
    }
    Ok(builder.finish())
}

/// Missing files that were entered in the ledger before.
async fn told(engine: &Engine, snapshot: &Snapshot) -> HashSet<PathBuf> {
    let sql = format!(
        "SELECT DISTINCT detail FROM loss WHERE probe = '{}' AND reason = '{}'",
        missing::PROBE,
        missing::REASON
    );
    let batches = match engine.ask(snapshot.clone(), &sql, None).await {
        Ok(mut answer) => answer.collect().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    use arrow::array::AsArray;
    let texts = batches.iter().filter_map(|batch| batch.column(0).as_string_opt::<i32>());
    texts.flat_map(|texts| texts.iter().flatten().map(|text| Path::new(text).to_owned()).collect::<Vec<_>>()).collect()
}
