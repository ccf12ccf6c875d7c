//! What stands between a choice and its action: others who see it too, and enough instances that stay.

use super::Engine;
use crate::SECOND_US;
use crate::case::{Case, Stage};
use crate::decision::{Decision, Poll as Asking};
use crate::instances::Run;
use crate::policy::{Mode, Rung};
use crate::quorum::{Poll, Quorum, Sight, Standing, USUAL};

/// A node that was not heard of for so long is no peer any more.
const PEER_US: i64 = 3600 * SECOND_US;

/// So long after the start it is not known yet which others there are.
const SETTLE_US: i64 = 60 * SECOND_US;

/// Peers that do not agree are asked again after this long, and twice that each time,
const AGAIN_S: i64 = 30;

/// up to this.
const AGAIN_AT_MOST_S: i64 = 300;

/// Another node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    connected: bool,
    heard_us: i64,
}

/// Whether an action may begin.
pub(super) enum Leave {
    /// It may, under this id where others were asked, for this reason.
    Granted(Option<(String, String)>),
    /// Not now; what is to be done or told.
    Denied(Option<Decision>),
}

impl Engine {
    /// A node was heard of; whether it can be asked something.
    pub fn peer(&mut self, node: &str, connected: bool, now_us: i64) {
        let peer = self.peers.entry(node.to_owned()).or_insert(Peer { connected, heard_us: now_us });
        (peer.connected, peer.heard_us) = (connected, peer.heard_us.max(now_us));
    }

