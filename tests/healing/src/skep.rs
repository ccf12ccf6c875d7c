//! `skep up` on a folder of its own, and what it has to say.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `skep up`. Dropping this stops it.
#[derive(Debug)]
pub(crate) struct Skep {
    up: Child,
    reader: Reader,
}

/// Asks what it knows.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    program: PathBuf,
    data: PathBuf,
}

impl Skep {
    /// Starts everything and returns when the agent's node is connected.
    pub(crate) fn up(data: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("skep");
        ensure!(program.exists(), "{} is missing: run this as cargo xtask bench healing", program.display());
        fs::create_dir_all(data)?;
        let log = File::create(data.join("up.log"))?;
        let up = Command::new(&program)
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(arguments)
            // What it takes on a machine of two cores that runs a hundred services is measured elsewhere.
            .env("SKEP_CPU_BUDGET", "0")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run skep")?;
        let mut skep = Self { up, reader: Reader { program, data: data.to_owned() } };
        let deadline = Instant::now() + PATIENCE;
        while !skep.is_connected() {
            if let Some(status) = skep.up.try_wait()? {
                bail!("skep up ended with {status}: {}", skep.log());
            }
            ensure!(Instant::now() < deadline, "no agent is connected: {}", skep.log());
            thread::sleep(Duration::from_millis(100));
        }
        Ok(skep)
    }

    /// To ask it from elsewhere.
    pub(crate) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    fn is_connected(&self) -> bool {
        let nodes = self.reader.ask(&["nodes", "--format", "json"]).unwrap_or_default();
        nodes.iter().any(|node| node["connected"] == Value::Bool(true))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.reader.data.join("up.log")).unwrap_or_default()
    }
}

impl Reader {
    /// Rows of a statement.
    pub(crate) fn query(&self, sql: &str) -> Result<Vec<Value>> {
        self.ask(&["query", "--format", "json", sql])
    }

    fn ask(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let mut command = Command::new(&self.program);
        let output = command.args(arguments).arg("--data").arg(&self.data).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("not rows")
    }
}

impl Drop for Skep {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = kill_process(Pid::from_child(&self.up), Signal::INT).is_err();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.up.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}
