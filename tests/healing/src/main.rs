//! Breaks things on a host on purpose and measures how skep finds and repairs them.
//!
//! The host is a box: a real systemd on a throw-away copy of this host's files, in a network of its own that has one
//! neighbour. skep runs beside it, as it would on any host: the agent's checks ask the services, the executor speaks to
//! the box's systemd over D-Bus. Whether a thing is broken or well is seen here by asking the thing itself, not skep.
//!
//! `cargo xtask bench healing --json` runs this.

mod boxed;

mod figures;

mod find;

mod ground;

mod hog;

mod kind;

mod neighbour;

mod policy;

mod record;

mod round;

mod settings;

mod skep;

mod subject;

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde_json::Value;

use kind::Kind;

/// Set for the life of this program that has a network and mounts of its own.
const INSIDE: &str = "SKEP_HEALING_INSIDE";

static STOPS: AtomicBool = AtomicBool::new(false);

#[derive(Parser)]
#[command(about = "Breaks things on purpose and measures how they are repaired; needs root")]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    arguments: Arguments,
}

/// What is broken, and how often.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench healing --json\n  \
    cargo xtask bench healing --only hung-unit --rounds 20 --lanes 1 --json\n  \
    cargo xtask bench healing --only crash-loop,lost-cause --rounds 2")]
pub(crate) struct Arguments {
    /// Only these kinds of faults; all of them otherwise
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind::parse)]
    only: Vec<Kind>,
    /// Faults of each kind; otherwise as many as make a hundred, and two lost causes
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=90))]
    rounds: Option<u16>,
    /// Faults at a time
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=32))]
    lanes: u16,
    /// Restarts of one unit in an hour
    #[arg(long, default_value_t = 5)]
    restart_limit: u16,
    /// Seconds between two of them
    #[arg(long, default_value_t = 60)]
    restart_cool_down_s: u16,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Part {
    /// A service that can be broken
    #[command(hide = true)]
    Subject {
        /// Where it answers
        #[arg(long)]
        port: u16,
        /// Its files
        #[arg(long)]
        folder: PathBuf,
    },
    /// Tries one port after another of an address, until it is ended
    #[command(hide = true)]
    Scan {
        /// Whose ports
        address: std::net::Ipv4Addr,
    },
    /// Saturates a host's resources and measures how soon that is found, and by which series
    Find(find::FindArguments),
    /// Opens connections to a port of this host, until it is ended
    #[command(hide = true)]
    Storm {
        /// Which
        port: u16,
        /// How many
        #[arg(long)]
        per_second: u32,
    },
    /// Somebody's machine: listens on all ports it is told
    #[command(hide = true)]
    Neighbour,
}

fn main() -> Result<()> {
    let Cli { part, arguments } = Cli::parse();
    match part {
        Some(Part::Subject { port, folder }) => subject::run(port, &folder),
        Some(Part::Scan { address }) => subject::scan(address),
        Some(Part::Neighbour) => neighbour::run(),
        Some(Part::Storm { port, per_second }) => {
            find::storm(port, per_second);
            Ok(())
        }
        Some(Part::Find(_)) | None if std::env::var_os(INSIDE).is_none() => move_in(),
        Some(Part::Find(arguments)) => {
            listen();
            find::run(&arguments)
        }
        None => {
            listen();
            let figures = round::run_all(&arguments)?;
            if arguments.json {
                println!("{}", Value::Object(figures));
            } else {
                print!("{}", figures::table(&figures));
            }
            Ok(())
        }
    }
}

/// Starts over in a network and a set of mounts of its own: whatever happens, they end with the last process in them. When
/// this process is ended, its end of the pipe is closed and the other takes down what it has put up.
fn move_in() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("it boots a box, loads eBPF programs and makes cgroups: run it as root");
    }
    let mut inside = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot run unshare")?;
    // Waiting would close it.
    let _kept_open = inside.stdin.take();
    let status = inside.wait()?;
    std::process::exit(status.code().unwrap_or(1));
}

/// Waits for the end of the process outside.
fn listen() {
    thread::spawn(|| {
        let _ended = io::copy(&mut io::stdin(), &mut io::sink()).is_err();
        STOPS.store(true, Ordering::Relaxed);
    });
}

/// Whether to take everything down.
pub(crate) fn is_told_to_stop() -> bool {
    STOPS.load(Ordering::Relaxed)
}
