//! `skep rules`: what is looked for in events, checked and tried out.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use clap::{Args, Subcommand, ValueEnum};
use skep_rules::detector::{Alert, Detector};
use skep_rules::load::{Complaint, Loaded};
use skep_rules::replay::{Line, Replay, judge_case};

use super::{CommandError, listing, span};
use crate::exit::Failure;
use crate::output::{ListFormat, OutputError, print, remark};
use crate::place::PlaceArgs;

/// What `skep rules --help` says above its options.
pub(crate) const ABOUT: &str = "What is looked for in execs and connections.\n\n\
    skep comes with a pack of rules in the Sigma format. A folder of others, as from the SigmaHQ project, is taken \
    beside it (--rules, and [rules] dir of the collector); filters in it let known things be, and need an owner and an \
    expiry.";

/// Arguments of `skep rules`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep rules list
  skep rules lint ./sigma/rules/linux
  skep rules test --rules ./mine
  skep rules test --events execs.jsonl --format json
  skep rules test --since 7d --rules ./mine")]
pub struct RulesArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: RulesAction,
}

/// What can be done with rules.
#[derive(Debug, Subcommand)]
pub enum RulesAction {
    /// The rules with technique, level and author
    #[command(
        after_help = "Examples:\n  skep rules list\n  skep rules list --rules ./mine --format json | jq -r '.[].rule'"
    )]
    List {
        /// Folder of rules beside those that come with skep
        #[arg(long, value_name = "DIR")]
        rules: Option<PathBuf>,
        /// How they are printed
        #[arg(long, short, value_enum, default_value_t)]
        format: ListFormat,
    },
    /// Say what of a folder is refused, what finds nothing here, and which fields are not recorded
    #[command(after_help = "Examples:\n  skep rules lint ./mine\n  skep rules lint ./sigma/rules/linux --format json")]
    Lint {
        /// Folder or file
        #[arg(value_name = "DIR")]
        rules: PathBuf,
        /// How it is printed
        #[arg(long, short, value_enum, default_value_t)]
        format: ListFormat,
    },
    /// Try rules on their own test events, on a file of events, or on what was recorded
    #[command(
        after_help = "Examples:\n  skep rules test\n  skep rules test --events execs.jsonl --format json\n  skep rules test --since 7d --rules ./mine"
    )]
    Test(TestArgs),
}

/// Arguments of `skep rules test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Folder of rules beside those that come with skep
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// A file of events, one JSON object a line, in the order of time
    #[arg(long, value_name = "FILE", conflicts_with = "since")]
    pub events: Option<PathBuf>,
    /// Recorded execs and connections, so far back
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub since: Option<Duration>,
    /// How alerts are printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: AlertFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// How alerts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum AlertFormat {
    /// For people
    #[default]
    Table,
    /// One object a line
    Json,
}

pub(super) async fn run(args: RulesArgs) -> Result<(), Failure> {
    match args.action {
        RulesAction::List { rules, format } => list(rules.as_deref(), format),
        RulesAction::Lint { rules, format } => lint(&rules, format),
        RulesAction::Test(args) => test(args).await,
    }
}

fn load(folder: Option<&Path>) -> Loaded {
    let mut loaded = Loaded::pack();
    if let Some(folder) = folder {
        loaded.folder(folder);
    }
    loaded
}

fn list(folder: Option<&Path>, format: ListFormat) -> Result<(), Failure> {
    let loaded = load(folder);
    let rules = &loaded.rules;
    let batch = listing::batch([
        ("rule", listing::texts(rules.iter().map(|rule| &*rule.name))),
        ("level", listing::texts(rules.iter().map(|rule| rule.level.as_str()))),
        ("attack", listing::texts(rules.iter().map(|rule| rule.techniques.join(" ")))),
        ("title", listing::texts(rules.iter().map(|rule| rule.title.clone()))),
        ("author", listing::texts(rules.iter().map(|rule| rule.author.clone()))),
        ("source", listing::texts(rules.iter().map(|rule| rule.source.clone()))),
    ])?;
    listing::write(&batch.schema(), &[batch], format, "no rules")
}

fn lint(folder: &Path, format: ListFormat) -> Result<(), Failure> {
    let mut loaded = Loaded::pack();
    let own = loaded.rules.len();
    loaded.folder(folder);
    detector(&mut loaded)?;
    let kinds = [("refused", &loaded.refused), ("reserve", &loaded.warnings)];
    let all: Vec<(&str, &Complaint)> =
        kinds.into_iter().flat_map(|(kind, list)| list.iter().map(move |complaint| (kind, complaint))).collect();
    let batch = listing::batch([
        ("kind", listing::texts(all.iter().map(|(kind, _)| *kind))),
        ("file", listing::texts(all.iter().map(|(_, complaint)| complaint.source.clone()))),
        ("rule", listing::texts(all.iter().map(|(_, complaint)| complaint.rule.clone()))),
        ("reason", listing::texts(all.iter().map(|(_, complaint)| complaint.reason.clone()))),
    ])?;
    listing::write(&batch.schema(), &[batch], format, "nothing to complain about")?;
    let (taken, refused) = (loaded.rules.len() - own, loaded.refused.len());
    remark(&format!("{taken} rules taken, {refused} refused, {} with a reserve", loaded.warnings.len()));
    if refused > 0 {
        return Err(CommandError::Unhealthy { failed: refused, checks: taken + refused }.into());
    }
    Ok(())
}

