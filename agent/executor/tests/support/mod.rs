//! A real executor, a real cgroup with a busy loop in it, and the agent's side of the socket.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::{Signer, SigningKey};
use prost::Message;
use skep_executor::act::hierarchy::Hierarchy;
use skep_executor::act::throttle::{self, Limit};
use skep_executor::act::usage;
use skep_executor::verify::key::key_id;
use skep_wire::v1::{self, Step, executor_reply::Reply, executor_request::Request};
use skep_wire::{COMMAND_CONTEXT, v1::command::Action};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const NODE: &str = "test-node";

/// Asks until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn now_us() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64
}

pub(crate) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

/// A busy loop in a cgroup of its own.
pub(crate) struct Busy {
    pub(crate) hierarchy: Hierarchy,
    pub(crate) path: String,
    pub(crate) dir: PathBuf,
    children: Vec<Child>,
}

impl Busy {
    pub(crate) fn idle(name: &str) -> Self {
        let hierarchy = Hierarchy::discover().expect("a cpu hierarchy");
        let path = format!("/skep-test-{}-{name}", std::process::id());
        let dir = hierarchy.root.join(&path[1..]);
        fs::create_dir_all(&dir).expect("these tests need root and a writable cgroup hierarchy");
        Self { hierarchy, path, dir, children: Vec::new() }
    }

    pub(crate) fn start(name: &str) -> Self {
        let mut busy = Self::idle(name);
        busy.run("while :; do :; done");
        busy
    }

    /// Runs a shell script inside.
    pub(crate) fn run(&mut self, script: &str) {
        let script = format!("echo $$ > {}/cgroup.procs && {script}", self.dir.display());
        self.children.push(Command::new("/bin/sh").args(["-c", &script]).spawn().expect("sh starts"));
        let children = self.children.len();
        eventually("process in the cgroup", || (usage::processes(&self.dir).unwrap().len() >= children).then_some(()));
    }

    pub(crate) fn id(&self) -> i64 {
        fs::metadata(&self.dir).unwrap().ino() as i64
    }

    pub(crate) fn limit(&self) -> Limit {
        throttle::read(self.hierarchy.version, &self.dir).unwrap()
    }

    pub(crate) fn limited(&self) -> bool {
        self.limit().quota_us.is_some()
    }

    /// Cores used over half a second, by the kernel's own account.
    pub(crate) fn cores(&self) -> f64 {
        let start = Instant::now();
        let earlier = usage::read(&self.dir, 0);
        std::thread::sleep(Duration::from_millis(500));
        usage::between(&earlier, &usage::read(&self.dir, start.elapsed().as_nanos() as u64)).used_cores
    }

    /// Ends what runs inside.
    pub(crate) fn end(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
        self.children.clear();
    }

    /// Ends what runs inside and removes the cgroup.
    pub(crate) fn remove(&mut self) {
        self.end();
        eventually("end of the cgroup", || (fs::remove_dir(&self.dir).is_ok() || !self.dir.exists()).then_some(()));
    }

    pub(crate) fn again(&mut self) {
        fs::create_dir(&self.dir).unwrap();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.dir.exists() {
            self.remove();
        }
    }
}

/// The executor's binary, its folder and its keys.
pub(crate) struct Executor {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) key: SigningKey,
    child: Option<Child>,
    issued: u32,
}

impl Executor {
    /// Starts one that acts, with this text as its configuration.
    pub(crate) fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::from_bytes(&[9; 32]);
        let pem = key.verifying_key().to_public_key_pem(Default::default()).unwrap();
        fs::write(dir.path().join("command.pub"), pem).unwrap();
        fs::write(dir.path().join("executor.toml"), config).unwrap();
        let mut executor = Self { dir, key, child: None, issued: 0 };
        executor.restart();
        executor
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep-executor"));
        command.arg("--socket").arg(self.socket()).arg("--state-dir").arg(self.dir.path().join("state"));
        command.arg("--trusted-key").arg(self.dir.path().join("command.pub"));
        command.args(["--node", NODE, "--config"]).arg(self.dir.path().join("executor.toml"));
        command
    }

    pub(crate) fn restart(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        self.child = Some(self.command().stderr(log).stdin(Stdio::null()).spawn().unwrap());
        eventually("listening executor", || UnixStream::connect(self.socket()).ok());
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("executor.sock")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to end; its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().code()
    }

    pub(crate) fn agent(&self) -> Agent {
        Agent::connect(&self.socket())
    }

    /// A fresh throttle of this cgroup, valid and complete.
    pub(crate) fn throttle(&mut self, busy: &Busy, cpu_millicores: u32, lease_s: u32) -> v1::Command {
        let action = Action::Throttle(v1::Throttle { cpu_millicores });
        let target =
            v1::Target { workload: format!("cgroup:{}", busy.path), cgroup: busy.path.clone(), cgroup_id: busy.id() };
        v1::Command { target: Some(target), lease_s, ..self.issue(action) }
    }

    pub(crate) fn undo(&mut self, action_id: &str) -> v1::Command {
        self.issue(Action::Undo(v1::Undo { action_id: action_id.to_owned() }))
    }

    fn issue(&mut self, action: Action) -> v1::Command {
        self.issued += 1;
        v1::Command {
            id: format!("{:032x}", self.issued),
            nonce: format!("{:032x}", u128::from(self.issued) << 64),
            node: NODE.to_owned(),
            boot: boot(),
            action: Some(action),
            issued_us: now_us(),
            not_after_us: now_us() + 60_000_000,
            approved_by: "tester".to_owned(),
            ..Default::default()
        }
    }

    pub(crate) fn sign(&self, command: &v1::Command) -> v1::SignedCommand {
        sign_with(&self.key, command)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("executor's log:\n{}", self.log());
        }
    }
}

pub(crate) fn sign_with(key: &SigningKey, command: &v1::Command) -> v1::SignedCommand {
    let command = command.encode_to_vec();
    let signature = key.sign(&[COMMAND_CONTEXT, &command].concat()).to_bytes().to_vec();
    v1::SignedCommand { command, signature, key_id: key_id(&key.verifying_key()) }
}

/// The agent's side of the socket.
pub(crate) struct Agent(UnixStream);

impl Agent {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, request: Request) {
        let body = v1::ExecutorRequest { request: Some(request) }.encode_to_vec();
        self.0.write_all(&(body.len() as u32).to_le_bytes()).unwrap();
        self.0.write_all(&body).unwrap();
    }

    pub(crate) fn execute(&mut self, signed: v1::SignedCommand) {
        self.send(Request::Execute(signed));
    }

    fn reply(&mut self) -> Reply {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("a reply in time");
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut body).unwrap();
        v1::ExecutorReply::decode(body.as_slice()).unwrap().reply.unwrap()
    }

    pub(crate) fn receipt(&mut self) -> v1::Receipt {
        loop {
            if let Reply::Receipt(receipt) = self.reply() {
                return receipt;
            }
        }
    }

    /// The next receipt, which must be of this step.
    pub(crate) fn expect(&mut self, step: Step) -> v1::Receipt {
        let receipt = self.receipt();
        assert_eq!(receipt.step(), step, "{receipt:?}");
        receipt
    }

    /// The reason of the refusal that must come next.
    pub(crate) fn refused(&mut self, signed: v1::SignedCommand) -> String {
        self.execute(signed);
        self.expect(Step::Refused).detail
    }

    pub(crate) fn status(&mut self) -> v1::Status {
        self.send(Request::Status(v1::StatusRequest {}));
        loop {
            if let Reply::Status(status) = self.reply() {
                return status;
            }
        }
    }
}
