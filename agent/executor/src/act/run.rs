//! Runs a command of the configuration: as it stands there, without a shell, for a limited time.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use skep_wire::v1::Step;

use super::gauge::Reading;
use super::host::Host;
use super::kind::{Act, ActError, Captured, Outcome};
use crate::config::policy::Program;
use crate::verify::Refusal;

/// Of what it says, this much is kept, from the beginning.
const MAX_OUTPUT: usize = 2_000;

/// Running a command.
#[derive(Debug)]
pub struct Run {
    name: String,
    action: String,
    child: Mutex<Option<(Child, Instant)>>,
}

impl Run {
    /// As a command asks for it.
    pub fn new(name: &str, action: &str) -> Self {
        Self { name: name.to_owned(), action: action.to_owned(), child: Mutex::default() }
    }

    fn program<'a>(&self, host: &'a Host) -> Result<&'a Program, Refusal> {
        let found = host.policy.commands.iter().find(|program| program.name == self.name);
        let Some(program) = found else {
            return Err(Refusal::Policy { why: format!("{:?} is not among run.command", self.name) });
        };
        let path = program.argv.first().map_or("", String::as_str);
        let meta = std::fs::metadata(path).map_err(|error| Refusal::unreadable(format!("{path}: {error}")))?;
        // Whoever may write to it could run anything as root.
        if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
            return Err(Refusal::Policy { why: format!("{path} may be changed by others than root") });
        }
        if !Path::new(path).is_file() || meta.mode() & 0o111 == 0 {
            return Err(Refusal::Policy { why: format!("{path} is no program") });
        }
        Ok(program)
    }
}

/// Reads what is said, keeps the beginning and throws the rest away, so that whoever speaks is never held up.
fn listen(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(bytes) = from.read(&mut piece) {
            if bytes == 0 {
                break;
            }
            let room = MAX_OUTPUT.saturating_sub(kept.len()).min(bytes);
            kept.extend_from_slice(&piece[..room]);
        }
        // Nobody may listen any more.
        let _unheard = said.send(String::from_utf8_lossy(&kept).split_whitespace().collect::<Vec<_>>().join(" "));
    });
    heard
}

/// Whether it has ended. It stays to be waited for, so that its number is nobody else's.
fn has_ended(child: &Child) -> Option<()> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(Pid::from_child(child)), options) {
        Ok(None) => None,
        Ok(Some(_)) | Err(_) => Some(()),
    }
}

impl Act for Run {
    fn subject(&self) -> String {
        format!("command {}", self.name)
    }

    fn is_leased(&self) -> bool {
        false
    }

    fn check(&self, host: &Host) -> Result<(), Refusal> {
        self.program(host).map(drop)
    }

    fn capture(&self, host: &Host) -> Result<Captured, Refusal> {
        self.program(host).map(|program| Captured { previous: program.argv.join(" "), ..Captured::default() })
    }

    fn apply(&self, host: &Host, _captured: &Captured) -> Result<(), ActError> {
        let program = self.program(host).map_err(|refusal| ActError::Host(refusal.to_string()))?;
        let (path, arguments) = program.argv.split_first().ok_or(ActError::Journal)?;
        let mut command = Command::new(path);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SKEP_ACTION", &self.action)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| ActError::Host(format!("cannot run {path}: {error}")))?;
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some((child, Instant::now()));
        Ok(())
    }

    fn told(&self, _before: Option<&Reading>) -> String {
        format!("{} is to be run", self.name)
    }

    fn follow(&self, host: &Host, _before: Option<&Reading>) -> Outcome {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some((mut child, began)), Ok(program)) = (child, self.program(host)) else {
            return Outcome::of(Step::Failed, "it was not started");
        };
        let heard = (child.stdout.take().map(listen), child.stderr.take().map(listen));
        let limit = Duration::from_secs(program.timeout_s).saturating_sub(began.elapsed());
        let in_time = host.wait_for(limit, || has_ended(&child)).is_some();
        // What it left behind in its group would go on without limit.
        let _nobody = kill_process_group(Pid::from_child(&child), Signal::KILL).is_err();
        let ended = child.wait();
        let text = |heard: Option<mpsc::Receiver<String>>| {
            heard.and_then(|heard| heard.recv_timeout(Duration::from_secs(1)).ok()).unwrap_or_default()
        };
        let said = [text(heard.0), text(heard.1)].into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>();
        let said = if said.is_empty() { "nothing".to_owned() } else { said.join(" / ") };
        let took = began.elapsed().as_secs_f64();
        match ended {
            _ if !in_time => Outcome::of(Step::Failed, format!("killed after {took:.1} s, its limit; it said: {said}")),
            Ok(status) if status.success() => Outcome::of(Step::Done, format!("ended after {took:.1} s, said: {said}")),
            Ok(status) => Outcome::of(Step::Failed, format!("{status} after {took:.1} s, said: {said}")),
            Err(error) => Outcome::of(Step::Failed, format!("nobody knows how it ended: {error}")),
        }
    }

    fn undo(&self, _host: &Host, _captured: &Captured) -> Result<String, ActError> {
        Ok("what was run was run".to_owned())
    }
}
