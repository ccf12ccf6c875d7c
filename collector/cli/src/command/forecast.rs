//! `skep forecast`: what a gauge will be, between which bounds, and when it is full.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use clap::{Args, ValueHint};
use skep_series::Point;
use skep_series::forecast::{Forecast, HORIZONS, Outlook};
use skep_series::limit::{Limit, NoSkill, Until};
use skep_series::replay;

use super::{CommandError, listing, span};
use crate::exit::Failure;
use crate::output::{ListFormat, quoted, rows};
use crate::place::PlaceArgs;

/// What `skep forecast --help` says above its options.
pub(crate) const ABOUT: &str = "What a gauge will be, between which bounds, and when it is full.\n\n\
    METRIC is one of the table `host`; its history by five minutes is replayed. Skill is how much better the forecast has \
    been than repeating the last value; where it was not, there is `no skill`: look at the bounds, not at the value. The \
    bounds are what the forecasts were off by lately. Ratios are full at 1; --limit says where another gauge is.\n\n\
    With --csv the series is a file, `timestamp,value` with a header, and there is a row for each of its rows: what was \
    forecast then, without looking ahead.";

/// Seconds a step of hosts' gauges.
const STEP_S: f64 = 300.0;

/// Arguments of `skep forecast`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep forecast disk_used_ratio
  skep forecast memory_available_bytes --node web1 --limit 0
  skep forecast load_1m --horizon 1h --format json
  skep forecast --csv series.csv --horizon 1h --format csv")]
pub struct ForecastArgs {
    /// A gauge of the table host
    #[arg(value_name = "METRIC", required_unless_present = "csv", conflicts_with = "csv", value_hint = ValueHint::Other)]
    pub metric: Option<String>,
    /// A file instead of a gauge
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub csv: Option<PathBuf>,
    /// One node alone
    #[arg(long, value_name = "NODE", conflicts_with = "csv")]
    pub node: Option<String>,
    /// One label alone, as in the table: a mount, a device
    #[arg(long, value_name = "LABEL", conflicts_with = "csv")]
    pub label: Option<String>,
    /// How far ahead [default: 5m, 1h and 6h]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub horizon: Option<Duration>,
    /// How much of the past is replayed
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "14d", conflicts_with = "csv")]
    pub since: Duration,
    /// Where it is full [default: 1 for ratios]
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    pub limit: Option<f64>,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(super) async fn run(args: ForecastArgs) -> Result<(), Failure> {
    let batch = match (&args.csv, &args.metric) {
        (Some(file), _) => of_file(file, &args)?,
        (None, Some(metric)) => of_gauge(metric, &args).await?,
        (None, None) => return Err(CommandError::usage("name a metric, or a file with --csv")),
    };
    listing::write(&batch.schema(), &[batch], args.format, "no such gauge was reported in that time")
}

/// One forecast of one series.
#[derive(Debug, Clone)]
struct Row {
    names: [String; 2],
    value: f64,
    outlook: Outlook,
    until: Option<Result<Until, NoSkill>>,
}

async fn of_gauge(metric: &str, args: &ForecastArgs) -> Result<RecordBatch, Failure> {
    let one = |column: &str, value: &Option<String>| {
        value.as_ref().map_or_else(String::new, |value| format!(" AND {column} = {}", quoted(value)))
    };
    let sql = format!(
        "SELECT node, label, time_bucket('5 minutes', time) AS t, avg(value) AS value FROM host \
         WHERE metric = {}{}{} AND {} GROUP BY node, label, t ORDER BY node, label, t",
        quoted(metric),
        one("node", &args.node),
        one("label", &args.label),
        span::newer_than(args.since, span::now_us()),
    );
    let answer = super::open(&args.place).await?.ask(&sql).await?.collect().await?;
    let limit = args.limit.or_else(|| metric.ends_with("_ratio").then_some(1.0));
    let mut told: Vec<Row> = Vec::new();
    let mut series: Option<([String; 2], Series)> = None;
    for row in rows(&answer) {
        let (Some(node), Some(time_us), Some(value)) = (row.text("node"), row.int("t"), row.float("value")) else {
            continue;
        };
        let names = [node, row.text("label").unwrap_or_default()];
        if series.as_ref().is_none_or(|(before, _)| *before != names) {
            told.extend(series.take().into_iter().flat_map(|(names, series)| series.told(&names, limit)));
            series = Some((names, Series::new(STEP_S, args.horizon)));
        }
        if let Some((_, series)) = &mut series {
            series.observe(Point::new(time_us as f64 / 1e6, value));
        }
    }
    told.extend(series.into_iter().flat_map(|(names, series)| series.told(&names, limit)));
    if args.format == ListFormat::Table { for_people(&told) } else { for_programs(&told, ["node", "label"]) }
}

