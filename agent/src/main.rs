//! `skep-agent`: see the library.

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use skep_agent::config::{self, Overrides};
use skep_agent::{app, doctor};
use skep_runtime::telemetry;

/// Failed.
const FAILED: u8 = 1;
/// Wrong usage or wrong settings.
const USAGE: u8 = 2;

/// Watches this host from inside the kernel and sends what it sees to a collector.
#[derive(Debug, Parser)]
#[command(name = "skep-agent", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Task>,
    /// Settings, TOML; flags and SKEP_* variables go over it
    #[arg(long, value_name = "FILE", env = "SKEP_AGENT_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

const EXAMPLES: &str = "Examples:
  skep-agent --config /etc/skep/agent.toml
  skep-agent --collector https://collector.example:7443 --ca ca.pem --cert node.pem --key node.key
  skep-agent doctor
  skep-agent config --default > /etc/skep/agent.toml";

#[derive(Debug, Subcommand)]
enum Task {
    /// Watch and send, until a signal (the default)
    Run,
    /// Say feature by feature what this host allows and why not; exits 1 when something essential is missing
    Doctor {
        /// How to say it
        #[arg(long, value_enum, default_value = "human")]
        format: DoctorFormat,
    },
    /// Print settings
    Config {
        /// The default file
        #[arg(long, required = true)]
        default: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DoctorFormat {
    Human,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Task::Config { .. }) => print(config::DEFAULT_FILE, ExitCode::SUCCESS),
        Some(Task::Doctor { format }) => examine(&cli.overrides, format),
        None | Some(Task::Run) => run(cli.config, &cli.overrides),
    }
}

fn run(file: Option<PathBuf>, overrides: &Overrides) -> ExitCode {
    let text = match file.as_ref().map(std::fs::read_to_string).transpose() {
        Ok(text) => text,
        Err(error) => return fail(USAGE, &format!("{}: {error}", file.unwrap_or_default().display())),
    };
    let config = match config::load(file.as_deref().zip(text.as_deref()), overrides) {
        Ok(config) => config,
        Err(faults) => return fail(USAGE, &faults.0.join("\n")),
    };
    if let Err(error) = telemetry::init(&config.log, config.log_format) {
        return fail(USAGE, &skep_agent::error::chain(&error));
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail(FAILED, "another cryptography provider is installed");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("cannot start the runtime: {error}")),
    };
    match runtime.block_on(app::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &skep_agent::error::chain(&error)),
    }
}

fn examine(overrides: &Overrides, format: DoctorFormat) -> ExitCode {
    let state_dir = overrides.state_dir.as_deref().unwrap_or("/var/lib/skep/agent");
    let checks = doctor::run(state_dir.as_ref());
    let text = match format {
        DoctorFormat::Human => doctor::human(&checks),
        DoctorFormat::Json => doctor::json(&checks),
    };
    print(&text, if doctor::is_unfit(&checks) { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn print(text: &str, code: ExitCode) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::from(FAILED),
    }
}

/// One line each on stderr, with the program's name.
fn fail(code: u8, lines: &str) -> ExitCode {
    for line in lines.lines() {
        // Nobody is left to tell if stderr is gone.
        let _ = writeln!(std::io::stderr(), "skep-agent: {line}");
    }
    ExitCode::from(code)
}
