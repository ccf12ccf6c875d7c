//! How fast the batches of each agent are taken: one that sends far more than others must not be to their cost. Pure.
//!
//! What the processors take in is divided equally among the agents connected. Hardly any agent ever uses its part, and
//! what it did not use lately is its own to use at once. Those that want more than their part share a little besides,
//! equally, and their batches wait: the more of them there are, the longer. An agent's batch that is larger than all it
//! may have saved up waits until it is paid for, however often the agent comes back with it meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skep_wire::envelope::MAX_PAYLOAD_BYTES;
use skep_wire::v1;

/// What those that want more than their part share, of the whole.
const BESIDES: f64 = 1.0 / 32.0;

/// An agent may save up its part of this time,
const SAVED_S: f64 = 10.0;

/// and so many bytes however small its part is: a window of a busy host.
const SAVED_BYTES: f64 = (1 << 20) as f64;

/// A batch without rows takes as long as this many bytes.
const LEAST_BYTES: u64 = 8 << 10;

/// Whoever waits looks again after this time: others come and go.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Accounts of agents that are gone are looked through when there are so many.
const MANY_GONE: usize = 1_000;

/// The pace of all agents.
#[derive(Debug)]
pub struct Pace {
    /// Decompressed bytes a second of all agents; `None` makes nobody wait.
    bytes_s: Option<f64>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: usize,
    waiting: usize,
    accounts: HashMap<String, Account>,
}

#[derive(Debug)]
struct Account {
    saved_bytes: f64,
    at: Instant,
    /// What it waits for, or waited for when it went.
    wanted_bytes: f64,
    sessions: usize,
}

/// A session's place among the others, given up when dropped.
#[derive(Debug)]
pub struct Place {
    pace: Arc<Pace>,
    node: String,
    waiting: bool,
}

impl Pace {
    /// So many bytes a second for all; 0 makes nobody wait.
    pub fn new(bytes_s: f64) -> Arc<Self> {
        Arc::new(Self { bytes_s: (bytes_s > 0.0).then_some(bytes_s), inner: Mutex::default() })
    }

    /// A session of this node begins.
    pub fn enter(self: &Arc<Self>, node: &str, now: Instant) -> Place {
        let mut inner = self.lock();
        inner.sessions += 1;
        let (part, most) = (self.part(inner.sessions), self.most_saved(inner.sessions));
        if inner.accounts.len() > 2 * inner.sessions + MANY_GONE {
            inner.accounts.retain(|_, account| account.sessions > 0 || account.after(part, now) < most);
        }
        let new = || Account { saved_bytes: most, at: now, wanted_bytes: 0.0, sessions: 0 };
        inner.accounts.entry(node.to_owned()).or_insert_with(new).sessions += 1;
        Place { pace: Arc::clone(self), node: node.to_owned(), waiting: false }
    }

    /// An agent's part of the whole, bytes a second.
    fn part(&self, sessions: usize) -> f64 {
        self.bytes_s.unwrap_or(f64::INFINITY) / sessions.max(1) as f64
    }

    fn most_saved(&self, sessions: usize) -> f64 {
        (self.part(sessions) * SAVED_S).max(SAVED_BYTES)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// What is saved now at this rate.
    fn after(&self, rate: f64, now: Instant) -> f64 {
        self.saved_bytes + now.saturating_duration_since(self.at).as_secs_f64() * rate
    }
}

impl Place {
    /// Takes what a batch of this node costs off what the node saved; where that is not enough, nothing is taken, and the
    /// answer is when to ask again.
    pub fn take(&mut self, bytes: f64, now: Instant) -> Option<Instant> {
        self.look(Some(bytes), now)
    }

    /// Whether the node's last batch had to wait and still would; the answer is when to ask again.
    pub fn owes(&mut self, now: Instant) -> Option<Instant> {
        self.look(None, now)
    }

    /// Charges the node for what it may not have saved; it owes the rest.
    pub fn charge(&mut self, bytes: f64, now: Instant) {
        self.look(None, now);
        if let Some(account) = self.pace.lock().accounts.get_mut(&self.node) {
            account.saved_bytes -= bytes;
        }
    }

