//! Things for the agent to watch.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::tiny;

/// How often a paced load catches up with where it should be.
const BEAT: Duration = Duration::from_millis(1);

/// Does something at a pace for some time; returns how often a second it was done.
pub(crate) fn paced(per_second: u32, time: Duration, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    let mut done = 0u64;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok(done as f64 / elapsed.as_secs_f64());
        }
        let due = (elapsed.as_secs_f64() * f64::from(per_second)) as u64;
        while done < due && start.elapsed() < time {
            once()?;
            done += 1;
        }
        std::thread::sleep(BEAT);
    }
}

/// One system call.
pub(crate) fn call() -> Result<()> {
    std::hint::black_box(rustix::process::getppid());
    Ok(())
}

/// One program, run to its end.
pub(crate) fn exec(program: &Path) -> Result<()> {
    let status = Command::new(program).status().with_context(|| program.display().to_string())?;
    ensure!(status.success(), "{} ended with {status}", program.display());
    Ok(())
}

/// Processes that sleep. Dropping this kills them.
#[derive(Debug)]
pub(crate) struct Crowd {
    children: Vec<Child>,
}

impl Crowd {
    /// Starts some.
    pub(crate) fn start(folder: &Path, size: usize) -> Result<Self> {
        let program = tiny::write_sleep(folder)?;
        let mut crowd = Self { children: Vec::with_capacity(size) };
        for _ in 0..size {
            let child = Command::new(&program).stdin(Stdio::null()).spawn();
            crowd.children.push(child.with_context(|| format!("after {} processes", crowd.children.len()))?);
        }
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}
