//! `skep-executor`: parse, load the configuration, run, exit code.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use skep_executor::app::{self, Options};
use skep_executor::config::{Config, DEFAULT_TEXT};
use skep_executor::socket::client;
use skep_runtime::telemetry::{self, Format};

/// How long jobs may take to notice that this program ends.
const JOBS_END_WITHIN: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "Examples:
  skep-executor --socket /run/skep/executor.sock --state-dir /var/lib/skep/executor \\
      --trusted-key /etc/skep/command.pub --node web-1
  skep-executor status --socket /run/skep/executor.sock
  skep-executor config > /etc/skep/executor.toml

Exit codes: 0 ok, 1 failed, 2 usage or configuration.";

/// Carries out signed commands on this host, under its own policy, and takes every one of them back.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<Serve>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what stands on this host.
    Status {
        /// Where the executor listens.
        #[arg(long, env = "SKEP_EXECUTOR_SOCKET", value_name = "PATH")]
        socket: PathBuf,
    },
    /// Print the configuration that holds where none is given.
    Config,
}

#[derive(Debug, Args)]
struct Serve {
    /// Where to listen.
    #[arg(long, env = "SKEP_EXECUTOR_SOCKET", value_name = "PATH")]
    socket: PathBuf,
    /// Folder for the journal.
    #[arg(long, env = "SKEP_EXECUTOR_STATE_DIR", value_name = "DIR")]
    state_dir: PathBuf,
    /// Ed25519 public keys (PEM, one or more) whose commands count; read again when the file changes; may be repeated.
    #[arg(long = "trusted-key", env = "SKEP_EXECUTOR_TRUSTED_KEY", value_name = "FILE", required = true)]
    trusted_keys: Vec<PathBuf>,
    /// Name of this node, as in the agent's certificate.
    #[arg(long, env = "SKEP_NODE", value_name = "NAME")]
    node: String,
    /// This boot, where /proc/sys cannot be read: systemd's %b.
    #[arg(long, env = "SKEP_BOOT", value_name = "ID")]
    boot: Option<String>,
    /// TOML configuration; see `skep-executor config`.
    #[arg(long, env = "SKEP_EXECUTOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change the host; without it everything is checked and nothing is changed.
    #[arg(long, env = "SKEP_EXECUTOR_ACT")]
    act: bool,
    /// Log filter.
    #[arg(long, env = telemetry::ENVIRONMENT, default_value = telemetry::DEFAULT_FILTER, value_name = "FILTER")]
    log: String,
    /// human or json.
    #[arg(long, default_value_t = Format::Human)]
    log_format: Format,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (result, usage) = match (cli.command, cli.serve) {
        (Some(Command::Status { socket }), _) => (status(&socket), false),
        (Some(Command::Config), _) => (print(DEFAULT_TEXT), false),
        (None, Some(serve)) => match prepare(serve) {
            Ok(options) => (block_on(app::run(options)), false),
            Err(error) => (Err(error), true),
        },
        (None, None) => (Err(anyhow::anyhow!("nothing to do; see --help")), true),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skep-executor: {error:#}");
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// Everything that can be wrong with flags and configuration.
fn prepare(serve: Serve) -> anyhow::Result<Options> {
    telemetry::init(&serve.log, serve.log_format)?;
    let mut config = match &serve.config {
        None => Config::parse("")?,
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Config::parse(&text).with_context(|| format!("{} is not usable", path.display()))?
        }
    };
    config.act |= serve.act;
    let Serve { socket, state_dir, trusted_keys, node, boot, .. } = serve;
    Ok(Options { socket, state_dir, trusted_keys, node, boot, config })
}

fn status(socket: &std::path::Path) -> anyhow::Result<()> {
    let status = block_on(client::status(socket))?;
    let mode = if status.dry_run { "dry run" } else { "acts" };
    let mut text = format!("skep-executor {} ({mode}), {} standing\n", status.version, status.active.len());
    status.active.iter().for_each(|action| text.push_str(&format!("  {action}\n")));
    print(&text)
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn block_on<T, E>(future: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
where
    anyhow::Error: From<E>,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    let ended = runtime.block_on(future);
    // Whoever waits for an action's outcome was told that nobody waits any longer.
    runtime.shutdown_timeout(JOBS_END_WITHIN);
    Ok(ended?)
}
