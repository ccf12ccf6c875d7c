//! Peers are asked before what is disruptive, and enough instances stay.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use skep_policy::decision::Poll;
use skep_policy::instances::Run;
use skep_policy::quorum::{Checked, Sight};
use skep_policy::replay::{self, Assume};
use skep_policy::{Begin, Decision, Engine, Finding, Policy, Severity};

const SECOND: i64 = 1_000_000;

const T0: i64 = 1_795_651_200 * SECOND;

fn rule(keys: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nfinding = \"check-failed\"\nmode = \"auto\"\naction = \"restart_unit\"\n{keys}\n")
}

fn finding(target: &str) -> Finding {
    let check = Checked { name: "shop".to_owned(), kind: "http".to_owned(), target: target.to_owned() };
    Finding {
        id: "f".to_owned(),
        time_us: T0,
        rule: "check-failed".to_owned(),
        severity: Severity::High,
        coverage: 1.0,
        title: "shop is down".to_owned(),
        node: "a".to_owned(),
        boot: "b".to_owned(),
        workload: "unit:shop.service".to_owned(),
        cgroup: None,
        process: None,
        used_cores: None,
        until_over: true,
        part: String::new(),
        check: Some(check),
    }
}

struct Fleet {
    engine: Engine,
    now: i64,
    ids: u32,
}

impl Fleet {
    /// These are connected.
    fn of(nodes: &[&str], policy: &str) -> Self {
        let mut fleet = Self { engine: Engine::new(Policy::parse(policy).unwrap()), now: T0, ids: 0 };
        nodes.iter().for_each(|node| fleet.engine.peer(node, true, T0));
        fleet
    }

    fn found(&mut self, target: &str) {
        assert!(self.engine.consider(finding(target), self.now).is_empty());
    }

    /// Seconds go by until something is decided.
    fn pass(&mut self, at_most_s: i64) -> Option<Decision> {
        for _ in 0..at_most_s {
            self.now += SECOND;
            let ids = &mut self.ids;
            let mut decided = self.engine.tick(self.now, || {
                *ids += 1;
                format!("a{ids}")
            });
            if let Some(decision) = decided.pop() {
                assert!(decided.is_empty());
                return Some(decision);
            }
        }
        None
    }

    fn polls(&mut self, at_most_s: i64) -> Poll {
        match self.pass(at_most_s) {
            Some(Decision::Poll(poll)) => *poll,
            other => panic!("{other:?}"),
        }
    }

    fn begins(&mut self) -> Begin {
        match self.pass(2) {
            Some(Decision::Begin(begin)) => *begin,
            other => panic!("{other:?}"),
        }
    }

