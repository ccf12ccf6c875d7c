//! Certificates, keys and the disk under them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;

use super::{Check, Status};
use crate::exit::one_line;
use crate::output::share;
use crate::up::certificates::{Facts, RENEW_BELOW_DAYS};

/// Less free space than this share, or than [`LITTLE_BYTES`], deserves a look.
const LITTLE_SHARE: f64 = 0.1;
const LITTLE_BYTES: u64 = 1 << 30;

/// With less than this nothing can be written soon.
const NOTHING_BYTES: u64 = 64 << 20;

/// Everything a data folder holds beside history.
pub(super) fn of_folder(data: &Path) -> Vec<Check> {
    if !data.is_dir() {
        let detail = format!("{} does not exist: `skep up --data {}` makes it", data.display(), data.display());
        return vec![Check::fail("data folder", detail)];
    }
    let mut checks = vec![Check::ok("data folder", data.display().to_string()), space(data)];
    checks.extend(quarantine(data));
    let tls = data.join("tls");
    let now = Timestamp::now();
    checks.extend(["ca", "collector", "agent", "operator"].map(|name| certificate(&tls, name, now)));
    let keys = ["tls/ca.key", "tls/collector.key", "tls/agent.key", "tls/operator.key", "keys/command.key"];
    checks.push(private(data, &keys));
    checks
}

/// What an operator's folder holds for a collector elsewhere.
pub(super) fn of_operator(tls: &Path) -> Vec<Check> {
    let now = Timestamp::now();
    let mut checks: Vec<Check> = ["ca", "operator"].map(|name| certificate(tls, name, now)).into();
    checks.push(private(tls, &["operator.key"]));
    checks
}

fn certificate(tls: &Path, name: &str, now: Timestamp) -> Check {
    let path = tls.join(format!("{name}.pem"));
    let title = format!("certificate {name}");
    let pem = match std::fs::read_to_string(&path) {
        Ok(pem) => pem,
        Err(error) => return Check::fail(title, format!("{}: {error}", path.display())),
    };
    let facts = match Facts::read(&pem) {
        Ok(facts) => facts,
        Err(error) => return Check::fail(title, format!("{}: {}", path.display(), one_line(&error))),
    };
    let days = facts.days_left(now);
    let who = format!("{} ({})", facts.name, facts.role);
    match days {
        ..0 => Check::fail(title, format!("{who} expired {} days ago: `skep up` renews it", -days)),
        0..RENEW_BELOW_DAYS => Check::warn(title, format!("{who} expires in {days} days: `skep up` renews it")),
        _ => Check::ok(title, format!("{who} is valid for {days} days")),
    }
}

/// Whether all keys are there and nobody else can read them.
fn private(folder: &Path, names: &[&str]) -> Check {
    const TITLE: &str = "private keys";
    let mut open = Vec::new();
    for name in names {
        let path = folder.join(name);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => open.push(*name),
            Ok(_) => {}
            Err(error) => return Check::fail(TITLE, format!("{}: {error}", path.display())),
        }
    }
    if open.is_empty() {
        Check::ok(TITLE, format!("{} keys, readable by their owner only", names.len()))
    } else {
        Check::warn(TITLE, format!("others may read {}: chmod 600 them", open.join(", ")))
    }
}

fn space(data: &Path) -> Check {
    const TITLE: &str = "disk space";
    let stat = match rustix::fs::statvfs(data) {
        Ok(stat) => stat,
        Err(error) => return Check::warn(TITLE, format!("unknown: {error}")),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let total = stat.f_blocks.saturating_mul(stat.f_frsize).max(1);
    judge_space(free, total)
}

fn judge_space(free: u64, total: u64) -> Check {
    let part = free as f64 / total as f64;
    let detail = format!("{:.1} GiB free ({})", free as f64 / (1u64 << 30) as f64, share(part));
    let status = match free {
        ..NOTHING_BYTES => Status::Fail,
        _ if part < LITTLE_SHARE || free < LITTLE_BYTES => Status::Warn,
        _ => Status::Ok,
    };
    Check::new("disk space", status, detail)
}

/// What the collector put aside as damaged; nothing to say when there is nothing.
fn quarantine(data: &Path) -> Option<Check> {
    let folder = data.join("quarantine");
    let files = std::fs::read_dir(&folder).ok()?.count();
    (files > 0).then(|| {
        Check::warn("quarantine", format!("{files} damaged files in {}: see the collector's log", folder.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::up::folder::Folder;
    use crate::up::{certificates, command_key};

    fn made(now: Timestamp) -> (tempfile::TempDir, Vec<Check>) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::create(temp.path()).unwrap();
        certificates::ensure(&folder, "h", IpAddr::from([127, 0, 0, 1]), now).unwrap();
        command_key::ensure(&folder).unwrap();
        let checks = of_folder(temp.path());
        (temp, checks)
    }

    fn status(checks: &[Check], name: &str) -> Status {
        checks.iter().find(|check| check.name == name).unwrap().status
    }

    #[test]
    fn a_fresh_folder_is_well() {
        let (_temp, checks) = made(Timestamp::now());
        let bad: Vec<&Check> =
            checks.iter().filter(|check| check.status != Status::Ok && check.name != "disk space").collect();
        assert!(bad.is_empty(), "{bad:?}");
    }

    #[test]
    fn expiry_is_told_apart_from_its_approach() {
        let (_temp, old) = made(Timestamp::from_second(1_600_000_000).unwrap());
        assert_eq!(status(&old, "certificate agent"), Status::Fail);
        assert_eq!(status(&old, "certificate ca"), Status::Ok);
        let soon = Timestamp::now().as_second() - 350 * 86_400;
        let (_temp, soon) = made(Timestamp::from_second(soon).unwrap());
        assert_eq!(status(&soon, "certificate operator"), Status::Warn);
    }

    #[test]
    fn a_key_others_may_read_is_named() {
        let (temp, _) = made(Timestamp::now());
        let key = temp.path().join("keys/command.key");
        std::fs::set_permissions(key, PermissionsExt::from_mode(0o644)).unwrap();
        let checks = of_folder(temp.path());
        let check = checks.iter().find(|check| check.name == "private keys").unwrap();
        assert!(check.status == Status::Warn && check.detail.contains("keys/command.key"), "{check:?}");
    }

    #[test]
    fn space_is_judged_by_share_and_by_bytes() {
        assert_eq!(judge_space(50 << 30, 100 << 30).status, Status::Ok);
        assert_eq!(judge_space(5 << 30, 100 << 30).status, Status::Warn);
        assert_eq!(judge_space(512 << 20, 1 << 30).status, Status::Warn);
        assert_eq!(judge_space(1 << 20, 100 << 30).status, Status::Fail);
    }

    #[test]
    fn a_missing_folder_is_one_finding() {
        let checks = of_folder(Path::new("/nowhere/skep"));
        assert_eq!(checks.len(), 1);
        assert_eq!(checks[0].status, Status::Fail);
    }
}
