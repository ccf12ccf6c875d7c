//! Reads and writes a cgroup's cpu limit.
//!
//! v1: `QUOTA PERIOD` in microseconds from two files (quota -1 is no limit); v2: the two words of `cpu.max` (`max` is no
//! limit).

use std::path::Path;

use super::aim::{self, Aim};
use super::gauge::{Gauge, Reading};
use super::hierarchy::Version;
use super::host::Host;
use super::kind::{Act, ActError, Captured, Outcome, describe_undo};
use super::limit::{read_file, write_file};
use crate::verify::refusal::Cores;
use crate::verify::{Refusal, trigger};
use skep_wire::v1;

pub use super::limit::LimitError;

const V1_QUOTA: &str = "cpu.cfs_quota_us";
const V1_PERIOD: &str = "cpu.cfs_period_us";
const V2_MAX: &str = "cpu.max";

/// The kernel takes no quota below a millisecond.
const LEAST_QUOTA_US: u64 = 1_000;

/// The kernel's period where none was set.
const DEFAULT_PERIOD_US: u64 = 100_000;

/// A cpu limit: quota and period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Microseconds of cpu in a period; `None` is no limit.
    pub quota_us: Option<u64>,
    /// Length of a period in microseconds.
    pub period_us: u64,
}

impl Limit {
    /// So many thousandths of a core, with the period there is.
    pub fn of_millicores(millicores: u32, period_us: u64) -> Self {
        let quota_us = (u64::from(millicores) * period_us / 1000).max(LEAST_QUOTA_US);
        Self { quota_us: Some(quota_us), period_us }
    }

    /// Cores it allows; infinite when it is none.
    pub fn cores(&self) -> f64 {
        self.quota_us.map_or(f64::INFINITY, |quota_us| quota_us as f64 / self.period_us as f64)
    }

    /// The text of this limit in a hierarchy of this version.
    pub fn text(&self, version: Version) -> String {
        match (version, self.quota_us) {
            (Version::V1, None) => format!("-1 {}", self.period_us),
            (Version::V2, None) => format!("max {}", self.period_us),
            (_, Some(quota_us)) => format!("{quota_us} {}", self.period_us),
        }
    }

    /// The inverse of [`Limit::text`], for either version.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let quota_us = match words.next()? {
            "-1" | "max" => None,
            number => Some(number.parse().ok()?),
        };
        let period_us = words.next().map_or(Some(DEFAULT_PERIOD_US), |word| word.parse().ok())?;
        (period_us > 0 && words.next().is_none()).then_some(Self { quota_us, period_us })
    }
}

/// The limit of the cgroup in `dir`.
///
/// # Errors
/// [`LimitError::Io`] ([`LimitError::is_gone`]) and [`LimitError::NotALimit`].
pub fn read(version: Version, dir: &Path) -> Result<Limit, LimitError> {
    let (path, text) = match version {
        Version::V1 => {
            let quota = read_file(&dir.join(V1_QUOTA))?;
            let period = read_file(&dir.join(V1_PERIOD))?;
            (dir.join(V1_QUOTA), format!("{} {}", quota.trim(), period.trim()))
        }
        Version::V2 => (dir.join(V2_MAX), read_file(&dir.join(V2_MAX))?),
    };
    Limit::parse(&text).ok_or(LimitError::NotALimit { path, text })
}

/// Sets the limit of the cgroup in `dir` and reads it back.
///
/// # Errors
/// [`LimitError`]. After [`LimitError::NotTaken`] the limit is what `found` says.
pub fn write(version: Version, dir: &Path, limit: &Limit) -> Result<(), LimitError> {
    match version {
        Version::V1 => {
            // Only the quota is ever ours; the period is as it was found, and is written back only if it changed.
            if read(version, dir)?.period_us != limit.period_us {
                write_file(&dir.join(V1_PERIOD), &limit.period_us.to_string())?;
            }
            let quota = limit.quota_us.map_or_else(|| "-1".to_owned(), |quota_us| quota_us.to_string());
            write_file(&dir.join(V1_QUOTA), &quota)?;
        }
        Version::V2 => write_file(&dir.join(V2_MAX), &limit.text(version))?,
    }
    let found = read(version, dir)?;
    if found == *limit {
        return Ok(());
    }
    Err(LimitError::NotTaken { written: limit.text(version), found: found.text(version) })
}

/// A limit on a cgroup's cpu, as asked for.
#[derive(Debug, Clone)]
pub struct Throttle {
    target: v1::Target,
    millicores: u32,
    lease_s: u32,
}

impl Throttle {
    /// As a command asks for it.
    pub fn new(target: v1::Target, millicores: u32, lease_s: u32) -> Self {
        Self { target, millicores, lease_s }
    }

    fn cores(&self) -> f64 {
        f64::from(self.millicores) / 1000.0
    }
}

impl Act for Throttle {
    fn subject(&self) -> String {
        aim::subject(&self.target)
    }

    fn check(&self, host: &Host) -> Result<(), Refusal> {
        aim::cgroup(&self.target, host).map(drop)
    }

    fn gauge(&self, host: &Host) -> Option<Gauge> {
        aim::cgroup(&self.target, host).ok().map(|cgroup| Gauge::Cpu(cgroup.dir))
    }

