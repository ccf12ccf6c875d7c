//! Changes the state of a container through its runtime: restarts it, or has it stand still and go on.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use skep_wire::v1::{self, ContainerVerb, Step};

use super::gauge::Reading;
use super::host::Host;
use super::kind::{Act, ActError, Captured, Outcome};
use super::runtime::{self, ANSWER_WITHIN, Container};
use crate::verify::{Refusal, protected};

/// How long a container may take to be what it was told to be, beyond the time its processes have to end.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// A container that is back is looked at for so long, to see that it stays.
const STAYS: Duration = Duration::from_secs(1);

const RUNNING: &str = "running";
const PAUSED: &str = "paused";

/// Changing a container's state.
#[derive(Debug)]
pub struct ChangeContainer {
    target: v1::ContainerTarget,
    verb: ContainerVerb,
    lease_s: u32,
    restart: Mutex<Option<Restart>>,
}

/// A restart that was begun.
#[derive(Debug)]
struct Restart {
    /// The container before it.
    before: Container,
    /// The runtime's word once it has one: it waits for processes to end.
    said: Receiver<Result<(), ActError>>,
}

impl ChangeContainer {
    /// As a command asks for it.
    pub fn new(target: v1::ContainerTarget, verb: ContainerVerb, lease_s: u32) -> Self {
        Self { target, verb, lease_s, restart: Mutex::default() }
    }

    fn name(&self) -> &str {
        &self.target.id
    }

    /// The container, if it is the one that was meant and may be acted on.
    fn meant(&self, host: &Host) -> Result<Container, Refusal> {
        let config = &host.policy.container;
        let Some(socket) = &config.socket else {
            return Err(Refusal::Unsupported { what: "container.socket names no container runtime".to_owned() });
        };
        let found = runtime::inspect(socket, self.name()).map_err(Refusal::unreadable)?;
        let Some(container) = found else { return Err(Refusal::NoContainer { container: self.target.id.clone() }) };
        // By its name: that is what a configuration can know.
        let subject = format!("container {}", container.name);
        let why = protected::protects_container(&container.name);
        let why = why.or_else(|| (container.pid != 0).then(|| protected::protects(container.pid)).flatten());
        if let Some(why) = why {
            return Err(Refusal::Protected { subject, why });
        }
        if !config.allowed.iter().any(|pattern| protected::matches_name(pattern, &container.name)) {
            return Err(Refusal::Policy { why: format!("{subject} is not among container.allowed") });
        }
        if !self.target.started.is_empty() && self.target.started != container.started {
            return Err(Refusal::OtherStart { container: container.name });
        }
        Ok(container)
    }

    fn is_back(&self, host: &Host, socket: &Path) -> Outcome {
        let begun = self.restart.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Restart { before, said }) = begun else { return Outcome::of(Step::Failed, "it was not restarted") };
        let limit = Duration::from_secs(host.policy.container.stop_grace_s.into()) + CHANGE_WITHIN;
        match host.wait_every(LOOK, limit, || said.try_recv().ok()) {
            Some(Ok(())) => {}
            Some(Err(error)) => return Outcome::of(Step::Failed, error.to_string()),
            None => return Outcome::of(Step::Failed, format!("{} is not back yet", before.name)),
        }
        host.pause(STAYS);
        match runtime::inspect(socket, &before.id) {
            Ok(Some(now)) if now.status != RUNNING => {
                Outcome::of(Step::Failed, format!("{} was restarted and is {} now", now.name, now.status))
            }
            Ok(Some(now)) if now.started == before.started => {
                Outcome::of(Step::Failed, format!("{} runs as before, it was not restarted", now.name))
            }
            Ok(Some(now)) => Outcome::of(Step::Done, format!("{} is running, since {}", now.name, now.started)),
            Ok(None) => Outcome::of(Step::Failed, format!("{} is gone", before.name)),
            Err(error) => Outcome::of(Step::Failed, error.to_string()),
        }
    }
}

/// The journal's word for a container: its id and its start.
fn written(container: &Container) -> String {
    format!("{} {}", container.id, container.started)
}

impl Act for ChangeContainer {
    fn subject(&self) -> String {
        format!("container {}", self.name())
    }

    fn is_leased(&self) -> bool {
        self.verb == ContainerVerb::Pause
    }

