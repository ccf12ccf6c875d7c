//! Takes an action back: pure decision here, the change itself in [`crate::act`].

use crate::act::hierarchy::{CgroupError, Hierarchy};
use crate::act::throttle::{self, Limit, LimitError};
use crate::journal::Standing;
use thiserror::Error;

/// Why an action could not be taken back; to be tried again.
#[derive(Debug, Error)]
pub enum UndoError {
    /// The cgroup cannot be looked at.
    #[error("cannot look at the target: {0}")]
    Target(#[from] CgroupError),
    /// The limit cannot be read or written.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// What to do with the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Put this limit back.
    Restore(Limit),
    /// Leave it; the text says why.
    Leave(String),
}

/// Decides by what was there before, what was set and what is there now (`None`: the cgroup is gone).
pub fn plan(standing: &Standing, boot: &str, found: Option<&Limit>) -> Plan {
    if standing.boot != boot {
        return Plan::Leave("the host has restarted since, and limits do not survive that".to_owned());
    }
    let Some(found) = found else { return Plan::Leave("the cgroup is gone, and its limit with it".to_owned()) };
    let (ours, previous) = (Limit::parse(&standing.ours), Limit::parse(&standing.previous));
    match (ours, previous) {
        (_, Some(previous)) if *found == previous => Plan::Leave("the limit of before stands already".to_owned()),
        (Some(ours), Some(previous)) if *found == ours => Plan::Restore(previous),
        _ => Plan::Leave(format!("somebody else set a limit of {:.3} cores since; it is left as it is", found.cores())),
    }
}

/// Takes the action back and says how.
///
/// # Errors
/// [`UndoError`]: the limit may still stand; try again.
pub fn undo(standing: &Standing, boot: &str, hierarchy: &Hierarchy) -> Result<String, UndoError> {
    let (path, id) = standing.target();
    // Held: what is written belongs to the cgroup that was looked at.
    let cgroup = match hierarchy.cgroup(path, id).and_then(|cgroup| Ok((cgroup.hold()?, cgroup.dir))) {
        Ok(cgroup) => Some(cgroup),
        Err(error @ CgroupError::Io { .. }) => return Err(error.into()),
        Err(_) => None,
    };
    let found = match &cgroup {
        None => None,
        Some((held, dir)) => match throttle::read(hierarchy.version, held.dir()) {
            Ok(limit) => Some(limit),
            Err(error) if error.is_gone() => None,
            Err(error) => return Err(error.within(dir).into()),
        },
    };
    match (plan(standing, boot, found.as_ref()), cgroup) {
        (Plan::Restore(limit), Some((held, dir))) => match throttle::write(hierarchy.version, held.dir(), &limit) {
            Ok(()) => Ok(match limit.quota_us {
                None => "no limit, as before".to_owned(),
                Some(_) => format!("limited to {:.3} cores, as before", limit.cores()),
            }),
            Err(error) if error.is_gone() => Ok("the cgroup is gone, and its limit with it".to_owned()),
            Err(error) => Err(error.within(&dir).into()),
        },
        (Plan::Leave(why), _) => Ok(why),
        // A limit was found, so there is a cgroup.
        (Plan::Restore(_), None) => Ok("the cgroup is gone, and its limit with it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing {
            boot: "b".to_owned(),
            previous: "-1 100000".to_owned(),
            ours: "50000 100000".to_owned(),
            ..Standing::default()
        }
    }

    #[test]
    fn only_our_own_limit_is_taken_back() {
        let limit = |text: &str| Limit::parse(text).unwrap();
        assert_eq!(plan(&standing(), "b", Some(&limit("50000 100000"))), Plan::Restore(limit("-1 100000")));
        for (boot, found, why) in [
            ("c", Some("50000 100000"), "restarted"),
            ("b", None, "gone"),
            ("b", Some("-1 100000"), "already"),
            ("b", Some("20000 100000"), "somebody else"),
            ("b", Some("50000 200000"), "somebody else"),
        ] {
            match plan(&standing(), boot, found.map(limit).as_ref()) {
                Plan::Leave(text) => assert!(text.contains(why), "{text}"),
                Plan::Restore(_) => panic!("{found:?} was not ours"),
            }
        }
    }
}
