//! Executor, agent and collector as processes, each with a wall clock of its own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock::Clock;
use skep_chaos_ground::{Collector, Ground, beside};

/// The node's name, in certificates and commands.
pub(crate) const NODE: &str = "a";

const PATIENCE: Duration = Duration::from_secs(60);

/// It watches as little as it can: what is tried here is how it passes on.
const AGENT: &str = "window = \"10s\"\npin = \"\"\n[canary]\ninterval = \"0\"\n[budget]\ncpu_ratio = 0.0\n\
    [log]\nfilter = \"warn\"\n\
    [probes]\ncpu = false\noff_cpu = false\nsyscall = false\ntcp = false\nsocket = false\nsecurity = false\nblock = false\n";

/// A program that is started again and again.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) clock: Clock,
    words: Vec<String>,
    log: PathBuf,
    /// Listens here once it is ready; none is ready at once.
    socket: Option<PathBuf>,
    child: Option<Child>,
    /// Since when it has been ready; `None` while it is not there.
    up: Arc<Mutex<Option<Instant>>>,
}

impl Program {
    /// The executor, in its network namespace.
    pub(crate) fn executor(ground: &Ground, clock: Clock, net: &str, settings: &str) -> Result<Self> {
        let at = |file: &str| ground.path().join(file).display().to_string();
        fs::write(at("executor.toml"), settings)?;
        let words = [
            "nsenter".to_owned(),
            format!("--net=/run/netns/{net}"),
            beside("skep-executor")?.display().to_string(),
            "--socket".to_owned(),
            at("executor.sock"),
            "--state-dir".to_owned(),
            at("executor"),
            "--trusted-key".to_owned(),
            ground.tls("command.pub").display().to_string(),
            "--node".to_owned(),
            NODE.to_owned(),
            "--config".to_owned(),
            at("executor.toml"),
        ];
        Ok(Self::new(words.into(), clock, ground.path(), "executor", Some(at("executor.sock").into())))
    }

    /// The agent, between the collector at `collector` and an executor's `socket`.
    pub(crate) fn agent(ground: &Ground, clock: Clock, collector: &str, socket: &Path) -> Result<Self> {
        let at = |file: &str| ground.path().join(file).display().to_string();
        fs::write(at("agent.toml"), AGENT)?;
        let mut words = vec![beside("skep-agent")?.display().to_string()];
        for (flag, value) in [
            ("--config", at("agent.toml")),
            ("--collector", format!("https://{collector}")),
            ("--ca", ground.tls("ca.pem").display().to_string()),
            ("--cert", ground.tls(&format!("{NODE}.pem")).display().to_string()),
            ("--key", ground.tls(&format!("{NODE}.key")).display().to_string()),
            ("--state-dir", at("agent")),
            ("--executor-socket", socket.display().to_string()),
        ] {
            words.extend([flag.to_owned(), value]);
        }
        Ok(Self::new(words, clock, ground.path(), "agent", None))
    }

    fn new(words: Vec<String>, clock: Clock, folder: &Path, name: &str, socket: Option<PathBuf>) -> Self {
        let log = folder.join(format!("{name}.log"));
        Self { clock, words, log, socket, child: None, up: Arc::default() }
    }

    /// For whoever watches what it leaves standing.
    pub(crate) fn up(&self) -> Arc<Mutex<Option<Instant>>> {
        Arc::clone(&self.up)
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).envs(self.clock.environment());
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while let Some(socket) = &self.socket {
            if UnixStream::connect(socket).is_ok() {
                break;
            }
            ensure!(self.is_alive(), "it ended by itself: {}", self.log());
            ensure!(Instant::now() < deadline, "it does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.set_up(Some(Instant::now()));
        Ok(())
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.set_up(None);
        if let Some(mut child) = self.child.take() {
            let _killed = child.kill().is_ok();
            let _waited = child.wait().is_ok();
        }
    }

    /// SIGTERM, and whether it ended well.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.set_up(None);
        let Some(mut child) = self.child.take() else { return Ok(()) };
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("it did not stop in order: {status}: {}", self.log()),
                None => ensure!(Instant::now() < deadline, "it does not stop: {}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The end of what it said.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn set_up(&self, up: Option<Instant>) {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = up;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The collector of an episode, over all of its lives.
#[derive(Debug)]
pub(crate) struct Center {
    pub(crate) clock: Clock,
    settings: String,
    pub(crate) running: Option<Collector>,
}

impl Center {
    /// Writes the policy; nothing runs yet.
    pub(crate) fn new(ground: &Ground, clock: Clock, max_per_hour: u64) -> Result<Self> {
        let policy = ground.path().join("policy.toml");
        let text = format!(
            "[budget]\nmax_concurrent = 100\nmax_per_hour = {max_per_hour}\nnode_concurrent = 100\n\
             node_per_hour = {max_per_hour}\ntarget_per_hour = {max_per_hour}\n"
        );
        fs::write(&policy, text)?;
        let settings = format!("[flush]\ninterval_s = 2\n[response]\npolicy = \"{}\"\n", policy.display());
        Ok(Self { clock, settings, running: None })
    }

    /// Starts it and waits until it listens; where.
    pub(crate) fn start(&mut self, ground: &Ground) -> Result<String> {
        let environment = self.clock.environment();
        let mut collector =
            Collector::spawn_as(ground, &beside("skep-collector")?, &self.settings, None, &environment)?;
        collector.ready(ground).with_context(|| ground.log())?;
        let address = collector.address.clone();
        self.running = Some(collector);
        Ok(address)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(collector) = self.running.take() {
            collector.kill();
        }
    }

    /// SIGTERM, and whether it ended well.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.running.take().map_or(Ok(()), Collector::stop)
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.running.as_mut().is_some_and(Collector::is_alive)
    }
}
