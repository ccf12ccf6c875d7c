//! The cgroup a command means, checked: it exists, is the one that was meant, and holds nothing protected.

use std::collections::BTreeSet;

use skep_wire::v1;

use super::hierarchy::{Cgroup, CgroupError, Held, Hierarchy};
use super::host::Host;
use super::usage::{self, UnseenError};
use crate::verify::{Refusal, protected};

/// How often two hierarchies are compared before they are said to differ.
const LOOKS: usize = 3;

/// A cgroup and the hold on it.
#[derive(Debug)]
pub struct Aim {
    /// By its path.
    pub cgroup: Cgroup,
    /// By its folder.
    pub held: Held,
}

/// A cgroup as the subject of an action.
pub fn subject(target: &v1::Target) -> String {
    format!("cgroup {}", target.cgroup)
}

/// The target in the hierarchy that controls cpu, if it may be acted on at this moment.
///
/// # Errors
/// The first reason against it.
pub fn cgroup(target: &v1::Target, host: &Host) -> Result<Cgroup, Refusal> {
    if target.cgroup == "/" {
        return Err(Refusal::Protected { subject: subject(target), why: "it is the root".to_owned() });
    }
    let cgroup = host.cgroups.cpu.cgroup(&target.cgroup, target.cgroup_id)?;
    protected::check(&cgroup, &host.policy.protected_cgroups)?;
    let allowed = &host.policy.allowed_cgroups;
    if !allowed.is_empty() && !allowed.iter().any(|pattern| protected::matches(pattern, &cgroup.path)) {
        return Err(Refusal::Policy { why: format!("cgroup {} is not among allowed_cgroups", cgroup.path) });
    }
    Ok(cgroup)
}

/// The same, held.
///
/// # Errors
/// The first reason against it.
pub fn hold(target: &v1::Target, host: &Host) -> Result<Aim, Refusal> {
    let cgroup = cgroup(target, host)?;
    let held = cgroup.hold()?;
    Ok(Aim { cgroup, held })
}

/// The target in another hierarchy than the one that names it, held. Where hierarchies are mounted separately, a path
/// in one says nothing about the same path in another: what is there must hold none but the target's processes.
///
/// # Errors
/// The first reason against it.
pub fn hold_in(
    hierarchy: Option<&Hierarchy>,
    what: &'static str,
    target: &v1::Target,
    host: &Host,
) -> Result<Aim, Refusal> {
    let named = cgroup(target, host)?;
    let Some(hierarchy) = hierarchy else { return Err(Refusal::Unsupported { what: format!("no {what} here") }) };
    if hierarchy.root == host.cgroups.cpu.root {
        let held = named.hold()?;
        return Ok(Aim { cgroup: named, held });
    }
    let cgroup = hierarchy.named(&target.cgroup).map_err(|error| match error {
        CgroupError::Gone { path } => {
            Refusal::Unsupported { what: format!("cgroup {path} is not where there is {what}") }
        }
        error => error.into(),
    })?;
    let held = cgroup.hold()?;
    if let Some(pid) = stranger(&named, &cgroup).map_err(|error| Refusal::Protected {
        subject: subject(target),
        why: format!("not all it holds can be seen: {error}"),
    })? {
        let why = format!("under {} it holds pid {pid}, which is not of the target", hierarchy.root.display());
        return Err(Refusal::Protected { subject: subject(target), why });
    }
    Ok(Aim { cgroup, held })
}

/// A process that is in `other` and not in `named`, if one is. Processes begin and end between two looks: only one that
/// is a stranger every time is one.
fn stranger(named: &Cgroup, other: &Cgroup) -> Result<Option<u32>, UnseenError> {
    let mut strangers: Option<BTreeSet<u32>> = None;
    for _ in 0..LOOKS {
        let theirs = usage::processes(&other.dir)?;
        let ours: BTreeSet<u32> = usage::processes(&named.dir)?.into_iter().collect();
        let now = theirs.into_iter().filter(|pid| !ours.contains(pid));
        let now: BTreeSet<u32> =
            now.filter(|pid| strangers.as_ref().is_none_or(|before| before.contains(pid))).collect();
        if now.is_empty() {
            return Ok(None);
        }
        strangers = Some(now);
    }
    Ok(strangers.and_then(|strangers| strangers.first().copied()))
}

/// The target of an action that stands; `None` when it is gone or another one of its name is there.
///
/// # Errors
/// [`CgroupError::Io`].
pub fn hold_for_undo(target: &v1::Target, host: &Host) -> Result<Option<Aim>, CgroupError> {
    hold_again(&host.cgroups.cpu, &target.cgroup, target.cgroup_id)
}

/// A cgroup by its path and inode, held; `None` when it is gone or another one of its name is there.
///
/// # Errors
/// [`CgroupError::Io`].
pub fn hold_again(hierarchy: &Hierarchy, path: &str, id: i64) -> Result<Option<Aim>, CgroupError> {
    match hierarchy.cgroup(path, id).and_then(|cgroup| Ok(Aim { held: cgroup.hold()?, cgroup })) {
        Ok(aim) => Ok(Some(aim)),
        Err(error @ CgroupError::Io { .. }) => Err(error),
        Err(_) => Ok(None),
    }
}

/// A cgroup by its path alone, held; `None` when it is gone.
///
/// # Errors
/// [`CgroupError::Io`].
pub fn hold_by_name(hierarchy: &Hierarchy, path: &str) -> Result<Option<Aim>, CgroupError> {
    match hierarchy.named(path) {
        Ok(cgroup) => hold_again(hierarchy, path, cgroup.id),
        Err(error @ CgroupError::Io { .. }) => Err(error),
        Err(_) => Ok(None),
    }
}
