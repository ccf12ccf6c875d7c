//! Whatever happens, no limit is exceeded: checked from outside, by what was sent and what was heard.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use skep_policy::replay::{self, Assume};
use skep_policy::{Decision, Engine, Finding, Heard, Mode, Policy, Severity};

const SECOND: i64 = 1_000_000;

const HOUR: i64 = 3600 * SECOND;

const POLICY: &str = "[budget]\nmax_concurrent = 3\nmax_per_hour = 12\nnode_concurrent = 2\nnode_per_hour = 7\ntarget_per_hour = 4\n\
                      cool_down_s = 120\n[restart]\nlimit = 3\nwithin_s = 3600\ncool_down_s = 60\n[storm]\nfindings = 1000\n[[rule]]\nname = \"r\"\nfinding = \"*\"\n\
                      mode = \"auto\"\nchoose = \"outcome\"\n[[rule.rung]]\naction = \"throttle\"\ncpu_share = 0.5\nlease_s = 120\n\
                      attempts = 2\nverify_s = 20\n[[rule.rung]]\naction = \"restart_unit\"\nattempts = 3\nverify_s = 20\n\
                      [[rule.rung]]\naction = \"stop_unit\"\nlease_s = 60\nverify_s = 30\n";

fn policy() -> Policy {
    Policy::parse(POLICY).unwrap()
}

#[derive(Debug, Clone)]
enum Event {
    Pass(i64),
    Found(u8, u8),
    Heard(prop::sample::Index, u8),
    Symptom(u8, u8, bool),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1_i64..120).prop_map(Event::Pass),
        3 => (0_u8..3, 0_u8..3).prop_map(|(node, workload)| Event::Found(node, workload)),
        4 => (any::<prop::sample::Index>(), 0_u8..9).prop_map(|(which, what)| Event::Heard(which, what)),
        2 => (0_u8..3, 0_u8..3, any::<bool>()).prop_map(|(node, workload, there)| Event::Symptom(node, workload, there)),
        1 => Just(Event::Restart),
    ]
}

const HEARD: [Heard; 9] = [
    Heard::Applied,
    Heard::Improved,
    Heard::Done,
    Heard::Unchanged,
    Heard::Worse,
    Heard::Undone,
    Heard::Failed,
    Heard::Moot,
    Heard::Refused,
];

fn finding(id: usize, node: u8, workload: u8, now: i64) -> Finding {
    Finding {
        id: id.to_string(),
        time_us: now,
        rule: "hang".to_owned(),
        severity: Severity::High,
        coverage: 1.0,
        title: String::new(),
        node: format!("n{node}"),
        boot: String::new(),
        workload: format!("unit:{workload}.service"),
        cgroup: Some((format!("/{workload}"), 7)),
        process: None,
        used_cores: Some(1.0),
        until_over: false,
        part: String::new(),
        check: None,
    }
}

/// What an outsider sees of one action.
#[derive(Debug, Clone)]
struct Seen {
    at: i64,
    node: String,
    workload: String,
    verb: String,
    finding: String,
    ended: Option<i64>,
}

/// Actions in the order they were sent, checked one by one.
#[derive(Debug, Default)]
struct Outsider {
    sent: BTreeMap<String, Seen>,
    order: Vec<String>,
}

impl Seen {
    /// It stands at most until it is heard of, or its lease and five minutes are over.
    fn is_open(&self, now: i64) -> bool {
        let lease_s = match self.verb.as_str() {
            "throttle" => 120,
            "stop_unit" => 60,
            _ => 3600,
        };
        self.ended.is_none() && now < self.at + (lease_s + 300) * SECOND
    }
}

impl Outsider {
    fn open(&self, now: i64) -> impl Iterator<Item = &Seen> {
        self.sent.values().filter(move |seen| seen.is_open(now))
    }