fn detector(loaded: &mut Loaded) -> Result<Detector, Failure> {
    Detector::new(loaded).map_err(|error| CommandError::usage(error.to_string()))
}

async fn test(args: TestArgs) -> Result<(), Failure> {
    let mut loaded = load(args.rules.as_deref());
    if args.events.is_none() && args.since.is_none() {
        return own_cases(&mut loaded);
    }
    let mut detector = detector(&mut loaded)?;
    for refused in &loaded.refused {
        remark(&format!("refused {} {}: {}", refused.source, refused.rule, refused.reason));
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut replay = Replay::default();
    let mut step = |line: &Line| -> Result<(), Failure> {
        for alert in replay.step(&mut detector, line) {
            show(&mut out, line, &alert, args.format)?;
        }
        Ok(())
    };
    match (&args.events, args.since) {
        (Some(path), _) => of_file(path, &mut step)?,
        (None, Some(since)) => of_history(&args.place, since, &mut step).await?,
        (None, None) => {}
    }
    out.flush().map_err(output)
}

/// Every rule on the events that stand in it.
fn own_cases(loaded: &mut Loaded) -> Result<(), Failure> {
    let cases: Vec<_> = loaded
        .cases()
        .flat_map(|(rule, cases)| cases.iter().map(|case| (rule.name.to_string(), case.clone())))
        .collect();
    let mut detector = detector(loaded)?;
    let mut failed = 0;
    for (rule, case) in &cases {
        detector.forget();
        let fired = judge_case(&mut detector, &mut Replay::default(), &case.event, rule)
            .map_err(|error| CommandError::usage(format!("a test event of {rule} does not read: {error}")))?;
        if fired != case.fires {
            failed += 1;
            let verdict = if case.fires { "does not fire on" } else { "fires on" };
            print(&format!("{rule} {verdict} {}\n", case.event))?;
        }
    }
    remark(&format!("{} test events of {} rules", cases.len(), loaded.rules.len()));
    if failed > 0 {
        return Err(CommandError::Unhealthy { failed, checks: cases.len() }.into());
    }
    Ok(())
}

fn of_file(path: &Path, step: &mut impl FnMut(&Line) -> Result<(), Failure>) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| CommandError::usage(format!("cannot read {}: {error}", path.display()));
    let file = BufReader::new(File::open(path).map_err(unreadable)?);
    for (number, text) in file.lines().enumerate() {
        let text = text.map_err(unreadable)?;
        if text.trim().is_empty() {
            continue;
        }
        let line = serde_json::from_str(&text).map_err(|error| {
            CommandError::usage(format!("line {} of {} is no event: {error}", number + 1, path.display()))
        })?;
        step(&line)?;
    }
    Ok(())
}

async fn of_history(
    place: &PlaceArgs,
    since: Duration,
    step: &mut impl FnMut(&Line) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let source = super::open(place).await?;
    let newer = span::newer_than(since, span::now_us());
    let sql = format!(
        "SELECT * FROM (SELECT concat(node, ' ', pid, ' ', start_ns) AS id, arrow_cast(time, 'Int64') AS time_us, node, pid, \
         parent_pid, exe, filename, argv, cwd, coalesce(parent_exe, parent_comm) AS parent_exe, ancestors, uid, \
         effective_uid, login_uid, tty, flags, stdin_inode, stdout_inode, workload, true AS streams_known \
         FROM processes WHERE event = 'exec' AND {newer} \
         UNION ALL BY NAME \
         SELECT concat(node, ' ', pid, ' ', start_ns) AS id, arrow_cast(time, 'Int64') AS time_us, node, pid, \
         coalesce(exe, comm) AS exe, uid, workload, direction, remote_address AS daddr, remote_port AS dport, \
         local_address AS saddr, local_port AS sport \
         FROM connections WHERE event IN ('open', 'fail') AND {newer}) ORDER BY time_us"
    );
    let mut answer = source.ask(&sql).await?;
    while let Some(batch) = answer.next().await? {
        for line in lines(&batch)? {
            step(&line)?;
        }
    }
    Ok(())
}

fn lines(batch: &RecordBatch) -> Result<Vec<Line>, Failure> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(OutputError::Arrow)?;
    let bytes = writer.into_inner();
    let rows = serde_json::Deserializer::from_slice(&bytes).into_iter::<Line>();
    rows.collect::<Result<_, _>>()
        .map_err(|error| CommandError::usage(format!("a recorded exec does not read: {error}")))
}

/// One line an alert, and for each of its techniques one where a program reads them.
fn show(out: &mut impl Write, line: &Line, alert: &Alert, format: AlertFormat) -> Result<(), Failure> {
    let id = line.id.as_deref().unwrap_or_default();
    match format {
        AlertFormat::Table => {
            let (rule, said) = (&alert.rule, line.command_line());
            writeln!(out, "{:<8}  {:<28}  {}", alert.level.as_str(), rule.name, crate::output::escape(&said))
                .map_err(output)
        }
        AlertFormat::Json => alert.lines(id).iter().try_for_each(|found| writeln!(out, "{found}")).map_err(output),
    }
}

fn output(error: std::io::Error) -> Failure {
    OutputError::Stdout(error).into()
}
