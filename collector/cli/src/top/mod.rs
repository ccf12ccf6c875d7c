//! `skep top`: a live view.
//!
//! One task asks ([`feed`]) and publishes what it got; the screen's owner ([`live`]) draws the newest ([`draw`]) and
//! turns keys into changes of what is shown ([`view`]). A pane is a [`sheet`] of text cells with sort keys, so that
//! sorting, filtering and drawing exist once.

use clap::{Args, ValueEnum};

use crate::command::CommandError;
use crate::exit::Failure;
use crate::output::{self, Layout, ListFormat, remark};
use crate::place::{PlaceArgs, Process, resolve};

mod draw;

mod feed;

mod live;

mod panes;

mod sheet;

mod snapshot;

mod view;

/// What `skep top --help` says above its options.
pub(crate) const ABOUT: &str = "Live view of processes, workloads, system calls, connections and health.\n\n\
    Every number is of the newest whole window, over all nodes that report; connections are of the last five \
    minutes. Press ? for the keys.";

/// Arguments of `skep top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep top
  skep top --pane syscalls --sort p99
  skep top --once --pane workloads --limit 5
  skep top --once --filter nginx --format json")]
pub struct TopArgs {
    /// Pane to start with
    #[arg(long, value_enum, default_value_t)]
    pub pane: Pane,
    /// Column to sort by, as in its heading
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<String>,
    /// Only rows that contain this text
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub filter: String,
    /// Print the pane once and end
    #[arg(long)]
    pub once: bool,
    /// With --once: at most so many rows
    #[arg(long, value_name = "N", default_value_t = 20, requires = "once")]
    pub limit: usize,
    /// With --once: how it is printed
    #[arg(long, short, value_enum, default_value_t, requires = "once")]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Pane {
    /// By CPU, with run-queue delay
    #[default]
    Processes,
    /// Units, pods, containers, sessions
    Workloads,
    /// Rate, errors, latency
    Syscalls,
    /// TCP by peer, last five minutes
    Connections,
    /// What deserves a look, last day
    Findings,
    /// Nodes, coverage and loss
    Health,
}

impl Pane {
    const ALL: [Self; 6] =
        [Self::Processes, Self::Workloads, Self::Syscalls, Self::Connections, Self::Findings, Self::Health];

    fn title(self) -> &'static str {
        match self {
            Self::Processes => "Processes",
            Self::Workloads => "Workloads",
            Self::Syscalls => "Syscalls",
            Self::Connections => "Connections",
            Self::Findings => "Findings",
            Self::Health => "Health",
        }
    }

    fn at(index: usize) -> Self {
        Self::ALL.get(index).copied().unwrap_or_default()
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|pane| *pane == self).unwrap_or(0)
    }
}

/// Runs until q, or prints once.
///
/// # Errors
/// [`Failure`]; a collector that goes away later is shown on the screen and waited for.
pub async fn run(args: TopArgs) -> Result<(), Failure> {
    let place = resolve(&args.place, &Process)?;
    let mut view = view::View::new(args.pane, args.filter.clone());
    if let Some(name) = &args.sort
        && !view.sort_by(name)
    {
        let known = panes::columns(args.pane).iter().map(|column| column.title).collect::<Vec<_>>().join(", ");
        return Err(CommandError::usage(format!("{name:?} is no column of this pane: {known}")));
    }
    if args.once {
        return once(&args, &place, &mut view).await;
    }
    live::run(place, view).await
}

async fn once(args: &TopArgs, place: &crate::place::Place, view: &mut view::View) -> Result<(), Failure> {
    let source = crate::connect::Source::open(place).await?;
    let snapshot = snapshot::take(&source).await?;
    if snapshot.window.is_none() {
        remark("waiting for the first window: nothing to show yet");
    }
    view.show(snapshot);
    if args.format == ListFormat::Table {
        return Ok(output::print(&view.sheet().text(args.limit, Layout::stdout()))?);
    }
    let batch = view.sheet().batch(args.limit).map_err(output::OutputError::Arrow)?;
    let schema = batch.schema();
    let mut writer = output::Writer::start(args.format.into(), &schema, None)?;
    writer.push(&batch)?;
    writer.finish()?;
    Ok(())
}