    fn look(&mut self, bytes: Option<f64>, now: Instant) -> Option<Instant> {
        let bytes_s = self.pace.bytes_s?;
        let mut inner = self.pace.lock();
        let waiting = inner.waiting + usize::from(!self.waiting);
        let (part, most) = (self.pace.part(inner.sessions), self.pace.most_saved(inner.sessions));
        let account = inner.accounts.get_mut(&self.node)?;
        let rate = if self.waiting { part + bytes_s * BESIDES / waiting as f64 } else { part };
        account.saved_bytes = account.after(rate, now).min(most.max(account.wanted_bytes));
        account.at = now;
        let lacking = bytes.unwrap_or(account.wanted_bytes) - account.saved_bytes;
        let waits = lacking > 0.0;
        match bytes {
            Some(bytes) if waits => account.wanted_bytes = bytes,
            Some(bytes) => (account.saved_bytes, account.wanted_bytes) = (account.saved_bytes - bytes, 0.0),
            None => {}
        }
        inner.waiting = inner.waiting + usize::from(waits) - usize::from(self.waiting);
        self.waiting = waits;
        let wait = || Duration::from_secs_f64(lacking / (part + bytes_s * BESIDES / waiting as f64));
        waits.then(|| now + wait().min(LOOK_AGAIN))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.pace.lock();
        inner.sessions -= 1;
        inner.waiting -= usize::from(self.waiting);
        if let Some(account) = inner.accounts.get_mut(&self.node) {
            account.sessions -= 1;
        }
    }
}

/// What a batch costs, in bytes: as it is once it is decompressed, if it can be.
pub fn cost(envelope: &v1::Envelope) -> f64 {
    let plain = envelope.payload_bytes.min(MAX_PAYLOAD_BYTES);
    f64::from(plain).max(cost_unopened(envelope))
}

/// What a batch costs that is not opened.
pub fn cost_unopened(envelope: &v1::Envelope) -> f64 {
    (envelope.payload.len() as u64).max(LEAST_BYTES) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = (1 << 20) as f64;

    /// A second that passes for agents that always have batches of this size; what was taken of each.
    fn second(greedy: &mut [Place], size: f64, start: Instant) -> f64 {
        let step = |n: u32| start + Duration::from_millis(50) * n;
        let mut taken = 0.0;
        for n in 0..20 {
            for place in &mut *greedy {
                while place.take(size, step(n)).is_none() {
                    taken += size;
                }
            }
        }
        taken
    }

    #[test]
    fn who_sends_more_than_its_part_waits_and_the_rest_does_not() {
        let (pace, start) = (Pace::new(128.0 * MIB), Instant::now());
        let mut modest: Vec<_> = (0..2000).map(|n| pace.enter(&format!("modest-{n}"), start)).collect();
        let mut greedy: Vec<_> = (0..20).map(|n| pace.enter(&format!("greedy-{n}"), start)).collect();
        let mut taken = 0.0;
        for n in 0..60 {
            let now = start + Duration::from_secs(n);
            taken += second(&mut greedy, 25e3, now);
            if n % 10 == 0 {
                assert!(modest.iter_mut().all(|place| place.take(600e3, now).is_none()), "a busy host's window");
            }
        }
        let (part, besides) = (20.0 * 128.0 * MIB / 2020.0, 4.0 * MIB);
        let (most, saved) = (60.0 * (part + besides), 20.0 * MIB);
        assert!((most * 0.9..most + saved).contains(&taken), "{} MiB of {}", taken / MIB, most / MIB);
    }

    #[test]
    fn alone_an_agent_has_it_all() {
        let (pace, start) = (Pace::new(128.0 * MIB), Instant::now());
        let mut place = pace.enter("n", start);
        let taken = second(std::slice::from_mut(&mut place), MIB, start) / MIB;
        assert!((1280.0..1500.0).contains(&taken), "what was saved of ten seconds, and this one's: {taken}");
        assert!(Pace::new(0.0).enter("n", start).take(f64::MAX, start).is_none());
    }

    #[test]
    fn a_batch_larger_than_what_may_be_saved_is_paid_for_by_and_by_and_by_several_sessions() {
        let (pace, start) = (Pace::new(64.0 * MIB), Instant::now());
        let others: Vec<_> = (0..1999).map(|n| pace.enter(&format!("other-{n}"), start)).collect();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut now = 0;
        for _session in 0..3 {
            let mut place = pace.enter("n", at(now));
            for _ in 0..10 {
                assert!(place.take(57.0 * MIB, at(now)).is_some(), "after {now} s");
                now += 1;
            }
        }
        let mut place = pace.enter("n", at(now));
        let greeted = (now..).find(|s| place.owes(at(*s)).is_none()).unwrap();
        assert_eq!((greeted, others.len()), (31, 1999), "some 2 MiB a second");
        now = greeted;
        assert_eq!(place.take(57.0 * MIB, at(now)), None);
        assert!(place.take(57.0 * MIB, at(now)).is_some(), "it was paid for once");
        assert!(place.owes(at(now)).is_some());
    }

    #[test]
    fn what_is_charged_is_owed_whatever_was_saved() {
        let (pace, start) = (Pace::new(MIB), Instant::now());
        let mut place = pace.enter("n", start);
        place.charge(12.0 * MIB, start);
        drop(place);
        let mut place = pace.enter("n", start);
        assert!(place.owes(start).is_some());
        assert!(place.owes(start + Duration::from_secs(1)).is_some());
        assert!(place.owes(start + Duration::from_secs(2)).is_none(), "ten seconds were saved, and these");
    }

    #[test]
    fn what_is_owed_is_remembered_of_agents_that_are_gone_until_it_is_paid() {
        let (pace, start) = (Pace::new(MIB), Instant::now());
        for n in 0..5_000 {
            pace.enter(&format!("n-{n}"), start).take(100.0 * MIB, start);
        }
        assert!(pace.lock().accounts.len() <= 1_003, "they took nothing");
        assert!(pace.enter("owes", start).take(10.0 * MIB, start).is_none(), "all it saved");
        for n in 0..5_000 {
            drop(pace.enter(&format!("m-{n}"), start));
        }
        assert!(pace.enter("owes", start).take(MIB, start).is_some());
    }

    #[test]
    fn a_batch_costs_what_is_in_it_whatever_it_claims() {
        let envelope = |payload_bytes, payload| v1::Envelope { payload_bytes, payload, ..v1::Envelope::default() };
        assert_eq!(cost(&envelope(u32::MAX, Vec::new())), f64::from(MAX_PAYLOAD_BYTES));
        assert_eq!(cost(&envelope(0, vec![0; 50_000])), 50e3);
        assert_eq!(cost(&envelope(7, vec![1])), 8192.0);
        assert_eq!(cost_unopened(&envelope(90_000, vec![0; 10_000])), 10e3);
    }
}