    /// A node is gone.
    pub fn peer_gone(&mut self, node: &str) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.connected = false;
        }
    }

    /// A check ran somewhere.
    pub fn instance(&mut self, run: Run<'_>, now_us: i64) {
        if self.counts_instances {
            self.instances.heard(run, now_us);
        }
    }

    /// Whether [`Engine::instance`] is of any use.
    pub fn counts_instances(&self) -> bool {
        self.counts_instances
    }

    /// Runs of checks that were not counted for want of room, since this was asked last.
    pub fn take_uncounted(&mut self) -> u64 {
        self.instances.take_lost()
    }

    /// What a peer says; the finding it is about, if it was asked and is in time.
    pub fn answered(&mut self, poll: &str, peer: &str, sight: Sight, detail: &str, now_us: i64) -> Option<String> {
        let mut cases = self.state.cases.iter_mut();
        let (id, case) = cases.find(|(_, case)| case.poll.as_ref().is_some_and(|of| of.id == poll))?;
        let waited = case.poll.as_mut().is_some_and(|of| of.answer(peer, sight, detail, now_us));
        self.changed |= waited;
        waited.then(|| id.clone())
    }

    pub(super) fn look_at_peers(&mut self, now_us: i64) {
        self.began_us.get_or_insert(now_us);
        for peer in self.peers.values_mut().filter(|peer| peer.connected) {
            peer.heard_us = now_us;
        }
        self.peers.retain(|_, peer| peer.connected || now_us - peer.heard_us < PEER_US);
        self.instances.tick(now_us);
    }

    /// Whether a majority of peers sees it; they are asked if that is to be known yet.
    pub(super) fn confirm(
        &mut self,
        id: &str,
        (at, mode): (usize, Mode),
        now_us: i64,
        new_id: &mut impl FnMut() -> String,
    ) -> Leave {
        let granted = Leave::Granted(None);
        let Some(case) = self.state.cases.get(id) else { return granted };
        let rung = self.policy.rule(&case.rule).and_then(|rule| rule.ladder.get(at));
        let quorum = rung.map_or(Quorum::Of(0), |rung| rung.quorum);
        let checked = case.finding.check.clone().filter(crate::quorum::Checked::is_over_network);
        let Some(checked) = checked.filter(|_| mode != Mode::Observe && quorum != Quorum::Of(0) && !self.rehearses)
        else {
            return granted;
        };
        let standing = case.poll.as_ref().filter(|poll| poll.rung == at).map(|poll| poll.standing(now_us));
        match standing {
            Some(Standing::Open) => Leave::Denied(None),
            Some(Standing::Agreed) => {
                let poll = case.poll.as_ref();
                Leave::Granted(poll.map(|poll| (poll.id.clone(), poll.words())))
            }
            Some(Standing::Refused) => Leave::Denied(self.refused(id, now_us)),
            Some(Standing::Stale) | None => self.ask(id, (at, quorum), checked, now_us, new_id),
        }
    }

    fn ask(
        &mut self,
        id: &str,
        (at, quorum): (usize, Quorum),
        checked: crate::quorum::Checked,
        now_us: i64,
        new_id: &mut impl FnMut() -> String,
    ) -> Leave {
        let Some(case) = self.state.cases.get(id) else { return Leave::Denied(None) };
        let (finding, node) = (id.to_owned(), case.finding.node.clone());
        let others = || self.peers.iter().filter(|(peer, _)| **peer != node);
        let of = match quorum {
            Quorum::Of(of) => of,
            Quorum::Usual => others().count().min(USUAL),
        };
        if of == 0 {
            let settling = self.began_us.is_none_or(|began_us| now_us - began_us < SETTLE_US);
            let why = "which other nodes there are is not known yet; they are to be asked first".to_owned();
            return if settling { Leave::Denied(self.tell(id, "quorum", why)) } else { Leave::Granted(None) };
        }
        let action = new_id();
        let mut peers: Vec<String> =
            others().filter(|(_, peer)| peer.connected).map(|(peer, _)| peer.clone()).collect();
        // Not always the same ones.
        let first = action.bytes().map(usize::from).sum::<usize>() % peers.len().max(1);
        peers.rotate_left(first);
        peers.truncate(of);
        let poll = Poll::new(action.clone(), at, of, &peers, now_us);
        let needed = poll.needed();
        let asking = Asking { id: action, finding, node, checked, peers, of, needed };
        if let Some(case) = self.state.cases.get_mut(id) {
            case.poll = Some(poll);
            self.changed = true;
        }
        Leave::Denied(Some(Decision::Poll(Box::new(asking))))
    }

    /// It is not done for now; it is asked again later, for what is cut off may yet break.
    fn refused(&mut self, id: &str, now_us: i64) -> Option<Decision> {
        let case = self.state.cases.get_mut(id)?;
        let poll = case.poll.take()?;
        let Stage::Waiting { since_us, .. } = case.stage else { return None };
        self.changed = true;
        case.refusals = case.refusals.saturating_add(1);
        let again_s = AGAIN_S.saturating_mul(1 << (case.refusals - 1).min(8)).min(AGAIN_AT_MOST_S);
        case.stage = Stage::Waiting { since_us, from_us: now_us + again_s * SECOND_US };
        case.told = None;
        let why = format!("not done: {}; asked again in {again_s} s", poll.words());
        Some(Decision::NoQuorum { poll: poll.id, finding: id.to_owned(), node: case.finding.node.clone(), why })
    }

    /// Why an action would leave too few healthy instances, if it would.
    pub(super) fn too_few(&self, case: &Case, rung: &Rung, target: &str) -> Option<String> {
        let least = rung.min_healthy.filter(|_| !self.rehearses)?;
        let (node, check) = (&case.finding.node, case.finding.check.as_ref().map(|check| check.name.as_str()));
        let mut here = None;
        let mut others = 0;
        for (at, healthy) in self.instances.of(target, check) {
            if at == node {
                here = Some(healthy);
            } else if healthy
                && self.peers.get(at).is_some_and(|peer| peer.connected)
                && !self.state.spent.is_acted_on(at, target)
            {
                others += 1;
            }
        }
        // One that is down does not become one less.
        let keeps = here == Some(false) || others >= least;
        (!keeps)
            .then(|| format!("only {others} other instances of {target} are known to be healthy, {least} must stay so"))
    }
}
