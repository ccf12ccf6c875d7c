//! Real containers of a real podman, which looks at them itself before and after.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use skep_wire::v1::{self, ContainerVerb, Step, command::Action};

use crate::support::{Executor, eventually};

const IMAGE: &str = "localhost/skep-executor:1";

/// Podman with storage and a socket of its own.
pub(crate) struct Podman {
    folder: tempfile::TempDir,
    service: Option<Child>,
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("podman and tar are there after `cargo xtask setup`");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Podman {
    pub(crate) fn serve() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // crun refuses hybrid hosts; the limits podman would set need a capability that a build machine may lack.
        let settings = "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
                        [engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\nevents_logger = \"file\"\n";
        std::fs::write(folder.path().join("containers.conf"), settings).unwrap();
        let root = folder.path().join("rootfs");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        let archive = folder.path().join("rootfs.tar");
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
        let mut podman = Self { folder, service: None };
        run(podman.command(&["import", "--quiet"]).arg(&archive).arg(IMAGE));
        let url = format!("unix://{}", podman.socket().display());
        let service =
            podman.command(&["system", "service", "--time", "0", &url]).stderr(Stdio::null()).spawn().unwrap();
        podman.service = Some(service);
        eventually("podman's socket", || std::os::unix::net::UnixStream::connect(podman.socket()).ok());
        podman
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("podman.sock")
    }

    fn command(&self, args: &[&str]) -> Command {
        let folder: &Path = self.folder.path();
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", folder.join("containers.conf"));
        for (flag, name) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(folder.join(name));
        }
        command.args(["--storage-driver", "vfs"]).args(args);
        command
    }

    /// Starts a container that lets itself be ended at once.
    pub(crate) fn start(&self, name: &str) {
        let script = "trap 'exit 0' TERM; while :; do /bin/busybox usleep 100000; done";
        let options = ["run", "--detach", "--network", "none", "--name", name, "--entrypoint", "/bin/busybox", IMAGE];
        run(&mut self.command(&[&options[..], &["sh", "-c", script]].concat()));
    }

    /// What podman says of a container.
    pub(crate) fn says(&self, name: &str, format: &str) -> String {
        let output = run(&mut self.command(&["inspect", "--format", format, name]));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn status(&self, name: &str) -> String {
        self.says(name, "{{.State.Status}}")
    }

    pub(crate) fn config(&self) -> String {
        format!(
            "act = true\nactions = [\"restart_container\", \"pause_container\", \"unpause_container\"]\n\
             [budget]\nmax_per_hour = 1000\n[container]\nsocket = \"{}\"\nallowed = [\"web*\", \"skep*\"]\nstop_grace_s = 2\n",
            self.socket().display()
        )
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // What stands still does not end.
        self.command(&["unpause", "--all"]).output().ok();
        self.command(&["rm", "--all", "--force", "--time", "0"]).output().ok();
        if let Some(mut service) = self.service.take() {
            service.kill().ok();
            service.wait().ok();
        }
    }
}

pub(crate) fn change(executor: &mut Executor, verb: ContainerVerb, name: &str, lease_s: u32) -> v1::Command {
    change_if(executor, verb, name, "", lease_s)
}

fn change_if(executor: &mut Executor, verb: ContainerVerb, name: &str, started: &str, lease_s: u32) -> v1::Command {
    let container = v1::ContainerTarget { id: name.to_owned(), started: started.to_owned() };
    let target = v1::Target { container: Some(container), ..Default::default() };
    let action = Action::ChangeContainer(v1::ChangeContainer { verb: verb.into() });
    v1::Command { target: Some(target), lease_s, ..executor.issue(action) }
}

#[test]
fn a_container_is_paused_goes_on_and_is_restarted() {
    let podman = Podman::serve();
    podman.start("web");
    let mut executor = Executor::start(&podman.config());
    let mut agent = executor.agent();
    let pause = change(&mut executor, ContainerVerb::Pause, "web", 300);
    agent.execute(executor.sign(&pause));
    assert_eq!(agent.expect(Step::Applied).detail, "web paused for 300 s");
    assert_eq!(agent.expect(Step::Improved).detail, "web is paused");
    assert_eq!(podman.status("web"), "paused");
    let again = change(&mut executor, ContainerVerb::Pause, "web", 300);
    assert!(agent.refused(executor.sign(&again)).contains("stands on container web already"));
    let undo = executor.undo(&pause.id);
    agent.execute(executor.sign(&undo));
    assert_eq!(agent.expect(Step::Undone).detail, "an operator asked for it: web goes on");
    assert_eq!(podman.status("web"), "running");
    // By the whole id, as a finding names it, and until its lease ends.
    let id = podman.says("web", "{{.Id}}");
    let pause = change(&mut executor, ContainerVerb::Pause, &id, 1);
    agent.execute(executor.sign(&pause));
    agent.expect(Step::Applied);
    agent.expect(Step::Improved);
    assert_eq!(agent.expect(Step::Undone).detail, "the lease has ended: web goes on");
    assert_eq!(podman.status("web"), "running");
    let before = podman.says("web", "{{.State.StartedAt}} {{.State.Pid}}");
    let restart = change(&mut executor, ContainerVerb::Restart, "web", 0);
    agent.execute(executor.sign(&restart));
    agent.expect(Step::Applied);
    let done = agent.expect(Step::Done).detail;
    assert!(done.starts_with("web is running, since "), "{done}");
    assert_ne!(podman.says("web", "{{.State.StartedAt}} {{.State.Pid}}"), before);
    assert_eq!(podman.status("web"), "running");
}

#[test]
fn another_container_than_was_meant_is_left_alone() {
    let podman = Podman::serve();
    podman.start("web");
    podman.start("skep-agent");
    podman.start("db");
    let mut executor = Executor::start(&podman.config());
    let mut agent = executor.agent();
    let started = "2026-01-02T03:04:05Z";
    let id = podman.says("web", "{{.Id}}");
    run(&mut podman.command(&["rm", "--force", "--time", "0", "web"]));
    podman.start("web");
    for (verb, name, started, why) in [
        (ContainerVerb::Restart, "web", started, "container web was started anew since; it is left alone"),
        (ContainerVerb::Restart, id.as_str(), "", &format!("there is no container {id}")),
        (ContainerVerb::Restart, "skep-agent", "", "container skep-agent is protected: skep* is always"),
        (
            ContainerVerb::Pause,
            "db",
            "",
            "not allowed by this executor's policy: container db is not among container.allowed",
        ),
    ] {
        let command = change_if(&mut executor, verb, name, started, 60);
        assert_eq!(agent.refused(executor.sign(&command)), why);
    }
    let moot = change(&mut executor, ContainerVerb::Unpause, "web", 0);
    agent.execute(executor.sign(&moot));
    assert_eq!(agent.expect(Step::Moot).detail, "trigger gone: web is running");
}
