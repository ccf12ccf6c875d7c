//! Changes the state of a systemd unit, by D-Bus.
//!
//! systemd takes the word of its own user (root) without a capability. Source: org.freedesktop.systemd1(5).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use skep_wire::v1::{self, Step, UnitVerb};
use zbus::blocking::{Connection, Proxy, connection};
use zbus::zvariant::OwnedObjectPath;

use super::gauge::Reading;
use super::host::Host;
use super::kind::{Act, ActError, Captured, Outcome};
use crate::verify::{Refusal, protected};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: (&str, &str) = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// How long systemd may take to answer a question.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a unit may take to be what it was told to be: systemd's own patience with a start or a stop is 90 s.
const CHANGE_WITHIN: Duration = Duration::from_secs(100);

/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// A unit that is back is looked at for so long, to see that it stays.
const STAYS: Duration = Duration::from_secs(1);

/// A unit as systemd tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// active, inactive, failed, activating, deactivating, reloading.
    pub active: String,
    /// 32 hex digits, empty before its first start.
    pub invocation_id: String,
    /// A job is under way.
    busy: bool,
    loaded: bool,
}

impl State {
    fn is_up(&self) -> bool {
        self.active == "active" && !self.busy
    }

    fn is_down(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed") && !self.busy
    }
}

/// A word with systemd.
#[derive(Debug)]
pub struct Systemd(Connection);

impl Systemd {
    /// Reaches it over the system bus.
    ///
    /// # Errors
    /// [`zbus::Error`].
    pub fn reach() -> zbus::Result<Self> {
        connection::Builder::system()?.method_timeout(ANSWER_WITHIN).build().map(Self)
    }

    fn manager(&self) -> zbus::Result<Proxy<'static>> {
        Proxy::new(&self.0, SYSTEMD, MANAGER.0, MANAGER.1)
    }

    /// The unit's state now.
    ///
    /// # Errors
    /// [`zbus::Error`]: systemd cannot be asked.
    pub fn state(&self, name: &str) -> zbus::Result<State> {
        let path: OwnedObjectPath = self.manager()?.call("LoadUnit", &(name,))?;
        let unit: Proxy<'_> = zbus::blocking::proxy::Builder::new(&self.0)
            .destination(SYSTEMD)?
            .path(path)?
            .interface(UNIT)?
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()?;
        let invocation: Vec<u8> = unit.get_property("InvocationID")?;
        let (job, _): (u32, OwnedObjectPath) = unit.get_property("Job")?;
        let loaded: String = unit.get_property("LoadState")?;
        Ok(State {
            active: unit.get_property("ActiveState")?,
            invocation_id: invocation.iter().map(|byte| format!("{byte:02x}")).collect(),
            busy: job != 0,
            loaded: loaded == "loaded",
        })
    }

    fn order(&self, method: &str, name: &str) -> zbus::Result<()> {
        let _job: OwnedObjectPath = self.manager()?.call(method, &(name, "replace"))?;
        Ok(())
    }
}

/// Changing a unit's state.
#[derive(Debug)]
pub struct ChangeUnit {
    target: v1::UnitTarget,
    verb: UnitVerb,
    lease_s: u32,
    /// The invocation that was changed.
    before: Mutex<String>,
}

fn failed(error: zbus::Error) -> ActError {
    ActError::Host(format!("systemd: {error}"))
}

impl ChangeUnit {
    /// As a command asks for it.
    pub fn new(target: v1::UnitTarget, verb: UnitVerb, lease_s: u32) -> Self {
        Self { target, verb, lease_s, before: Mutex::default() }
    }

    fn name(&self) -> &str {
        &self.target.name
    }

    fn may(&self, host: &Host) -> Result<(), Refusal> {
        let subject = self.subject();
        if let Some(why) = protected::protects_unit(self.name()) {
            return Err(Refusal::Protected { subject, why });
        }
        if !host.policy.units.iter().any(|pattern| protected::matches_name(pattern, self.name())) {
            return Err(Refusal::Policy { why: format!("{subject} is not among unit.allowed") });
        }
        Ok(())
    }

    /// The unit's state, if it is the one that was meant.
    fn meant(&self, host: &Host) -> Result<State, Refusal> {
        self.may(host)?;
        let state = Systemd::reach().and_then(|systemd| systemd.state(self.name()));
        let state = state.map_err(|error| Refusal::unreadable(format!("systemd: {error}")))?;
        if !state.loaded {
            return Err(Refusal::NoUnit { unit: self.target.name.clone() });
        }
        let (meant, found) = (&self.target.invocation_id, &state.invocation_id);
        if !meant.is_empty() && meant != found {
            return Err(Refusal::OtherInvocation { unit: self.target.name.clone() });
        }
        Ok(state)
    }

