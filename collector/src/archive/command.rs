//! The subcommands. Each prints one JSON object.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::{ArchiveError, backup, inspect, restore, verify};

/// A data folder as a whole.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Copy a data folder consistently, while a collector runs on it or not
    #[command(after_help = BACKUP)]
    Backup {
        /// Data folder
        #[arg(long, env = "SKEP_DATA", value_name = "DIR")]
        data: PathBuf,
        /// Where to: a folder that is empty or not there yet
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Copy Parquet files even where a second name for the same bytes would do
        #[arg(long)]
        copy: bool,
    },
    /// Make a data folder of a backup
    #[command(after_help = RESTORE)]
    Restore {
        /// The backup
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Where to: a folder that is empty or not there yet
        #[arg(long, env = "SKEP_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Read every byte of a data folder nobody runs on, or of a backup; the exit code is 1 when something is wrong
    #[command(after_help = VERIFY)]
    Verify {
        /// Data folder or backup
        #[arg(long, env = "SKEP_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Show what is in a data folder nobody runs on, or in a backup
    #[command(after_help = INSPECT)]
    Inspect {
        /// Data folder or backup
        #[arg(long, env = "SKEP_DATA", value_name = "DIR")]
        data: PathBuf,
    },
}

const BACKUP: &str = "Examples:
  skep-collector backup --data /var/lib/skep --to /backup/skep-today
  skep-collector backup --data /var/lib/skep --to /mnt/other-disk/skep --copy

On the same file system Parquet files become second names of the same bytes: quick, and no help against a bad disk.";

const RESTORE: &str = "Examples:
  skep-collector restore --from /backup/skep-today --data /var/lib/skep
  skep-collector verify --data /var/lib/skep

What agents were told is stored after the backup is gone; they say so when they come back, and `loss` has it.";

const VERIFY: &str = "Examples:
  skep-collector verify --data /backup/skep-today
  skep-collector verify --data /var/lib/skep | jq '.faults[]'";

const INSPECT: &str = "Examples:
  skep-collector inspect --data /var/lib/skep | jq '.tables[] | {table, rows, from, to}'
  skep-collector inspect --data /var/lib/skep | jq .wal.streams";

impl Command {
    /// Does it; returns whether everything is as it should be.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn run(self) -> Result<bool, ArchiveError> {
        match self {
            Self::Backup { data, to, copy } => print(&backup::backup(&data, &to, copy)?).map(|()| true),
            Self::Restore { from, data } => print(&restore::restore(&from, &data)?).map(|()| true),
            Self::Verify { data } => {
                let verified = verify::verify(&data)?;
                print(&verified)?;
                Ok(verified.ok)
            }
            Self::Inspect { data } => print(&inspect::inspect(&data)?).map(|()| true),
        }
    }
}

fn print(object: &impl Serialize) -> Result<(), ArchiveError> {
    let text = serde_json::to_string_pretty(object).map_err(std::io::Error::other);
    let written = text.and_then(|text| writeln!(std::io::stdout(), "{text}"));
    written.map_err(super::io_error("write to", std::path::Path::new("standard output")))
}
