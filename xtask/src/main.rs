//! Repository tasks. `cargo xtask --help` lists them.

use anyhow::Result;
use clap::{Parser, Subcommand};

mod generate;

#[derive(Parser)]
#[command(about = "skep's repository tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write common/wire/src/gen from the .proto files; with --check, only compare
    Generate {
        /// Change nothing; fail when the committed code differs
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Generate { check } => generate::run(check),
    }
}
