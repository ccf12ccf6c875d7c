//! `skep-agent`: see the library.

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use skep_agent::config::{Config, Overrides};
use skep_agent::service::once;
use skep_agent::{app, canary, config, doctor, heap, probe};
use skep_runtime::telemetry;

const FAILED: u8 = 1;
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
  skep-agent check --config /etc/skep/agent.toml shop-db
  skep-agent detach
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
    /// Run the service checks of the settings once and say how each service is; exits 1 when one is not well
    Check {
        /// Only these
        names: Vec<String>,
        /// How to say it
        #[arg(long, value_enum, default_value = "human")]
        format: DoctorFormat,
    },
    /// Remove the probes that an agent left counting in the kernel; say what was removed
    Detach,
    /// Print settings
    Config {
        /// The default file
        #[arg(long, required = true)]
        default: bool,
    },
    /// What the agent itself runs now and then, to see whether its probes see it
    #[command(hide = true)]
    Canary {
        /// Tells one from the others
        #[arg(long)]
        marker: String,
        /// A port of this host where nobody listens
        #[arg(long)]
        port: u16,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DoctorFormat {
    Human,
    Json,
}

fn main() -> ExitCode {
    heap::give_back();
    let cli = Cli::parse();
    match cli.command {
        Some(Task::Config { .. }) => print(config::DEFAULT_FILE, ExitCode::SUCCESS),
        Some(Task::Canary { port, .. }) => ExitCode::from(canary::errand::run(port)),
        Some(Task::Doctor { format }) => examine(cli.config, &cli.overrides, matches!(format, DoctorFormat::Json)),
        Some(Task::Check { names, format }) => check(cli.config, &cli.overrides, &names, format),
        Some(Task::Detach) => detach(cli.config, &cli.overrides),
        None | Some(Task::Run) => run(cli.config, &cli.overrides),
    }
}

fn run(file: Option<PathBuf>, overrides: &Overrides) -> ExitCode {
    let config = match load(file, overrides) {
        Ok(config) => config,
        Err(lines) => return fail(USAGE, &lines),
    };
    if let Err(error) = telemetry::init(&config.log, config.log_format) {
        return fail(USAGE, &skep_agent::error::chain(&error));
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail(FAILED, "another cryptography provider is installed");
    }
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => match runtime.block_on(app::run(config)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &skep_agent::error::chain(&error)),
        },
        Err(error) => fail(FAILED, &format!("cannot start the runtime: {error}")),
    }
}

fn check(file: Option<PathBuf>, overrides: &Overrides, names: &[String], format: DoctorFormat) -> ExitCode {
    let config = match load(file, overrides) {
        Ok(config) => config,
        Err(lines) => return fail(USAGE, &lines),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("cannot start the runtime: {error}")),
    };
    let outcomes = match runtime.block_on(once::run(config.checks, names)) {
        Ok(outcomes) => outcomes,
        Err(line) => return fail(USAGE, &line),
    };
    let text = if matches!(format, DoctorFormat::Json) { once::json(&outcomes) } else { once::human(&outcomes) };
    let is_well = outcomes.iter().all(|outcome| outcome.error.is_none());
    print(&text, if is_well { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Settings, or every fault of them, a line each.
fn load(file: Option<PathBuf>, overrides: &Overrides) -> Result<Config, String> {
    let text = file.as_ref().map(std::fs::read_to_string).transpose();
    let text = text.map_err(|error| format!("{}: {error}", file.clone().unwrap_or_default().display()))?;
    config::load(file.as_deref().zip(text.as_deref()), overrides).map_err(|faults| faults.0.join("\n"))
}

/// Settings where there are any: a host is looked at before it has them, too. With a file that is wrong there is no
/// telling what was meant.
fn load_if_any(file: Option<PathBuf>, overrides: &Overrides) -> Result<Option<Config>, String> {
    match (load(file.clone(), overrides), file) {
        (Ok(config), _) => Ok(Some(config)),
        (Err(lines), Some(_)) => Err(lines),
        (Err(_), None) => Ok(None),
    }
}

fn detach(file: Option<PathBuf>, overrides: &Overrides) -> ExitCode {
    // Told where, it does without the rest of the settings.
    let folder = match overrides.pin.as_deref() {
        Some(pin) => config::pin_folder(Some(pin)),
        None => match load_if_any(file, overrides) {
            Ok(Some(config)) => config.pin,
            Ok(None) => config::pin_folder(None),
            Err(lines) => return fail(USAGE, &lines),
        },
    };
    let Some(folder) = folder else { return fail(USAGE, "pinning is switched off: say where with --pin DIR") };
    match probe::detach(&folder) {
        Ok(removed) if removed.is_empty() => {
            print(&format!("nothing is pinned in {}\n", folder.display()), ExitCode::SUCCESS)
        }
        Ok(removed) => {
            let line = |set: &probe::Removed| {
                format!("removed {}: {} programs, {} maps\n", set.path.display(), set.programs, set.maps)
            };
            print(&removed.iter().map(line).collect::<String>(), ExitCode::SUCCESS)
        }
        Err(error) => fail(FAILED, &format!("{}: cannot detach: {error}", folder.display())),
    }
}

fn examine(file: Option<PathBuf>, overrides: &Overrides, json: bool) -> ExitCode {
    let config = match load_if_any(file, overrides) {
        Ok(config) => config,
        Err(lines) => return fail(USAGE, &lines),
    };
    let checks = doctor::run(config.as_ref(), overrides);
    let text = if json { doctor::json(&checks) } else { doctor::human(&checks) };
    print(&text, if doctor::is_unfit(&checks) { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn print(text: &str, code: ExitCode) -> ExitCode {
    std::io::stdout().write_all(text.as_bytes()).map_or(ExitCode::from(FAILED), |()| code)
}

/// One line each on stderr, with the program's name.
fn fail(code: u8, lines: &str) -> ExitCode {
    for line in lines.lines() {
        // Nobody is left to tell if stderr is gone.
        let _ = writeln!(std::io::stderr(), "skep-agent: {line}");
    }
    ExitCode::from(code)
}
