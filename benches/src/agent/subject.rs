//! The agent's process, and what the kernel says of it.
//!
//! Source: Documentation/filesystems/proc.rst.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::collector::Collector;

/// How long the agent may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running agent. Dropping this kills it.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    _state: TempDir,
}

/// Bytes of memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: u64,
    /// Of that, not backed by a file: heap and stacks.
    pub(crate) anonymous: u64,
    /// Of that, maps it has mapped; they are among [`Agent::map_bytes`], too.
    pub(crate) maps: u64,
    /// Most that was resident since the last [`Agent::forget_peak`].
    pub(crate) peak: u64,
}

impl Agent {
    /// Starts the agent that was built beside this program.
    pub(crate) fn start(collector: &Collector) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("skep-agent");
        ensure!(program.exists(), "{} is missing: cargo xtask bench agent builds it", program.display());
        let state = tempfile::tempdir()?;
        let child = Command::new(&program)
            .arg("--collector")
            .arg(format!("https://localhost:{}", collector.port))
            // What would count on after it would be measured with the next.
            .args(["--window", "10s", "--log", "warn", "--pin", ""])
            .arg("--ca")
            .arg(collector.path("ca.pem"))
            .arg("--cert")
            .arg(collector.path("agent.pem"))
            .arg("--key")
            .arg(collector.path("agent.key"))
            .arg("--state-dir")
            .arg(state.path())
            // What it takes for everything, not what a budget leaves of that.
            .env("SKEP_CPU_BUDGET", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        Ok(Self { child, _state: state })
    }

    /// Fails when it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.child.try_wait()?.map_or(Ok(()), |status| bail!("the agent ended with {status}"))
    }

    /// CPU time of all its threads, those that have ended included. Good to a hundredth of a second.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let text = self.read("stat")?;
        // The name before may hold anything, a closing parenthesis too.
        let fields: Vec<_> = text.rsplit_once(')').context("a damaged stat")?.1.split_whitespace().collect();
        let ticks = |index: usize| -> Result<u64> { Ok(fields.get(index).context("a short stat")?.parse()?) };
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) as f64 / per_second as f64))
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let text = self.read("status")?;
        let bytes = |key: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
        };
        let maps = resident_of(&self.read("smaps")?, "anon_inode:bpf-map");
        Ok(Memory { resident: bytes("VmRSS:")?, anonymous: bytes("RssAnon:")?, maps, peak: bytes("VmHWM:")? })
    }

    /// From now on the peak is that of what comes.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        const PEAK: &str = "5";
        fs::write(self.path("clear_refs"), PEAK).context("cannot reset the peak")
    }

    /// Memory the kernel holds for its maps, by the kernel's account.
    pub(crate) fn map_bytes(&self) -> Result<u64> {
        let mut maps = BTreeMap::new();
        for entry in fs::read_dir(self.path("fdinfo"))? {
            // A descriptor may be closed while we look.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
            if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
                maps.insert(id, bytes);
            }
        }
        Ok(maps.values().sum())
    }

    /// Asks it to end and waits for it.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the agent ended with {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the agent did not end in {} s", PATIENCE.as_secs())
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.child.id())
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.path(name)).with_context(|| self.path(name))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // After a stop it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident bytes of the mappings of one name.
fn resident_of(smaps: &str, name: &str) -> u64 {
    let mut within = false;
    let mut kilobytes = 0;
    for line in smaps.lines() {
        if let Some(resident) = line.strip_prefix("Rss:") {
            let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            kilobytes += if within { resident } else { 0 };
        } else if line.split_whitespace().next().is_some_and(|range| range.contains('-')) {
            // A mapping's first line: range, permissions, offset, device, inode, name.
            within = line.trim_end().ends_with(name);
        }
    }
    kilobytes * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_bytes_are_those_of_the_named_mappings() {
        let smaps = "7f00-7f10 rw-s 00000000 00:0e 12  anon_inode:bpf-map\nSize: 64 kB\nRss: 40 kB\n\
            7f20-7f30 rw-p 00000000 00:00 0\nRss: 7 kB\n\
            7f40-7f50 r--s 00000000 00:0e 12  anon_inode:bpf-map\nRss: 2 kB\n";
        assert_eq!(resident_of(smaps, "anon_inode:bpf-map"), 42 * 1024);
        assert_eq!(resident_of(smaps, "skep-agent"), 0);
    }
}
