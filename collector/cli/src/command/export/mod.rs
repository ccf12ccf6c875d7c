//! `skep export`: tables to files, one a table.

use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use clap::{Args, ValueHint};

use self::journal::{Done, Journal, Request};
use super::span::{self, Moment};
use super::{CommandError, listing, tables};
use crate::connect::Source;
use crate::exit::Failure;
use crate::output::{DataFormat, ListFormat, OutputError, Progress, Row, Writer, rows};
use crate::place::PlaceArgs;

mod journal;

const HOUR_US: i64 = 3_600_000_000;

/// What `skep export --help` says above its options.
pub(crate) const ABOUT: &str = "Copy tables to files, one a table.\n\n\
    A file appears under its name only when it is whole. With --to an export that was broken off goes on with --resume: \
    the same span, without the tables that are done. The live history is Parquet already (DIR/history/TABLE/...): \
    export when the rows have to leave the host or be cut by time.";

/// Arguments of `skep export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep export --table cpu,syscalls --since 1h --to /tmp/incident
  skep export --since 2026-11-26T02:00:00Z --until 2026-11-26T03:00:00Z --to /tmp/incident
  skep export --since 1d --to backup
  skep export --to backup --resume
  skep export --table processes --format csv --out processes.csv
  skep export --to backup --summary json | jq '.[].bytes'")]
pub struct ExportArgs {
    /// Which tables or views, separated by commas [default: all tables]
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(tables::all_names()))]
    pub table: Vec<String>,
    /// Rows from then on: how long ago, or a time [default: everything]
    #[arg(long, value_name = "WHEN", value_parser = Moment::parse)]
    pub since: Option<Moment>,
    /// Rows before then: how long ago, or a time [default: now]
    #[arg(long, value_name = "WHEN", value_parser = Moment::parse)]
    pub until: Option<Moment>,
    /// Folder for the files, made when missing
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, required_unless_present = "out", conflicts_with = "out")]
    pub to: Option<PathBuf>,
    /// One table to this file
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Go on with an export into DIR that was broken off
    #[arg(long, requires = "to", conflicts_with_all = ["table", "since", "until", "format"])]
    pub resume: bool,
    /// How rows are written
    #[arg(long, short, value_enum, default_value_t = DataFormat::Parquet)]
    pub format: DataFormat,
    /// How it is said what was written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub summary: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(super) async fn run(args: ExportArgs) -> Result<(), Failure> {
    let done = match (&args.to, &args.out) {
        (_, Some(out)) => {
            let request = request(&args)?;
            let [table] = request.tables.as_slice() else {
                return Err(CommandError::usage("--out takes one --table; use --to DIR for several"));
            };
            let source = super::open(&args.place).await?;
            vec![copy(&source, &request, table, out).await?]
        }
        (Some(folder), None) => {
            let source = super::open(&args.place).await?;
            into_folder(&source, &args, folder).await?
        }
        (None, None) => return Err(CommandError::usage("say where: --to DIR or --out FILE")),
    };
    summarise(&done, args.summary)
}

/// What these arguments ask for, with the times they mean now.
fn request(args: &ExportArgs) -> Result<Request, Failure> {
    let chosen = |names: &[String]| -> Vec<String> {
        if names.is_empty() { tables::names().map(str::to_owned).collect() } else { names.to_vec() }
    };
    let now_us = span::now_us();
    let since_us = args.since.map(|since| since.us(now_us));
    let until_us = args.until.map(|until| until.us(now_us));
    if since_us.zip(until_us).is_some_and(|(since, until)| since >= until) {
        return Err(CommandError::usage("--since is not before --until: nothing would be copied"));
    }
    // An export that goes on later copies what this one would have.
    Ok(Request { tables: chosen(&args.table), since_us, until_us: until_us.unwrap_or(now_us), format: args.format })
}

