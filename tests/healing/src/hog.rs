//! A batch job in a cgroup of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A running job. Dropping this ends it and removes its cgroup.
#[derive(Debug)]
pub(crate) struct Hog {
    child: Child,
    folder: PathBuf,
    usage: PathBuf,
    last: Option<(Instant, f64)>,
}

/// Where cpu is limited, and whether that is version 2.
fn hierarchy() -> (PathBuf, bool) {
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    match unified.split_whitespace().any(|controller| controller == "cpu") {
        true => (PathBuf::from("/sys/fs/cgroup"), true),
        false => (PathBuf::from("/sys/fs/cgroup/cpu"), false),
    }
}

impl Hog {
    /// Runs `script` in the cgroup of this path, ahead of all others.
    pub(crate) fn start(cgroup: &str, script: &str) -> Result<Self> {
        let (root, is_v2) = hierarchy();
        let folder = root.join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        // Its share of a machine that is busy with other things must not decide what is seen.
        let (weight, most) = if is_v2 { ("cpu.weight", "10000") } else { ("cpu.shares", "262144") };
        fs::write(folder.join(weight), most)?;
        Self::start_as_others(cgroup, script)
    }

    /// As [`Hog::start`], with the share that any cgroup has.
    pub(crate) fn start_as_others(cgroup: &str, script: &str) -> Result<Self> {
        let folder = hierarchy().0.join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let script = format!("echo $$ > {}/cgroup.procs && {script}", folder.display());
        let child = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::null()).spawn()?;
        let usage = PathBuf::from(format!("/proc/{}/stat", child.id()));
        Ok(Self { child, folder, usage, last: None })
    }

    /// Cores it used since this was asked last; nothing when that was a moment ago.
    pub(crate) fn cores(&mut self) -> Option<f64> {
        let text = fs::read_to_string(&self.usage).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: f64 = fields.get(11..13)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
        let used_s = ticks / rustix::param::clock_ticks_per_second() as f64;
        let Some((since, before_s)) = self.last else {
            self.last = Some((Instant::now(), used_s));
            return None;
        };
        let passed = since.elapsed();
        if passed < Duration::from_secs(1) {
            return None;
        }
        self.last = Some((Instant::now(), used_s));
        Some((used_s - before_s) / passed.as_secs_f64())
    }

    /// Whether a limit stands on it.
    pub(crate) fn is_limited(&self) -> bool {
        match fs::read_to_string(self.folder.join("cpu.max")) {
            Ok(max) => !max.starts_with("max"),
            Err(_) => {
                let quota = fs::read_to_string(self.folder.join("cpu.cfs_quota_us")).unwrap_or_default();
                quota.trim().parse::<i64>().is_ok_and(|quota_us| quota_us > 0)
            }
        }
    }
}

impl Hog {
    /// All that it started.
    fn members(&self) -> Vec<Pid> {
        let text = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.folder).is_err() && Instant::now() < deadline {
            for pid in self.members() {
                // One that is gone needs none.
                let _ = kill_process(pid, Signal::KILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
