//! Whether others see it too: what peers of a node say of a service before something disruptive is done to it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use skep_wire::order;

use crate::SECOND_US;

/// Peers that are asked where a rung does not say how many.
pub const USUAL: usize = 3;

/// Most peers a rung may have asked.
pub const MOST: usize = 15;

/// How long a peer may take to look.
pub const LOOK_MS: u32 = 3_000;

/// How long answers are waited for: the look, and the way there and back on busy hosts.
pub(crate) const WAIT_US: i64 = 8 * SECOND_US;

/// Answers older than this say nothing of now.
const FRESH_US: i64 = 30 * SECOND_US;

/// Longest answer kept, in characters.
const MAX_DETAIL: usize = 200;

/// Ways to check a service that lead over a network, where the target does.
const OVER_NETWORK: [&str; 5] = ["http", "tcp", "grpc", "postgres", "redis"];

/// How many peers are asked, of which more than half must see it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// So many, be they there or not; 0 asks nobody.
    Of(usize),
    /// [`USUAL`], or all others where there are fewer.
    Usual,
}

/// What a rung does without being told: whatever takes a service away from those who use it is confirmed by others.
pub fn usual(verb: &str) -> Quorum {
    let disruptive = order::is_restart(verb)
        || matches!(
            verb,
            "stop_unit"
                | "kill"
                | "freeze"
                | "isolate"
                | "pause_container"
                | "evict_pod"
                | "delete_pod"
                | "undo_rollout"
        );
    if disruptive { Quorum::Usual } else { Quorum::Of(0) }
}

/// The check a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// As in the table `checks`.
    pub kind: String,
    /// As in the table `checks`.
    pub target: String,
}

impl Checked {
    /// From a finding's evidence.
    pub fn of<T: AsRef<str>>(evidence: &[T]) -> Option<Self> {
        let value = |name: &str| evidence.iter().find_map(|line| line.as_ref().strip_prefix(name)).map(str::to_owned);
        Some(Self { name: value("check=")?, kind: value("kind=")?, target: value("target=")? })
    }

    /// Whether another node would reach the same by the same target.
    pub fn is_over_network(&self) -> bool {
        if !OVER_NETWORK.contains(&self.kind.as_str()) || self.target.starts_with('/') {
            return false;
        }
        let host = host(&self.target);
        let own = host.is_empty() || host.starts_with('/') || host.starts_with("127.");
        !own && !["localhost", "::1", "0.0.0.0", "::"].contains(&host)
    }
}

/// The host in `HOST:PORT`, `SCHEME://USER@HOST:PORT/PATH` or `host=HOST port=PORT`.
fn host(target: &str) -> &str {
    if let Some(word) = target.split_whitespace().find_map(|word| word.strip_prefix("host=")) {
        return word;
    }
    if target.contains('=') && !target.contains("://") {
        return "";
    }
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => place.split(':').next().unwrap_or_default(),
    }
}

/// What a peer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sight {
    /// It is well from there.
    Well,
    /// It is not.
    Down,
    /// The peer cannot or may not tell.
    Unknown,
}

impl Sight {
    /// In words, behind the peer's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Well => "says it is well",
            Self::Down => "sees it down",
            Self::Unknown => "cannot tell",
        }
    }
}

/// A peer's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    sight: Sight,
    detail: String,
}

/// Peers that were asked about one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// Also the action's id, if it comes to that.
    pub(crate) id: String,
    /// The rung's place in the ladder.
    pub(crate) rung: usize,
    until_us: i64,
    /// Of how many it is a majority that counts.
    of: usize,
    answers: BTreeMap<String, Option<Answer>>,
}

/// Where a poll stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may still come out either way.
    Open,
    /// More than half see it down.
    Agreed,
    /// More than half will not.
    Refused,
    /// It says nothing of now.
    Stale,
}

impl Poll {
    /// These are asked now.
    pub(crate) fn new(id: String, rung: usize, of: usize, peers: &[String], now_us: i64) -> Self {
        let answers = peers.iter().map(|peer| (peer.clone(), None)).collect();
        Self { id, rung, until_us: now_us + WAIT_US, of, answers }
    }

    /// How many must see it down.
    pub(crate) fn needed(&self) -> usize {
        self.of / 2 + 1
    }

    /// Takes a peer's first word; whether it was waited for.
    pub(crate) fn answer(&mut self, peer: &str, sight: Sight, detail: &str, now_us: i64) -> bool {
        let place = self.answers.get_mut(peer).filter(|answer| answer.is_none());
        let Some(place) = place.filter(|_| now_us < self.until_us) else { return false };
        *place = Some(Answer { sight, detail: detail.chars().take(MAX_DETAIL).collect() });
        true
    }