/// One row for each row that the scorer takes; the forecasts at the time.
fn of_file(file: &std::path::Path, args: &ForecastArgs) -> Result<RecordBatch, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| CommandError::usage(format!("cannot read {}: {error}", file.display())))?;
    let wrong = |error: replay::ReplayError| CommandError::usage(format!("{}: {error}", file.display()));
    let series_rows = replay::rows(&text).map_err(wrong)?;
    let step_s = replay::step_s(&series_rows)
        .ok_or_else(|| CommandError::usage(format!("{} holds no two rows in order", file.display())))?;
    let mut series = Series::new(step_s, args.horizon.or(Some(Duration::from_secs(3600))));
    let mut told = Vec::new();
    for row in &series_rows {
        if series.observe(Point::new(row.time_s, row.value)) {
            told.extend(series.told(&[row.time.to_owned(), String::new()], args.limit));
        }
    }
    for_programs(&told, ["timestamp", ""])
}

struct Series {
    forecast: Forecast,
    limit: Limit,
}

impl Series {
    fn new(step_s: f64, horizon: Option<Duration>) -> Self {
        let steps =
            horizon.map(|horizon| (horizon.as_secs_f64() / step_s).round().clamp(1.0, f64::from(u32::MAX)) as u32);
        let forecast = steps.map_or_else(|| Forecast::at(step_s, &HORIZONS), |steps| Forecast::at(step_s, &[steps]));
        Self { forecast, limit: Limit::default() }
    }

    /// Whether there was a point.
    fn observe(&mut self, point: Point) -> bool {
        let taken = matches!(self.forecast.observe(point), Ok(true));
        taken && self.limit.observe(point).is_ok()
    }

    fn told(&self, names: &[String; 2], limit: Option<f64>) -> Vec<Row> {
        let until = limit.map(|limit| self.limit.until(limit));
        let row = |outlook| Row { names: names.clone(), value: self.forecast.value(), outlook, until };
        self.forecast.outlooks().map(row).collect()
    }
}

fn for_people(told: &[Row]) -> Result<RecordBatch, Failure> {
    let text = |value: &dyn Fn(&Row) -> String| listing::texts(told.iter().map(value));
    let within = |row: &Row| {
        let (from, to) = row.outlook.within_95?;
        Some(format!("{} to {}", number(from), number(to)))
    };
    listing::batch([
        ("node", text(&|row| row.names[0].clone())),
        ("label", text(&|row| row.names[1].clone())),
        ("now", text(&|row| number(row.value))),
        ("in", text(&|row| ahead(row.outlook.ahead_s))),
        ("forecast", text(&|row| number(row.outlook.value))),
        ("95% between", text(&|row| within(row).unwrap_or_else(|| "not known yet".to_owned()))),
        (
            "skill",
            text(&|row| row.outlook.skill.map_or_else(|| "no skill".to_owned(), |s| format!("{:.0}%", s * 100.0))),
        ),
        ("full in", text(&|row| row.until.map_or_else(String::new, full))),
    ])
}

