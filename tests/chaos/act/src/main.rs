//! Faults on purpose where hosts are acted on: a real collector, a real agent and a real executor, and a host that is changed for real.
//!
//! An episode is one data folder, one journal, and a few rounds. In a round an operator orders, takes back and extends, while
//! one fault happens: connections are cut on either side of the agent, collector, executor or agent are killed, the executor
//! is told to end, or one of them has its wall clock stepped, there and back, with and without a restart. Between agent and
//! executor commands come twice, late, in another order, and again long after. When all faults are over every command there
//! ever was is handed to the executor once more. Then nothing may stand beyond its lease, nothing may have been done twice,
//! no budget may have been exceeded in either place, and the audit chain must hold and name every command.
//!
//! `cargo xtask chaos act` builds and runs it.
//!
//! * [`clock`]: a wall clock of one process alone.
//! * [`programs`]: executor, agent and collector, started again and again.
//! * [`host`]: what is acted on; [`cast`]: the processes among it.
//! * [`tap`]: between agent and executor; [`log`]: what was seen there.
//! * [`watch`]: whether anything stands too long.
//! * [`round`]: what happens; [`tally`]: whether it may have.
//! * [`episode`]: all of it in order.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use skep_chaos_ground::Rounds;

mod clock;

mod programs;

mod host;

mod cast;

mod tap;

mod log;

mod watch;

mod round;

mod tally;

mod episode;

#[derive(Debug, Parser)]
#[command(about = "Nothing stands beyond its lease and nothing is done twice, whatever happened in between", after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    cast: Option<Cast>,
    #[command(flatten)]
    rounds: Rounds,
}

const EXAMPLES: &str = "Examples:
  cargo xtask chaos act --rounds 200
  cargo xtask chaos act --rounds 10 --seed 7312 --json";

/// Something to be acted on.
#[derive(Debug, Subcommand)]
enum Cast {
    /// Works a little
    #[command(hide = true)]
    Burden,
    /// Says when it is asked to end
    #[command(hide = true)]
    Victim {
        /// Where it says so
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was as it must be.
fn run(cli: &Cli) -> Result<bool> {
    match &cli.cast {
        Some(Cast::Burden) => cast::burden(),
        Some(Cast::Victim { file }) => cast::victim(file).map(|()| true),
        None => {
            let figures = episode::run(cli.rounds.first_seed(), cli.rounds.rounds)?;
            Ok(cli.rounds.tell(&figures))
        }
    }
}
