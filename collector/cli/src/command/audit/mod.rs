//! `skep audit`: the audit chain, and whether it is as it was written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use skep_audit::{Report, book};

use super::{CommandError, listing, span};
use crate::exit::Failure;
use crate::output::{ListFormat, count, print, print_line, quoted, time_us};
use crate::place::{Place, PlaceArgs, Process, resolve};

mod table;

/// What `skep audit --help` says above its options.
pub(crate) const ABOUT: &str = "Every step of every decision and action, and whether the record is as it was written.\n\n\
    The collector appends each step to a chain in its data folder (`audit/`): every entry holds the digest of the one \
    before and a signature, and the last one is signed once more as the head. `verify` needs no running collector; it \
    finds whatever was changed, removed, moved, put in, or cut off at the end. Who kept the files of an earlier day could \
    put those back: note the number and hash that `verify` prints elsewhere, and give them with --expect.";

/// Arguments of `skep audit`.
#[derive(Debug, Args)]
#[command(
    after_help = "\
Examples:
  skep audit verify
  skep audit verify /backup/skep-today --key command.pub
  skep audit list --about 4f2a
  skep audit export --to audit.parquet",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What to do with the audit chain.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Look whether the chain is as it was written
    Verify(VerifyArgs),
    /// Steps, newest first
    List(ListArgs),
    /// Copy the whole chain to a Parquet file, which can be verified like the chain
    Export(ExportArgs),
}

/// Arguments of `skep audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep audit verify
  skep audit verify /backup/skep-today --key command.pub
  skep audit verify audit.parquet --key old.pub --key command.pub
  skep audit verify --expect 4711:9f2c... --format json

