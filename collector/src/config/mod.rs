//! Settings: a TOML file, then environment and flags over it, then one check that names every fault.

mod file;

mod maintain;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use skep_runtime::settings::Faults;
use thiserror::Error;

use crate::history::Location;
use crate::tls::TlsFiles;

/// The default file: every key with its default.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// Settings that cannot be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The listener's identity.
    pub tls: TlsFiles,
    /// Private key that signs commands.
    pub command_key: PathBuf,
    /// Policy file; the built-in policy where there is none.
    pub policy: Option<PathBuf>,
    /// Folder of rules beside those that come with skep.
    pub rules: Option<PathBuf>,
    /// Batches each agent may have unacknowledged.
    pub window: u32,
    /// Memory for unflushed rows, bytes.
    pub buffer_bytes: usize,
    /// What each processor takes in a second before agents wait, bytes; 0 makes nobody wait.
    pub pace_bytes_s: u64,
    /// Longest time between flushes.
    pub flush_interval: Duration,
    /// Rows in memory that make a flush due.
    pub flush_rows: usize,
    /// Bytes of WAL that make a flush due.
    pub flush_wal_bytes: u64,
    /// Memory of all statements, bytes.
    pub query_bytes: usize,
    /// Memory of one of them, bytes.
    pub query_each_bytes: usize,
    /// Statements that run at once.
    pub query_at_once: usize,
    /// Time of one statement.
    pub query_timeout: Duration,
    /// Where the history is; in the data folder where nobody said.
    pub history: Option<Location>,
    /// Time between two looks at what other collectors wrote to the same history.
    pub history_refresh: Duration,
    /// What is done to the history in the background.
    pub maintain: crate::maintain::Settings,
    /// What may be done to the cluster.
    pub kubernetes: skep_kubernetes::Settings,
    /// Who hears of what.
    pub alerts: skep_alerts::settings::Settings,
    /// How long an incident is quiet before it is over.
    pub incident_quiet: Duration,
}

/// Flags and environment variables of `serve`.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// TOML file; `skep-collector config --default` prints one with every key
    #[arg(long, env = "SKEP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data folder: WAL, Parquet history, lock
    #[arg(long, env = "SKEP_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the Parquet history is: file:///whole/path or s3://bucket/prefix, with AWS_* from the environment
    /// [default: the data folder]
    #[arg(long, env = "SKEP_HISTORY", value_name = "URL")]
    pub history: Option<String>,
    /// Address and port to listen on; port 0 picks a free one [default: 127.0.0.1:7443]
    #[arg(long, env = "SKEP_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Certificate of the authority that signs agents and operators, PEM
    #[arg(long, env = "SKEP_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// This collector's certificate, PEM
    #[arg(long, env = "SKEP_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, env = "SKEP_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Ed25519 private key that signs commands to executors, PKCS#8 PEM
    #[arg(long, env = "SKEP_COMMAND_KEY", value_name = "FILE")]
    pub command_key: Option<PathBuf>,
    /// What may be done about which finding [default: built in]
    #[arg(long, env = "SKEP_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Folder of Sigma rules and filters beside those that come with skep; read again when it changes
    #[arg(long, env = "SKEP_RULES", value_name = "DIR")]
    pub rules: Option<PathBuf>,
}

/// Why there are no settings.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// All that is wrong.
    #[error("wrong settings: {0}")]
    Faults(Faults),
}

impl Flags {
    /// Settings from the file these flags name, with these flags over it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(self) -> Result<Config, ConfigError> {
        let text = match &self.config {
            Some(path) => read(path)?,
            None => String::new(),
        };
        file::merge(&text, self).map_err(ConfigError::Faults)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        let path = |name: &str| Some(PathBuf::from(name));
        Flags {
            data: path("d"),
            ca: path("ca"),
            cert: path("cert"),
            key: path("key"),
            command_key: path("k"),
            ..Flags::default()
        }
    }

    #[test]
    fn the_default_file_says_what_holds_without_it() {
        assert_eq!(file::merge(DEFAULT_FILE, flags()).unwrap(), file::merge("", flags()).unwrap());
    }

    #[test]
    fn every_key_of_the_default_file_is_known() {
        let all = DEFAULT_FILE.lines().map(|line| match line.strip_prefix("# ") {
            Some(key) if key.contains(" = ") => key,
            _ => line,
        });
        let text = all.collect::<Vec<_>>().join("\n");
        let config = file::merge(&text, Flags::default()).unwrap();
        assert_eq!(config.data, Path::new("/var/lib/skep"));
    }

    #[test]
    fn a_table_may_be_kept_for_its_own_time() {
        let text = "[retention]\ndays = 30\nmax_gib = 2\n[retention.tables]\nsyscalls = 7\naudit = 0\n";
        let retention = file::merge(text, flags()).unwrap().maintain.retention;
        let days = ["cpu", "syscalls", "audit", "actions"].map(|table| retention.days_of(table));
        assert_eq!((days, retention.bytes), ([Some(30), Some(7), None, Some(1825)], Some(2 << 30)));
        let faults = file::merge("[retention.tables]\nsyscall = 7\n", flags()).unwrap_err().to_string();
        assert!(faults.contains("retention.tables.syscall"), "{faults}");
    }

    #[test]
    fn tiers_go_from_short_to_long() {
        let tiers = |text: &str| file::merge(text, flags()).map(|config| config.maintain.tiers.len());
        assert_eq!(tiers("[maintain]\ntier = []\n").unwrap(), 0);
        assert_eq!(tiers("[[maintain.tier]]\nwindow_s = 30\nafter_h = 1\n").unwrap(), 1);
        for (tier, says) in [
            ("window_s = 7\nafter_h = 1", "do not divide an hour"),
            ("window_s = 60", "needs window_s and after_h"),
            ("window_s = 60\nafter_h = 2\n[[maintain.tier]]\nwindow_s = 90\nafter_h = 3", "a multiple"),
            ("window_s = 60\nafter_h = 2\n[[maintain.tier]]\nwindow_s = 300\nafter_h = 2", "begin later"),
        ] {
            let faults = tiers(&format!("[[maintain.tier]]\n{tier}\n")).unwrap_err().to_string();
            assert!(faults.contains(says), "{faults}");
        }
    }

    #[test]
    fn flags_go_over_the_file() {
        let given = Flags { listen: Some("[::1]:1".parse().unwrap()), ..flags() };
        let config = file::merge("listen = \"127.0.0.1:5\"\ndata = \"other\"\n", given).unwrap();
        assert_eq!((config.listen.to_string().as_str(), config.data.as_path()), ("[::1]:1", Path::new("d")));
    }

    #[test]
    fn every_fault_is_told() {
        let text = "stray = 1\nlisten = \"here\"\n[flush]\ninterval_s = 0\n";
        let faults = file::merge(text, Flags::default()).unwrap_err().to_string();
        for part in ["stray", "listen", "flush.interval_s", "data", "tls.ca", "tls.cert", "tls.key", "command_key"] {
            assert!(faults.contains(part), "{part} is not in: {faults}");
        }
    }
}
