//! The command line as clap sees it. Each command's own arguments stand beside its code.

use clap::{Parser, Subcommand};

use crate::command::{
    actions::ActionsArgs, audit::AuditArgs, checks::ChecksArgs, completions::CompletionsArgs, doctor::DoctorArgs,
    events::EventsArgs, explain::ExplainArgs, export::ExportArgs, findings::FindingsArgs, flush::FlushArgs,
    forecast::ForecastArgs, health::HealthArgs, incidents::IncidentsArgs, man::ManArgs, nodes::NodesArgs,
    policy::PolicyArgs, query::QueryArgs, rules::RulesArgs, tables::TablesArgs,
};
use crate::top::TopArgs;
use crate::up::UpArgs;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, also when the answer is empty
  1  tried and failed
  2  the command line or a configuration file makes no sense
  3  no collector to reach and no folder to answer from
  4  the other side said no

Start with `sudo skep up`, then `skep top` in another terminal.";

/// See what a Linux host does, from inside its kernel
#[derive(Debug, Parser)]
#[command(
    name = "skep",
    version,
    about,
    long_about = "See what a Linux host does, from inside its kernel.\n\n\
        `skep up` watches this host with eBPF, keeps what it saw as Parquet, says what is unusual and why, and can act \
        on it. The other commands ask: a running collector where there is one, else the files it left.",
    after_help = EXIT_CODES,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, in the order people meet them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this host: start collector, executor and agent, and show live numbers
    #[command(long_about = crate::up::ABOUT)]
    Up(UpArgs),
    /// Live view of processes, workloads, system calls, connections and health
    #[command(long_about = crate::top::ABOUT)]
    Top(TopArgs),
    /// Ask in SQL
    #[command(long_about = crate::command::query::ABOUT)]
    Query(QueryArgs),
    /// What the tables and their columns are
    #[command(long_about = crate::command::tables::ABOUT)]
    Tables(TablesArgs),
    /// What happens on the hosts: processes, connections, findings
    #[command(long_about = crate::command::events::ABOUT)]
    Events(EventsArgs),
    /// Hosts that report, and how well they are seen
    #[command(long_about = crate::command::nodes::ABOUT)]
    Nodes(NodesArgs),
    /// What deserves a look
    #[command(long_about = crate::command::findings::ABOUT)]
    Findings(FindingsArgs),
    /// Findings that belong together, and who sees to them
    #[command(long_about = crate::command::incidents::ABOUT)]
    Incidents(IncidentsArgs),
    /// One finding: its evidence, what was done about it, how much was seen
    #[command(long_about = crate::command::explain::ABOUT)]
    Explain(ExplainArgs),
    /// What is looked for in events: list, check and try out rules
    #[command(long_about = crate::command::rules::ABOUT)]
    Rules(RulesArgs),
    /// What skep did or wants to do about findings
    #[command(long_about = crate::command::actions::ABOUT)]
    Actions(ActionsArgs),
    /// What is done about which finding, and what would have been
    #[command(long_about = crate::command::policy::ABOUT)]
    Policy(PolicyArgs),
    /// Every step of every decision, and whether the record is as it was written
    #[command(long_about = crate::command::audit::ABOUT)]
    Audit(AuditArgs),
    /// How services are, by the checks on their hosts
    #[command(long_about = crate::command::checks::ABOUT)]
    Checks(ChecksArgs),
    /// How well nodes and workloads are, and what makes it so
    #[command(long_about = crate::command::health::ABOUT)]
    Health(HealthArgs),
    /// What a gauge will be, between which bounds, and when it is full
    #[command(long_about = crate::command::forecast::ABOUT)]
    Forecast(ForecastArgs),
    /// Check this installation from the certificates to the numbers
    #[command(long_about = crate::command::doctor::ABOUT)]
    Doctor(DoctorArgs),
    /// Copy tables to files
    #[command(long_about = crate::command::export::ABOUT)]
    Export(ExportArgs),
    /// Write what the collector holds in memory to Parquet now
    #[command(long_about = crate::command::flush::ABOUT)]
    Flush(FlushArgs),
    /// Completions for a shell
    #[command(hide = true)]
    Completions(CompletionsArgs),
    /// Manual pages
    #[command(hide = true)]
    Man(ManArgs),
}
