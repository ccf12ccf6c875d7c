//! Repository tasks. `cargo xtask --help` lists them.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod chaos;
mod fixture;
mod fuzz;
mod generate;
mod interop;
mod lint;
mod peers;
mod run;
mod setup;
mod tally;
mod test;
mod up;
mod vm;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Tasks of the skep repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need; the other tasks run it when something is missing
    Setup,
    /// Build skep and start it on this host: cargo xtask up --for 60s
    Up {
        /// Passed on to `skep up`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<String>,
    },
    /// Formatting, lints, unit, kernel and end-to-end tests; as root
    Test,
    /// The agent on other kernels, in qemu: cargo xtask vm --kernel 6.1; as root
    Vm {
        /// Only this one of --list, which then must be possible; may be repeated
        #[arg(long = "kernel", value_name = "NAME")]
        names: Vec<String>,
        /// What there is
        #[arg(long)]
        list: bool,
        /// Write the verifier's instruction counts to xtask/src/vm/verified.toml rather than compare them
        #[arg(long)]
        record: bool,
    },
    /// Other engines read one history and agree with skep query: DuckDB, Polars, pandas, PyArrow, deltalake, ADBC
    Interop {
        /// ClickHouse (chdb) and Spark as well, which are large
        #[arg(long)]
        all: bool,
    },
    /// Cost of a hot path against its floor: cargo xtask bench overhead --json
    Bench {
        /// Which: overhead, agent, syscall, batch, ingest, query, fleet, series, healing, found
        name: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
        /// Passed on to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<String>,
    },
    /// Kill, cut off, starve and unplug the programs: cargo xtask chaos ingest --rounds 1000; as root
    Chaos {
        /// Which: ingest, power, act
        name: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
        /// Passed on: --rounds N, --seed S
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<String>,
    },
    /// Nonsense for decoder and verifier of commands: cargo xtask fuzz act --seconds 600
    Fuzz {
        /// Which: act
        name: String,
        /// Seconds of CPU
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u64,
        /// Where chance begins
        #[arg(long, value_name = "S", default_value_t = 1)]
        seed: u64,
    },
    /// Build a release and keep its agent and a data folder of its for later tests: cargo xtask fixture v0.2.0; as root
    Fixture {
        /// Its tag or commit
        #[arg(value_name = "COMMIT")]
        commit: String,
    },
    /// Formatting, clippy and layering, without tests
    Lint,
    /// Write common/wire/src/gen from the .proto files and docs/TABLES.md from the tables
    Generate {
        /// Change nothing; fail when the committed files differ
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup => setup::run(),
        Task::Up { arguments } => up::run(&arguments),
        Task::Test => test::run(),
        Task::Vm { list: true, .. } => {
            vm::list();
            Ok(())
        }
        Task::Vm { names, record, .. } => vm::run(&vm::Choice { names, record }),
        Task::Interop { all } => interop::run(all),
        Task::Bench { name, json, arguments } => bench::run(&name, json, &arguments),
        Task::Chaos { name, json, arguments } => chaos::run(&name, json, &arguments),
        Task::Fuzz { name, seconds, seed } => fuzz::run(&name, seconds, seed),
        Task::Fixture { commit } => fixture::run(&commit),
        Task::Lint => lint::run(),
        Task::Generate { check } => generate::run(check),
    }
}
