//! `skep events`: one line an event, as it happens or from history.

use std::time::Duration;

use clap::{Args, ValueEnum};
use skep_wire::{chunk, tables};

use super::span;
use crate::connect::{AskError, Source};
use crate::exit::Failure;
use crate::output::{Layout, print, remark, rows};
use crate::place::PlaceArgs;

mod line;

use line::Event;

/// What `skep events --help` says above its options.
pub(crate) const ABOUT: &str = "What happens on the hosts: processes, connections, findings.\n\n\
    Without --follow: the recent past, oldest first. With --follow: each event within a second of its happening, \
    until interrupted; events missed because this end was too slow are counted and said.";

/// Arguments of `skep events`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep events --follow
  skep events --follow --kind exec,finding
  skep events --since 1h --kind fail
  skep events --since 5m --format json | jq -c 'select(.comm == \"curl\")'

--format json prints one object a line.")]
pub struct EventsArgs {
    /// Keep printing what happens from now on
    #[arg(long, conflicts_with_all = ["since", "limit"])]
    pub follow: bool,
    /// Only these kinds, separated by commas [default: all but fork]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub kind: Vec<EventKind>,
    /// How far back
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "10m")]
    pub since: Duration,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: u32,
    /// How an event is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: EventFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EventKind {
    /// A process made another
    Fork,
    /// A process became another program
    Exec,
    /// A process ended
    Exit,
    /// A TCP connection was made
    Open,
    /// A TCP connection ended
    Close,
    /// A TCP connection could not be made
    Fail,
    /// Something deserves a look
    Finding,
}

impl EventKind {
    const DEFAULT: [Self; 6] = [Self::Exec, Self::Exit, Self::Open, Self::Close, Self::Fail, Self::Finding];

    fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Open => "open",
            Self::Close => "close",
            Self::Fail => "fail",
            Self::Finding => "finding",
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::Fork | Self::Exec | Self::Exit => "processes",
            Self::Open | Self::Close | Self::Fail => "connections",
            Self::Finding => "findings",
        }
    }
}

/// How an event is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum EventFormat {
    /// A line for people
    #[default]
    Table,
    /// An object a line
    Json,
    /// With a header line
    Csv,
}

pub(super) async fn run(args: EventsArgs) -> Result<(), Failure> {
    let kinds = if args.kind.is_empty() { EventKind::DEFAULT.to_vec() } else { args.kind.clone() };
    let source = super::open(&args.place).await?;
    if args.format == EventFormat::Csv {
        print(line::CSV_HEADER)?;
    }
    if args.follow { follow(&source, &kinds, args.format).await } else { past(&source, &kinds, &args).await }
}

async fn follow(source: &Source, kinds: &[EventKind], format: EventFormat) -> Result<(), Failure> {
    let live = source.live("events --follow")?;
    let mut stream = live.events(kinds.iter().map(|kind| kind.name().to_owned()).collect()).await?;
    let layout = Layout::stdout();
    loop {
        let reply = tokio::select! {
            reply = stream.message() => reply.map_err(|status| live.fault(&status))?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(reply) = reply else {
            let message = "the collector stopped".to_owned();
            return Err(AskError::Lost { url: live.url().to_owned(), message }.into());
        };
        if reply.missed > 0 {
            missed(reply.missed, format)?;
        }
        let Some(chunk) = reply.chunk else { continue };
        let Some(table) = tables::find(&chunk.table) else { continue };
        if let Err(error) = chunk::check(&chunk, table) {
            eprintln!("skipped a damaged reply: {error}");
            continue;
        }
        let mut text = String::new();
        for row in chunk::rows(&chunk) {
            let event = Event::read(table, &reply.node, &row, format);
            // A collector that knows more kinds than were asked for must not get them printed.
            if kinds.iter().any(|kind| kind.name() == event.kind) {
                text.push_str(&event.render(format, layout));
            }
        }
        print(&text)?;
    }
}

/// In the stream for json, so that a reader of the stream cannot take silence for health; else on standard error.
fn missed(count: u64, format: EventFormat) -> Result<(), Failure> {
    if format == EventFormat::Json {
        print(&format!("{}\n", serde_json::json!({ "missed": count })))?;
    } else {
        eprintln!("missed {count} events: this end was too slow");
    }
    Ok(())
}

async fn past(source: &Source, kinds: &[EventKind], args: &EventsArgs) -> Result<(), Failure> {
    let newer = span::newer_than(args.since, span::now_us());
    let mut events = Vec::new();
    for table in [&tables::PROCESSES, &tables::CONNECTIONS, &tables::FINDINGS] {
        let wanted: Vec<&str> =
            kinds.iter().filter(|kind| kind.table() == table.name).map(|kind| kind.name()).collect();
        if wanted.is_empty() {
            continue;
        }
        let filter =
            if table.name == "findings" { String::new() } else { format!(" AND event IN ('{}')", wanted.join("', '")) };
        let sql = format!("SELECT * FROM {} WHERE {newer}{filter} ORDER BY time DESC LIMIT {}", table.name, args.limit);
        let batches = source.ask(&sql).await?.collect().await?;
        events.extend(rows(&batches).map(|row| {
            let node = row.text("node").unwrap_or_default();
            Event::read(table, &node, &row, args.format)
        }));
    }
    events.sort_by_key(|event| event.time_us);
    let surplus = events.len().saturating_sub(args.limit as usize);
    let layout = Layout::stdout();
    let text: String = events.iter().skip(surplus).map(|event| event.render(args.format, layout)).collect();
    print(&text)?;
    if events.is_empty() {
        remark(&format!("nothing in the last {}", humantime::format_duration(args.since)));
    } else if surplus > 0 {
        remark(&format!("{surplus} older events left out: raise --limit or narrow --since or --kind"));
    }
    Ok(())
}
