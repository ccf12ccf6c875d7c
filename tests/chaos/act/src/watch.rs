//! Whether anything stands beyond its lease, looked at all the time and of the host itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::tap::Tap;

/// How often the host is looked at; the packet filter every so many looks.
const LOOK: Duration = Duration::from_millis(100);
const NET_LOOKS: u64 = 5;

/// What an executor that is there may be late, on a machine that has other things to do.
const GRACE: Duration = Duration::from_secs(4);

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// Subjects that stood at some time.
    pub(crate) subjects: BTreeSet<String>,
    /// What stood too long, in words; the first for each subject.
    pub(crate) overdue: Vec<String>,
    /// By how much anything outstayed its lease at most while an executor was there.
    pub(crate) longest_over: Duration,
}

/// Looks until `host` is the only one left of its kind.
pub(crate) fn watch(host: &Mutex<Host>, tap: &Tap, up: &Arc<Mutex<Option<Instant>>>, stop: &dyn Fn() -> bool) -> Sight {
    let mut sight = Sight::default();
    let mut told = BTreeSet::new();
    let mut since: BTreeMap<String, Instant> = BTreeMap::new();
    let mut look = 0;
    while !stop() {
        look += 1;
        let with_net = look % NET_LOOKS == 0;
        let standing = host.lock().unwrap_or_else(PoisonError::into_inner).standing(with_net);
        let now = Instant::now();
        since.retain(|subject, _| standing.contains(subject) || (!with_net && subject.starts_with("block")));
        let up_since = *up.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in standing {
            sight.subjects.insert(subject.clone());
            let began = *since.entry(subject.clone()).or_insert(now);
            // While no executor is there, nobody undoes; one that has come undoes first.
            let Some(up_since) = up_since else { continue };
            let until = tap.log().stands_until(&subject);
            // Its receipt may be on its way.
            let due = until.unwrap_or(began).max(began).max(up_since);
            let over = now.saturating_duration_since(due);
            if until == Some(due) {
                sight.longest_over = sight.longest_over.max(over);
            }
            if over > GRACE && told.insert(subject.clone()) {
                let why = if until.is_some() { "after its lease" } else { "and no receipt says so" };
                sight.overdue.push(format!("{subject} stands {:.1} s {why}", over.as_secs_f64()));
            }
        }
        std::thread::sleep(LOOK);
    }
    sight
}