async fn into_folder(source: &Source, args: &ExportArgs, folder: &Path) -> Result<Vec<Done>, Failure> {
    let mut journal = if args.resume {
        let found = Journal::read(folder)?;
        found.ok_or_else(|| CommandError::usage(format!("no export into {} was broken off", folder.display())))?
    } else {
        std::fs::create_dir_all(folder).map_err(|source| OutputError::File { path: folder.to_owned(), source })?;
        Journal::begin(folder, request(args)?)?
    };
    for table in journal.left() {
        let path = folder.join(format!("{table}.{}", ending(journal.request().format)));
        let done = copy(source, journal.request(), &table, &path).await?;
        journal.add(done)?;
    }
    journal.end()
}

/// Copies one table. A collector is asked hour by hour: no statement runs into its limits however much there is.
async fn copy(source: &Source, request: &Request, table: &str, path: &Path) -> Result<Done, Failure> {
    let (filter, time) = (request.filter(table), journal::time_column(table));
    let counted = format!("SELECT count(*) AS n, min({time}) AS first, max({time}) AS last FROM {table}{filter}");
    let counted = source.ask(&counted).await?.collect().await?;
    let number = |name: &str| rows(&counted).next().and_then(|row: Row<'_>| row.int(name));
    let mut progress = Progress::of_total(number("n").unwrap_or(0).unsigned_abs(), table);
    let nothing_else = || Ok::<_, OutputError>(());
    let schema = source.ask(&format!("SELECT * FROM {table} LIMIT 0")).await?.schema();
    let mut writer = Writer::start(request.format, &schema, Some(path))?;
    for (from_us, to_us) in slices(source, number("first").zip(number("last"))) {
        let slice = format!("{time} >= {} AND {time} < {}", span::moment(from_us), span::moment(to_us));
        let sql = format!("SELECT * FROM {table}{filter} AND {slice}");
        let mut answer = progress.during(source.ask(&sql), nothing_else).await??;
        while let Some(batch) = progress.during(answer.next(), nothing_else).await?? {
            progress.add(batch.num_rows());
            writer.push(&batch)?;
        }
    }
    drop(progress);
    let rows = writer.finish()?;
    let bytes = std::fs::metadata(path).map_err(|source| OutputError::File { path: path.to_owned(), source })?.len();
    Ok(Done { table: table.to_owned(), file: path.to_owned(), rows, bytes })
}

/// Spans, the end not included, that cover all from the first row's time to the last's.
fn slices(source: &Source, times_us: Option<(i64, i64)>) -> Vec<(i64, i64)> {
    let Some((first, last)) = times_us else { return Vec::new() };
    match source {
        Source::Folder(_) => vec![(first, last.saturating_add(1))],
        Source::Live(_) => hours(first, last),
    }
}

fn hours(first_us: i64, last_us: i64) -> Vec<(i64, i64)> {
    let (first, last) = (first_us.div_euclid(HOUR_US), last_us.div_euclid(HOUR_US));
    (first..=last).map(|hour| (hour * HOUR_US, (hour + 1) * HOUR_US)).collect()
}

fn summarise(done: &[Done], format: ListFormat) -> Result<(), Failure> {
    let numbers = |number: fn(&Done) -> u64| -> ArrayRef {
        std::sync::Arc::new(Int64Array::from_iter_values(done.iter().map(|done| number(done).cast_signed())))
    };
    let batch: RecordBatch = listing::batch([
        ("table", listing::texts(done.iter().map(|done| done.table.as_str()))),
        ("file", listing::texts(done.iter().map(|done| done.file.display().to_string()))),
        ("rows", numbers(|done| done.rows)),
        ("bytes", numbers(|done| done.bytes)),
    ])?;
    listing::write(&batch.schema(), &[batch], format, "nothing was left to copy")
}

fn ending(format: DataFormat) -> &'static str {
    match format {
        DataFormat::Table => "txt",
        DataFormat::Json => "json",
        DataFormat::Ndjson => "ndjson",
        DataFormat::Csv => "csv",
        DataFormat::Arrow => "arrow",
        DataFormat::Parquet => "parquet",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_touch_and_hold_both_ends() {
        assert_eq!(hours(-1, 0), [(-HOUR_US, 0), (0, HOUR_US)]);
        assert_eq!(hours(HOUR_US, HOUR_US), [(HOUR_US, 2 * HOUR_US)]);
    }
}
