//! `skep export`: tables to files, one a table.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueHint};
use indicatif::{ProgressBar, ProgressStyle};

use super::{CommandError, span, tables};
use crate::connect::Source;
use crate::exit::Failure;
use crate::output::{DataFormat, OutputError, Writer, count, print_line};
use crate::place::PlaceArgs;

/// What `skep export --help` says above its options.
pub(crate) const ABOUT: &str = "Copy tables to files, one a table.\n\n\
    A file appears under its name only when it is whole. The live history is Parquet already \
    (DIR/history/TABLE/...): export when the rows have to leave the host or be cut by time.";

/// Arguments of `skep export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep export --table cpu,syscalls --since 1h --to /tmp/incident
  skep export --since 1d --to backup
  skep export --table processes --format csv --out processes.csv")]
pub struct ExportArgs {
    /// Which tables, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(tables::names()))]
    pub table: Vec<String>,
    /// How far back [default: everything]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub since: Option<Duration>,
    /// Folder for the files, made when missing
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, required_unless_present = "out", conflicts_with = "out")]
    pub to: Option<PathBuf>,
    /// One table to this file
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// How rows are written
    #[arg(long, short, value_enum, default_value_t = DataFormat::Parquet)]
    pub format: DataFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(super) async fn run(args: ExportArgs) -> Result<(), Failure> {
    let chosen: Vec<String> =
        if args.table.is_empty() { tables::names().map(str::to_owned).collect() } else { args.table.clone() };
    let files: Vec<(String, PathBuf)> = match (&args.to, &args.out) {
        (_, Some(out)) => match chosen.as_slice() {
            [one] => vec![(one.clone(), out.clone())],
            _ => return Err(CommandError::usage("--out takes one --table; use --to DIR for several")),
        },
        (Some(folder), None) => {
            std::fs::create_dir_all(folder).map_err(|source| OutputError::File { path: folder.clone(), source })?;
            chosen
                .iter()
                .map(|table| (table.clone(), folder.join(format!("{table}.{}", ending(args.format)))))
                .collect()
        }
        (None, None) => return Err(CommandError::usage("say where: --to DIR or --out FILE")),
    };
    let source = super::open(&args.place).await?;
    let newer = args.since.map(|since| span::newer_than(since, span::now_us()));
    for (table, path) in files {
        let rows = copy(&source, &table, newer.as_deref(), args.format, &path).await?;
        print_line(&format!("{}: {} rows", path.display(), count(rows)))?;
    }
    Ok(())
}

async fn copy(
    source: &Source,
    table: &str,
    newer: Option<&str>,
    format: DataFormat,
    path: &Path,
) -> Result<u64, Failure> {
    let filter = newer.map_or(String::new(), |newer| format!(" WHERE {newer}"));
    let progress = progress(table);
    let mut answer = source.ask(&format!("SELECT * FROM {table}{filter}")).await?;
    let mut writer = Writer::start(format, &answer.schema(), Some(path))?;
    while let Some(batch) = answer.next().await? {
        writer.push(&batch)?;
        progress.inc(batch.num_rows() as u64);
    }
    progress.finish_and_clear();
    Ok(writer.finish()?)
}

fn progress(table: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::no_length().with_message(table.to_owned());
    let style = ProgressStyle::with_template("{spinner} {msg}: {human_pos} rows, {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn ending(format: DataFormat) -> &'static str {
    match format {
        DataFormat::Table => "txt",
        DataFormat::Json => "json",
        DataFormat::Csv => "csv",
        DataFormat::Arrow => "arrow",
        DataFormat::Parquet => "parquet",
    }
}
