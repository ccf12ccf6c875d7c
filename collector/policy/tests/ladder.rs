//! A finding on its way up the ladder.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use skep_policy::{Begin, Decision, End, Engine, Finding, Full, Heard, Mode, Policy, Severity};

const SECOND: i64 = 1_000_000;

/// A Thursday noon.
const T0: i64 = (1_795_651_200 + 43_200) * SECOND;

const RULE: &str = "[[rule]]\nname = \"hang\"\nfinding = \"check-failed\"\nmode = \"auto\"\n[[rule.rung]]\naction = \"reload_unit\"\n\
                    verify_s = 20\n[[rule.rung]]\naction = \"restart_unit\"\nattempts = 2\nbackoff_s = 5\nverify_s = 30\n";

fn finding(id: &str) -> Finding {
    Finding {
        id: id.to_owned(),
        time_us: T0,
        rule: "check-failed".to_owned(),
        severity: Severity::High,
        coverage: 1.0,
        title: "it does not answer".to_owned(),
        node: "web-1".to_owned(),
        boot: "b".to_owned(),
        workload: "unit:web.service".to_owned(),
        cgroup: Some(("/web".to_owned(), 7)),
        process: None,
        used_cores: Some(1.0),
        until_over: false,
        part: String::new(),
        check: None,
    }
}

struct Host {
    engine: Engine,
    now: i64,
    ids: u32,
}

impl Host {
    fn new(policy: &str) -> Self {
        Self { engine: Engine::new(Policy::parse(policy).unwrap()), now: T0, ids: 0 }
    }

    fn consider(&mut self, finding: Finding) -> Vec<Decision> {
        self.engine.consider(finding, self.now)
    }

    fn tick(&mut self) -> Vec<Decision> {
        let ids = &mut self.ids;
        self.engine.tick(self.now, || {
            *ids += 1;
            format!("a{ids}")
        })
    }

    /// Seconds go by until something is decided.
    fn pass(&mut self, at_most_s: i64) -> Vec<Decision> {
        for _ in 0..at_most_s {
            self.now += SECOND;
            let decisions = self.tick();
            if !decisions.is_empty() {
                return decisions;
            }
        }
        Vec::new()
    }

    fn heard(&mut self, action: &str, heard: Heard) -> Vec<Decision> {
        self.engine.heard(action, heard, self.now)
    }

    fn approve(&mut self, action: &str) -> Result<(), Full> {
        let wanted = skep_wire::order::read("reload_unit", "unit=web.service").unwrap();
        self.engine.approve(action, ("web-1", "unit:web.service"), &wanted, self.now)
    }

    fn symptom(&mut self, present: bool) -> Vec<Decision> {
        self.engine.symptom("check-failed", "web-1", "unit:web.service", present, self.now)
    }
}

fn begun(decisions: Vec<Decision>) -> Begin {
    match <[Decision; 1]>::try_from(decisions).unwrap() {
        [Decision::Begin(begin)] => *begin,
        [other] => panic!("{other:?}"),
    }
}

fn ended(decisions: Vec<Decision>) -> (End, String) {
    match <[Decision; 1]>::try_from(decisions).unwrap() {
        [Decision::Ended { end, why, .. }] => (end, why),
        [other] => panic!("{other:?}"),
    }
}

fn withheld(decisions: Vec<Decision>) -> String {
    match <[Decision; 1]>::try_from(decisions).unwrap() {
        [Decision::Withheld { why, .. }] => why,
        [other] => panic!("{other:?}"),
    }
}

fn verb(begin: &Begin) -> &'static str {
    skep_wire::order::verb(begin.wanted.action.as_ref())
}

