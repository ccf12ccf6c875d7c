//! `skep checks`: how services are.

use clap::Args;

use super::listing;
use crate::exit::Failure;
use crate::output::ListFormat;
use crate::place::PlaceArgs;

/// What `skep checks --help` says above its options.
pub(crate) const ABOUT: &str = "How services are, by the checks in their agents' settings; what is not well comes first.\n\n\
    A check is ok, failing (and may pass yet), blocked (something it depends on is down) or down. `skep-agent config \
    --default` says how checks are set up; every run is a row of the table checks.";

/// Arguments of `skep checks`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep checks
  skep checks --unwell --format json
  skep checks --node web-1
  skep query \"SELECT time, ok, latency_ns, error FROM checks WHERE name = 'shop' ORDER BY time DESC LIMIT 20\"")]
pub struct ChecksArgs {
    /// Of this node only
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Only what is not well
    #[arg(long)]
    pub unwell: bool,
    /// How they are printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(super) async fn run(args: ChecksArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let none = if args.unwell { "every service is well" } else { "no service was checked in the last day" };
    listing::print(&source, &sql(&args), args.format, none).await
}

fn sql(args: &ChecksArgs) -> String {
    // People get what tells how it is; programs get everything.
    let columns = if args.format == ListFormat::Table {
        "node, name, kind, state, date_trunc('second', since) AS since, round(latency_ns / 1e6, 1) AS latency_ms, failed, \
         runs, error AS last_error"
    } else {
        "*"
    };
    let node = args.node.as_ref().map(|node| format!("node = '{}'", node.replace('\'', "''")));
    let unwell = args.unwell.then(|| "state <> 'ok'".to_owned());
    let wanted: Vec<String> = node.into_iter().chain(unwell).collect();
    let filter = if wanted.is_empty() { String::new() } else { format!(" WHERE {}", wanted.join(" AND ")) };
    format!("SELECT {columns} FROM check_states{filter} ORDER BY state = 'ok', node, name")
}
