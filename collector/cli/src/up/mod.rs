//! `skep up`: everything on this host, in the foreground.
//!
//! Prepares the folder ([`folder`], [`certificates`], [`command_key`]), starts the programs beside this one in the order
//! collector, executor, agent ([`keeper`]), shows numbers ([`numbers`], [`screen`]) and stops them in the order agent,
//! executor, collector, so that what was seen last is still taken in.
//!
//! The children are in process groups of their own: an interrupt from the terminal reaches this program only, which then
//! stops them in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use thiserror::Error;

use crate::command::span;
use crate::exit::Failure;
use crate::place::DEFAULT_DATA;

pub mod certificates;

pub mod command_key;

pub mod folder;

mod keeper;

mod leftover;

mod log;

mod numbers;

mod parts;

mod screen;

mod session;

mod summary;

/// What `skep up --help` says above its options.
pub(crate) const ABOUT: &str = "Watch this host: start collector, executor and agent, and show live numbers.\n\n\
    Needs root: it loads eBPF programs. Certificates and keys are made on first use and renewed by themselves. The \
    executor only says what it would do unless --act is given. Stop with Ctrl-C; what was seen stays in the data \
    folder and answers `skep query` without anything running.";

/// Arguments of `skep up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo skep up
  sudo skep up --for 60s --data /tmp/skep
  sudo skep up --act --window 1s
  sudo skep up --listen 0.0.0.0:7443     # let agents of other hosts in

The programs write their logs to DIR/log; their process ids are in DIR/run.")]
pub struct UpArgs {
    /// Data folder, made when missing [env: SKEP_DATA]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, env = "SKEP_DATA", hide_env = true, default_value = DEFAULT_DATA)]
    pub data: PathBuf,
    /// Where the collector listens; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7443")]
    pub listen: SocketAddr,
    /// Stop after this long
    #[arg(long = "for", value_name = "SPAN", value_parser = span::parse)]
    pub run_for: Option<Duration>,
    /// Length of a window, from 1s
    #[arg(long, value_name = "SPAN", value_parser = window, default_value = "10s")]
    pub window: Duration,
    /// Let the executor change the host; without it, it only says what it would do
    #[arg(long)]
    pub act: bool,
    /// Policy that maps findings to actions [default: built in, asks before it acts]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub policy: Option<PathBuf>,
    /// Only warnings and the summary
    #[arg(long, short)]
    pub quiet: bool,
}

fn window(text: &str) -> Result<Duration, String> {
    match span::parse(text)? {
        window if window < Duration::from_secs(1) => Err("must be at least 1s".to_owned()),
        window if window > Duration::from_secs(3600) => Err("must be at most 1h".to_owned()),
        window => Ok(window),
    }
}

/// Why `skep up` could not start or keep its parts.
#[derive(Debug, Error)]
pub enum UpError {
    /// Not root.
    #[error("`skep up` loads eBPF programs and needs root: run it with sudo")]
    NotRoot,
    /// Another one runs on the folder.
    #[error("another `skep up`{who} runs on {}: stop it, or use another --data", data.display())]
    Running {
        /// The folder.
        data: PathBuf,
        /// Its process id in brackets, if it could be read.
        who: String,
    },
    /// A file or folder below the data folder.
    #[error("cannot {what} {}", path.display())]
    Folder {
        /// `create`, `read`, `write`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate could not be made or read.
    #[error("cannot {what} the certificate {}", path.display())]
    Certificate {
        /// `make` or `read`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: certificates::CertificateError,
    },
    /// The command key is not what it should be.
    #[error("{} is no Ed25519 key in PEM: {reason}", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// The decoder's words.
        reason: String,
    },
    /// A program of this build is not beside this one.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// Path tried.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program ended before it was ready.
    #[error("{name} did not start ({status}): {said} (log: {})", log.display())]
    Died {
        /// Program.
        name: &'static str,
        /// How it ended.
        status: String,
        /// Its last line.
        said: String,
        /// Where the rest is.
        log: PathBuf,
    },
    /// A program runs and does not get ready.
    #[error("{name} is not ready after {}s (log: {})", after.as_secs(), log.display())]
    NotReady {
        /// Program.
        name: &'static str,
        /// How long it was waited for.
        after: Duration,
        /// Where it says why.
        log: PathBuf,
    },
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The user insisted.
    #[error("stopped hard on a second interrupt; the next start reads what was kept")]
    StoppedHard,
}

/// Runs until a signal, the end of `--for`, or a failure.
///
/// # Errors
/// [`UpError`] inside [`Failure`].
pub async fn run(args: UpArgs) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(UpError::NotRoot.into());
    }
    session::run(args).await.map_err(Failure::Up)
}