Exit code 1 when anything is not as it was written.")]
pub struct VerifyArgs {
    /// Data folder, folder of a chain, or exported file [default: the data folder]
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// Public command key, PEM, as often as needed [default: keys/command.pub of the data folder]
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// An entry that was noted elsewhere
    #[arg(long, value_name = "NUMBER:HASH", value_parser = noted)]
    pub expect: Option<(u64, String)>,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `skep audit list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep audit list
  skep audit list --about 4f2a --since 30d
  skep audit list --format json | jq -r '.[] | select(.step == \"withheld\") | .detail'")]
pub struct ListArgs {
    /// How far back
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "24h")]
    pub since: Duration,
    /// Only about the finding or action whose id starts like this
    #[arg(long, value_name = "ID")]
    pub about: Option<String>,
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

/// Arguments of `skep audit export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep audit export --to audit.parquet
  skep audit export --data /var/lib/skep --to /mnt/archive/audit.parquet")]
pub struct ExportArgs {
    /// Parquet file to write
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

fn noted(text: &str) -> Result<(u64, String), String> {
    let (number, hash) = text.split_once(':').ok_or("want NUMBER:HASH, as `skep audit verify` prints them")?;
    let number = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    if hash.len() != 64 {
        return Err(format!("{hash:?} is no hash: it has 64 digits"));
    }
    Ok((number, hash.to_owned()))
}

pub(super) async fn run(args: AuditArgs) -> Result<(), Failure> {
    match args.command {
        AuditCommand::Verify(args) => verify(&args),
        AuditCommand::List(args) => list(args).await,
        AuditCommand::Export(args) => export(&args),
    }
}

/// The data folder on this machine: a chain is read from its files.
fn folder(place: &PlaceArgs) -> Result<PathBuf, Failure> {
    match resolve(place, &Process)? {
        Place::Data(data) => Ok(data),
        Place::Collector { url, .. } => Err(CommandError::usage(format!(
            "the chain of {url} is in that collector's data folder: run this there with --data, or name an export"
        ))),
    }
}

fn chain_in(folder: &Path) -> PathBuf {
    let chain = folder.join("audit");
    if chain.is_dir() { chain } else { folder.to_owned() }
}

fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let path = match &args.path {
        Some(path) => path.clone(),
        None => folder(&args.place)?,
    };
    let keys = keys(args, &path)?;
    let expect = args.expect.as_ref().map(|(number, hash)| (*number, hash.as_str()));
    let report = if path.is_dir() {
        book::verify(&chain_in(&path), keys, expect).map_err(CommandError::Audit)?
    } else {
        table::verify(&path, keys, expect)?
    };
    tell(&report, args.format)?;
    match report.faulty {
        0 => Ok(()),
        faults => Err(CommandError::Tampered { faults }.into()),
    }
}

fn keys(args: &VerifyArgs, path: &Path) -> Result<Vec<VerifyingKey>, Failure> {
    let beside = [Some(path.to_owned()), path.parent().map(Path::to_owned), args.place.data.clone()];
    let usual = beside.into_iter().flatten().map(|folder| folder.join("keys/command.pub")).find(|key| key.is_file());
    let named = if args.key.is_empty() { usual.into_iter().collect() } else { args.key.clone() };
    if named.is_empty() {
        return Err(CommandError::usage(format!(
            "no keys/command.pub beside {}: give the public command key with --key FILE",
            path.display()
        )));
    }
    let read = |path: &PathBuf| {
        let unusable = |reason: String| CommandError::usage(format!("{}: {reason}", path.display()));
        let pem = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        VerifyingKey::from_public_key_pem(&pem).map_err(|error| unusable(format!("no public key in PEM: {error}")))
    };
    named.iter().map(read).collect()
}

fn tell(report: &Report, format: ListFormat) -> Result<(), Failure> {
    if format == ListFormat::Json {
        let object = serde_json::to_string_pretty(report).map_err(|error| CommandError::usage(error.to_string()))?;
        return Ok(print(&format!("{object}\n"))?);
    }
    let span = match (report.first_us, report.last_us) {
        (Some(first), Some(last)) => format!(", {} to {}", time_us(first), time_us(last)),
        _ => String::new(),
    };
    print_line(&format!("{} entries of {}{span}", count(report.entries), chain_name(report)))?;
    print_line(&format!("the last is {}:{}", report.last, report.hash))?;
    for fault in &report.faults {
        print_line(&format!("  {fault}"))?;
    }
    let told = report.faults.len() as u64;
    if report.faulty > told {
        print_line(&format!("  and {} more", report.faulty - told))?;
    }
    if report.faulty == 0 {
        print_line("all of it is as it was written")?;
    }
    Ok(())
}

fn chain_name(report: &Report) -> &str {
    if report.chain.is_empty() { "no chain" } else { &report.chain }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let newer = span::newer_than(args.since, span::now_us());
    let about = args.about.map_or(String::new(), |id| format!(" AND starts_with(subject, {})", quoted(&id)));
    let columns = if args.format == ListFormat::Table {
        "time, actor, step, substr(subject, 1, 12) AS about, target_node AS node, detail"
    } else {
        "time, actor, step, subject, target_node, detail"
    };
    let sql = format!(
        "SELECT {columns} FROM audit WHERE {newer}{about} ORDER BY time DESC, stream, seq DESC LIMIT {}",
        args.limit
    );
    let none = format!("no such steps in the last {}", humantime::format_duration(args.since));
    listing::print(&source, &sql, args.format, &none).await
}

fn export(args: &ExportArgs) -> Result<(), Failure> {
    let folder = chain_in(&folder(&args.place)?);
    let mut entries = Vec::new();
    let mut unreadable = None;
    // The head first: entries behind it are none too few.
    let head = book::read_head(&folder).ok();
    book::read(&folder, |entry| match entry {
        Ok(entry) => entries.push(entry),
        Err(at) => unreadable = unreadable.take().or(Some(at)),
    })
    .map_err(CommandError::Audit)?;
    if let Some(at) = unreadable {
        // A copy without it would look as if it had never been there.
        return Err(CommandError::usage(format!("{at} is not what was written; see `skep audit verify`")));
    }
    let rows = entries.len() as u64;
    table::write(&args.to, &entries, head.as_ref())?;
    Ok(print_line(&format!("{} entries in {}", count(rows), args.to.display()))?)
}