    fn check(&self, host: &Host) -> Result<(), Refusal> {
        self.meant(host).map(drop)
    }

    fn capture(&self, host: &Host) -> Result<Captured, Refusal> {
        let container = self.meant(host)?;
        let moot = || Err(Refusal::Moot { reading: format!("{} is {}", container.name, container.status) });
        match (self.verb, container.status.as_str()) {
            (ContainerVerb::Pause, RUNNING) | (ContainerVerb::Unpause, PAUSED) => {}
            (ContainerVerb::Pause | ContainerVerb::Unpause, _) => return moot(),
            (ContainerVerb::Restart, PAUSED) => {
                return Err(Refusal::Unreadable { why: format!("{} is paused: let it go on first", container.name) });
            }
            _ => {}
        }
        Ok(Captured { previous: written(&container), ours: PAUSED.to_owned(), held: None })
    }

    fn apply(&self, host: &Host, captured: &Captured) -> Result<(), ActError> {
        let config = &host.policy.container;
        let socket = config.socket.clone().ok_or(ActError::Journal)?;
        // The container was looked at before the journal was written; it may have been started anew since.
        let (id, _) = captured.previous.split_once(' ').ok_or(ActError::Journal)?;
        let now = runtime::inspect(&socket, id)?;
        let Some(now) = now.filter(|now| written(now) == captured.previous) else {
            return Err(ActError::Host(format!("{} was started anew since; it is left alone", self.name())));
        };
        match self.verb {
            ContainerVerb::Pause => runtime::order(&socket, &now.id, "pause", ANSWER_WITHIN),
            ContainerVerb::Unpause => runtime::order(&socket, &now.id, "unpause", ANSWER_WITHIN),
            ContainerVerb::Restart => {
                let grace_s = config.stop_grace_s;
                let limit = Duration::from_secs(grace_s.into()) + CHANGE_WITHIN;
                let (said, heard) = channel();
                let id = now.id.clone();
                std::thread::spawn(move || {
                    let restarted = runtime::order(&socket, &id, &format!("restart?t={grace_s}"), limit);
                    // Nobody may wait any more.
                    let _unheard = said.send(restarted);
                });
                *self.restart.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Restart { before: now, said: heard });
                Ok(())
            }
            ContainerVerb::Unspecified => Err(ActError::Journal),
        }
    }

    fn told(&self, _before: Option<&Reading>) -> String {
        match self.verb {
            ContainerVerb::Pause => format!("{} paused for {} s", self.name(), self.lease_s),
            ContainerVerb::Restart => format!("{} is to be restarted", self.name()),
            _ => format!("{} is to go on", self.name()),
        }
    }

    fn follow(&self, host: &Host, _before: Option<&Reading>) -> Outcome {
        let Some(socket) = &host.policy.container.socket else {
            return Outcome::of(Step::Failed, "container.socket names no container runtime");
        };
        let (wanted, good) = match self.verb {
            ContainerVerb::Restart => return self.is_back(host, socket),
            ContainerVerb::Pause => (PAUSED, Step::Improved),
            _ => (RUNNING, Step::Done),
        };
        match runtime::inspect(socket, self.name()) {
            Ok(Some(now)) if now.status == wanted => Outcome::of(good, format!("{} is {wanted}", now.name)),
            Ok(Some(now)) => Outcome::of(Step::Failed, format!("{} is {}", now.name, now.status)),
            Ok(None) => Outcome::of(Step::Failed, format!("{} is gone", self.name())),
            Err(error) => Outcome::of(Step::Failed, error.to_string()),
        }
    }

    fn undo(&self, host: &Host, captured: &Captured) -> Result<String, ActError> {
        let (id, started) = captured.previous.split_once(' ').ok_or(ActError::Journal)?;
        let socket = host.policy.container.socket.as_ref();
        let socket = socket.ok_or_else(|| ActError::Host("container.socket names no container runtime".to_owned()))?;
        let Some(now) = runtime::inspect(socket, id)? else { return Ok("the container is gone".to_owned()) };
        if now.started != started {
            return Ok(format!("{} was started anew since; it is left alone", now.name));
        }
        if now.status != PAUSED {
            return Ok(format!("{} is {} already", now.name, now.status));
        }
        runtime::order(socket, id, "unpause", ANSWER_WITHIN)?;
        Ok(format!("{} goes on", now.name))
    }
}