    /// A throttle has a reason of its own, whatever the command says.
    fn moot(&self, before: &Reading) -> Option<String> {
        let moot = !trigger::stands(before.value, before.wanted, self.cores());
        moot.then(|| {
            let (used, limit) = (before.value, self.cores());
            format!("the cgroup uses {used:.3} cores, the limit would be {limit:.3}")
        })
    }

    fn capture(&self, host: &Host) -> Result<Captured, Refusal> {
        let Aim { cgroup, held } = aim::hold(&self.target, host)?;
        let version = host.cgroups.cpu.version;
        let previous = read(version, held.dir()).map_err(|error| Refusal::unreadable(error.within(&cgroup.dir)))?;
        let limit = Limit::of_millicores(self.millicores, previous.period_us);
        if previous.cores() <= limit.cores() {
            return Err(Refusal::LimitedAlready { cores: Cores::new(previous.cores()) });
        }
        Ok(Captured { previous: previous.text(version), ours: limit.text(version), held: Some(held) })
    }

    fn apply(&self, host: &Host, captured: &Captured) -> Result<(), ActError> {
        let limit = Limit::parse(&captured.ours).ok_or(ActError::Journal)?;
        let dir = captured.held.as_ref().ok_or(ActError::Journal)?.dir();
        let folder = host.cgroups.cpu.folder(&self.target.cgroup);
        Ok(write(host.cgroups.cpu.version, dir, &limit).map_err(|error| error.within(&folder))?)
    }

    fn told(&self, before: Option<&Reading>) -> String {
        let used = before.map_or_else(String::new, |before| format!("; it used {:.3}", before.value));
        format!("{} limited to {:.3} cores for {} s{used}", self.target.cgroup, self.cores(), self.lease_s)
    }

    fn follow(&self, host: &Host, before: Option<&Reading>) -> Outcome {
        let after = self.gauge(host).and_then(|gauge| gauge.read_after(host));
        let (before, after) = (before.copied().unwrap_or_default(), after.unwrap_or_default());
        let step = trigger::outcome(before.value, after.value, self.cores());
        Outcome::of(step, format!("it uses {:.3} cores now, it used {:.3}", after.value, before.value))
    }

    fn undo(&self, host: &Host, captured: &Captured) -> Result<String, ActError> {
        let Some(Aim { cgroup, held }) = aim::hold_for_undo(&self.target, host)? else {
            return Ok("the cgroup is gone, and its limit with it".to_owned());
        };
        let version = host.cgroups.cpu.version;
        let undone = || -> Result<String, LimitError> {
            let found = read(version, held.dir())?;
            let same = |text: &str| Limit::parse(text).is_some_and(|limit| limit == found);
            let theirs = format!("somebody else set a limit of {:.3} cores since; it is left as it is", found.cores());
            if let Some(why) = describe_undo(same(&captured.previous), same(&captured.ours), theirs) {
                return Ok(why);
            }
            let Some(previous) = Limit::parse(&captured.previous) else { return Ok("nothing to put back".to_owned()) };
            write(version, held.dir(), &previous)?;
            Ok(match previous.quota_us {
                None => "no limit, as before".to_owned(),
                Some(_) => format!("limited to {:.3} cores, as before", previous.cores()),
            })
        };
        match undone() {
            Err(error) if error.is_gone() => Ok("the cgroup is gone, and its limit with it".to_owned()),
            other => Ok(other.map_err(|error| error.within(&cgroup.dir))?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn texts_come_back() {
        for (version, text, quota_us) in [
            (Version::V1, "-1 100000", None),
            (Version::V1, "25000 100000", Some(25_000)),
            (Version::V2, "max 100000", None),
            (Version::V2, "5000 50000", Some(5_000)),
        ] {
            let limit = Limit::parse(text).unwrap();
            assert_eq!(limit.quota_us, quota_us);
            assert_eq!(limit.text(version), text);
        }
        assert_eq!(Limit::parse("max").unwrap().period_us, DEFAULT_PERIOD_US);
        for text in ["", "x 1", "1 2 3", "1 0", "-2 100000"] {
            assert_eq!(Limit::parse(text), None, "{text}");
        }
    }

    #[test]
    fn millicores_become_a_quota_the_kernel_takes() {
        assert_eq!(Limit::of_millicores(250, 100_000).quota_us, Some(25_000));
        assert_eq!(Limit::of_millicores(2500, 100_000).quota_us, Some(250_000));
        assert_eq!(Limit::of_millicores(1, 100_000).quota_us, Some(LEAST_QUOTA_US));
        assert!((Limit::of_millicores(250, 50_000).cores() - 0.25).abs() < 1e-9);
        assert!(Limit { quota_us: None, period_us: 1 }.cores().is_infinite());
    }

    #[test]
    fn the_unified_file_is_written_whole_and_a_missing_one_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let limit = Limit::of_millicores(500, 100_000);
        assert!(write(Version::V2, dir.path(), &limit).unwrap_err().is_gone());
        assert!(!dir.path().join(V2_MAX).exists());
        fs::write(dir.path().join(V2_MAX), "max 100000").unwrap();
        write(Version::V2, dir.path(), &limit).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(V2_MAX)).unwrap(), "50000 100000");
        assert_eq!(read(Version::V2, dir.path()).unwrap(), limit);
    }
}
