//! Support for the tests in this folder: a running skep, its command line, and patience.
//!
//! The tests run the real binaries as root on the real kernel. `cargo xtask test` builds the binaries first.

#![expect(clippy::expect_used, clippy::panic, reason = "test support fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub mod generator;
pub mod truth;

pub mod ledger;

/// No budget for the agent's CPU time.
pub const UNLIMITED: (&str, &str) = ("SKEP_CPU_BUDGET", "0");

/// How long a step may take on a loaded two-core machine before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks `probe` until it answers, or fails with `what`.
pub fn eventually<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A binary of this workspace, beside the running test.
pub fn binary(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("own path");
    let folder = here.parent().and_then(Path::parent).expect("a test lies in TARGET/PROFILE/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace` or `cargo xtask test`", path.display());
    path
}

/// `skep up` on a folder of its own.
#[derive(Debug)]
pub struct Skep {
    up: Child,
    data: PathBuf,
}

impl Skep {
    /// Starts everything and returns when the agent's node is connected. The agent takes what it needs: a test that
    /// counts must not find that it was sampled.
    pub fn up(data: &Path, extra: &[&str]) -> Self {
        Self::up_with(data, extra, &[UNLIMITED])
    }

    /// As [`Skep::up`], with these variables in the environment of all programs.
    pub fn up_with(data: &Path, extra: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Self::command(data, extra);
        command.envs(variables.iter().copied());
        Self::start(data, command)
    }

    /// As [`Skep::up`], on a host that has no bpf file system.
    pub fn up_without_bpf_fs(data: &Path, extra: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        let script = "while umount /sys/fs/bpf 2>/dev/null; do :; done; exec \"$0\" \"$@\"";
        command.args(["--mount", "sh", "-c", script]).arg(binary("skep"));
        Self::with_arguments(&mut command, data, extra);
        command.envs([UNLIMITED]);
        Self::start(data, command)
    }

    /// `skep up`, not yet started.
    pub fn command(data: &Path, extra: &[&str]) -> Command {
        let mut command = Command::new(binary("skep"));
        Self::with_arguments(&mut command, data, extra);
        command
    }

    fn with_arguments(command: &mut Command, data: &Path, extra: &[&str]) {
        command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(extra);
    }

    /// As [`Skep::up`], with a command of the caller's that becomes `skep up`.
    pub fn start(data: &Path, mut command: Command) -> Self {
        let log = std::fs::File::create(data.join("up.log")).expect("log file");
        let up = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("second handle"))
            .stderr(log)
            .spawn()
            .expect("skep up starts");
        let mut skep = Self { up, data: data.to_owned() };
        eventually("the agent to be connected", PATIENCE, || {
            if let Some(status) = skep.up.try_wait().expect("wait") {
                panic!("skep up ended with {status}: {}", skep.log());
            }
            skep.connected().then_some(())
        });
        skep
    }

    fn connected(&self) -> bool {
        let output = self.skep(&["nodes", "--format", "json"]);
        output.status.success() && json_rows(&output.stdout).iter().any(|node| node["connected"] == Value::Bool(true))
    }

    /// What `skep up` printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("up.log")).unwrap_or_default()
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Runs `skep` with `--data` set to this folder.
    pub fn skep(&self, args: &[&str]) -> Output {
        skep(&self.data, args)
    }

    /// Rows of a query; fails the test when the query does.
    pub fn query(&self, sql: &str) -> Vec<Value> {
        query(&self.data, sql)
    }

    /// The one number a query returns; null counts as 0.
    pub fn number(&self, sql: &str) -> i64 {
        number(&self.data, sql)
    }

    /// Process id of a child: `collector`, `agent` or `executor`.
    pub fn pid(&self, part: &str) -> u32 {
        let path = self.data.join("run").join(format!("{part}.pid"));
        eventually(&format!("{}", path.display()), PATIENCE, || {
            std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok())
        })
    }

    /// kill -9 of a child; returns the id it had.
    pub fn kill(&self, part: &str) -> u32 {
        let pid = self.pid(part);
        send(pid, rustix::process::Signal::KILL);
        pid
    }

    /// Waits until `skep up` has started the part again under another process id.
    pub fn restarted(&self, part: &str, old: u32) -> u32 {
        eventually(&format!("{part} to be restarted"), PATIENCE, || {
            let pid = self.pid(part);
            (pid != old).then_some(pid)
        })
    }

    /// Waits until two more windows are stored: the second of them began after this call.
    pub fn next_window(&self) {
        let newest = "SELECT max(arrow_cast(time, 'Int64')) FROM cpu";
        let mut last = self.number(newest);
        for _ in 0..2 {
            last = eventually("another window", PATIENCE, || self.try_number(newest).filter(|&time| time > last));
        }
    }

    /// As [`Skep::number`], `None` while the collector does not answer.
    pub fn try_number(&self, sql: &str) -> Option<i64> {
        let output = self.skep(&["query", "--format", "json", sql]);
        output.status.success().then(|| first_number(&output.stdout)).flatten()
    }

    /// Process id of `skep up` itself.
    pub fn parent(&self) -> u32 {
        self.up.id()
    }

    /// For a test that has killed `skep up`: collects it without a word.
    pub fn forget(mut self) {
        self.up.wait().expect("it was killed");
    }

    /// Stops everything as Ctrl-C does and returns what it printed.
    pub fn stop(mut self) -> String {
        send(self.up.id(), rustix::process::Signal::INT);
        let status = eventually("skep up to stop", PATIENCE, || self.up.try_wait().expect("wait"));
        let log = self.log();
        assert!(status.success(), "skep up ended with {status}: {log}");
        // They would count on, and cost every test after this one.
        assert!(!log.contains("the probes stay in the kernel"), "{log}");
        log
    }
}

