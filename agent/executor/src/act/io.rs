//! Limits what a cgroup reads and writes on each block device it has used.
//!
//! v1: `MAJOR:MINOR BYTES` a line in two files, 0 takes a line away. v2: `MAJOR:MINOR rbps=.. wbps=..` in `io.max`, whose
//! other words (operations a second) stay as they are. Source: Documentation/admin-guide/cgroup-v2.rst and
//! cgroup-v1/blkio-controller.rst.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use skep_wire::v1::{self, Step};

use super::aim::{self, Aim};
use super::gauge::{Gauge, Reading};
use super::hierarchy::Version;
use super::host::Host;
use super::kind::{Act, ActError, Captured, Outcome};
use super::limit::{LimitError, read_file, write_file};
use crate::verify::Refusal;

const V1_READ: &str = "blkio.throttle.read_bps_device";
const V1_WRITE: &str = "blkio.throttle.write_bps_device";
const V2_MAX: &str = "io.max";
const V2_USED: &str = "io.stat";

/// A throttled group may move a little more than its limit: the kernel hands it out in slices.
const SLACK: f64 = 1.2;

/// Reading or writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Read,
    Write,
}

impl Way {
    const BOTH: [Way; 2] = [Way::Read, Way::Write];

    fn letter(self) -> char {
        if self == Way::Read { 'r' } else { 'w' }
    }

    fn of_letter(letter: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|way| letter.len() == 1 && letter.starts_with(way.letter()))
    }

    fn v1_file(self) -> &'static str {
        if self == Way::Read { V1_READ } else { V1_WRITE }
    }
}

/// Limits by device and way; one that is not there is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Limits(BTreeMap<(String, Way), u64>);

impl Limits {
    /// `8:0 r 1048576;8:0 w 1048576`.
    fn text(&self) -> String {
        let one = |((device, way), bytes): (&(String, Way), &u64)| format!("{device} {} {bytes}", way.letter());
        self.0.iter().map(one).collect::<Vec<_>>().join(";")
    }

    fn parse(text: &str) -> Option<Self> {
        let one = |entry: &str| {
            let mut words = entry.split(' ');
            let (device, way, bytes) = (words.next()?, words.next()?, words.next()?);
            Some(((device.to_owned(), Way::of_letter(way)?), bytes.parse().ok()?))
        };
        text.split(';').filter(|entry| !entry.is_empty()).map(one).collect::<Option<_>>().map(Self)
    }

    /// As the kernel says, for all devices.
    fn read(dir: &Path, version: Version) -> Result<Self, LimitError> {
        let mut limits = Self::default();
        match version {
            Version::V1 => {
                for way in Way::BOTH {
                    for line in read_file(&dir.join(way.v1_file()))?.lines() {
                        if let Some((device, bytes)) =
                            line.split_once(' ').and_then(|(d, b)| Some((d, b.parse().ok()?)))
                        {
                            limits.0.insert((device.to_owned(), way), bytes);
                        }
                    }
                }
            }
            Version::V2 => {
                for line in read_file(&dir.join(V2_MAX))?.lines() {
                    let Some((device, words)) = line.split_once(' ') else { continue };
                    for (name, value) in words.split(' ').filter_map(|word| word.split_once('=')) {
                        let way = name.strip_suffix("bps").and_then(Way::of_letter);
                        if let (Some(way), Ok(bytes)) = (way, value.parse()) {
                            limits.0.insert((device.to_owned(), way), bytes);
                        }
                    }
                }
            }
        }
        Ok(limits)
    }

    /// Sets one, or takes it away.
    fn set(dir: &Path, version: Version, (device, way): &(String, Way), bytes: Option<u64>) -> Result<(), LimitError> {
        match version {
            Version::V1 => write_file(&dir.join(way.v1_file()), &format!("{device} {}", bytes.unwrap_or(0))),
            Version::V2 => {
                let bytes = bytes.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
                write_file(&dir.join(V2_MAX), &format!("{device} {}bps={bytes}", way.letter()))
            }
        }
    }
}

/// Devices the cgroup has moved bytes to or from. Version 1 counts only what is limited already: there, all there are.
fn devices(dir: &Path, version: Version) -> Result<BTreeSet<String>, LimitError> {
    if version == Version::V1 {
        return Ok(all_devices());
    }
    let text = read_file(&dir.join(V2_USED))?;
    let names = text.lines().filter_map(|line| line.split(' ').next()).filter(|name| name.contains(':'));
    Ok(names.map(str::to_owned).collect())
}

