//! Stops a cgroup's processes where they are, and lets them go on. Needs the unified hierarchy, whatever controllers it
//! has.

use std::time::Duration;

use skep_wire::v1::{self, Step};

use super::aim::{self, Aim};
use super::gauge::Reading;
use super::host::Host;
use super::kind::{Act, ActError, Captured, Outcome, describe_undo};
use super::limit::{LimitError, read_file, set_file};
use super::usage;
use crate::verify::Refusal;

const FREEZE: &str = "cgroup.freeze";
const EVENTS: &str = "cgroup.events";

/// How long the kernel may take: a process within an uninterruptible call stops when that ends.
const WITHIN: Duration = Duration::from_secs(5);

/// Standing still.
#[derive(Debug, Clone)]
pub struct Freeze {
    target: v1::Target,
    lease_s: u32,
}

impl Freeze {
    /// As a command asks for it.
    pub fn new(target: v1::Target, lease_s: u32) -> Self {
        Self { target, lease_s }
    }

    fn hold(&self, host: &Host) -> Result<Aim, Refusal> {
        aim::hold_in(host.cgroups.unified.as_ref(), "unified hierarchy", &self.target, host)
    }
}

impl Act for Freeze {
    fn subject(&self) -> String {
        aim::subject(&self.target)
    }

    fn check(&self, host: &Host) -> Result<(), Refusal> {
        self.hold(host).map(drop)
    }

    fn capture(&self, host: &Host) -> Result<Captured, Refusal> {
        let Aim { cgroup, held } = self.hold(host)?;
        let previous =
            read_file(&held.dir().join(FREEZE)).map_err(|error| Refusal::unreadable(error.within(&cgroup.dir)))?;
        if previous.trim() != "0" {
            return Err(Refusal::Moot { reading: format!("{} is frozen already", cgroup.path) });
        }
        let processes = usage::processes(&cgroup.dir).map_err(Refusal::unreadable)?;
        if processes.is_empty() {
            return Err(Refusal::Moot { reading: format!("{} holds no process", cgroup.path) });
        }
        // By its inode the next life knows it again, here and not where it is named.
        Ok(Captured { previous: "0".to_owned(), ours: format!("1 {}", cgroup.id), held: Some(held) })
    }

    fn apply(&self, _host: &Host, captured: &Captured) -> Result<(), ActError> {
        let dir = captured.held.as_ref().ok_or(ActError::Journal)?.dir();
        Ok(set_file(&dir.join(FREEZE), "1")?)
    }

    fn told(&self, _before: Option<&Reading>) -> String {
        format!("{} frozen for {} s", self.target.cgroup, self.lease_s)
    }

    fn follow(&self, host: &Host, _before: Option<&Reading>) -> Outcome {
        let Some(unified) = &host.cgroups.unified else { return Outcome::of(Step::Failed, "no unified hierarchy") };
        let dir = unified.folder(&self.target.cgroup);
        let frozen = || {
            let events = read_file(&dir.join(EVENTS)).ok()?;
            events.lines().any(|line| line == "frozen 1").then_some(())
        };
        let processes = || usage::processes(&dir).map_or(0, |pids| pids.len());
        match host.wait_for(WITHIN, frozen) {
            Some(()) => Outcome::of(Step::Improved, format!("all its {} processes stand still", processes())),
            None => Outcome::of(Step::Failed, format!("not all of its {} processes stand still", processes())),
        }
    }

    fn undo(&self, host: &Host, captured: &Captured) -> Result<String, ActError> {
        const GONE: &str = "the cgroup is gone";
        let id = captured.ours.split_once(' ').and_then(|(_, id)| id.parse().ok()).ok_or(ActError::Journal)?;
        let Some(unified) = &host.cgroups.unified else { return Ok(GONE.to_owned()) };
        let Some(Aim { cgroup, held }) = aim::hold_again(unified, &self.target.cgroup, id)? else {
            return Ok(GONE.to_owned());
        };
        let file = held.dir().join(FREEZE);
        let thawed = || -> Result<String, LimitError> {
            let found = read_file(&file)?.trim().to_owned();
            if let Some(why) = describe_undo(found == "0", found == "1", format!("{FREEZE} says {found}")) {
                return Ok(if found == "0" { "it goes on already".to_owned() } else { why });
            }
            set_file(&file, "0")?;
            Ok("it goes on".to_owned())
        };
        match thawed() {
            Err(error) if error.is_gone() => Ok(GONE.to_owned()),
            other => Ok(other.map_err(|error| error.within(&cgroup.dir))?),
        }
    }
}
