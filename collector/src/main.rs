//! `skep-collector`: see `skep-collector --help`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use skep_collector::config::{self, Flags};
use skep_collector::decide::Policy;
use skep_collector::maintain::{alive, forget};
use skep_collector::query::engine::Limits;
use skep_collector::query::ipc::Pieces;
use skep_collector::query::{Engine, QueryError, offline};
use skep_collector::{app, archive, error, score};
use skep_runtime::telemetry::{self, Format};

/// Batches are taken apart on one thread and gathered on another, for which the C library's allocator takes a fifth of
/// all the time spent. Without huge pages: rows come and go by the window, and clearing two megabytes for each of its
/// pages costs as much again. Command: `cargo xtask bench ingest`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes batches from skep agents, keeps them as Parquet, answers SQL, decides on actions
#[derive(Debug, Parser)]
#[command(name = "skep-collector", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What to log: error, warn, info, debug, trace, or per part
    #[arg(long, env = "SKEP_LOG", global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look: human or json
    #[arg(long, env = "SKEP_LOG_FORMAT", global = true, value_name = "FORMAT", default_value_t)]
    log_format: Format,
}

const EXAMPLES: &str = "Examples:
  skep-collector config --default > collector.toml
  skep-collector policy > policy.toml
  skep-collector serve --config collector.toml
  skep-collector serve --data /var/lib/skep --ca ca.pem --cert collector.pem --key collector.key --command-key command.key
  skep-collector query --data /var/lib/skep \"SELECT node, count(*) FROM cpu GROUP BY node\" > answer.arrows
  skep-collector forget-node web1 --data /var/lib/skep
  skep-collector score --input series --output scored
  skep-collector adopt 0123456789ab --data /var/lib/skep
  skep-collector backup --data /var/lib/skep --to /backup/skep-today
  skep-collector verify --data /backup/skep-today";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the collector until SIGTERM or SIGINT
    Serve(Flags),
    /// Answer one statement from a data folder nobody runs on, as an Arrow IPC stream on standard output
    Query {
        /// Data folder
        #[arg(long, env = "SKEP_DATA", value_name = "DIR")]
        data: PathBuf,
        /// Seconds the statement may take
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        timeout: u64,
        /// One reading statement
        sql: String,
    },
    /// Remove every row of one node, and every row about it, from a data folder nobody runs on; what was done is JSON
    ForgetNode {
        /// The node's name
        node: String,
        /// Data folder
        #[arg(long, env = "SKEP_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Score series from files, one pass without looking ahead; what was done is JSON
    Score {
        /// Folder of CSV files, `timestamp,value` with a header; folders in it too
        #[arg(long, value_name = "DIR")]
        input: PathBuf,
        /// Where they go with a third column, `anomaly_score`, 0 to 1
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
    },
    /// Declare a collector gone that writes to the same history no more, so that another keeps its files in order
    Adopt {
        /// Its name in files: 12 hex digits, in its collector.json and in `skep-collector inspect`
        collector: String,
        /// Data folder of a collector of the same history, which may run
        #[arg(long, env = "SKEP_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    #[command(flatten)]
    Archive(archive::command::Command),
    /// Show the configuration file
    Config {
        /// Print the default file with every key
        #[arg(long, required = true)]
        default: bool,
    },
    /// Print the policy that holds where no file is given
    Policy,
    /// Print the rules that hold unless the settings say otherwise
    DefaultRules,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let quiet = matches!(
        arguments.command,
        Command::Query { .. }
            | Command::ForgetNode { .. }
            | Command::Score { .. }
            | Command::Adopt { .. }
            | Command::Archive(_)
    );
    let filter = arguments.log.unwrap_or_else(|| if quiet { "error" } else { telemetry::DEFAULT_FILTER }.to_owned());
    if let Err(fault) = telemetry::init(&filter, arguments.log_format) {
        return fail(&error::chain(&fault), 2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return fail(&error::chain(&fault), 1),
    };
    let code = match arguments.command {
        Command::Serve(flags) => match flags.load() {
            Err(fault) => fail(&error::chain(&fault), 2),
            Ok(config) => match runtime.block_on(app::serve(config)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(fault) => fail(&error::chain(&fault), 1),
            },
        },
        Command::Query { data, timeout, sql } => match runtime.block_on(query(&data, &sql, timeout)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => fail(&format!("{fault:#}"), 1),
        },
        Command::ForgetNode { node, data } => match forget::forget_node(&data, &node) {
            Ok(done) => print(&format!("{}\n", serde_json::json!(done))),
            Err(fault) => fail(&error::chain(&fault), 1),
        },
        Command::Score { input, output } => match score::score(&input, &output) {
            Ok(done) => print(&format!("{}\n", serde_json::json!(done))),
            Err(fault) => fail(&error::chain(&fault), 1),
        },
        Command::Adopt { collector, data } => match alive::declare_gone(&data, &collector) {
            Ok(()) => print(&format!("{}\n", serde_json::json!({ "gone": collector }))),
            Err(fault) => fail(&error::chain(&fault), 1),
        },
        Command::Archive(command) => match command.run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(fault) => fail(&error::chain(&fault), 1),
        },
        Command::Config { .. } => print(config::DEFAULT_FILE),
        Command::Policy => print(Policy::default_text()),
        Command::DefaultRules => print(skep_collector::alert::DEFAULT_RULES),
    };
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn query(data: &std::path::Path, sql: &str, timeout_s: u64) -> anyhow::Result<()> {
    let offline::Found { snapshot, history, collector, folder: _folder } = offline::open(data)?;
    let engine = Engine::over(Limits::of_one(2 << 30, Duration::from_secs(timeout_s)), &history, &collector)?;
    let mut answer = engine.ask(snapshot, sql, None).await?;
    let mut pieces = Pieces::new(&answer.schema())?;
    let mut stdout = std::io::stdout().lock();
    while let Some(batch) = answer.next().await? {
        pieces.write(&batch)?;
        pieces.take().iter().try_for_each(|piece| stdout.write_all(piece))?;
    }
    pieces.finish()?;
    pieces.take().iter().try_for_each(|piece| stdout.write_all(piece))?;
    stdout.flush()?;
    let files = answer.unreadable();
    if files.is_empty() { Ok(()) } else { Err(QueryError::Incomplete { files }.into()) }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => fail(&error::chain(&fault), 1),
    }
}

fn fail(line: &str, code: u8) -> ExitCode {
    // Nobody can be told that nobody can be told.
    let _unsaid = writeln!(std::io::stderr(), "error: {line}").is_err();
    ExitCode::from(code)
}
