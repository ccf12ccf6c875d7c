//! A process that is measured from outside: its CPU time and memory, by the kernel's account.
//!
//! Source: clock_getcpuclockid(3), Documentation/filesystems/proc.rst.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A running child. Dropping this kills it.
#[derive(Debug)]
pub(crate) struct Measured {
    name: &'static str,
    child: Child,
}

/// What a process took over its life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
}

impl Measured {
    /// Starts `command`, with what it prints going to `log`.
    pub(crate) fn spawn(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let log = fs::File::options().append(true).create(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot run {name}"))?;
        Ok(Self { name, child })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails when it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        let name = self.name;
        self.child.try_wait()?.map_or(Ok(()), |status| bail!("{name} ended with {status}"))
    }

    /// CPU time of all its threads, those that have ended included; to the nanosecond.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut clock = 0;
        // SAFETY: `clock` is valid for writing; the process is ours and not reaped, so its id is no other's.
        let failed = unsafe { libc::clock_getcpuclockid(self.child.id().cast_signed(), &raw mut clock) };
        ensure!(failed == 0, "{} has no CPU clock: error {failed}", self.name);
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is valid for writing.
        let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
        ensure!(failed == 0, "the CPU clock of {} does not read", self.name);
        Ok(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec)?))
    }

    /// Bytes resident now.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// Most bytes that were resident.
    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Asks it to end and waits until it has; returns what it took from its start to its end.
    pub(crate) fn stop(mut self, patience: Duration) -> Result<Life> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + patience;
        // Its account can be read until it is reaped.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), ended)?.is_none() {
            ensure!(Instant::now() < deadline, "{} did not end in {} s", self.name, patience.as_secs());
            std::thread::sleep(Duration::from_millis(20));
        }
        let cpu = self.cpu()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(Life { cpu })
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // After a stop it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes of all files below a folder.
pub(crate) fn bytes_below(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { bytes_below(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_keeps_its_account_to_the_end() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done";
        let subject = Measured::spawn("sh", Command::new("sh").args(["-c", script]), log.path()).unwrap();
        while fs::read_to_string(log.path()).unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let before = subject.cpu().unwrap();
        assert!(before > Duration::from_millis(1), "{before:?}");
        assert!(subject.peak_bytes().unwrap() >= subject.resident_bytes().unwrap());
        let life = subject.stop(Duration::from_secs(10)).unwrap();
        assert!(life.cpu >= before, "{life:?} after {before:?}");
    }
}
