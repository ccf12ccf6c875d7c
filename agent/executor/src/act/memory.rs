//! Limits a cgroup's memory by `memory.high`: beyond it the kernel reclaims and slows the processes down. `memory.max`,
//! beyond which it kills, is never touched.

use skep_wire::v1::{self, Step};

use super::aim::{self, Aim};
use super::gauge::{Gauge, Reading};
use super::hierarchy::{Hierarchy, Version};
use super::host::Host;
use super::kind::{Act, ActError, Captured, Outcome, describe_undo};
use super::limit::{LimitError, read_file, set_file};
use crate::verify::Refusal;

const HIGH: &str = "memory.high";

/// No limit.
const MAX: &str = "max";

/// The kernel counts memory in pages and rounds down to them.
const PAGE_BYTES: u64 = 4096;

/// Differences below this are noise.
const SLACK: f64 = 1.05;

/// A limit on a cgroup's memory.
#[derive(Debug, Clone)]
pub struct LimitMemory {
    target: v1::Target,
    high_bytes: u64,
    lease_s: u32,
}

impl LimitMemory {
    /// As a command asks for it.
    pub fn new(target: v1::Target, high_bytes: u64, lease_s: u32) -> Self {
        Self { target, high_bytes: high_bytes / PAGE_BYTES * PAGE_BYTES, lease_s }
    }

    fn hold(&self, host: &Host) -> Result<Aim, Refusal> {
        match &host.cgroups.memory {
            Some(Hierarchy { version: Version::V1, .. }) => Err(Refusal::Unsupported {
                what: "memory is in a hierarchy of version 1, which has no memory.high".to_owned(),
            }),
            memory => aim::hold_in(memory.as_ref(), "memory controller", &self.target, host),
        }
    }
}

impl Act for LimitMemory {
    fn subject(&self) -> String {
        aim::subject(&self.target)
    }

    fn check(&self, host: &Host) -> Result<(), Refusal> {
        self.hold(host).map(drop)
    }

    fn gauge(&self, host: &Host) -> Option<Gauge> {
        Some(Gauge::Memory(host.cgroups.memory.as_ref()?.folder(&self.target.cgroup)))
    }

    fn moot(&self, before: &Reading) -> Option<String> {
        let high = self.high_bytes as f64;
        (before.value <= high)
            .then(|| format!("the cgroup holds {:.0} bytes, the limit would be {high:.0}", before.value))
    }

    fn capture(&self, host: &Host) -> Result<Captured, Refusal> {
        let Aim { cgroup, held } = self.hold(host)?;
        let previous = match read_file(&held.dir().join(HIGH)) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.is_gone() => {
                let what = format!("{HIGH} of {} is not there: its controller is not enabled", cgroup.path);
                return Err(Refusal::Unsupported { what });
            }
            Err(error) => return Err(Refusal::unreadable(error.within(&cgroup.dir))),
        };
        if previous.parse::<u64>().is_ok_and(|bytes| bytes <= self.high_bytes) {
            return Err(Refusal::LimitedBefore { to: format!("{previous} bytes") });
        }
        Ok(Captured { previous, ours: self.high_bytes.to_string(), held: Some(held) })
    }

    fn apply(&self, _host: &Host, captured: &Captured) -> Result<(), ActError> {
        let dir = captured.held.as_ref().ok_or(ActError::Journal)?.dir();
        Ok(set_file(&dir.join(HIGH), &captured.ours)?)
    }

    fn told(&self, before: Option<&Reading>) -> String {
        let held = before.map_or_else(String::new, |before| format!("; it held {:.0}", before.value));
        format!("{} limited to {} bytes for {} s{held}", self.target.cgroup, self.high_bytes, self.lease_s)
    }

    fn follow(&self, host: &Host, before: Option<&Reading>) -> Outcome {
        let Some(after) = self.gauge(host).and_then(|gauge| gauge.read_after(host)) else {
            return Outcome::of(Step::Improved, "the cgroup is gone");
        };
        let before = before.copied().unwrap_or(after);
        let step = match after.value {
            value if value <= self.high_bytes as f64 * SLACK => Step::Improved,
            value if value > before.value * 1.1 => Step::Worse,
            _ => Step::Unchanged,
        };
        Outcome::of(step, format!("it holds {:.0} bytes now, it held {:.0}", after.value, before.value))
    }

    fn undo(&self, host: &Host, captured: &Captured) -> Result<String, ActError> {
        const GONE: &str = "the cgroup is gone, and its limit with it";
        // Its controller may be elsewhere than what names it: held by name, and told by what it says.
        let Some(hierarchy) = &host.cgroups.memory else { return Ok(GONE.to_owned()) };
        if aim::hold_for_undo(&self.target, host)?.is_none() {
            return Ok(GONE.to_owned());
        }
        let Some(Aim { held, cgroup }) = aim::hold_by_name(hierarchy, &self.target.cgroup)? else {
            return Ok(GONE.to_owned());
        };
        let file = held.dir().join(HIGH);
        let undone = || -> Result<String, LimitError> {
            let found = read_file(&file)?.trim().to_owned();
            let theirs = format!("somebody else set {HIGH} to {found} since; it is left as it is");
            if let Some(why) = describe_undo(found == captured.previous, found == captured.ours, theirs) {
                return Ok(why);
            }
            set_file(&file, &captured.previous)?;
            Ok(match captured.previous.as_str() {
                MAX => "no limit, as before".to_owned(),
                bytes => format!("limited to {bytes} bytes, as before"),
            })
        };
        match undone() {
            Err(error) if error.is_gone() => Ok(GONE.to_owned()),
            other => Ok(other.map_err(|error| error.within(&cgroup.dir))?),
        }
    }
}