impl Drop for Skep {
    fn drop(&mut self) {
        if let Ok(None) = self.up.try_wait() {
            send(self.up.id(), rustix::process::Signal::INT);
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if let Ok(Some(_)) = self.up.try_wait() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            self.up.kill().ok();
            self.up.wait().ok();
        }
    }
}

/// Mounts a bpf file system at its usual place, if the host has none there.
pub fn need_bpf_fs() {
    let lock = std::env::temp_dir().join("skep-tests-bpf-fs.lock");
    let lock = std::fs::File::create(lock).expect("a lock file");
    lock.lock().expect("no other test mounts it meanwhile");
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the mounts");
    if !mounts.lines().any(|line| line.split(' ').nth(1) == Some("/sys/fs/bpf")) {
        let status = Command::new("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]).status().expect("mount runs");
        assert!(status.success(), "a bpf file system can be mounted: run the tests as root");
    }
}

/// Sends a signal to a process the test started.
pub fn send(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("signal is sent");
}

/// Runs `skep` on a data folder.
pub fn skep(data: &Path, args: &[&str]) -> Output {
    Command::new(binary("skep")).args(args).arg("--data").arg(data).stdin(Stdio::null()).output().expect("skep runs")
}

/// Runs `skep` on nothing.
pub fn skep_alone(args: &[&str]) -> Output {
    Command::new(binary("skep")).args(args).stdin(Stdio::null()).output().expect("skep runs")
}

/// Rows of a query on a data folder, collector running or not.
pub fn query(data: &Path, sql: &str) -> Vec<Value> {
    let output = skep(data, &["query", "--format", "json", sql]);
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    json_rows(&output.stdout)
}

/// The one number a query on a data folder returns; null counts as 0.
pub fn number(data: &Path, sql: &str) -> i64 {
    let output = skep(data, &["query", "--format", "json", sql]);
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    first_number(&output.stdout).unwrap_or_else(|| panic!("{sql}: no number in the answer"))
}

fn first_number(json: &[u8]) -> Option<i64> {
    let rows = json_rows(json);
    let row = rows.first()?.as_object()?;
    match row.values().next() {
        None | Some(Value::Null) => Some(0),
        Some(value) => value.as_i64(),
    }
}

/// Rows of `--format json`: an array of objects.
pub fn json_rows(json: &[u8]) -> Vec<Value> {
    match serde_json::from_slice(json) {
        Ok(Value::Array(rows)) => rows,
        other => panic!("not an array of rows: {other:?} in {}", String::from_utf8_lossy(json)),
    }
}