    fn wait(&self, host: &Host, is_there: impl Fn(&State) -> bool) -> Result<State, State> {
        let (mut systemd, mut last) = (None, None);
        let there = host.wait_every(LOOK, CHANGE_WITHIN, || {
            // The bus itself may go away and come back meanwhile.
            systemd = systemd.take().or_else(|| Systemd::reach().ok());
            last = systemd.as_ref().and_then(|systemd| systemd.state(self.name()).ok());
            if last.is_none() {
                systemd = None;
            }
            last.clone().filter(|state| is_there(state))
        });
        let unknown = State { active: "unknown".to_owned(), invocation_id: String::new(), busy: false, loaded: false };
        there.ok_or(last.unwrap_or(unknown))
    }

    /// Active, and so a moment later; another one than before where it was restarted.
    fn is_back(&self, host: &Host, before: &str) -> Outcome {
        let back = self.wait(host, |state| {
            let is_new = self.verb != UnitVerb::Restart || state.invocation_id != before;
            (state.is_up() && is_new) || (state.active == "failed" && !state.busy)
        });
        let state = match back {
            Ok(state) if state.is_up() => state,
            Ok(state) | Err(state) => {
                return Outcome::of(Step::Failed, format!("{} is {}", self.name(), state.active));
            }
        };
        host.pause(STAYS);
        match Systemd::reach().and_then(|systemd| systemd.state(self.name())) {
            Ok(now) if now.is_up() && now.invocation_id == state.invocation_id => {
                let one = if state.invocation_id == before { "the same" } else { "a new" };
                Outcome::of(Step::Done, format!("{} is active, {one} invocation", self.name()))
            }
            Ok(now) => Outcome::of(Step::Failed, format!("{} was active and is {} now", self.name(), now.active)),
            Err(error) => Outcome::of(Step::Failed, failed(error).to_string()),
        }
    }
}

impl Act for ChangeUnit {
    fn subject(&self) -> String {
        format!("unit {}", self.name())
    }

    fn is_leased(&self) -> bool {
        self.verb == UnitVerb::Stop
    }

    fn check(&self, host: &Host) -> Result<(), Refusal> {
        self.meant(host).map(drop)
    }

    fn capture(&self, host: &Host) -> Result<Captured, Refusal> {
        let state = self.meant(host)?;
        let moot = |reading: &str| Err(Refusal::Moot { reading: format!("{} {reading}", self.name()) });
        match self.verb {
            UnitVerb::Stop if state.is_down() => moot("does not run"),
            UnitVerb::Start if state.is_up() => moot("is active"),
            UnitVerb::Reload if !state.is_up() => moot("is not active, there is nothing to reload"),
            _ => Ok(Captured { previous: state.invocation_id, ours: "inactive".to_owned(), held: None }),
        }
    }

    fn apply(&self, _host: &Host, captured: &Captured) -> Result<(), ActError> {
        let systemd = Systemd::reach().map_err(failed)?;
        // The unit was asked before the journal was written; it may have been started anew since.
        let now = systemd.state(self.name()).map_err(failed)?;
        if now.invocation_id != captured.previous {
            return Err(ActError::Host(format!("{} was started anew since; it is left alone", self.name())));
        }
        let method = match self.verb {
            UnitVerb::Restart => "RestartUnit",
            UnitVerb::Reload => "ReloadUnit",
            UnitVerb::Stop => "StopUnit",
            UnitVerb::Start => "StartUnit",
            UnitVerb::Unspecified => return Err(ActError::Journal),
        };
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = now.invocation_id;
        systemd.order(method, self.name()).map_err(failed)
    }

    fn told(&self, _before: Option<&Reading>) -> String {
        match self.verb {
            UnitVerb::Stop => format!("{} stopped for {} s", self.name(), self.lease_s),
            UnitVerb::Restart => format!("{} is to be restarted", self.name()),
            UnitVerb::Reload => format!("{} is to reload", self.name()),
            _ => format!("{} is to be started", self.name()),
        }
    }

    fn follow(&self, host: &Host, _before: Option<&Reading>) -> Outcome {
        if self.verb != UnitVerb::Stop {
            let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return self.is_back(host, &before);
        }
        match self.wait(host, State::is_down) {
            Ok(state) => Outcome::of(Step::Improved, format!("{} is {}", self.name(), state.active)),
            Err(state) => Outcome::of(Step::Failed, format!("{} is {} still", self.name(), state.active)),
        }
    }

    fn undo(&self, _host: &Host, captured: &Captured) -> Result<String, ActError> {
        let systemd = Systemd::reach().map_err(failed)?;
        let state = systemd.state(self.name()).map_err(failed)?;
        if !state.loaded {
            return Ok(format!("{} is no unit any more", self.name()));
        }
        if state.is_up() {
            let by =
                if state.invocation_id == captured.previous { "it was never stopped" } else { "somebody started it" };
            return Ok(format!("{} runs: {by}", self.name()));
        }
        systemd.order("StartUnit", self.name()).map_err(failed)?;
        Ok(format!("{} is started again", self.name()))
    }
}