    fn down(&self) -> usize {
        self.answers.values().flatten().filter(|answer| answer.sight == Sight::Down).count()
    }

    pub(crate) fn standing(&self, now_us: i64) -> Standing {
        let silent = self.answers.values().filter(|answer| answer.is_none()).count();
        // One asked for a moment that is yet to come was asked before the clock was put back.
        if now_us >= self.until_us + FRESH_US || now_us < self.until_us - WAIT_US {
            Standing::Stale
        } else if self.down() >= self.needed() {
            Standing::Agreed
        } else if now_us >= self.until_us || self.down() + silent < self.needed() {
            Standing::Refused
        } else {
            Standing::Open
        }
    }

    /// Who was asked and what each said, in one line.
    pub(crate) fn words(&self) -> String {
        let (down, of, needed) = (self.down(), self.of, self.needed());
        let mut line = format!("{down} of {of} peers see it down, {needed} must");
        for (at, (peer, answer)) in self.answers.iter().enumerate() {
            let between = if at == 0 { ": " } else { "; " };
            // Writing to a string cannot fail.
            let _ = match answer {
                Some(Answer { sight, detail }) if detail.is_empty() => {
                    write!(line, "{between}{peer} {}", sight.as_str())
                }
                Some(Answer { sight, detail }) => write!(line, "{between}{peer} {} ({detail})", sight.as_str()),
                None => write!(line, "{between}{peer} did not answer"),
            };
        }
        let missing = of.saturating_sub(self.answers.len());
        if missing > 0 {
            let _ = write!(line, "; {missing} more were not connected");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over_network(kind: &str, target: &str) -> bool {
        let own = |text: &str| text.to_owned();
        Checked { name: own("n"), kind: own(kind), target: own(target) }.is_over_network()
    }

    #[test]
    fn what_is_this_host_to_everybody_is_not_over_the_network() {
        for (kind, target) in [
            ("http", "https://shop.example:8443/health?x=a/b"),
            ("http", "http://[2001:db8::7]/"),
            ("tcp", "10.0.0.7:80"),
            ("grpc", "http://shop:1"),
            ("postgres", "postgres://me@db/x?sslmode=require"),
            ("postgres", "host=db user=me"),
            ("redis", "cache:6379"),
        ] {
            assert!(over_network(kind, target), "{kind} {target}");
        }
        for (kind, target) in [
            ("http", "http://127.0.0.1:80/"),
            ("http", "https://localhost/health"),
            ("http", "http://[::1]:80/"),
            ("tcp", "127.1.2.3:80"),
            ("redis", "/run/redis.sock"),
            ("postgres", "host=/run/postgresql user=me"),
            ("postgres", "user=me dbname=x"),
            ("unit", "shop.service"),
            ("command", "/usr/bin/check 10.0.0.7"),
        ] {
            assert!(!over_network(kind, target), "{kind} {target}");
        }
    }

    #[test]
    fn more_than_half_must_see_it_down_and_silence_does_not() {
        let peers = ["a", "b", "c"].map(str::to_owned);
        let mut poll = Poll::new("p".to_owned(), 0, 3, &peers, 0);
        assert!(poll.answer("a", Sight::Down, "refused", 1));
        assert!(!poll.answer("a", Sight::Well, "", 1), "one word each");
        assert!(!poll.answer("stranger", Sight::Down, "", 1));
        assert_eq!(poll.standing(1), Standing::Open);
        let mut agreed = poll.clone();
        assert!(agreed.answer("c", Sight::Down, "", 2));
        assert_eq!((agreed.standing(2), agreed.standing(WAIT_US + FRESH_US)), (Standing::Agreed, Standing::Stale));
        assert_eq!(poll.standing(WAIT_US), Standing::Refused);
        assert!(!poll.answer("b", Sight::Down, "", WAIT_US), "too late");
        let words = "1 of 3 peers see it down, 2 must: a sees it down (refused); b did not answer; c did not answer";
        assert_eq!(poll.words(), words);
        poll.answer("b", Sight::Unknown, "", 2);
        poll.answer("c", Sight::Well, "", 2);
        assert_eq!(poll.standing(2), Standing::Refused, "nobody is left who could");
        let few = Poll::new("p".to_owned(), 0, 3, &peers[..1], 0);
        assert_eq!(few.standing(0), Standing::Refused);
        assert!(few.words().ends_with("a did not answer; 2 more were not connected"));
    }
}
