//! Asks the container runtime what the pods are called, when it is told where the runtime listens.
//!
//! Beside the path of data, never in it: rows that are sealed before a name came carry the pod's uid. A pod is asked for
//! until the runtime knows it, which it does only when the pod's sandbox is complete.

mod client;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skep_runtime::backoff::Backoff;
use skep_runtime::shutdown::Token;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

pub use client::CriError;

use crate::aggregate::pods::{PodName, PodNames};

/// Uids on their way from the watch thread to the task.
pub const QUEUE: usize = 256;

/// The runtime is asked no more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest wait between two tries while the runtime does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Answers without a pod after which it is no longer asked for: some ten minutes.
const PATIENCE: u32 = 600;

/// Pods asked for at once.
const MOST_PENDING: usize = 1024;

/// How long a pod keeps its name after the runtime last listed it: windows may still mention it.
const KEPT: Duration = Duration::from_secs(600);

/// Names kept of pods that are no longer listed.
const MOST_KEPT: usize = 4096;

/// Asks the runtime.
#[derive(Debug)]
pub struct Cri {
    /// Where the runtime listens.
    pub socket: PathBuf,
    /// Uids of pods without a name.
    pub wanted: mpsc::Receiver<String>,
    /// Names go here.
    pub names: watch::Sender<Arc<PodNames>>,
    /// When to stop.
    pub stop: Token,
}

impl Cri {
    /// Runs until told to stop.
    pub async fn run(mut self) {
        let mut stop = self.stop.clone();
        let mut backoff = Backoff::new(PAUSE, LONGEST_PAUSE);
        let mut known = Known::default();
        // At the start everything is new.
        let (mut due, mut is_due) = (Instant::now(), true);
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                wanted = self.wanted.recv() => {
                    let Some(uid) = wanted else { return };
                    known.want(uid);
                    is_due = true;
                }
                () = sleep_until(due), if is_due => {
                    let answer = tokio::select! {
                        () = stop.stopped() => return,
                        answer = client::list(&self.socket) => answer,
                    };
                    let wait = match answer {
                        Ok(names) => {
                            backoff.reset();
                            self.answered(&mut known, names);
                            PAUSE
                        }
                        Err(error) => {
                            self.failed(&mut known, &error);
                            backoff.next_wait()
                        }
                    };
                    due = Instant::now() + wait;
                    is_due = known.failing || !known.pending.is_empty();
                }
            }
        }
    }

    fn answered(&self, known: &mut Known, names: PodNames) {
        if std::mem::take(&mut known.failing) {
            tracing::info!("{}: the container runtime answers again", self.socket.display());
        }
        known.take(names, Instant::now());
        self.names.send_if_modified(|published| {
            let current = known.names();
            let changed = **published != current;
            *published = Arc::new(current);
            changed
        });
    }

    fn failed(&self, known: &mut Known, error: &CriError) {
        if !std::mem::replace(&mut known.failing, true) {
            let why = crate::error::chain(error);
            tracing::warn!("{}: {why}; pods are called by their uid", self.socket.display());
        }
    }
}

/// What the runtime said so far, and what it was asked.
#[derive(Debug, Default)]
struct Known {
    /// Uids without a name, each with the answers that did not have it.
    pending: HashMap<String, u32>,
    /// Names, each with the moment it was last listed.
    listed: HashMap<String, (PodName, Option<Instant>)>,
    failing: bool,
}

impl Known {
    fn want(&mut self, uid: String) {
        if self.pending.len() < MOST_PENDING {
            self.pending.entry(uid).or_default();
        }
    }

    fn take(&mut self, names: PodNames, now: Instant) {
        self.pending.retain(|uid, missed| {
            *missed += 1;
            !names.contains_key(uid) && *missed < PATIENCE
        });
        let few = self.listed.len() < names.len() + MOST_KEPT;
        self.listed.retain(|_, (_, gone)| few && now - *gone.get_or_insert(now) < KEPT);
        self.listed.extend(names.into_iter().map(|(uid, name)| (uid, (name, None))));
    }

    fn names(&self) -> PodNames {
        self.listed.iter().map(|(uid, (name, _))| (uid.clone(), name.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(uids: &[&str]) -> PodNames {
        let name = |uid: &str| PodName { namespace: "shop".to_owned(), name: uid.to_owned(), labels: "".into() };
        uids.iter().map(|uid| ((*uid).to_owned(), name(uid))).collect()
    }

    #[test]
    fn a_pod_keeps_its_name_for_a_while() {
        let mut known = Known::default();
        let start = Instant::now();
        known.take(listing(&["a", "b"]), start);
        known.take(listing(&["b"]), start + PAUSE);
        assert_eq!(known.names(), listing(&["a", "b"]));
        known.take(listing(&["b"]), start + KEPT);
        assert_eq!(known.names(), listing(&["a", "b"]));
        known.take(listing(&["b"]), start + KEPT + PAUSE);
        assert_eq!(known.names(), listing(&["b"]));
    }

    #[test]
    fn a_pod_is_asked_for_until_it_is_listed_or_patience_ends() {
        let mut known = Known::default();
        let now = Instant::now();
        known.want("late".to_owned());
        known.want("never".to_owned());
        known.take(listing(&[]), now);
        known.take(listing(&["late"]), now);
        assert_eq!(known.pending.keys().collect::<Vec<_>>(), ["never"]);
        (0..PATIENCE).for_each(|_| known.take(listing(&[]), now));
        assert!(known.pending.is_empty());
        (0..2 * MOST_PENDING).for_each(|n| known.want(n.to_string()));
        assert_eq!(known.pending.len(), MOST_PENDING);
    }

    #[test]
    fn names_of_pods_that_are_gone_are_bounded() {
        let mut known = Known::default();
        for batch in 0..2 * MOST_KEPT / 64 {
            let uids: Vec<String> = (0..64).map(|n| format!("{batch}-{n}")).collect();
            known.take(listing(&uids.iter().map(String::as_str).collect::<Vec<_>>()), Instant::now());
        }
        assert!(known.listed.len() <= MOST_KEPT + 64);
    }
}