    fn take(&mut self, action: String, seen: Seen) -> Result<(), TestCaseError> {
        let now = seen.at;
        let on_node = |other: &&Seen| other.node == seen.node;
        let on_it = |other: &&Seen| other.node == seen.node && other.workload == seen.workload;
        prop_assert!(self.open(now).find(on_it).is_none(), "two on one target");
        prop_assert!(self.open(now).count() < 3 && self.open(now).filter(on_node).count() < 2, "too many at once");
        let hour = |seen: &&Seen| now - seen.at < HOUR;
        prop_assert!(self.sent.values().filter(hour).count() < 12);
        prop_assert!(self.sent.values().filter(hour).filter(on_node).count() < 7);
        prop_assert!(self.sent.values().filter(hour).filter(on_it).count() < 4);
        if seen.verb == "restart_unit" {
            let restarts = || self.sent.values().filter(on_it).filter(|other| other.verb == "restart_unit");
            prop_assert!(restarts().all(|other| now - other.at >= 60 * SECOND), "restarted too soon");
            prop_assert!(restarts().filter(hour).count() < 3, "restarted too often");
        }
        let others = self.sent.values().filter(on_it).filter(|other| other.finding != seen.finding);
        let cooled = others.filter_map(|other| other.ended).all(|ended| now - ended >= 120 * SECOND);
        prop_assert!(cooled, "acted on again too soon");
        self.order.push(action.clone());
        prop_assert!(self.sent.insert(action, seen).is_none(), "one id twice");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_limit_is_ever_exceeded(events in prop::collection::vec(event(), 1..120)) {
        let (mut engine, mut now, mut ids) = (Engine::new(policy()), 1_795_651_200 * SECOND, 0_u32);
        let mut outsider = Outsider::default();
        for (at, event) in events.into_iter().enumerate() {
            match event {
                Event::Pass(seconds) => now += seconds * SECOND,
                Event::Found(node, workload) => {
                    engine.consider(finding(at, node, workload, now), now);
                }
                Event::Heard(which, what) if !outsider.order.is_empty() => {
                    let action = outsider.order[which.index(outsider.order.len())].clone();
                    let heard = HEARD[usize::from(what)];
                    engine.heard(&action, heard, now);
                    let closes = matches!(heard, Heard::Done | Heard::Undone | Heard::Failed | Heard::Moot | Heard::Refused);
                    if let Some(seen) = outsider.sent.get_mut(&action)
                        && closes && seen.is_open(now)
                    {
                        seen.ended = Some(now);
                    }
                }
                Event::Symptom(node, workload, there) => {
                    engine.symptom("hang", &format!("n{node}"), &format!("unit:{workload}.service"), there, now);
                }
                Event::Restart => {
                    if let Some(kept) = engine.to_keep().unwrap() {
                        engine = Engine::new(policy());
                        engine.take_up(&kept).unwrap();
                    }
                }
                Event::Heard(..) => {}
            }
            let decisions = engine.tick(now, || {
                ids += 1;
                format!("a{ids}")
            });
            for decision in decisions {
                if let Decision::Begin(begin) = decision {
                    prop_assert_eq!(begin.mode, Mode::Auto);
                    let verb = skep_wire::order::verb(begin.wanted.action.as_ref()).to_owned();
                    let finding = begin.finding.id.clone();
                    let Finding { node, workload, .. } = begin.finding;
                    outsider.take(begin.action, Seen { at: now, node, workload, verb, finding, ended: None })?;
                }
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_same_findings_give_the_same_decisions(found in prop::collection::vec((0_i64..600, 0_u8..3, 0_u8..3), 1..12), fails in any::<bool>()) {
        let mut now = 1_795_651_200 * SECOND;
        let findings: Vec<Finding> = found.into_iter().enumerate().map(|(at, (wait, node, workload))| {
            now += wait * SECOND;
            finding(at, node, workload, now)
        }).collect();
        let assume = if fails { Assume::Fails } else { Assume::Recovers };
        let play = || replay::replay(policy(), findings.clone(), assume);
        let first = play();
        prop_assert_eq!(&first, &play());
        let ends = first.iter().filter(|happened| matches!(happened.decision, Decision::Ended { .. })).count();
        let refused = first.iter().filter(|happened| matches!(&happened.decision, Decision::Withheld { .. })).count();
        prop_assert!(ends + refused > 0);
        prop_assert!(first.is_sorted_by_key(|happened| happened.time_us));
    }
}
