//! Ending processes.

use std::fs;
use std::process::{Child, Command, Stdio};

use skep_executor::act::process::start_ns;
use skep_wire::v1::{self, Scope, Step, command::Action};

use crate::support::{Busy, Executor, eventually};

const ACT: &str = "act = true\nactions = [\"kill\"]\n[budget]\nmax_per_hour = 100\n";

/// A process of this test.
struct Victim(Child);

impl Victim {
    fn start(script: &str) -> Self {
        Self(Command::new("sh").args(["-c", script]).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn kill(executor: &mut Executor, pid: u32, start_ns: i64, scope: Scope, grace_s: u32) -> v1::Command {
    let action = Action::Kill(v1::Kill { scope: scope.into(), grace_s });
    let process = v1::ProcessTarget { pid: pid as i32, start_ns };
    let target = v1::Target { process: Some(process), ..v1::Target::default() };
    v1::Command { target: Some(target), ..executor.issue(action) }
}

#[test]
fn a_process_is_asked_and_one_that_does_not_listen_is_killed() {
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    for (script, grace_s, how) in [
        ("exec sleep 600", 10, "ended after"),
        ("trap '' TERM; while :; do sleep 0.1; done", 1, "killed, and gone after"),
        ("exec sleep 600", 0, "killed, and gone after"),
    ] {
        let mut victim = Victim::start(script);
        std::thread::sleep(std::time::Duration::from_millis(200));
        let command = kill(&mut executor, victim.pid(), start_ns(victim.pid()).unwrap(), Scope::Process, grace_s);
        agent.execute(executor.sign(&command));
        let applied = agent.expect(Step::Applied);
        assert_eq!(applied.lease_until_us, 0, "there is no way back");
        let done = agent.expect(Step::Done).detail;
        assert!(done.contains(how), "{script}: {done}");
        assert!(victim.has_ended());
    }
    assert!(agent.status().active.is_empty());
}

#[test]
fn a_tree_ends_whole_even_where_its_root_goes_first() {
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let marker = format!("6{:05}", std::process::id() % 100_000);
    let victim = Victim::start(&format!("(trap '' TERM; sleep {marker}; sleep {marker}) & exec sleep {marker}"));
    let running = || {
        let listed = Command::new("pgrep").args(["-f", &format!("^sleep {marker}")]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().lines().count()
    };
    eventually("the tree", || (running() == 2).then_some(()));
    let command = kill(&mut executor, victim.pid(), start_ns(victim.pid()).unwrap(), Scope::Tree, 1);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    let done = agent.expect(Step::Done).detail;
    assert!(done.contains("killed, and gone"), "{done}");
    assert_eq!(running(), 0);
}

#[test]
fn a_workload_ends_whole() {
    let mut busy = Busy::idle("kill");
    busy.run("trap '' TERM; while :; do sleep 0.1; done");
    busy.run("exec sleep 600");
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let action = Action::Kill(v1::Kill { scope: Scope::Workload.into(), grace_s: 1 });
    let command = executor.at_cgroup(&busy, action.clone(), 0);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    agent.expect(Step::Done);
    assert_eq!(busy.processes(), 0);
    let command = executor.at_cgroup(&busy, action.clone(), 0);
    agent.execute(executor.sign(&command));
    assert!(agent.expect(Step::Moot).detail.contains("holds no process"));
}

/// The number of a process that has ended is given to a new one before the command arrives.
#[test]
fn a_new_process_under_an_old_number_is_untouched() {
    let mut executor = Executor::start(ACT);
    let mut agent = executor.agent();
    let mut old = Victim::start("exec sleep 600");
    let (pid, start) = (old.pid(), start_ns(old.pid()).unwrap());
    let command = kill(&mut executor, pid, start, Scope::Process, 0);
    let signed = executor.sign(&command);
    old.0.kill().unwrap();
    old.0.wait().unwrap();

    let gone = kill(&mut executor, pid, start, Scope::Process, 0);
    agent.execute(executor.sign(&gone));
    assert_eq!(agent.expect(Step::Moot).detail, format!("trigger gone: process {pid} has ended"));

    // Start times are in ticks.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let mut new = eventually("the number again", || {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("needs CAP_CHECKPOINT_RESTORE");
        Some(Victim::start("exec sleep 600")).filter(|new| new.pid() == pid)
    });
    assert_ne!(start_ns(pid).unwrap(), start);
    agent.execute(signed);
    let reason = agent.expect(Step::Refused).detail;
    let expected = format!("process {pid} is another one than was meant: it began at another time; it is left alone");
    assert_eq!(reason, expected);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!new.has_ended());
}

#[test]
fn whom_nobody_may_kill_is_refused() {
    let mut executor =
        Executor::start("act = true\nactions = [\"kill\"]\n[kill]\nmax_processes = 1\nmax_grace_s = 5\n");
    let mut agent = executor.agent();
    let pid = executor.pid();
    for (pid, why) in [(1, "it holds pid 1"), (pid, "it holds the executor itself")] {
        let command = kill(&mut executor, pid, start_ns(pid).unwrap(), Scope::Process, 0);
        let reason = agent.refused(executor.sign(&command));
        assert_eq!(reason, format!("process {pid} is protected: {why}"));
    }
    let dir = tempfile::tempdir().unwrap();
    let sshd = dir.path().join("sshd");
    fs::copy("/bin/sleep", &sshd).unwrap();
    let parent = Victim::start(&format!("{} 600 & wait", sshd.display()));
    eventually("a child", || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.pid())).unwrap();
        let child: u32 = children.trim().parse().ok()?;
        fs::read_link(format!("/proc/{child}/exe")).ok().filter(|exe| exe.ends_with("sshd"))
    });
    let start = start_ns(parent.pid()).unwrap();
    let command = kill(&mut executor, parent.pid(), start, Scope::Tree, 0);
    let reason = agent.refused(executor.sign(&command));
    assert!(reason.contains("is protected: it holds sshd"), "{reason}");
    Command::new("pkill").args(["-9", "-P", &parent.pid().to_string()]).status().unwrap();

    let crowd = Victim::start("sleep 600 & wait");
    eventually("a child", || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", crowd.pid())).unwrap();
        (!children.is_empty()).then_some(())
    });
    let start = start_ns(crowd.pid()).unwrap();
    let command = kill(&mut executor, crowd.pid(), start, Scope::Tree, 0);
    assert!(agent.refused(executor.sign(&command)).contains("2 processes, the most is 1"));
    let command = kill(&mut executor, crowd.pid(), start, Scope::Process, 6);
    assert!(agent.refused(executor.sign(&command)).contains("6 s to end, the longest is 5 s"));
    Command::new("pkill").args(["-9", "-P", &crowd.pid().to_string()]).status().unwrap();
}