/// Whole devices that hold anything.
fn all_devices() -> BTreeSet<String> {
    let trimmed = |path: std::path::PathBuf| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let filled = devices.filter(|device| trimmed(device.path().join("size")).is_some_and(|size| size != "0"));
    filled.filter_map(|device| trimmed(device.path().join("dev"))).collect()
}

/// A limit on reading and writing.
#[derive(Debug, Clone)]
pub struct LimitIo {
    target: v1::Target,
    asked: v1::LimitIo,
    lease_s: u32,
}

impl LimitIo {
    /// As a command asks for it.
    pub fn new(target: v1::Target, asked: v1::LimitIo, lease_s: u32) -> Self {
        Self { target, asked, lease_s }
    }

    fn hold(&self, host: &Host) -> Result<(Aim, Version), Refusal> {
        let aim = aim::hold_in(host.cgroups.io.as_ref(), "io controller", &self.target, host)?;
        Ok((aim, host.cgroups.io.as_ref().map_or(Version::V2, |io| io.version)))
    }

    fn asked(&self, way: Way) -> Option<u64> {
        let bytes = if way == Way::Read { self.asked.read_bytes_per_s } else { self.asked.write_bytes_per_s };
        (bytes != 0).then_some(bytes)
    }

    /// Where it is not ours any more it is left as it is.
    fn put_back(dir: &Path, version: Version, captured: &Captured) -> Result<String, LimitError> {
        let (ours, previous) = (Limits::parse(&captured.ours), Limits::parse(&captured.previous));
        let (ours, previous) = (ours.unwrap_or_default(), previous.unwrap_or_default());
        let found = Limits::read(dir, version)?;
        let (mut back, mut theirs) = (0, 0);
        for (key, bytes) in &ours.0 {
            match found.0.get(key) {
                Some(now) if now == bytes => {
                    Limits::set(dir, version, key, previous.0.get(key).copied())?;
                    back += 1;
                }
                now if now != previous.0.get(key) => theirs += 1,
                _ => {}
            }
        }
        Ok(match (back, theirs) {
            (0, 0) => "the limits of before stand already".to_owned(),
            (_, 0) => format!("{back} limits are as before"),
            _ => format!("{back} limits are as before; somebody else set {theirs} since, they are left as they are"),
        })
    }
}

impl Act for LimitIo {
    fn subject(&self) -> String {
        aim::subject(&self.target)
    }

    fn check(&self, host: &Host) -> Result<(), Refusal> {
        self.hold(host).map(drop)
    }

    fn gauge(&self, host: &Host) -> Option<Gauge> {
        let io = host.cgroups.io.as_ref()?;
        Some(Gauge::Io(io.folder(&self.target.cgroup), io.version))
    }

    fn moot(&self, before: &Reading) -> Option<String> {
        let least = Way::BOTH.into_iter().filter_map(|way| self.asked(way)).min().unwrap_or(0) as f64;
        (before.value < least)
            .then(|| format!("the cgroup moves {:.0} bytes a second, the limit would be {least:.0}", before.value))
    }

    fn capture(&self, host: &Host) -> Result<Captured, Refusal> {
        let (Aim { cgroup, held }, version) = self.hold(host)?;
        let failed = |error: LimitError| Refusal::unreadable(error.within(&cgroup.dir));
        let devices = devices(held.dir(), version).map_err(failed)?;
        if devices.is_empty() {
            return Err(Refusal::Moot { reading: format!("{} has used no block device", cgroup.path) });
        }
        let found = Limits::read(held.dir(), version).map_err(failed)?;
        let (mut previous, mut ours) = (Limits::default(), Limits::default());
        for key in devices.into_iter().flat_map(|device| Way::BOTH.map(|way| (device.clone(), way))) {
            let Some(asked) = self.asked(key.1) else { continue };
            match found.0.get(&key) {
                Some(bytes) if *bytes <= asked => continue,
                Some(bytes) => drop(previous.0.insert(key.clone(), *bytes)),
                None => {}
            }
            ours.0.insert(key, asked);
        }
        if ours.0.is_empty() {
            return Err(Refusal::LimitedBefore { to: found.text() });
        }
        Ok(Captured { previous: previous.text(), ours: format!("{}|{}", ours.text(), cgroup.id), held: Some(held) })
    }

