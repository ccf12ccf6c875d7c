//! `skep doctor`: this installation, from the certificates to the numbers.
//!
//! Each check says what it found and, when that is not as it should be, what to do. Checks do not depend on one another:
//! an expired certificate does not hide a full disk.

use clap::Args;

use super::{CommandError, listing};
use crate::exit::Failure;
use crate::output::{ListFormat, Paint, Style, escape, print};
use crate::place::{Place, PlaceArgs, Process, resolve};

mod agent;

mod files;

mod numbers;

/// What `skep doctor --help` says above its options.
pub(crate) const ABOUT: &str = "Check this installation from the certificates to the numbers.\n\n\
    Certificates and keys, disk space, the collector, every node's connection, coverage and loss of the last hour; \
    as root also what this kernel allows (`skep-agent doctor`). Ends with exit code 1 when something is wrong.";

/// Arguments of `skep doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep doctor
  sudo skep doctor --data /var/lib/skep
  skep doctor --format json | jq -r '.[] | select(.status != \"ok\")'")]
pub struct DoctorArgs {
    /// How the checks are printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    /// Works, and deserves a look.
    Warn,
    /// Does not work.
    Fail,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    fn paint(self) -> Paint {
        match self {
            Self::Ok => Paint::Good,
            Self::Warn => Paint::Warn,
            Self::Fail => Paint::Bad,
        }
    }
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    name: String,
    status: Status,
    detail: String,
}

impl Check {
    fn new(name: impl Into<String>, status: Status, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status, detail: detail.into() }
    }

    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, detail)
    }

    fn warn(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Warn, detail)
    }

    fn fail(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Fail, detail)
    }
}

pub(super) async fn run(args: DoctorArgs) -> Result<(), Failure> {
    let place = resolve(&args.place, &Process)?;
    let mut checks = match &place {
        Place::Data(data) => files::of_folder(data),
        Place::Collector { tls, .. } => files::of_operator(tls),
    };
    checks.extend(numbers::run(&place).await);
    if let Place::Data(data) = &place {
        checks.extend(agent::run(data).await);
    }
    match args.format {
        ListFormat::Table => print(&for_people(&checks, Style::stdout()))?,
        format => {
            let batch = listing::batch([
                ("check", listing::texts(checks.iter().map(|check| check.name.as_str()))),
                ("status", listing::texts(checks.iter().map(|check| check.status.name()))),
                ("detail", listing::texts(checks.iter().map(|check| check.detail.as_str()))),
            ])?;
            listing::write(&batch.schema(), &[batch], format, "")?;
        }
    }
    let failed = checks.iter().filter(|check| check.status == Status::Fail).count();
    if failed > 0 { Err(CommandError::Unhealthy { failed, checks: checks.len() }.into()) } else { Ok(()) }
}

fn for_people(checks: &[Check], style: Style) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let line = |check: &Check| {
        let status = style.paint(check.status.paint(), &format!("{:<4}", check.status.name()));
        format!("{status}  {:<width$}  {}\n", check.name, escape(&check.detail))
    };
    checks.iter().map(line).collect()
}
