//! `skep actions`: what skep did or wants to do, and an operator's word on it.

use std::time::Duration;

use clap::{Args, Subcommand};
use skep_wire::v1::Verb;

use super::order::{self, ExtendArgs, OrderArgs};
use super::word::{self, Word};
use super::{CommandError, listing, span};
use crate::connect::Source;
use crate::exit::Failure;
use crate::output::{ListFormat, print_line, quoted, rows};
use crate::place::PlaceArgs;

/// What `skep actions --help` says above its options.
pub(crate) const ABOUT: &str = "What skep did or wants to do about findings.\n\n\
    In mode `ask` an action waits as `pending` until it is approved, rejected, or expires. Every action is a lease: \
    the executor undoes it when the lease ends. The start of an id is enough.";

/// Arguments of `skep actions`.
#[derive(Debug, Args)]
#[command(
    after_help = "\
Examples:
  skep actions list --state pending
  skep actions show 4f2a
  skep actions approve 4f2a --reason \"load test got out of hand\"
  skep actions undo 4f2a
  skep actions order web-1 restart_unit unit=nginx.service",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct ActionsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ActionsCommand,
}

/// What to do with actions.
#[derive(Debug, Subcommand)]
pub enum ActionsCommand {
    /// Actions and their states, newest first
    List(ListArgs),
    /// One action, step by step
    Show(ShowArgs),
    /// Let a pending action happen
    Approve(WordArgs),
    /// Turn a pending action down
    Reject(WordArgs),
    /// Undo an action before its lease ends
    Undo(WordArgs),
    /// Let an action stand for longer
    Extend(ExtendArgs),
    /// Begin an action of your own
    Order(OrderArgs),
}

/// Arguments of `skep actions list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep actions list
  skep actions list --state pending,applied --since 7d
  skep actions list --format json | jq -r '.[] | select(.state == \"pending\") | .action'")]
pub struct ListArgs {
    /// How far back
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "24h")]
    pub since: Duration,
    /// Only in these states, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = STATES)]
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

const STATES: [&str; 15] = [
    "observed",
    "pending",
    "rejected",
    "expired",
    "sent",
    "refused",
    "applied",
    "improved",
    "unchanged",
    "worse",
    "undone",
    "failed",
    "moot",
    "done",
    "extended",
];

/// Arguments of `skep actions show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep actions show 4f2a
  skep actions show 4f2a --format json")]
pub struct ShowArgs {
    /// Id of the action, or its start
    #[arg(value_name = "ID")]
    pub id: String,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `skep actions approve`, `reject` and `undo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep actions approve 4f2a --reason \"known runaway\"
  skep actions reject 4f2a
  skep actions undo 4f2a

Needs a running collector. Exit code 4 when the action is not in a state that allows it.")]
pub struct WordArgs {
    /// Id of the action, or its start
    #[arg(value_name = "ID")]
    pub id: String,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(super) async fn run(args: ActionsArgs) -> Result<(), Failure> {
    match args.command {
        ActionsCommand::List(args) => list(args).await,
        ActionsCommand::Show(args) => show(args).await,
        ActionsCommand::Approve(args) => word(args, Verb::Approve, "actions approve").await,
        ActionsCommand::Reject(args) => word(args, Verb::Reject, "actions reject").await,
        ActionsCommand::Undo(args) => word(args, Verb::Undo, "actions undo").await,
        ActionsCommand::Extend(args) => order::extend(args).await,
        ActionsCommand::Order(args) => order::order(args).await,
    }
}

/// The newest row of each action is its state.
const NEWEST: &str = "SELECT *, row_number() OVER (PARTITION BY action ORDER BY time DESC, stream, seq DESC) AS newest \
                      FROM actions";

async fn list(args: ListArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let newer = span::newer_than(args.since, span::now_us());
    let columns = if args.format == ListFormat::Table {
        "date_trunc('second', time) AS changed, substr(action, 1, 12) AS action, state, mode, verb, parameters, target_node AS node, workload, lease_until, dry_run, detail"
    } else {
        "time, action, finding, target_node, workload, cgroup, cgroup_id, verb, parameters, mode, state, actor, detail, \
         lease_until, dry_run"
    };
    let states = listing::in_states(&args.state);
    let sql = format!(
        "SELECT {columns} FROM ({NEWEST} WHERE {newer}) WHERE newest = 1{states} ORDER BY time DESC LIMIT {}",
        args.limit
    );
    let none = format!("no such actions in the last {}", humantime::format_duration(args.since));
    listing::print(&source, &sql, args.format, &none).await
}

async fn show(args: ShowArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let id = full_id(&source, "actions", "action", &args.id).await?;
    let columns = if args.format == ListFormat::Table {
        "time, state, actor, verb, parameters, workload, lease_until, dry_run, detail"
    } else {
        "*"
    };
    let sql = format!("SELECT {columns} FROM actions WHERE action = {} ORDER BY time, stream, seq", quoted(&id));
    if args.format == ListFormat::Table {
        let sql = format!("SELECT finding FROM actions WHERE action = {} LIMIT 1", quoted(&id));
        let about = source.ask(&sql).await?.collect().await?;
        let finding = rows(&about).next().and_then(|row| row.text("finding")).unwrap_or_default();
        print_line(&format!("action {id}, for finding {finding}\n"))?;
    }
    listing::print(&source, &sql, args.format, "").await
}

async fn word(args: WordArgs, verb: Verb, what: &'static str) -> Result<(), Failure> {
    let WordArgs { id, reason, format, place } = args;
    word::say(Word { id, reason, format, place }, ("actions", "action"), verb, what).await
}

/// The action whose id starts like `start`, if there is exactly one.
pub(super) async fn maybe_id(source: &Source, start: &str) -> Result<Option<String>, Failure> {
    match full_id(source, "actions", "action", start).await {
        Ok(id) => Ok(Some(id)),
        Err(Failure::Command(CommandError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The id that starts like `start`, from a column of a table.
pub(super) async fn full_id(
    source: &Source,
    table: &'static str,
    column: &'static str,
    start: &str,
) -> Result<String, Failure> {
    if start.is_empty() || !start.chars().all(|c| c.is_ascii_alphanumeric() || "-_:.".contains(c)) {
        return Err(CommandError::usage(format!("{start:?} is no id")));
    }
    let sql = format!(
        "SELECT DISTINCT {column} AS id FROM {table} WHERE starts_with({column}, {}) ORDER BY id LIMIT 5",
        quoted(start)
    );
    let found = source.ask(&sql).await?.collect().await?;
    let mut ids: Vec<String> = rows(&found).filter_map(|row| row.text("id")).collect();
    if let Some(exact) = ids.iter().position(|id| id == start) {
        return Ok(ids.swap_remove(exact));
    }
    match ids.len() {
        0 => {
            let hint = match table {
                "findings" => ": see `skep findings`",
                "incidents" => ": see `skep incidents list`",
                _ => ": see `skep actions list`",
            };
            Err(CommandError::NotFound { what: column, name: start.to_owned(), hint: hint.to_owned() }.into())
        }
        1 => Ok(ids.swap_remove(0)),
        _ => Err(CommandError::Ambiguous { what: column, name: start.to_owned(), candidates: ids }.into()),
    }
}