    fn apply(&self, host: &Host, captured: &Captured) -> Result<(), ActError> {
        let (ours, _) = split(captured)?;
        let dir = captured.held.as_ref().ok_or(ActError::Journal)?.dir();
        let version = host.cgroups.io.as_ref().map_or(Version::V2, |io| io.version);
        for (key, bytes) in &Limits::parse(ours).ok_or(ActError::Journal)?.0 {
            Limits::set(dir, version, key, Some(*bytes))?;
        }
        Ok(())
    }

    fn told(&self, before: Option<&Reading>) -> String {
        let word = |way, name| self.asked(way).map(|bytes| format!("{name} at {bytes} bytes a second"));
        let words: Vec<_> = [word(Way::Read, "reading"), word(Way::Write, "writing")].into_iter().flatten().collect();
        let moved = before.map_or_else(String::new, |before| format!("; it moved {:.0}", before.value));
        format!("{} limited to {} for {} s{moved}", self.target.cgroup, words.join(" and "), self.lease_s)
    }

    fn follow(&self, host: &Host, before: Option<&Reading>) -> Outcome {
        let Some(after) = self.gauge(host).and_then(|gauge| gauge.read_after(host)) else {
            return Outcome::of(Step::Improved, "the cgroup is gone");
        };
        let before = before.copied().unwrap_or(after);
        let most: u64 = Way::BOTH.into_iter().filter_map(|way| self.asked(way)).sum();
        let step = match after.value {
            value if value <= most as f64 * SLACK => Step::Improved,
            value if value > before.value * 1.1 => Step::Worse,
            _ => Step::Unchanged,
        };
        Outcome::of(step, format!("it moves {:.0} bytes a second now, it moved {:.0}", after.value, before.value))
    }

    fn undo(&self, host: &Host, captured: &Captured) -> Result<String, ActError> {
        const GONE: &str = "the cgroup is gone, and its limits with it";
        let Some(io) = &host.cgroups.io else { return Ok(GONE.to_owned()) };
        let (ours, id) = split(captured)?;
        let Some(Aim { cgroup, held }) = aim::hold_again(io, &self.target.cgroup, id)? else {
            return Ok(GONE.to_owned());
        };
        let captured = Captured { previous: captured.previous.clone(), ours: ours.to_owned(), held: None };
        match Self::put_back(held.dir(), io.version, &captured) {
            Err(error) if error.is_gone() => Ok(GONE.to_owned()),
            other => Ok(other.map_err(|error| error.within(&cgroup.dir))?),
        }
    }
}

/// The limits, and the inode of the folder they were set in.
fn split(captured: &Captured) -> Result<(&str, i64), ActError> {
    let (ours, id) = captured.ours.split_once('|').ok_or(ActError::Journal)?;
    Ok((ours, id.parse().map_err(|_| ActError::Journal)?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn texts_come_back() {
        for text in ["", "8:0 r 1048576", "252:16 w 3;8:0 r 1;8:0 w 2"] {
            assert_eq!(Limits::parse(text).unwrap().text(), text);
        }
        for text in ["8:0", "8:0 x 1", "8:0 r x", "8:0 rw 1"] {
            assert_eq!(Limits::parse(text), None, "{text}");
        }
    }

    #[test]
    fn both_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(V1_READ), "8:0 100\n").unwrap();
        fs::write(dir.path().join(V1_WRITE), "8:0 200\n8:16 300\n").unwrap();
        fs::write(dir.path().join(V2_MAX), "8:0 rbps=100 wbps=200 riops=max wiops=7\n8:16 rbps=max wbps=300\n")
            .unwrap();
        for version in [Version::V1, Version::V2] {
            assert_eq!(Limits::read(dir.path(), version).unwrap().text(), "8:0 r 100;8:0 w 200;8:16 w 300");
        }
    }

    #[test]
    fn only_what_is_ours_is_put_back_and_half_of_it_if_only_half_was_set() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(V1_READ), "").unwrap();
        // Ours on the first device, somebody else's on the second, and the third was never reached.
        fs::write(dir.path().join(V1_WRITE), "8:0 50\n8:16 77\n").unwrap();
        let captured =
            Captured { previous: "8:0 w 900".to_owned(), ours: "8:0 w 50;8:16 w 50;8:32 w 50".to_owned(), held: None };
        let said = LimitIo::put_back(dir.path(), Version::V1, &captured).unwrap();
        assert_eq!(said, "1 limits are as before; somebody else set 1 since, they are left as they are");
        assert_eq!(fs::read_to_string(dir.path().join(V1_WRITE)).unwrap(), "8:0 900");
    }
}