#[test]
fn what_helps_ends_the_case_and_is_remembered() {
    let mut host = Host::new(RULE);
    assert!(host.consider(finding("f")).is_empty());
    let begin = begun(host.tick());
    assert_eq!((verb(&begin), begin.rung, begin.attempt, begin.mode), ("reload_unit", 1, 1, Mode::Auto));
    assert_eq!(skep_wire::order::parameters(&begin.wanted), "unit=web.service");
    host.now += SECOND;
    assert!(host.heard("a1", Heard::Applied).is_empty() && host.heard("a1", Heard::Done).is_empty());
    host.now += 4 * SECOND;
    assert!(host.symptom(false).is_empty());
    assert_eq!(ended(host.pass(20)), (End::Recovered, "reload_unit helped".to_owned()));
    let tally = host.engine.outcomes().of("check-failed", "reload_unit", "unit");
    assert_eq!((tally.recovered, tally.failed, tally.mean_recover_s()), (1, 0, Some(5.0)));
}

#[test]
fn what_does_not_help_leads_up_to_the_end_and_people_are_told() {
    let mut host = Host::new(RULE);
    host.consider(finding("f"));
    let mut verbs = vec![verb(&begun(host.tick()))];
    let mut waits = Vec::new();
    for action in ["a1", "a2", "a3"] {
        host.heard(action, Heard::Done);
        host.symptom(true);
        let since = host.now;
        let next = host.pass(200);
        waits.push((host.now - since) / SECOND);
        match next.into_iter().next() {
            Some(Decision::Begin(begin)) => verbs.push(verb(&begin)),
            // Its cooldown is told.
            Some(Decision::Withheld { .. }) => {
                let since = host.now;
                verbs.push(verb(&begun(host.pass(200))));
                *waits.last_mut().unwrap() += (host.now - since) / SECOND;
            }
            Some(Decision::Ended { end: End::Escalated, why, .. }) => {
                assert!(why.contains("1 reload_unit (was tried); 2 restart_unit (was tried 2 times)"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(verbs, ["reload_unit", "restart_unit", "restart_unit"]);
    assert_eq!(waits, [20, 60, 30], "the second restart is 60 s after the first");
    assert!(host.engine.is_idle());
    assert_eq!(host.engine.outcomes().of("check-failed", "restart_unit", "unit").failed, 2);
}

#[test]
fn what_nobody_says_anything_about_is_no_success() {
    let mut host = Host::new(RULE);
    host.consider(finding("f"));
    begun(host.tick());
    host.heard("a1", Heard::Applied);
    assert_eq!(ended(host.pass(20)).0, End::Unproven);
    assert_eq!(host.engine.outcomes().of("check-failed", "reload_unit", "unit").of(), 0);
}

#[test]
fn what_is_well_before_its_turn_is_left_alone() {
    let mut host = Host::new(RULE);
    host.consider(finding("f"));
    assert_eq!(ended(host.symptom(false)), (End::Recovered, "it is well again".to_owned()));
    assert!(host.pass(60).is_empty());
    // It comes back while the finding itself is held back as a repeat.
    host.symptom(true);
    assert_eq!(verb(&begun(host.tick())), "reload_unit");
    assert_eq!(ended(host.heard("a1", Heard::Moot)).0, End::Recovered);
}

#[test]
fn a_crash_loop_stops_being_restarted_at_the_limit() {
    let policy = "[budget]\ntarget_per_hour = 99\nnode_per_hour = 99\nmax_per_hour = 99\ncool_down_s = 0\n[[rule]]\n\
                  name = \"hang\"\nfinding = \"*\"\nmode = \"auto\"\naction = \"restart_unit\"\nverify_s = 10\n";
    let mut host = Host::new(policy);
    host.consider(finding("f"));
    let (mut sent, mut escalated) = (Vec::new(), None);
    for _ in 0..1_000 {
        host.now += SECOND;
        for decision in host.tick() {
            match decision {
                Decision::Begin(begin) => {
                    sent.push(host.now);
                    host.engine.heard(&begin.action, Heard::Done, host.now);
                    host.symptom(false);
                }
                Decision::Ended { end: End::Recovered, .. } => {
                    host.symptom(true);
                }
                Decision::Ended { end: End::Escalated, why, .. } => escalated = Some(why),
                _ => {}
            }
        }
    }
    assert_eq!(sent.len(), 5);
    assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= 60 * SECOND), "{sent:?}");
    assert!(escalated.unwrap().contains("5 of 5 restarts of it"));
}

#[test]
fn a_rung_that_stands_is_taken_back_before_the_next() {
    let policy = "[[rule]]\nname = \"r\"\nfinding = \"*\"\nmode = \"auto\"\n[[rule.rung]]\naction = \"throttle\"\ncpu_share = 0.5\n\
                  verify_s = 10\n[[rule.rung]]\naction = \"freeze\"\nlease_s = 60\n";
    let mut host = Host::new(policy);
    host.consider(finding("f"));
    begun(host.tick());
    host.heard("a1", Heard::Applied);
    host.heard("a1", Heard::Unchanged);
    let decisions = host.pass(10);
    assert_eq!(decisions.len(), 2);
    assert!(matches!(&decisions[0], Decision::Undo { action, .. } if action == "a1"));
    assert_eq!(withheld(decisions[1..].to_vec()), "action a1 stands in the way on unit:web.service");
    assert!(host.pass(5).is_empty());
    host.heard("a1", Heard::Undone);
    assert_eq!(verb(&begun(host.tick())), "freeze");
    host.heard("a2", Heard::Applied);
    host.heard("a2", Heard::Unchanged);
    let left = host.pass(60);
    assert!(matches!(left[..], [Decision::Ended { end: End::Escalated, .. }]), "after the last it stays: {left:?}");
}

#[test]
fn what_the_executor_refuses_or_fails_at_is_not_insisted_on() {
    let mut host = Host::new(RULE);
    host.consider(finding("f"));
    begun(host.tick());
    host.heard("a1", Heard::Refused);
    assert_eq!(verb(&begun(host.tick())), "restart_unit");
    host.heard("a2", Heard::Failed);
    let again = host.pass(200);
    assert!(withheld(again).contains("was restarted; the next may be in 55 s"));
    let again = begun(host.pass(200));
    assert_eq!((verb(&again), again.attempt), ("restart_unit", 2));
    host.heard("a3", Heard::Failed);
    let (end, why) = ended(host.pass(200));
    assert_eq!(end, End::Escalated);
    assert!(why.contains("1 reload_unit (the executor refuses it)"), "{why}");
}

#[test]
fn what_could_not_be_sent_is_sent_later_and_costs_nothing() {
    let mut host = Host::new(&format!("[budget]\nmax_per_hour = 1\n{RULE}"));
    host.consider(finding("f"));
    begun(host.tick());
    host.heard("a1", Heard::Undeliverable);
    assert!(host.tick().is_empty());
    let again = begun(host.pass(10));
    assert_eq!((verb(&again), again.attempt), ("reload_unit", 1));
}

#[test]
fn an_operator_is_asked_and_answers() {
    let mut host = Host::new(&RULE.replace("auto", "ask"));
    host.consider(finding("f"));
    assert_eq!(begun(host.tick()).mode, Mode::Ask);
    host.consider(Finding { id: "g".to_owned(), ..finding("g") });
    assert!(withheld(host.tick()).contains("action a1 on unit:web.service waits for an operator"));
    host.approve("a1").unwrap();
    host.heard("a1", Heard::Applied);
    assert_eq!(ended(host.heard("a1", Heard::Undone)), (End::Dropped, "it was undone".to_owned()));
    assert!(withheld(host.tick()).contains("the next may be in 300 s"));
    assert!(host.pass(299).is_empty());
    assert_eq!(begun(host.pass(1)).finding.id, "g");
    assert_eq!(ended(host.heard("a2", Heard::Rejected)), (End::Dropped, "an operator said no".to_owned()));
}

#[test]
fn a_budget_holds_an_operators_approval_too() {
    let mut host = Host::new(&format!("[budget]\nmax_per_hour = 0\n{}", RULE.replace("auto", "ask")));
    host.consider(finding("f"));
    begun(host.tick());
    let full = host.approve("a1").unwrap_err();
    assert_eq!(full.to_string(), "0 of 0 commands an hour");
}

#[test]
fn who_is_protected_wants_nothing_or_was_hardly_seen_is_let_be() {
    for (policy, change, why) in [
        ("protected = [\"*web*\"]\n", finding("f"), "unit:web.service is protected by *web*"),
        ("opt_out = [\"unit:web*\"]\n", finding("f"), "unit:web.service wants no action, by unit:web*"),
        ("", Finding { coverage: 0.5, ..finding("f") }, "coverage 0.50 is below the policy's 0.80"),
        (
            "",
            Finding { workload: "unit:ssh.service".to_owned(), ..finding("f") },
            "unit:ssh.service is protected by unit:ssh.service",
        ),
    ] {
        let mut host = Host::new(&format!("{policy}{RULE}"));
        assert_eq!(withheld(host.consider(change)), why);
        assert!(host.engine.is_idle());
    }
    let mut host = Host::new(RULE);
    assert!(host.consider(Finding { severity: Severity::Low, ..finding("f") }).is_empty());
    assert!(host.consider(Finding { rule: "other".to_owned(), ..finding("f") }).is_empty());
}

#[test]
fn a_maintenance_window_and_a_storm_lower_what_is_done_by_itself() {
    let window =
        "[[maintenance]]\nname = \"lunch\"\ndays = [\"thu\"]\nfrom = \"11:00\"\nto = \"13:00\"\nnodes = [\"web-*\"]\n";
    let mut host = Host::new(&format!("{window}{RULE}"));
    host.consider(finding("f"));
    let decisions = host.tick();
    assert!(matches!(&decisions[..], [Decision::Begin(begin)] if begin.mode == Mode::Observe), "{decisions:?}");
    assert!(host.engine.is_idle());

    let mut host = Host::new(&format!("[storm]\nfindings = 3\nwithin_s = 60\nhold_s = 100\n{RULE}"));
    let mut braked = Vec::new();
    for at in 0..5 {
        let workload = format!("unit:web-{at}.service");
        braked.extend(host.consider(Finding { workload, ..finding(&at.to_string()) }));
    }
    assert_eq!(braked, [Decision::Braked { findings: 4, until_us: T0 + 100 * SECOND }]);
    let begun = host.tick().into_iter().filter_map(|decision| match decision {
        Decision::Begin(begin) => Some((begin.mode, begin.lowered)),
        _ => None,
    });
    let modes: Vec<_> = begun.collect();
    assert!(modes.len() == 5 && modes.iter().all(|(mode, lowered)| *mode == Mode::Ask && lowered.is_some()));
}

#[test]
fn the_urgent_goes_first_and_the_patient_is_not_forgotten() {
    let policy =
        format!("[budget]\nnode_concurrent = 1\ncool_down_s = 0\nmax_per_hour = 999\nnode_per_hour = 999\n{RULE}");
    let mut host = Host::new(&policy);
    let of = |id: &str, severity| Finding { workload: format!("unit:{id}.service"), severity, ..finding(id) };
    host.consider(of("low", Severity::Medium));
    let mut served = Vec::new();
    for at in 0..60 {
        host.consider(of(&format!("high-{at}"), Severity::Critical));
        for decision in host.tick() {
            if let Decision::Begin(begin) = decision {
                host.engine.heard(&begin.action, Heard::Moot, host.now);
                served.push(begin.finding.id);
            }
        }
        host.now += 30 * SECOND;
    }
    assert_eq!(served[0], "high-0");
    assert!(served.iter().any(|id| id == "low"), "waiting counts");
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let mut host = Host::new(RULE);
    host.consider(finding("f"));
    begun(host.tick());
    let kept = host.engine.to_keep().unwrap().unwrap();
    assert_eq!(host.engine.to_keep().unwrap(), None, "nothing changed since");
    let mut again = Host { now: host.now, ids: 1, ..Host::new(RULE) };
    again.engine.take_up(&kept).unwrap();
    again.heard("a1", Heard::Done);
    again.symptom(true);
    assert_eq!(verb(&begun(again.pass(30))), "restart_unit");
    assert!(again.engine.take_up(b"{").is_err());
    let mut other = Host::new("");
    other.engine.take_up(&kept).unwrap();
    other.heard("a1", Heard::Failed);
    assert_eq!(ended(other.pass(1)).1, "its rule is gone from the policy");
}

#[test]
fn what_is_about_the_whole_host_stands_alone_on_it() {
    let policy = "[budget]\ncool_down_s = 0\n[[rule]]\nname = \"r\"\nfinding = \"shell\"\nmode = \"auto\"\naction = \"isolate\"\n\
                  [[rule]]\nname = \"s\"\nfinding = \"*\"\nmode = \"auto\"\naction = \"freeze\"\n";
    let mut host = Host::new(policy);
    host.consider(finding("f"));
    assert_eq!(verb(&begun(host.tick())), "freeze");
    host.consider(Finding { rule: "shell".to_owned(), workload: "unit:b.service".to_owned(), ..finding("g") });
    assert!(withheld(host.tick()).starts_with("action a1 stands in the way"));
    host.heard("a1", Heard::Undone);
    assert_eq!(verb(&begun(host.tick())), "isolate");
}

#[test]
fn what_is_needed_is_repaired_first() {
    let depends = "[[depends]]\nworkload = \"unit:web*\"\non = \"unit:db.service\"\n[[depends]]\nworkload = \"unit:a*\"\non = \"unit:b*\"\n\
                   [[depends]]\nworkload = \"unit:b*\"\non = \"unit:a*\"\n";
    let mut host = Host::new(&format!("{depends}{RULE}"));
    let of = |id: &str, node: &str| Finding {
        workload: format!("unit:{id}.service"),
        node: node.to_owned(),
        ..finding(&format!("{id} on {node}"))
    };
    host.consider(of("web", "web-1"));
    host.consider(of("db", "web-1"));
    let decisions = host.tick();
    assert_eq!(verb(&begun(decisions[..1].to_vec())), "reload_unit");
    assert!(matches!(&decisions[0], Decision::Begin(begin) if begin.finding.workload == "unit:db.service"));
    assert_eq!(withheld(decisions[1..].to_vec()), "it needs unit:db.service on web-1, which is being repaired");
    host.heard("a1", Heard::Moot);
    assert_eq!(begun(host.tick()).finding.workload, "unit:web.service");

    let mut host = Host::new(&format!("{depends}{RULE}"));
    host.consider(of("web", "web-1"));
    host.consider(of("db", "web-2"));
    assert_eq!(host.tick().len(), 2, "another host's is another");
    let mut host = Host::new(&format!("{depends}{RULE}"));
    host.consider(of("a", "web-1"));
    host.consider(of("b", "web-1"));
    assert_eq!(host.tick().len(), 2, "nobody waits for who waits for it");
}

#[test]
fn what_has_an_end_is_there_until_that_is_said() {
    let mut host = Host::new(RULE);
    host.consider(Finding { until_over: true, ..finding("f") });
    begun(host.tick());
    host.heard("a1", Heard::Done);
    // The unit runs, and the check still fails: it hangs.
    assert_eq!(verb(&begun(host.pass(30))), "restart_unit");
    host.now += SECOND;
    host.symptom(false);
    host.heard("a2", Heard::Done);
    assert_eq!(ended(host.pass(30)), (End::Recovered, "restart_unit helped".to_owned()));
}

#[test]
fn what_breaks_again_while_it_is_watched_goes_on_up_the_same_ladder() {
    let mut host = Host::new(RULE);
    let down = |id: &str| Finding { until_over: true, ..finding(id) };
    host.consider(down("f"));
    assert_eq!(verb(&begun(host.tick())), "reload_unit");
    host.now += SECOND;
    host.heard("a1", Heard::Done);
    assert!(host.symptom(false).is_empty());
    host.now += 5 * SECOND;
    assert!(host.consider(down("g")).is_empty());
    let next = begun(host.pass(30));
    assert_eq!((verb(&next), next.finding.id.as_str()), ("restart_unit", "f"));
    assert_eq!(host.engine.outcomes().of("check-failed", "reload_unit", "unit").failed, 1);
    // Another's trouble is another case.
    host.consider(Finding { workload: "unit:db.service".to_owned(), ..down("h") });
    assert_eq!(begun(host.tick()).finding.id, "h");
}

#[test]
fn a_process_in_the_root_cgroup_can_be_ended_and_the_root_not_be_frozen() {
    let rung = |action: &str| format!("[[rule.rung]]\naction = \"{action}\"\n");
    let rule = "[[rule]]\nname = \"r\"\nfinding = \"shell\"\nmode = \"auto\"\n";
    let in_root =
        Finding { rule: "shell".to_owned(), cgroup: Some(("/".to_owned(), 1)), process: Some((77, 1)), ..finding("f") };
    let mut host = Host::new(&format!("{rule}{}{}", rung("freeze"), rung("kill")));
    assert!(host.consider(in_root.clone()).is_empty());
    let begin = begun(host.tick());
    assert_eq!((verb(&begin), begin.rung), ("kill", 2));
    assert!(
        begin.choice.to_string().contains("1 freeze (would hit everything, it is in the root)"),
        "{}",
        begin.choice
    );
    let mut host = Host::new(&format!("{rule}{}", rung("freeze")));
    assert!(withheld(host.consider(in_root)).ends_with("is protected by cgroup:/"));
}

#[test]
fn a_second_intruder_does_not_wait_for_the_first_ones_sake() {
    let rule = "[[rule]]\nname = \"r\"\nfinding = \"shell\"\nmode = \"auto\"\naction = \"kill\"\n";
    let mut host = Host::new(rule);
    let shell = |id: &str, pid: i64| Finding { rule: "shell".to_owned(), process: Some((pid, 1)), ..finding(id) };
    host.consider(shell("f", 77));
    begun(host.tick());
    host.heard("a1", Heard::Done);
    host.consider(shell("g", 78));
    let begin = begun(host.tick());
    assert_eq!(skep_wire::order::parameters(&begin.wanted), "scope=process grace_s=10 pid=78 start_ns=1");
}

#[test]
fn a_workload_is_well_when_the_last_of_its_checks_is() {
    let mut host = Host::new(RULE);
    let down = |id: &str| Finding { until_over: true, part: id.to_owned(), ..finding(id) };
    let over =
        |host: &mut Host, part: &str| host.engine.over("check-failed", ("web-1", "unit:web.service"), part, host.now);
    host.consider(down("http"));
    begun(host.tick());
    assert!(host.consider(down("unit")).is_empty() && host.tick().is_empty(), "one repair for both");
    host.heard("a1", Heard::Done);
    assert!(over(&mut host, "unit").is_empty());
    assert_eq!(verb(&begun(host.pass(30))), "restart_unit", "the other is down yet");
    host.heard("a2", Heard::Done);
    host.now += SECOND;
    assert!(over(&mut host, "http").is_empty());
    assert_eq!(ended(host.pass(40)), (End::Recovered, "restart_unit helped".to_owned()));
}

#[test]
fn the_last_events_of_what_was_ended_are_not_its_return() {
    let rule =
        "[[rule]]\nname = \"r\"\nfinding = \"check-failed\"\nmode = \"auto\"\naction = \"kill\"\nverify_s = 10\n";
    for (after_s, expected) in [(1, End::Recovered), (7, End::Escalated)] {
        let mut host = Host::new(rule);
        host.consider(Finding { process: Some((77, 1)), ..finding("f") });
        begun(host.tick());
        host.heard("a1", Heard::Done);
        host.now += after_s * SECOND;
        host.symptom(true);
        assert_eq!(ended(host.pass(20)).0, expected, "{after_s} s");
    }
}
