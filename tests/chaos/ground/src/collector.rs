//! A collector that runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::place::Ground;

/// Flushes, merges files and cleans up as often as it can, so that faults fall into every step of it.
const CONFIG: &str = "[flush]\ninterval_s = 1\nrows = 200\n\
    [maintain]\ninterval_s = 1\nclosed_s = 0\ngrace_s = 0\ncheckpoint_commits = 3\nlog_hours = 0\n";

const PATIENCE: Duration = Duration::from_secs(60);

/// Killed when dropped.
#[derive(Debug)]
pub struct Collector {
    child: Child,
    data: PathBuf,
    /// Where it listens, once it does.
    pub address: String,
}

/// The collector's program.
fn program() -> Result<PathBuf> {
    beside("skep-collector")
}

/// A program of ours, beside this one.
///
/// # Errors
/// It is not built.
pub fn beside(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let path = here.parent().context("own folder")?.join(name);
    ensure!(path.exists(), "{} is not built: use `cargo xtask chaos`", path.display());
    Ok(path)
}

impl Collector {
    /// Starts it and does not wait. With `clock_s`, its monotonic clocks are ahead by so much: no life may take up times
    /// of another.
    ///
    /// # Errors
    /// It is not built, or cannot be started.
    pub fn spawn(ground: &Ground, clock_s: Option<u64>) -> Result<Self> {
        Self::spawn_as(ground, &program()?, CONFIG, clock_s, &[])
    }

    /// As [`Collector::spawn`], of this program, with this configuration and these variables in its environment.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn_as(
        ground: &Ground,
        program: &Path,
        settings: &str,
        clock_s: Option<u64>,
        environment: &[(&str, PathBuf)],
    ) -> Result<Self> {
        let config = ground.path().join("config.toml");
        fs::write(&config, settings)?;
        let log = fs::File::options().append(true).create(true).open(ground.path().join("log"))?;
        let mut command = match clock_s {
            Some(ahead) => {
                let mut unshare = Command::new("unshare");
                unshare.args(["--time", "--fork", "--kill-child"]);
                unshare.arg("--monotonic").arg(ahead.to_string()).arg("--boottime").arg(ahead.to_string());
                unshare.arg("--").arg(program);
                unshare
            }
            None => Command::new(program),
        };
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&config).arg("--data").arg(ground.data());
        for (flag, file) in [
            ("--ca", "ca.pem"),
            ("--cert", "collector.pem"),
            ("--key", "collector.key"),
            ("--command-key", "command.key"),
        ] {
            command.arg(flag).arg(ground.tls(file));
        }
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Self { child, data: ground.data(), address: String::new() })
    }

    /// Waits until it listens.
    ///
    /// # Errors
    /// It ended, or does not listen in time.
    pub fn ready(&mut self, ground: &Ground) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the collector ended with {status}: {}", tail(&ground.log()));
            }
            if let Some((pid, address)) = endpoint(&self.data)
                && self.pids().contains(&pid)
            {
                self.address = address;
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the collector does not listen: {}", tail(&ground.log()));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Sends the collector itself a signal.
    pub fn signal(&self, signal: Signal) {
        for pid in self.pids().into_iter().rev().take(1) {
            if let Some(pid) = Pid::from_raw(pid) {
                // It may be gone already.
                let _sent = kill_process(pid, signal).is_ok();
            }
        }
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and whether it ended well.
    ///
    /// # Errors
    /// It did not end in order, or in time.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the collector did not stop in order: {status}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the collector does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(&mut self) {
        if self.is_alive() {
            self.signal(Signal::KILL);
        }
        // What stands in front of it ends when it does; where it had not begun, nothing is lost.
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.is_alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _gone = self.child.kill().is_ok();
        let _waited = self.child.wait().is_ok();
    }

    /// The process and what it started.
    fn pids(&self) -> Vec<i32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(own as i32).chain(children).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

fn endpoint(data: &Path) -> Option<(i32, String)> {
    let text = fs::read(data.join("endpoint.json")).ok()?;
    let endpoint: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some((i32::try_from(endpoint["pid"].as_i64()?).ok()?, endpoint["grpc"].as_str()?.to_owned()))
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
