//! `skep policy`: what is done about which finding, and what would have been done about recorded ones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use skep_policy::finding::{is_over, part};
use skep_policy::quorum::Checked;
use skep_policy::replay::{self, Assume, Happened};
use skep_policy::{Decision, End, Finding, Policy, Severity};
use skep_wire::order;

use super::{CommandError, listing, span};
use crate::exit::Failure;
use crate::output::{ListFormat, Row, print, print_line, remark, rfc3339_us, rows, time_us};
use crate::place::PlaceArgs;

/// What `skep policy --help` says above its options.
pub(crate) const ABOUT: &str = "What is done about which finding, and what would have been done.\n\n\
    A policy is a TOML file that the collector is started with (--policy). For each finding its first matching rule gives a \
    ladder of actions; modes are observe, ask and auto, and budgets, cooldowns, maintenance windows and a brake hold for \
    all of them. Without a file the built-in policy holds, which asks before it throttles a busy workload.";

/// Arguments of `skep policy`.
#[derive(Debug, Args)]
#[command(
    after_help = "\
Examples:
  skep policy show > policy.toml
  skep policy lint policy.toml
  skep policy test policy.toml --since 7d",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print the built-in policy with what each line means, or a file's rules in short
    Show(ShowArgs),
    /// Say all that is wrong with a file
    Lint(LintArgs),
    /// Say what it would have done about recorded findings, and what would have stopped it
    Test(TestArgs),
}

/// Arguments of `skep policy show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep policy show > policy.toml
  skep policy show policy.toml")]
pub struct ShowArgs {
    /// Policy file [default: the built-in policy, as it is written]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Arguments of `skep policy lint`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep policy lint policy.toml

Exit code 2 when anything is wrong.")]
pub struct LintArgs {
    /// Policy file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `skep policy test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep policy test --since 7d
  skep policy test policy.toml --since 30d --assume fails
  skep policy test policy.toml --since 24h --format json | jq -r '.[] | select(.mode == \"auto\") | .action'

Nobody approves anything in a test: what is asked about expires. With `--assume recovers` each action helps, so that \
what is listed is the least that would have been done; with `fails` none does, and each ladder is climbed to its end.")]
pub struct TestArgs {
    /// Policy file [default: the built-in policy]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How far back
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "7d")]
    pub since: Duration,
    /// What is taken to come of each action
    #[arg(long, value_enum, default_value_t)]
    pub assume: AssumeArg,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What is taken to come of each action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum AssumeArg {
    /// It helps
    #[default]
    Recovers,
    /// It does not
    Fails,
}

pub(super) async fn run(args: PolicyArgs) -> Result<(), Failure> {
    match args.command {
        PolicyCommand::Show(args) => show(&args),
        PolicyCommand::Lint(args) => lint(&args),
        PolicyCommand::Test(args) => test(args).await,
    }
}

fn read(path: &Path) -> Result<Policy, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CommandError::usage(format!("cannot read {}: {error}", path.display())))?;
    Policy::parse(&text).map_err(|faults| {
        for fault in &faults.0 {
            eprintln!("{}: {fault}", path.display());
        }
        CommandError::BadPolicy { faults: faults.0.len() }.into()
    })
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let Some(file) = &args.file else { return Ok(print(Policy::default_text())?) };
    let policy = read(file)?;
    let mut text = format!("version {}, {} rules\n", policy.version, policy.rules.len());
    for rule in &policy.rules {
        let (findings, workloads) = (rule.findings.join(", "), rule.workloads.join(", "));
        let (severity, mode) = (rule.min_severity.as_str(), rule.mode.as_str());
        text.push_str(&format!("\n{}: {mode} about {findings} of {workloads}, {severity} or worse\n", rule.name));
        for (at, rung) in rule.ladder.iter().enumerate() {
            let lease =
                if order::is_leased(rung.recipe.verb()) { format!(" for {} s", rung.lease_s) } else { String::new() };
            let tries = if rung.attempts == 1 { String::new() } else { format!(", {} tries", rung.attempts) };
            text.push_str(&format!(
                "  {} {}{lease}, watched for {} s{tries}\n",
                at + 1,
                rung.recipe.verb(),
                rung.verify_s
            ));
        }
    }
    Ok(print(&text)?)
}

fn lint(args: &LintArgs) -> Result<(), Failure> {
    let policy = read(&args.file)?;
    Ok(print_line(&format!(
        "{} is right: version {}, {} rules",
        args.file.display(),
        policy.version,
        policy.rules.len()
    ))?)
}

