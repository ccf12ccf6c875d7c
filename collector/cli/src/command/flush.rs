//! `skep flush`: memory to Parquet, now.

use clap::Args;

use crate::exit::Failure;
use crate::output::{ListFormat, count, print_line};
use crate::place::PlaceArgs;

/// What `skep flush --help` says above its options.
pub(crate) const ABOUT: &str = "Write what the collector holds in memory to Parquet now.\n\n\
    The collector does this by itself every little while and when it stops. Use this before another engine reads the \
    folder. Needs a running collector.";

/// Arguments of `skep flush`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep flush && duckdb -c \"SELECT count(*) FROM '/var/lib/skep/history/cpu/date=*/*/*.parquet'\"")]
pub struct FlushArgs {
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(super) async fn run(args: FlushArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let reply = source.live("flush")?.flush().await?;
    let line = match args.format {
        ListFormat::Table => format!("{} rows in {} files", count(reply.rows), count(reply.files)),
        ListFormat::Json => serde_json::json!({ "rows": reply.rows, "files": reply.files }).to_string(),
        ListFormat::Csv => format!("rows,files\n{},{}", reply.rows, reply.files),
    };
    Ok(print_line(&line)?)
}
