//! A whole systemd in a box on a throw-away copy of this host's files.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::eventually;

/// A running `systemd-nspawn`.
pub(crate) struct Boxed {
    folder: tempfile::TempDir,
    nspawn: Child,
    leader: String,
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

impl Boxed {
    /// Boots a box with these units.
    pub(crate) fn boot(units: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "skep-box"]).arg(folder.path()));
        let part = |name: &str| folder.path().join(name);
        for name in ["upper", "work", "root"] {
            fs::create_dir(part(name)).unwrap();
        }
        let layers = format!("lowerdir=/,upperdir={},workdir={}", part("upper").display(), part("work").display());
        run(Command::new("mount").args(["-t", "overlay", "skep-box", "-o", &layers]).arg(part("root")));
        let etc = part("root").join("etc");
        fs::write(etc.join("fstab"), "").unwrap();
        fs::write(etc.join("machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let system = etc.join("systemd/system");
        for entry in fs::read_dir(&system).unwrap().flatten() {
            if entry.file_name().to_string_lossy().ends_with(".wants") {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        for (name, text) in units {
            fs::write(system.join(name), text).unwrap();
        }
        let nspawn = Self::start(&folder);
        let mut boxed = Self { folder, nspawn, leader: String::new() };
        eventually("the box to be up", || boxed.is_up().then_some(()));
        boxed
    }

    fn start(folder: &tempfile::TempDir) -> Child {
        let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        // Two tests of one program may each have a box.
        let name = folder.path().file_name().unwrap().to_string_lossy().replace('.', "");
        Command::new("systemd-nspawn")
            .args(["-q", "-D"])
            .arg(folder.path().join("root"))
            .arg(format!("--machine=skep-{name}"))
            .args(["--register=no", "--keep-unit", "--private-network", "--console=pipe", "--boot", "--"])
            .arg("--unit=basic.target")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("systemd-container is installed")
    }

    fn is_up(&mut self) -> bool {
        let pid = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let Some(leader) = children.split_whitespace().next() else { return false };
        leader.clone_into(&mut self.leader);
        let state = self.inside(&["systemctl", "is-system-running"]);
        matches!(state.trim(), "running" | "degraded")
    }

    fn down(&mut self) {
        // What systemd in a container takes for "power off".
        Command::new("kill").args(["-RTMIN+4", &self.leader]).status().ok();
        let ended = (0..150).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            self.nspawn.try_wait().is_ok_and(|status| status.is_some())
        });
        if !ended {
            self.nspawn.kill().ok();
            self.nspawn.wait().ok();
        }
    }

    /// Down and up again.
    pub(crate) fn reboot(&mut self) {
        self.down();
        self.nspawn = Self::start(&self.folder);
        eventually("the box to be up again", || self.is_up().then_some(()));
    }

    /// What a command inside says.
    pub(crate) fn inside(&self, words: &[&str]) -> String {
        let output = Command::new("nsenter").args(["-t", &self.leader, "-a"]).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.inside(&["systemctl", "show", "--value", "--property", name, unit]).trim().to_owned()
    }

    /// Where D-Bus listens, seen from here.
    pub(crate) fn bus(&self) -> String {
        format!("unix:path=/proc/{}/root/run/dbus/system_bus_socket", self.leader)
    }

    /// A path inside, seen from here, with what is mounted there.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader))
    }

    /// A folder inside that outlives its boots, seen from here.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        self.down();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
        Command::new("umount").arg(self.root()).status().ok();
        Command::new("umount").arg(self.folder.path()).status().ok();
    }
}
