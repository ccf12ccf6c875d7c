//! A machine: qemu, interpreting every instruction, so that it runs anywhere.
//!
//! Both of its processors are on one thread. On two, qemu before 8.1 now and then runs code that the other one has just
//! written over, and a kernel that attaches and detaches probes writes over its code all the time. Machines run side by
//! side instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use thiserror::Error;

use super::console;
use super::debian::Kernel;

/// How qemu runs the two processors.
const ACCELERATOR: &str = "tcg,thread=single";

/// The last line of a machine that did all it was to do.
pub(super) const END: &str = "@@ end";

/// What to run.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Kernel,
    /// An uncompressed cpio archive.
    pub(super) file_system: &'a Path,
    pub(super) memory_mib: u32,
    /// More words for the kernel; `name=value` it does not know become variables of the first process.
    pub(super) arguments: &'a str,
    /// How long it may take.
    pub(super) patience: Duration,
}

/// What a kernel complained of before any program of ours.
#[derive(Debug, Error)]
#[error("the kernel broke while it booted: {0}")]
struct InBoot(String);

impl Machine<'_> {
    /// Runs it until it switches itself off; returns what it wrote to its second serial line. The logs stay in `folder`.
    ///
    /// A kernel that breaks while it boots is booted once more, and that is said.
    pub(super) fn run(&self, folder: &Path) -> Result<String> {
        fs::create_dir_all(folder)?;
        match self.boot(folder) {
            Err(error) if error.is::<InBoot>() => println!("{error:#}; booting it again"),
            ended => return ended,
        }
        self.boot(folder)
    }

    fn boot(&self, folder: &Path) -> Result<String> {
        let (console, said) = (folder.join("console.log"), folder.join("said.log"));
        let mut qemu = self.command(&console, &said).spawn().context("cannot run qemu-system-x86_64")?;
        let in_time = wait(&mut qemu, self.patience)?;
        let console_text = text(&console)?;
        let said_text = text(&said)?;
        let fault = console::fault(&console_text);
        if let Some(fault) = fault
            && said_text.trim().is_empty()
        {
            bail!(InBoot(fault.to_owned()));
        }
        let end = || tail(if said_text.trim().is_empty() { &console_text } else { &said_text });
        ensure!(in_time, "did not end within {} s; its last words:\n{}", self.patience.as_secs(), end());
        if let Some(fault) = fault {
            bail!("the kernel complained: {fault} (all of it in {})", console.display());
        }
        ensure!(said_text.lines().any(|line| line == END), "stopped half way; its last words:\n{}", end());
        Ok(said_text)
    }

    fn command(&self, console: &Path, said: &Path) -> Command {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", ACCELERATOR, "-cpu", "max", "-smp", "2", "-m", &self.memory_mib.to_string()])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"])
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-serial", &format!("file:{}", said.display())])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(self.file_system)
            // Level 5 has warnings in it.
            .args(["-append", &format!("console=ttyS0 loglevel=5 oops=panic panic=-1 {}", self.arguments)])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        qemu
    }
}

/// False when it had to be ended.
fn wait(qemu: &mut Child, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    while qemu.try_wait()?.is_none() {
        if Instant::now() > deadline {
            qemu.kill()?;
            qemu.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(true)
}

/// A serial line's text, without the carriage returns of terminals.
fn text(log: &PathBuf) -> Result<String> {
    let bytes = fs::read(log).with_context(|| format!("qemu left no {}", log.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