fn for_programs(told: &[Row], names: [&str; 2]) -> Result<RecordBatch, Failure> {
    let numbers = |value: &dyn Fn(&Row) -> Option<f64>| -> ArrayRef {
        Arc::new(told.iter().map(value).collect::<Float64Array>())
    };
    let name = |at: usize| listing::texts(told.iter().map(|row| row.names[at].clone()));
    let until = |row: &Row| row.until.and_then(Result::ok);
    let why = |row: &Row| match row.until {
        Some(Err(why)) => why.as_str(),
        _ => "",
    };
    let mut columns = vec![(names[0], name(0))];
    if !names[1].is_empty() {
        columns.push((names[1], name(1)));
    }
    columns.extend([
        ("value", numbers(&|row| Some(row.value))),
        ("ahead_s", numbers(&|row| Some(row.outlook.ahead_s))),
        ("forecast", numbers(&|row| Some(row.outlook.value))),
        ("low_95", numbers(&|row| row.outlook.within_95.map(|(from, _)| from))),
        ("high_95", numbers(&|row| row.outlook.within_95.map(|(_, to)| to))),
        ("low_80", numbers(&|row| row.outlook.within_80.map(|(from, _)| from))),
        ("high_80", numbers(&|row| row.outlook.within_80.map(|(_, to)| to))),
        ("skill", numbers(&|row| row.outlook.skill)),
        ("full_in_days", numbers(&|row| until(row).map(|until| until.days))),
        ("full_earliest_days", numbers(&|row| until(row).map(|until| until.earliest_days))),
        ("full_latest_days", numbers(&|row| until(row).and_then(|until| until.latest_days))),
        ("full_unknown", listing::texts(told.iter().map(why))),
    ]);
    listing::batch(columns)
}

fn full(until: Result<Until, NoSkill>) -> String {
    match until {
        Ok(until) => {
            let latest = until.latest_days.map_or_else(|| "perhaps never".to_owned(), days);
            format!("{} ({} to {latest})", days(until.days), days(until.earliest_days))
        }
        Err(why) => why.as_str().to_owned(),
    }
}

fn days(days: f64) -> String {
    match days {
        long if long >= 2.0 => format!("{long:.0} days"),
        middle if middle * 24.0 >= 2.0 => format!("{:.0} hours", middle * 24.0),
        short => format!("{:.0} minutes", (short * 1440.0).max(0.0)),
    }
}

fn ahead(seconds: f64) -> String {
    humantime::format_duration(Duration::from_secs(seconds.round().max(0.0) as u64)).to_string()
}

/// Four digits, whatever the size.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 || (size < 1e-3 && size > 0.0) {
        format!("{value:.3e}")
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_told_with_bounds_and_when_it_is_full() {
        let mut series = Series::new(STEP_S, None);
        for step in 0..2000 {
            assert!(series.observe(Point::new(STEP_S * f64::from(step), 0.3 + 0.0001 * f64::from(step))));
        }
        let told = series.told(&["n".to_owned(), "/".to_owned()], Some(1.0));
        assert_eq!(told.len(), 3);
        let until = told[0].until.unwrap().unwrap();
        assert!((until.days - 5000.0 * STEP_S / 86_400.0).abs() < 1.0, "{until:?}");
        let batch = for_people(&told).unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (3, 8));
        assert!(for_programs(&told, ["node", "label"]).is_ok());
    }

    #[test]
    fn the_horizon_is_in_steps_of_the_series() {
        let mut series = Series::new(3600.0, Some(Duration::from_secs(7200)));
        for hour in 0..10 {
            series.observe(Point::new(3600.0 * f64::from(hour), 1.0));
        }
        let told = series.told(&[String::new(), String::new()], None);
        assert_eq!((told.len(), told[0].outlook.ahead_s), (1, 7200.0));
        assert_eq!(ahead(7200.0), "2h");
    }

    #[test]
    fn a_file_is_replayed_row_by_row() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("series.csv");
        let lines: String = (0..300).map(|at| format!("{},{}\n", at * 300, at % 5)).collect();
        std::fs::write(&file, format!("timestamp,value\n{lines}")).unwrap();
        let args = ForecastArgs {
            metric: None,
            csv: Some(file.clone()),
            node: None,
            label: None,
            horizon: Some(Duration::from_secs(3600)),
            since: Duration::from_secs(1),
            limit: None,
            format: ListFormat::Csv,
            place: PlaceArgs::default(),
        };
        let batch = of_file(&file, &args).unwrap();
        assert_eq!(batch.num_rows(), 300);
        assert!(batch.column_by_name("low_95").unwrap().null_count() > 100, "no bounds before a hundred were judged");
        std::fs::write(&file, "timestamp,value\nsoon,1\n").unwrap();
        assert!(of_file(&file, &args).unwrap_err().to_string().contains("line 2"));
    }
}
