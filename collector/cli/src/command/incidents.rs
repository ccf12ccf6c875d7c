//! `skep incidents`: findings that belong together, and an operator's word on them.

use std::time::Duration;

use clap::{Args, Subcommand};
use skep_wire::v1::Verb;

use super::actions::full_id;
use super::word::{self, Word};
use super::{listing, span};
use crate::exit::Failure;
use crate::output::{ListFormat, print_line, quoted, rows};
use crate::place::PlaceArgs;

/// What `skep incidents --help` says above its options.
pub(crate) const ABOUT: &str = "Findings that belong together, as one incident with a time line.\n\n\
    Findings of one node or one workload in the same minutes are one incident, and so are those of a workload and of whom it \
    calls. It takes one of medium severity to open it. What changed shortly before stands in its time line. It is closed when a quarter of an hour passed without another such and nothing of it stands, or by an operator; what comes \
    back within half an hour opens it again. The start of an id is enough.";

/// Arguments of `skep incidents`.
#[derive(Debug, Args)]
#[command(
    after_help = "\
Examples:
  skep incidents list --state open
  skep incidents show 7b10
  skep incidents ack 7b10 --reason \"looking at it\"
  skep incidents close 7b10 --reason \"disk replaced\"",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct IncidentsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: IncidentsCommand,
}

/// What to do with incidents.
#[derive(Debug, Subcommand)]
pub enum IncidentsCommand {
    /// Incidents and their states, newest first
    List(ListArgs),
    /// One incident, step by step
    Show(ShowArgs),
    /// Say that somebody sees to it
    Ack(WordArgs),
    /// Say that it is over
    Close(WordArgs),
}

/// Arguments of `skep incidents list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep incidents list
  skep incidents list --state open,acknowledged --since 7d
  skep incidents list --format json | jq -r '.[] | select(.state == \"open\") | .incident'")]
pub struct ListArgs {
    /// Changed since so long ago
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "24h")]
    pub since: Duration,
    /// Only in these states, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = ["open", "acknowledged", "closed"])]
    pub state: Vec<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// How they are printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `skep incidents show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep incidents show 7b10
  skep incidents show 7b10 --format json | jq -r '.[].detail'")]
pub struct ShowArgs {
    /// Id of the incident, or its start
    #[arg(value_name = "ID")]
    pub id: String,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `skep incidents ack` and `close`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep incidents ack 7b10 --reason \"looking at it\"
  skep incidents close 7b10

Needs a running collector. Exit code 4 when the incident is not in a state that allows it.")]
pub struct WordArgs {
    /// Id of the incident, or its start
    #[arg(value_name = "ID")]
    pub id: String,
    /// Why, for the time line and the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(super) async fn run(args: IncidentsArgs) -> Result<(), Failure> {
    match args.command {
        IncidentsCommand::List(args) => list(args).await,
        IncidentsCommand::Show(args) => show(args).await,
        IncidentsCommand::Ack(args) => word(args, Verb::Acknowledge, "incidents ack").await,
        IncidentsCommand::Close(args) => word(args, Verb::Close, "incidents close").await,
    }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let newer = span::newer_than(args.since, span::now_us());
    let columns = if args.format == ListFormat::Table {
        "date_trunc('second', began) AS began, substr(incident, 1, 12) AS incident, state, severity, target_node AS node, \
         workload, findings, title"
    } else {
        "time, incident, state, began, last, severity, title, target_node, workload, findings, rules, standing, actor, detail"
    };
    let states = listing::in_states(&args.state);
    let newest = "SELECT *, row_number() OVER (PARTITION BY incident ORDER BY time DESC) AS newest FROM incidents";
    let sql = format!(
        "SELECT {columns} FROM ({newest} WHERE {newer}) WHERE newest = 1{states} ORDER BY time DESC LIMIT {}",
        args.limit
    );
    let none = format!("no such incidents in the last {}", humantime::format_duration(args.since));
    listing::print(&source, &sql, args.format, &none).await
}

async fn show(args: ShowArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let id = full_id(&source, "incidents", "incident", &args.id).await?;
    let literal = quoted(&id);
    let columns = if args.format == ListFormat::Table {
        let sql = format!(
            "SELECT state, severity, title, target_node, findings FROM incidents WHERE incident = {literal} \
             ORDER BY time DESC LIMIT 1"
        );
        let now = source.ask(&sql).await?.collect().await?;
        if let Some(row) = rows(&now).next() {
            let text = |name: &str| row.text(name).unwrap_or_default();
            let (state, severity, node, title) = (text("state"), text("severity"), text("target_node"), text("title"));
            print_line(&format!("incident {id} is {state}, {severity}, on {node}: {title}\n"))?;
        }
        "i.time AS time, change, state, coalesce(f.severity, '') AS severity, substr(coalesce(i.finding, ''), 1, 12) AS finding, \
         i.actor AS actor, i.detail AS detail"
    } else {
        "i.time AS time, incident, change, state, i.finding AS finding, f.time AS raised, f.severity AS severity, f.rule AS rule, \
         f.evidence AS evidence, i.findings AS findings, i.standing AS standing, actor, detail"
    };
    let sql = format!(
        "SELECT {columns} FROM incidents i LEFT JOIN findings f ON f.finding = i.finding WHERE incident = {literal} \
         ORDER BY i.time"
    );
    listing::print(&source, &sql, args.format, "").await
}

async fn word(args: WordArgs, verb: Verb, what: &'static str) -> Result<(), Failure> {
    let WordArgs { id, reason, format, place } = args;
    word::say(Word { id, reason, format, place }, ("incidents", "incident"), verb, what).await
}
