//! A whole systemd in a box on a throw-away copy of this host's files.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use skep_tests::{PATIENCE, Skep, eventually};

use crate::image::run;
use crate::rows::{assert_agreed, processes_of};

const BUSY: &str = "[Service]\nExecStart=/bin/sh -c 'while :; do sleep 0.1; done'\n";
const SHORT: &str = "[Service]\nType=oneshot\nExecStart=/bin/sleep 0.05\n";

/// A running `systemd-nspawn`.
#[derive(Debug)]
struct Boxed {
    folder: PathBuf,
    nspawn: Child,
    leader: String,
}

impl Boxed {
    /// Boots a box with these units.
    fn boot(folder: &Path, units: &[(&str, &str)]) -> Self {
        run(Command::new("mount").args(["-t", "tmpfs", "skep-box"]).arg(folder));
        let part = |name: &str| folder.join(name);
        for name in ["upper", "work", "root"] {
            std::fs::create_dir(part(name)).expect("made");
        }
        let layers = format!("lowerdir=/,upperdir={},workdir={}", part("upper").display(), part("work").display());
        run(Command::new("mount").args(["-t", "overlay", "skep-box", "-o", &layers]).arg(part("root")));
        let etc = part("root").join("etc");
        std::fs::write(etc.join("fstab"), "").expect("written");
        std::fs::write(etc.join("machine-id"), "0123456789abcdef0123456789abcdef\n").expect("written");
        let system = etc.join("systemd/system");
        for entry in std::fs::read_dir(&system).expect("a folder").flatten() {
            if entry.file_name().to_string_lossy().ends_with(".wants") {
                std::fs::remove_dir_all(entry.path()).expect("removed");
            }
        }
        for (name, text) in units {
            std::fs::write(system.join(name), text).expect("written");
        }
        let log = std::fs::File::create(part("log")).expect("made");
        let machine = format!("--machine=skep-box-{}", std::process::id());
        let nspawn = Command::new("systemd-nspawn")
            .args(["-q", "-D"])
            .arg(part("root"))
            .args([&machine, "--register=no", "--keep-unit", "--private-network", "--console=pipe", "--boot", "--"])
            .arg("--unit=basic.target")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("second handle"))
            .stderr(log)
            .spawn()
            .expect("systemd-container is installed");
        let mut boxed = Self { folder: folder.to_owned(), nspawn, leader: String::new() };
        eventually("the box to be up", PATIENCE, || boxed.is_up().then_some(()));
        boxed
    }

    fn is_up(&mut self) -> bool {
        let pid = self.nspawn.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let Some(leader) = children.split_whitespace().next() else { return false };
        leader.clone_into(&mut self.leader);
        let state = self.inside(&["systemctl", "is-system-running"]).output();
        state.is_ok_and(|output| matches!(output.stdout.trim_ascii(), b"running" | b"degraded"))
    }

    /// A command inside.
    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.leader, "-a"]).args(words);
        command
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        // What systemd in a container takes for "power off".
        Command::new("kill").args(["-RTMIN+4", &self.leader]).status().ok();
        let ended = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            self.nspawn.try_wait().is_ok_and(|status| status.is_some())
        });
        if !ended {
            self.nspawn.kill().ok();
            self.nspawn.wait().ok();
        }
        Command::new("umount").arg(self.folder.join("root")).status().ok();
        Command::new("umount").arg(&self.folder).status().ok();
    }
}

#[test]
fn units_have_their_own_names_however_short_they_live() {
    let folder = tempfile::tempdir().expect("a folder");
    let pid = std::process::id();
    let (before, busy, short) =
        (format!("skep-before-{pid}.service"), format!("skep-busy-{pid}.service"), format!("skep-short-{pid}.service"));
    let boxed = Boxed::boot(folder.path(), &[(&before, BUSY), (&busy, BUSY), (&short, SHORT)]);
    run(&mut boxed.inside(&["systemctl", "start", &before]));
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "2s"]);
    for _ in 0..3 {
        run(&mut boxed.inside(&["systemctl", "start", &short]));
    }
    run(&mut boxed.inside(&["systemctl", "start", &busy]));
    skep.next_window();
    for (unit, least) in [(&before, 5), (&short, 3), (&busy, 5)] {
        let workload = format!("unit:{unit}");
        let processes = processes_of(&skep, &workload);
        assert!(processes.len() >= least, "{} processes of {workload}", processes.len());
        processes.into_iter().for_each(|process| assert_agreed(&skep, &workload, process));
    }
}
