//! A real executor, a real cgroup, and the agent's side of the socket.

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
use skep_executor::act::hierarchy::{Hierarchies, Hierarchy};
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

/// A cgroup of its own, of one path in every hierarchy, with processes in it.
pub(crate) struct Busy {
    pub(crate) hierarchies: Hierarchies,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) path: String,
    pub(crate) dir: PathBuf,
    /// In the other hierarchies.
    others: Vec<PathBuf>,
    children: Vec<Child>,
}

impl Busy {
    pub(crate) fn idle(name: &str) -> Self {
        let hierarchies = Hierarchies::discover().expect("a cpu hierarchy");
        let hierarchy = hierarchies.cpu.clone();
        let path = format!("/skep-test-{}-{name}", std::process::id());
        let dir = hierarchy.folder(&path);
        let others = [&hierarchies.memory, &hierarchies.io, &hierarchies.unified];
        let others = others.into_iter().flatten().map(|other| other.folder(&path));
        let others: std::collections::BTreeSet<PathBuf> = others.filter(|other| *other != dir).collect();
        for folder in others.iter().chain([&dir]) {
            fs::create_dir_all(folder).expect("these tests need root and writable cgroup hierarchies");
        }
        Self { hierarchies, hierarchy, path, dir, others: others.into_iter().collect(), children: Vec::new() }
    }

    pub(crate) fn start(name: &str) -> Self {
        let mut busy = Self::idle(name);
        busy.run("while :; do :; done");
        busy
    }

    /// Runs something inside that holds 100 MB, by what every system has: the buffer for a second block that never comes.
    pub(crate) fn hold(&mut self) {
        self.run(
            "(head -c 100000000 /dev/zero; exec sleep 600) | \
                  dd bs=100000000 count=2 iflag=fullblock of=/dev/null 2>/dev/null",
        );
    }

    /// Runs a shell script inside.
    pub(crate) fn run(&mut self, script: &str) {
        let folders = self.others.iter().chain([&self.dir]);
        let joins = folders.map(|folder| format!("echo $$ > {}/cgroup.procs && ", folder.display()));
        let script = format!("{}{script}", joins.collect::<String>());
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
        for dir in self.others.iter().chain([&self.dir]) {
            eventually("end of the cgroup", || {
                // What its processes have started, or what stands still.
                for pid in usage::processes(dir).unwrap_or_default().into_iter().filter(|pid| *pid > 1) {
                    Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status().ok();
                }
                fs::write(dir.join("cgroup.freeze"), "0").ok();
                (fs::remove_dir(dir).is_ok() || !dir.exists()).then_some(())
            });
        }
    }

    pub(crate) fn again(&mut self) {
        for dir in self.others.iter().chain([&self.dir]) {
            fs::create_dir(dir).unwrap();
        }
    }

    /// The folder in the unified hierarchy.
    pub(crate) fn unified(&self) -> PathBuf {
        self.hierarchies.unified.as_ref().expect("a unified hierarchy").folder(&self.path)
    }

    /// How many processes are inside.
    pub(crate) fn processes(&self) -> usize {
        usage::processes(&self.dir).unwrap().len()
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
    /// Words before the program, which bring it where it is to run.
    prefix: Vec<String>,
    child: Option<Child>,
    issued: u32,
}

impl Executor {
    /// Starts one with this text as its configuration.
    pub(crate) fn start(config: &str) -> Self {
        let mut executor = Self::prepare(config, &[]);
        executor.restart();
        executor
    }

    /// One that is not started yet, to be started by these words.
    pub(crate) fn prepare(config: &str, prefix: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::from_bytes(&[9; 32]);
        let pem = key.verifying_key().to_public_key_pem(Default::default()).unwrap();
        fs::write(dir.path().join("command.pub"), pem).unwrap();
        fs::write(dir.path().join("executor.toml"), config).unwrap();
        let prefix = prefix.iter().map(|&word| word.to_owned()).collect();
        Self { dir, key, prefix, child: None, issued: 0 }
    }

    pub(crate) fn command(&self) -> Command {
        let mut words = self.prefix.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_skep-executor")]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("--socket").arg(self.socket()).arg("--state-dir").arg(self.dir.path().join("state"));
        command.arg("--trusted-key").arg(self.dir.path().join("command.pub"));
        command.args(["--node", NODE, "--config"]).arg(self.dir.path().join("executor.toml"));
        command
    }

    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// With these in its environment.
    pub(crate) fn restart_with(&mut self, environment: &[(&str, &str)]) {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = self.command();
        command.envs(environment.iter().copied()).stderr(log).stdin(Stdio::null());
        self.child = Some(command.spawn().unwrap());
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

    /// Waits until it has ended by itself; the signal that ended it.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let status = eventually("end of the executor", || child.try_wait().unwrap());
        std::os::unix::process::ExitStatusExt::signal(&status)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
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
        self.at_cgroup(busy, action, lease_s)
    }

    /// A fresh command for this cgroup.
    pub(crate) fn at_cgroup(&mut self, busy: &Busy, action: Action, lease_s: u32) -> v1::Command {
        let workload = format!("cgroup:{}", busy.path);
        let target = v1::Target { workload, cgroup: busy.path.clone(), cgroup_id: busy.id(), ..Default::default() };
        v1::Command { target: Some(target), lease_s, ..self.issue(action) }
    }

    pub(crate) fn undo(&mut self, action_id: &str) -> v1::Command {
        self.issue(Action::Undo(v1::Undo { action_id: action_id.to_owned() }))
    }

    pub(crate) fn issue(&mut self, action: Action) -> v1::Command {
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
pub(crate) struct Agent(UnixStream, u64);

impl Agent {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream, 0)
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
        self.try_reply().expect("a reply in time")
    }

    /// The next reply, or nothing when the executor is gone.
    fn try_reply(&mut self) -> Option<Reply> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut body).ok()?;
        let reply = v1::ExecutorReply::decode(body.as_slice()).unwrap().reply.unwrap();
        if let Reply::Receipt(receipt) = &reply {
            self.1 = receipt.number;
        }
        Some(reply)
    }

    /// Number of the last receipt that came, after asking for all there are.
    pub(crate) fn last_receipt(&mut self) -> u64 {
        self.status();
        self.1
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

    /// The next receipt, or nothing when the executor is gone.
    pub(crate) fn try_receipt(&mut self) -> Option<v1::Receipt> {
        match self.try_reply()? {
            Reply::Receipt(receipt) => Some(receipt),
            Reply::Status(_) => None,
        }
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
