//! Paths of every form in the real unified tree, with real ids, and a cgroup that is removed while it is counted.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use skep_tests::{Skep, UNLIMITED};

use crate::rows::{assert_agreed, processes_of};

const CONTAINER: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// A directory below the unified tree, with those above it that were not there; removed in the end.
struct Made(Vec<PathBuf>);

impl Made {
    fn new(path: &str) -> Self {
        let mut below = unified();
        let mut made = Vec::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            below.push(name);
            if !below.exists() {
                std::fs::create_dir(&below).expect("a cgroup can be made: run the tests as root");
                made.push(below.clone());
            }
        }
        Self(made)
    }

    fn folder(&self) -> &Path {
        self.0.last().expect("a folder was made")
    }

    /// Starts a shell in it.
    fn start(&self, script: &str) -> Child {
        let script = format!("echo $$ > {}/cgroup.procs && exec /bin/sh -c '{script}'", self.folder().display());
        Command::new("/bin/sh").args(["-c", &script]).spawn().expect("sh starts")
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        while let Some(folder) = self.0.pop() {
            std::fs::remove_dir(&folder).ok();
        }
    }
}

fn unified() -> PathBuf {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    if hybrid.is_dir() { hybrid.to_owned() } else { PathBuf::from("/sys/fs/cgroup") }
}

#[test]
fn every_form_of_path_is_named_though_its_directory_is_gone_at_once() {
    let pid = std::process::id();
    let pod = format!("5ce90000_0000_4000_8000_{:012x}", 0xf0_0000 + pid);
    let dashed = pod.replace('_', "-");
    let forms = [
        (format!("/system.slice/docker-{CONTAINER}.scope"), format!("container:{CONTAINER}")),
        (
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{pod}.slice/cri-containerd-{CONTAINER}.scope"
            ),
            format!("pod:{dashed}"),
        ),
        (format!("/system.slice/skep-form-{pid}.service"), format!("unit:skep-form-{pid}.service")),
        (format!("/user.slice/user-1.slice/session-skep{pid}.scope"), format!("session:skep{pid}")),
        (format!("/skep-bare-{pid}/inner"), format!("cgroup:/skep-bare-{pid}/inner")),
    ];
    let data = tempfile::tempdir().expect("a folder");
    assert_named(&Skep::up(data.path(), &["--window", "2s"]), &forms);
}

/// From inside a cgroup namespace `/proc` tells paths that begin above the reader's top; the kernel's word and the mounted
/// tree do not.
#[test]
fn an_agent_in_a_cgroup_namespace_of_its_own_names_what_is_outside() {
    let pid = std::process::id();
    let inside = Made::new(&format!("/skep-namespace-{pid}/agent"));
    let data = tempfile::tempdir().expect("a folder");
    let up = Skep::command(data.path(), &["--window", "2s"]);
    let mut command = Command::new("/bin/sh");
    let script = "echo $$ > \"$0\"/cgroup.procs && exec unshare --cgroup -- \"$@\"";
    command.envs([UNLIMITED]);
    command.args(["-c", script]).arg(inside.folder()).arg(up.get_program()).args(up.get_args());
    let before = Made::new(&format!("/system.slice/skep-before-{pid}.service"));
    let mut running = before.start("exec sleep 1000");
    let skep = Skep::start(data.path(), command);
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", running.id())).expect("it runs");
    assert!(own.contains(&format!("/system.slice/skep-before-{pid}.service")), "{own}");
    let forms = [(format!("/system.slice/skep-outside-{pid}.service"), format!("unit:skep-outside-{pid}.service"))];
    assert_named(&skep, &forms);
    let names = format!(
        "SELECT count(*) FROM processes WHERE event = 'running' AND pid = {} AND unit = 'skep-before-{pid}.service'",
        running.id()
    );
    assert_eq!(skep.number(&names), 1, "what ran before the agent");
    running.kill().expect("it runs");
    running.wait().expect("it was killed");
    skep.stop();
}

/// Runs two programs in each place, which is gone right after, and looks for them under their names.
fn assert_named(skep: &Skep, forms: &[(String, String)]) {
    for (path, _) in forms {
        let made = Made::new(path);
        let mut shell = made.start("/bin/true; /bin/true");
        assert!(shell.wait().expect("it ends").success());
    }
    skep.next_window();
    for (_, workload) in forms {
        let processes = processes_of(skep, workload);
        assert!(processes.len() >= 2, "{workload}: {processes:?}");
        processes.into_iter().for_each(|process| assert_agreed(skep, workload, process));
    }
}
