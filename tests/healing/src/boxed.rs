//! A whole systemd in a box on a throw-away copy of this host's files.
//!
//! The mounts are this program's own and end with it; the box itself is shut down when it is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::neighbour::tool;

/// How long it may take to be up or down.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where files are shared, inside.
pub(crate) const SHARE: &str = "/srv/heal";

/// This program, inside.
pub(crate) const PROGRAM: &str = "/usr/local/bin/heal-subject";

/// A running `systemd-nspawn`.
#[derive(Debug)]
pub(crate) struct Boxed {
    nspawn: Child,
    leader: String,
    log: PathBuf,
}

impl Boxed {
    /// Boots a box in `folder` with these units, and `share` in it.
    pub(crate) fn boot(folder: &Path, share: &Path, units: &[(String, String)]) -> Result<Self> {
        tool(&format!("mount -t tmpfs heal-box {}", folder.display()))?;
        let part = |name: &str| folder.join(name);
        for name in ["upper", "work", "root"] {
            fs::create_dir(part(name))?;
        }
        let layers = format!("lowerdir=/,upperdir={},workdir={}", part("upper").display(), part("work").display());
        tool(&format!("mount -t overlay heal-box -o {layers} {}", part("root").display()))?;
        let etc = part("root").join("etc");
        fs::write(etc.join("fstab"), "")?;
        fs::write(etc.join("machine-id"), "0123456789abcdef0123456789abcdef\n")?;
        let system = etc.join("systemd/system");
        for entry in fs::read_dir(&system)?.flatten() {
            if entry.file_name().to_string_lossy().ends_with(".wants") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        for (name, text) in units {
            fs::write(system.join(name), text)?;
        }
        let log = part("log");
        let nspawn = start(&part("root"), share, &log)?;
        let mut boxed = Self { nspawn, leader: String::new(), log };
        boxed.wait_until_up()?;
        Ok(boxed)
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let pid = self.nspawn.id();
        loop {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            if let Some(leader) = children.split_whitespace().next() {
                leader.clone_into(&mut self.leader);
                let state = self.inside(&["systemctl", "is-system-running"]).unwrap_or_default();
                if matches!(state.trim(), "running" | "degraded") {
                    return Ok(());
                }
            }
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            ensure!(Instant::now() < deadline, "the box does not come up: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a command inside says.
    pub(crate) fn inside(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        let output = command.args(["-t", &self.leader, "-a"]).args(words).output().context("cannot run nsenter")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Where D-Bus listens, seen from here.
    pub(crate) fn bus(&self) -> String {
        format!("unix:path=/proc/{}/root/run/dbus/system_bus_socket", self.leader)
    }
}

fn start(root: &Path, share: &Path, log: &Path) -> Result<Child> {
    let program = std::env::current_exe()?;
    let log = File::options().create(true).append(true).open(log)?;
    Command::new("systemd-nspawn")
        .args(["-q", "-D"])
        .arg(root)
        .arg(format!("--machine=heal-{}", std::process::id()))
        .arg(format!("--bind={}:{SHARE}", share.display()))
        .arg(format!("--bind-ro={}:{PROGRAM}", program.display()))
        .args(["--register=no", "--keep-unit", "--console=pipe", "--boot", "--", "--unit=basic.target"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot run systemd-nspawn: install systemd-container")
}

impl Drop for Boxed {
    fn drop(&mut self) {
        // What systemd in a container takes for "power off".
        let _unasked = tool(&format!("kill -RTMIN+4 {}", self.leader)).is_err();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.nspawn.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}
