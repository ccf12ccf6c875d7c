//! `skep query`: one statement, any format.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueHint};

use super::{CommandError, span};
use crate::exit::Failure;
use crate::output::{DataFormat, OutputError, Progress, Writer, count, remark};
use crate::place::PlaceArgs;

/// What `skep query --help` says above its options.
pub(crate) const ABOUT: &str = "Ask in SQL.\n\n\
    Tables and views are listed by `skep tables`. A running collector answers from memory and files as one; without one the \
    files of the data folder answer. Histogram columns are lists of (value_ns, count); \
    hist_quantile(column, 0.99) merges them and reads a percentile. Rows are written as they come; a file given with \
    --out appears when it is whole.";

/// Arguments of `skep query`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep query \"SELECT comm, sum(on_cpu_ns) / 1e9 AS cpu_s FROM cpu
              GROUP BY comm ORDER BY cpu_s DESC LIMIT 10\"
  skep query \"SELECT syscall, sum(count) AS n, hist_quantile(latency, 0.99) AS p99_ns
              FROM syscalls GROUP BY syscall ORDER BY n DESC LIMIT 10\"
  skep query \"SELECT * FROM top_cpu WHERE time > now() - INTERVAL '10 minutes' LIMIT 20\"
  skep query \"SELECT time_bucket('5 minutes', time) AS t, sum(lost) FROM loss GROUP BY t ORDER BY t\"
  skep query \"SELECT * FROM loss WHERE reason <> 'none'\" --format ndjson
  skep query \"SELECT * FROM connections\" --format parquet --out connections.parquet
  skep query - --data /var/lib/skep < report.sql")]
pub struct QueryArgs {
    /// The statement; `-` reads it from standard input
    #[arg(value_name = "SQL", value_hint = ValueHint::Other)]
    pub sql: String,
    /// How the answer is written
    #[arg(long, short, value_enum, default_value_t)]
    pub format: DataFormat,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Give up after this long; the collector has a limit of its own [default: its]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub timeout: Option<Duration>,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(super) async fn run(args: QueryArgs) -> Result<(), Failure> {
    let sql = statement(args.sql)?;
    let began = Instant::now();
    let source = super::open(&args.place).await?;
    let mut progress = Progress::of_rows();
    let nothing_else = || Ok::<_, OutputError>(());
    let mut answer = progress.during(source.ask_within(&sql, args.timeout), nothing_else).await??;
    let mut writer = Writer::start(args.format, &answer.schema(), args.out.as_deref())?;
    let on_terminal = std::io::stdout().is_terminal();
    loop {
        let batch = match progress.during(answer.next(), || writer.idle()).await? {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(error) => {
                drop(progress);
                writer.abandon()?;
                return Err(error.into());
            }
        };
        progress.add(batch.num_rows());
        if on_terminal && args.out.is_none() {
            // Rows are seen from here on: a line among them would only disturb.
            progress.give_way();
        }
        writer.push(&batch)?;
    }
    drop(progress);
    let rows = writer.finish()?;
    let noun = if rows == 1 { "row" } else { "rows" };
    remark(&format!("({} {noun}, {:.0?})", count(rows), began.elapsed()));
    Ok(())
}

fn statement(given: String) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given);
    }
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        return Err(CommandError::usage("`skep query -` reads the statement from a file or pipe, not from a terminal"));
    }
    let mut sql = String::new();
    input
        .read_to_string(&mut sql)
        .map_err(|error| CommandError::usage(format!("cannot read the statement from standard input: {error}")))?;
    Ok(sql)
}