    fn not_done(&mut self) -> String {
        match self.pass(10) {
            Some(Decision::NoQuorum { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    fn says(&mut self, poll: &Poll, peer: &str, sight: Sight) {
        assert_eq!(self.engine.answered(&poll.id, peer, sight, "", self.now), Some("f".to_owned()));
    }
}

const SHOP: &str = "http://10.0.0.1:80/";

#[test]
fn what_only_one_sees_is_not_acted_on_and_what_all_see_is() {
    let mut fleet = Fleet::of(&["a", "b", "c"], &rule(""));
    fleet.found(SHOP);
    let poll = fleet.polls(1);
    let mut peers = poll.peers.clone();
    peers.sort();
    assert_eq!((peers, poll.of, poll.needed), (vec!["b".to_owned(), "c".to_owned()], 2, 2));
    fleet.says(&poll, "b", Sight::Down);
    assert_eq!(fleet.pass(3), None, "half is no majority");
    fleet.says(&poll, "c", Sight::Well);
    let why = fleet.not_done();
    assert!(why.starts_with("not done: 1 of 2 peers see it down, 2 must: b sees it down; c says it is well"), "{why}");
    let again = fleet.polls(31);
    assert_eq!(fleet.engine.answered(&poll.id, "b", Sight::Down, "", fleet.now), None, "of the poll before");
    fleet.says(&again, "b", Sight::Down);
    fleet.says(&again, "c", Sight::Down);
    let begin = fleet.begins();
    assert_eq!((&begin.action, begin.attempt), (&again.id, 1), "one id from the question to the end");
    assert!(begin.quorum.unwrap().starts_with("2 of 2 peers see it down"));
}

#[test]
fn silence_and_absence_are_no_consent() {
    let mut fleet = Fleet::of(&["a", "b", "c", "d", "e"], &rule("quorum = 5"));
    fleet.engine.peer_gone("e");
    fleet.found(SHOP);
    let poll = fleet.polls(1);
    assert_eq!((poll.peers.len(), poll.of, poll.needed), (3, 5, 3));
    fleet.says(&poll, "b", Sight::Down);
    fleet.says(&poll, "c", Sight::Down);
    let why = fleet.not_done();
    assert!(why.contains("d did not answer; 2 more were not connected; asked again in 30 s"), "{why}");
    // Twice as long each time.
    let again = fleet.polls(31);
    ["b", "c", "d"].iter().for_each(|peer| fleet.says(&again, peer, Sight::Unknown));
    assert!(fleet.not_done().ends_with("asked again in 60 s"));
}

#[test]
fn peers_are_asked_only_where_they_could_know() {
    for (keys, target) in [("quorum = 0", SHOP), ("quorum = 2", "http://127.0.0.1:80/"), ("mode = \"observe\"", SHOP)] {
        let policy = rule(keys).replace(
            "mode = \"auto\"\naction",
            if keys.starts_with("mode") { "action" } else { "mode = \"auto\"\naction" },
        );
        let mut fleet = Fleet::of(&["a", "b"], &policy);
        fleet.found(target);
        assert_eq!(fleet.begins().quorum, None, "{keys} {target}");
    }
}

#[test]
fn a_lonely_host_waits_until_it_is_known_to_be_alone() {
    let mut fleet = Fleet::of(&["a"], &rule(""));
    fleet.found(SHOP);
    assert!(matches!(fleet.pass(2), Some(Decision::Withheld { why, .. }) if why.contains("not known yet")));
    assert!(matches!(fleet.pass(60), Some(Decision::Begin(_))));
    // One that was there within the hour and is not now is asked in vain.
    let mut fleet = Fleet::of(&["a", "b"], &rule(""));
    fleet.engine.peer_gone("b");
    fleet.found(SHOP);
    assert!(fleet.polls(1).peers.is_empty());
    assert!(fleet.not_done().contains("0 of 1 peers see it down, 1 must; 1 more were not connected"));
}

#[test]
fn what_was_asked_survives_a_restart_and_what_was_recorded_is_not_asked_about() {
    let mut fleet = Fleet::of(&["a", "b"], &rule(""));
    fleet.found(SHOP);
    let poll = fleet.polls(1);
    let kept = fleet.engine.to_keep().unwrap().unwrap();
    fleet.engine = Engine::new(Policy::parse(&rule("")).unwrap());
    fleet.engine.take_up(&kept).unwrap();
    fleet.engine.peer("b", true, fleet.now);
    fleet.says(&poll, "b", Sight::Down);
    assert_eq!(fleet.begins().action, poll.id);
    let policy = Policy::parse(&rule("quorum = 3\nmin_healthy = 2")).unwrap();
    let played = replay::replay(policy, vec![finding(SHOP)], Assume::Recovers);
    assert!(played.iter().any(|happened| matches!(happened.decision, Decision::Begin(_))));
}

#[test]
fn enough_instances_stay_healthy() {
    let policy = rule("quorum = 0\nmin_healthy = 2");
    let run = |node: &'static str, down| Run {
        node,
        check: "shop",
        workload: "unit:shop.service",
        down,
        interval_us: SECOND,
    };
    let mut fleet = Fleet::of(&["a", "b", "c"], &policy);
    fleet.found(SHOP);
    fleet.engine.instance(run("a", false), fleet.now);
    fleet.engine.instance(run("b", false), fleet.now);
    let told = fleet.pass(2);
    let why = "only 1 other instances of unit:shop.service are known to be healthy, 2 must stay so";
    assert!(matches!(&told, Some(Decision::Withheld { why: told, .. }) if told == why), "{told:?}");
    fleet.engine.instance(run("c", false), fleet.now);
    assert!(matches!(fleet.pass(2), Some(Decision::Begin(_))), "it waits in the queue for this");

    // One that is down is none of the healthy ones, whatever is done to it.
    let mut fleet = Fleet::of(&["a", "b", "c"], &policy);
    fleet.found(SHOP);
    fleet.engine.instance(run("a", true), fleet.now);
    assert!(matches!(fleet.pass(2), Some(Decision::Begin(_))));

    // What is being acted on, or not connected, does not count.
    let mut fleet = Fleet::of(&["a", "b", "c", "d"], &policy);
    fleet.found(SHOP);
    ["a", "b", "c", "d"].iter().for_each(|node| fleet.engine.instance(run(node, false), fleet.now));
    let wanted = skep_wire::order::read("restart_unit", "unit=shop.service").unwrap();
    fleet.engine.order("o", ("b", "unit:shop.service"), &wanted, fleet.now).unwrap();
    fleet.engine.peer_gone("c");
    assert!(matches!(fleet.pass(2), Some(Decision::Withheld { why, .. }) if why.starts_with("only 1 other")));
}
