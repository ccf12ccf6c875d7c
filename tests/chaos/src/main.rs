//! Faults on purpose: what the collector acknowledged must be there, once, whatever happened in between.
//!
//! `cargo xtask chaos ingest` builds and runs it.
//!
//! * [`power`]: the collector's own WAL, buffer and tables on a disk in memory that loses power at any operation.
//! * [`ingest`]: real collectors, killed, cut off and starved of disk, and agents that send again what was not
//!   acknowledged.
//! * [`fixture`]: a data folder of one release, for those after it to open.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use skep_chaos_ground::Rounds;

mod batch;

mod fixture;

mod ingest;

mod power;

#[derive(Debug, Parser)]
#[command(about = "What the collector acknowledged must be there, once, whatever happened in between", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "Examples:
  cargo xtask chaos ingest --rounds 1000
  cargo xtask chaos ingest --rounds 1 --seed 7312 --json
  cargo xtask chaos power --rounds 5000";

#[derive(Debug, Subcommand)]
enum What {
    /// Real collectors: kill -9, full disk, broken connections, clocks that jump; a round of `power` for every second
    Ingest(Rounds),
    /// The collector's storage on a disk in memory: power cuts, torn writes, failing fsync, full disk, flipped bits
    Power(Rounds),
    /// A data folder as a given collector writes it, for the tests of later releases; `cargo xtask fixture` calls it
    Fixture(fixture::Options),
}

fn main() -> ExitCode {
    match run(&Cli::parse().what) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was as it must be.
fn run(what: &What) -> Result<bool> {
    let (rounds, figures) = match what {
        What::Power(rounds) => (rounds, power::run(rounds.first_seed(), rounds.rounds)),
        What::Ingest(rounds) => (rounds, ingest::run(rounds.first_seed(), rounds.rounds)?),
        What::Fixture(options) => return fixture::write(options).map(|()| true),
    };
    Ok(rounds.tell(&figures))
}
