//! A folder with certificates in it, and the real collector on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::authority::Authority;
use crate::measured::Measured;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder beside the programs: on a disk, where a temporary folder may be in memory and a sync cost nothing.
pub(crate) fn folder() -> Result<TempDir> {
    let programs = std::env::current_exe()?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(programs.parent().context("a program in no folder")?)?)
}

/// A program that was built beside this one.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    ensure!(program.exists(), "{} is missing: run this as cargo xtask bench", program.display());
    Ok(program)
}

/// A data folder, and papers for everybody. Removed when dropped.
pub(crate) struct Ground {
    folder: TempDir,
    pub(crate) authority: Authority,
}

/// A running collector.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) process: Measured,
    /// Address and port.
    pub(crate) address: String,
    /// What starting took.
    pub(crate) start_cpu: Duration,
}

impl Ground {
    /// An empty one.
    pub(crate) fn new() -> Result<Self> {
        let (folder, authority) = (folder()?, Authority::new()?);
        authority.write(&folder.path().join("tls"), &["collector", "operator"])?;
        // Any Ed25519 key will do to sign commands nobody asks for.
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?.serialize_pem();
        fs::write(folder.path().join("tls/command.key"), key)?;
        Ok(Self { folder, authority })
    }

    /// The collector's data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Certificates, as `skep --tls` wants them.
    pub(crate) fn tls(&self) -> PathBuf {
        self.folder.path().join("tls")
    }

    /// What the collector said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Starts a collector with its default settings and waits until it listens.
    pub(crate) fn serve(&self) -> Result<Collector> {
        let mut command = Command::new(program("skep-collector")?);
        command.args(["serve", "--listen", "127.0.0.1:0"]).arg("--data").arg(self.data());
        for (flag, file) in [
            ("--ca", "ca.pem"),
            ("--cert", "collector.pem"),
            ("--key", "collector.key"),
            ("--command-key", "command.key"),
        ] {
            command.arg(flag).arg(self.tls().join(file));
        }
        let mut process = Measured::spawn("skep-collector", &mut command, &self.log_file())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            process.check().with_context(|| self.log())?;
            if let Some(address) = self.announced(process.pid()) {
                let start_cpu = process.cpu()?;
                return Ok(Collector { process, address, start_cpu });
            }
            ensure!(Instant::now() < deadline, "the collector does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn announced(&self, pid: u32) -> Option<String> {
        let text = fs::read(self.data().join("endpoint.json")).ok()?;
        let endpoint: serde_json::Value = serde_json::from_slice(&text).ok()?;
        (endpoint["pid"].as_u64()? == u64::from(pid)).then(|| endpoint["grpc"].as_str().map(str::to_owned))?
    }

    /// A table's files.
    pub(crate) fn table(&self, name: &str) -> PathBuf {
        self.data().join("history").join(name)
    }
}

/// Rows that a table's Delta log says are live.
pub(crate) fn live_rows(table: &Path) -> Result<u64> {
    Ok(live_files(table)?.values().sum())
}

/// Files that a table's Delta log says are live, below its folder, and their rows. Others may stand beside them: those of
/// which one was made are kept for a while.
pub(crate) fn live_files(table: &Path) -> Result<BTreeMap<String, u64>> {
    let mut live = BTreeMap::new();
    let mut versions: Vec<_> = fs::read_dir(table.join("_delta_log"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    versions.sort();
    for version in versions {
        for line in fs::read_to_string(&version)?.lines() {
            let action: serde_json::Value = serde_json::from_str(line)?;
            if let Some(path) = action["add"]["path"].as_str() {
                let stats: serde_json::Value = serde_json::from_str(action["add"]["stats"].as_str().unwrap_or("{}"))?;
                live.insert(path.to_owned(), stats["numRecords"].as_u64().unwrap_or(0));
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                live.remove(path);
            }
        }
    }
    Ok(live)
}
