//! `skep findings`: what deserves a look.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{listing, span};
use crate::exit::Failure;
use crate::output::ListFormat;
use crate::place::PlaceArgs;

/// What `skep findings --help` says above its options.
pub(crate) const ABOUT: &str = "What deserves a look, newest first.\n\n\
    A finding comes from a rule on one event or from a series that left its usual range. `skep explain ID` shows \
    what it rests on; the start of an id is enough.";

/// Arguments of `skep findings`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep findings
  skep findings --since 1h --severity high
  skep findings --format json | jq -r '.[].title'")]
pub struct FindingsArgs {
    /// How far back
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "24h")]
    pub since: Duration,
    /// This severity or worse
    #[arg(long, value_enum, default_value_t = Severity::Info)]
    pub severity: Severity,
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

/// How bad, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Severity {
    /// For the record
    Info,
    /// Unusual
    Low,
    /// Look when there is time
    Medium,
    /// Look today
    High,
    /// Look now
    Critical,
}

impl Severity {
    /// This one and all worse, as an SQL list.
    fn and_worse(self) -> String {
        let names: Vec<String> = Self::value_variants()
            .iter()
            .filter(|severity| **severity >= self)
            .filter_map(|severity| severity.to_possible_value())
            .map(|value| format!("'{}'", value.get_name()))
            .collect();
        names.join(", ")
    }
}

pub(super) async fn run(args: FindingsArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let newer = span::newer_than(args.since, span::now_us());
    // People get what tells findings apart; programs get everything.
    let columns = if args.format == ListFormat::Table {
        "date_trunc('second', time) AS raised, substr(finding, 1, 12) AS finding, severity, target_node AS node, workload, title, coverage"
    } else {
        "*"
    };
    let sql = format!(
        "SELECT {columns} FROM findings WHERE {newer} AND severity IN ({}) ORDER BY time DESC LIMIT {}",
        args.severity.and_worse(),
        args.limit
    );
    let none = format!("no findings in the last {}", humantime::format_duration(args.since));
    listing::print(&source, &sql, args.format, &none).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_severity_includes_the_worse_ones() {
        assert_eq!(Severity::High.and_worse(), "'high', 'critical'");
        assert_eq!(Severity::Info.and_worse().matches('\'').count(), 10);
    }
}