async fn test(args: TestArgs) -> Result<(), Failure> {
    let policy = match &args.file {
        Some(file) => read(file)?,
        None => Policy::parse(Policy::default_text())
            .map_err(|faults| CommandError::BadPolicy { faults: faults.0.len() })?,
    };
    let source = super::open(&args.place).await?;
    let newer = span::newer_than(args.since, span::now_us());
    // What is over is no trouble; it ends one.
    let sql = format!(
        "SELECT time, finding, rule, severity, title, target_node, workload, pid, start_ns, cgroup, cgroup_id, evidence, \
         coverage FROM findings WHERE {newer} ORDER BY time, finding"
    );
    let found = source.ask(&sql).await?.collect().await?;
    let findings: Vec<Finding> = rows(&found).filter_map(|row| finding(&row)).collect();
    let considered = findings.len();
    let assume = match args.assume {
        AssumeArg::Recovers => Assume::Recovers,
        AssumeArg::Fails => Assume::Fails,
    };
    let lines: Vec<Line> = replay::replay(policy, findings, assume).into_iter().filter_map(Line::of).collect();
    let people = args.format == ListFormat::Table;
    let when = |line: &Line| if people { time_us(line.time_us) } else { rfc3339_us(line.time_us) };
    let batch = listing::batch([
        ("time", listing::texts(lines.iter().map(when))),
        ("node", listing::texts(lines.iter().map(|line| line.node.clone()))),
        ("workload", listing::texts(lines.iter().map(|line| line.workload.clone()))),
        ("mode", listing::texts(lines.iter().map(|line| line.mode))),
        ("action", listing::texts(lines.iter().map(|line| line.action.clone()))),
        ("finding", listing::texts(lines.iter().map(|line| line.finding.clone()))),
        ("why", listing::texts(lines.iter().map(|line| line.why.clone()))),
    ])?;
    let none = format!("nothing would have been done about {considered} findings");
    listing::write(&batch.schema(), &[batch], args.format, &none)?;
    let count = |mode: &str| lines.iter().filter(|line| line.mode == mode).count();
    remark(&format!(
        "{considered} findings: {} actions by itself, {} asked about, {} only said; {} times held back, {} left to people",
        count("auto"),
        count("ask"),
        count("observe"),
        count("withheld"),
        count("escalated"),
    ));
    Ok(())
}

/// One line of the answer.
struct Line {
    time_us: i64,
    node: String,
    workload: String,
    /// Or why nothing is done.
    mode: &'static str,
    action: String,
    finding: String,
    why: String,
}

impl Line {
    fn of(happened: Happened) -> Option<Self> {
        let Happened { time_us, decision } = happened;
        let line = match decision {
            Decision::Begin(begin) => Self {
                time_us,
                node: begin.finding.node,
                workload: begin.finding.workload,
                mode: begin.mode.as_str(),
                action: format!("{} {}", order::verb(begin.wanted.action.as_ref()), order::parameters(&begin.wanted)),
                finding: begin.finding.rule,
                why: format!(
                    "{}, rung {}, try {}{}",
                    begin.rule,
                    begin.rung,
                    begin.attempt,
                    begin.lowered.map_or_else(String::new, |why| format!(", not by itself because {why}"))
                ),
            },
            Decision::Withheld { finding, node, why } => Self {
                time_us,
                node,
                workload: String::new(),
                mode: "withheld",
                action: String::new(),
                finding: finding.chars().take(12).collect(),
                why,
            },
            Decision::Ended { finding, end: end @ End::Escalated, why } => Self {
                time_us,
                node: finding.node,
                workload: finding.workload,
                mode: end.as_str(),
                action: String::new(),
                finding: finding.rule,
                why,
            },
            Decision::Braked { findings, .. } => Self {
                time_us,
                node: String::new(),
                workload: String::new(),
                mode: "braked",
                action: String::new(),
                finding: String::new(),
                why: format!("{findings} findings at once"),
            },
            // Nobody is asked about what was recorded.
            Decision::Poll(_) | Decision::NoQuorum { .. } | Decision::Undo { .. } | Decision::Ended { .. } => {
                return None;
            }
        };
        Some(line)
    }
}

/// A recorded finding; `None` for one that says that something is over, or of another version's kind.
fn finding(row: &Row<'_>) -> Option<Finding> {
    let evidence = row.texts("evidence").unwrap_or_default();
    let value = |name: &str| evidence.iter().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let over = is_over(&evidence);
    if over == Some(true) {
        return None;
    }
    let rule = row.text("rule")?;
    Some(Finding {
        id: row.text("finding")?,
        time_us: row.int("time")?,
        severity: Severity::parse(&row.text("severity")?)?,
        coverage: row.float("coverage")?,
        title: row.text("title")?,
        node: row.text("target_node")?,
        boot: String::new(),
        workload: row.text("workload")?,
        cgroup: row.text("cgroup").zip(row.int("cgroup_id")),
        process: row.int("pid").zip(row.int("start_ns")),
        used_cores: value("cpu_cores=").and_then(|cores| cores.parse().ok()).filter(|_| rule == "cpu_cores"),
        until_over: over == Some(false),
        part: part(&evidence),
        check: Checked::of(&evidence),
        rule,
    })
}
