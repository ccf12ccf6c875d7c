//! Asks processes to end, and ends those that do not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use skep_wire::v1::{self, Scope, Step};

use super::aim::{self, Aim};
use super::gauge::Reading;
use super::host::Host;
use super::kind::{Act, ActError, Captured, Outcome};
use super::limit::write_file;
use super::process::{self, NotHeld, Process};
use super::usage;
use crate::verify::{Refusal, protected};

/// How long the kernel may take to end what was killed.
const KILL_WITHIN: Duration = Duration::from_secs(10);

/// Rounds of looking for what was started while others were ended.
const ROUNDS: usize = 10;

/// Ending processes.
#[derive(Debug)]
pub struct Kill {
    target: v1::Target,
    scope: Scope,
    grace: Duration,
    /// Whom the first signal went to: children of one that has ended are nobody's any more.
    asked: Mutex<Vec<Process>>,
}

impl Kill {
    /// As a command asks for it.
    pub fn new(target: v1::Target, kill: &v1::Kill) -> Self {
        Self { target, scope: kill.scope(), grace: Duration::from_secs(kill.grace_s.into()), asked: Mutex::default() }
    }

    fn process(&self) -> (u32, i64) {
        let process = self.target.process.unwrap_or_default();
        (u32::try_from(process.pid).unwrap_or(0), process.start_ns)
    }

    /// All that are meant, held, and none of them protected.
    fn hold(&self, host: &Host) -> Result<Vec<Process>, Refusal> {
        let (pid, start_ns) = self.process();
        let one = || Process::hold(pid, start_ns).map_err(|not| not_held(pid, not));
        let held = match self.scope {
            Scope::Workload => self.members(host)?,
            Scope::Tree => process::with_children(vec![one()?]),
            _ => vec![one()?],
        };
        self.unprotected(&held)?;
        let most = host.policy.kill.max_processes;
        if held.len() > most {
            return Err(Refusal::Policy { why: format!("{} processes, the most is {most}", held.len()) });
        }
        Ok(held)
    }

    fn unprotected(&self, held: &[Process]) -> Result<(), Refusal> {
        match held.iter().find_map(|process| protected::protects(process.pid)) {
            Some(why) => Err(Refusal::Protected { subject: self.subject(), why }),
            None => Ok(()),
        }
    }

    fn members(&self, host: &Host) -> Result<Vec<Process>, Refusal> {
        let cgroup = aim::cgroup(&self.target, host)?;
        let pids = usage::processes(&cgroup.dir).map_err(Refusal::unreadable)?;
        // Held first, asked then: a number given away meanwhile is not among them any more.
        let mut held = process::hold_all(&pids);
        let still = usage::processes(&cgroup.dir).map_err(Refusal::unreadable)?;
        held.retain(|process| still.contains(&process.pid));
        if held.is_empty() {
            return Err(Refusal::Moot { reading: format!("{} holds no process", cgroup.path) });
        }
        Ok(held)
    }

    /// Ends what is left. Where the kernel can do it for a whole cgroup at once, it does, whatever is started meanwhile;
    /// that one may be in another hierarchy and hold fewer of them.
    fn end(&self, host: &Host, left: &[Process]) -> Result<(), ActError> {
        if self.scope == Scope::Workload
            && let Ok(Aim { held, .. }) =
                aim::hold_in(host.cgroups.unified.as_ref(), "unified hierarchy", &self.target, host)
            && let Err(error) = write_file(&held.dir().join("cgroup.kill"), "1")
        {
            tracing::debug!(%error, "the kernel does not end the cgroup at once");
        }
        left.iter().try_for_each(|process| process.send(Signal::KILL))
    }

    /// Those of `known` that are still there, and whoever they have started since.
    fn left(&self, host: &Host, mut known: Vec<Process>) -> Vec<Process> {
        known.retain(|process| !process.has_ended());
        match self.scope {
            Scope::Workload => self.members(host).unwrap_or_default(),
            Scope::Tree => process::with_children(known),
            _ => known,
        }
    }

    /// Waits for all to end and ends those that do not; whether they did by themselves.
    fn see_through(&self, host: &Host, mut known: Vec<Process>) -> Result<bool, ActError> {
        host.wait_for(self.grace, || known.iter().all(Process::has_ended).then_some(()));
        for round in 0..ROUNDS {
            known = self.left(host, known);
            if known.is_empty() {
                return Ok(round == 0 && !self.grace.is_zero());
            }
            if host.is_stopping() {
                return Err(ActError::Host("nobody waits for it any longer".to_owned()));
            }
            self.unprotected(&known).map_err(|refusal| ActError::Host(refusal.to_string()))?;
            self.end(host, &known)?;
            host.wait_for(KILL_WITHIN, || known.iter().all(Process::has_ended).then_some(()));
        }
        let left: Vec<String> = self.left(host, known).iter().map(|process| process.pid.to_string()).collect();
        Err(ActError::Host(format!("still there after {ROUNDS} rounds: {}", left.join(", "))))
    }
}

fn not_held(pid: u32, not: NotHeld) -> Refusal {
    match not {
        NotHeld::Gone => Refusal::Moot { reading: format!("process {pid} has ended") },
        NotHeld::Another => Refusal::OtherProcess { pid },
        NotHeld::Refused(why) => Refusal::unreadable(format!("process {pid}: {why}")),
    }
}

impl Act for Kill {
    fn subject(&self) -> String {
        match self.scope {
            Scope::Workload => format!("the processes of {}", aim::subject(&self.target)),
            Scope::Tree => format!("process {} and its children", self.process().0),
            _ => format!("process {}", self.process().0),
        }
    }

    fn is_leased(&self) -> bool {
        false
    }

    fn check(&self, host: &Host) -> Result<(), Refusal> {
        self.hold(host).map(drop)
    }

    fn capture(&self, host: &Host) -> Result<Captured, Refusal> {
        self.hold(host).map(|_| Captured::default())
    }

    /// Held anew: between the journal and this the processes may have changed, and what is not held is not touched.
    fn apply(&self, host: &Host, _captured: &Captured) -> Result<(), ActError> {
        let held = match self.hold(host) {
            Ok(held) => held,
            Err(Refusal::Moot { .. }) => return Ok(()),
            Err(refusal) => return Err(ActError::Host(refusal.to_string())),
        };
        if self.grace.is_zero() {
            self.end(host, &held)?;
        } else {
            held.iter().try_for_each(|process| process.send(Signal::TERM))?;
        }
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    fn told(&self, _before: Option<&Reading>) -> String {
        match self.grace.as_secs() {
            0 => format!("{} killed", self.subject()),
            grace_s => format!("{} asked to end within {grace_s} s", self.subject()),
        }
    }

    fn follow(&self, host: &Host, _before: Option<&Reading>) -> Outcome {
        let began = Instant::now();
        let known = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        let how = match self.see_through(host, known) {
            Ok(true) => "ended",
            Ok(false) => "killed, and gone",
            Err(error) => return Outcome::of(Step::Failed, error.to_string()),
        };
        Outcome::of(Step::Done, format!("{how} after {:.1} s", began.elapsed().as_secs_f64()))
    }

    fn undo(&self, _host: &Host, _captured: &Captured) -> Result<String, ActError> {
        Ok("what has ended stays so".to_owned())
    }
}
