use super::*;
use crate::detector::Detector;
use crate::engine::{Engine, Sigma};
use crate::event::Exec;
use crate::facts::Facts;
use crate::replay::{Replay, judge_case};

const GOOD: &str = "title: a shell\nid: 11111111-1111-1111-1111-111111111111\nauthor: Ann\nlogsource: {product: linux, category: process_creation}\n\
    detection: {selection: {Image|endswith: /bash}, condition: selection}\nlevel: high\n";

fn loaded(texts: &[&str]) -> Loaded {
    let mut loaded = Loaded::default();
    for (number, text) in texts.iter().enumerate() {
        loaded.text(&format!("{number}.yml"), text, false);
    }
    loaded
}

fn fires(loaded: &mut Loaded, exec: &Exec<'_>) -> usize {
    Sigma::new(loaded).unwrap().exec(exec, &Facts::default()).len()
}

fn bash() -> Exec<'static> {
    Exec {
        exe: "/usr/bin/bash",
        filename: "/usr/bin/bash",
        argv: vec!["bash"],
        command_line: "bash",
        user: "ann",
        ..Exec::default()
    }
}

#[test]
fn a_broken_rule_is_refused_alone_with_file_and_reason() {
    let broken = [
        "title: [",
        "title: x\nlogsource: {product: linux}\ndetection: {condition: nothing}\n",
        "title: y\nlogsource: {product: linux, category: process_creation}\ndetection: {s: {CommandLine|re: '('}, condition: s}\n",
        "just text",
        "",
    ];
    let mut texts = vec![GOOD];
    texts.extend(broken);
    let mut loaded = loaded(&texts);
    assert_eq!(loaded.rules.len(), 1);
    let sources: std::collections::BTreeSet<_> = loaded.refused.iter().map(|refused| refused.source.clone()).collect();
    assert_eq!(sources.len(), broken.len(), "{:?}", loaded.refused);
    assert!(loaded.refused.iter().all(|refused| !refused.reason.is_empty() && !refused.reason.contains('\n')));
    assert_eq!(fires(&mut loaded, &bash()), 1);
    assert_eq!(loaded.rules[0].author, "Ann");
}

#[test]
fn nesting_without_end_is_refused() {
    let deep = format!("title: x\ndetection: {}", "[".repeat(100_000));
    let indented: String = (0..3_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert_eq!(loaded(&[&deep, &indented]).refused.len(), 2);
}

#[test]
fn what_is_not_recorded_is_named() {
    let fields = GOOD.replace("Image|endswith: /bash", "Hashes|contains: x, Image: y");
    let windows =
        GOOD.replace("product: linux", "product: windows").replace("a shell", "b").replace("11111111-", "21111111-");
    let loaded = loaded(&[&fields, &windows]);
    assert_eq!(loaded.rules.len(), 2);
    assert!(loaded.warnings[0].reason.contains("Hashes") && !loaded.warnings[0].reason.contains("Image"));
    assert!(loaded.warnings[1].reason.contains("product windows"), "{:?}", loaded.warnings);
}

#[test]
fn a_filter_needs_an_owner_and_ends() {
    let filter = |owner: &str, expiry: &str| {
        format!(
            "title: not ann\nlogsource: {{product: linux, category: process_creation}}\n{owner}{expiry}\
             filter: {{rules: [11111111-1111-1111-1111-111111111111], selection: {{User: ann}}, condition: not selection}}\n"
        )
    };
    let count = |text: &str| {
        let mut loaded = loaded(&[GOOD, text]);
        let fired = fires(&mut loaded, &bash());
        (fired, loaded.refused.len(), loaded.warnings.len())
    };
    assert_eq!(count(&filter("owner: ops\n", "expiry: '2999-01-01'\n")), (0, 0, 0));
    assert_eq!(count(&filter("owner: ops\n", "expiry: '2020-01-01'\n")), (1, 0, 1), "it is over");
    assert_eq!(count(&filter("", "expiry: '2999-01-01'\n")), (1, 1, 0));
    assert_eq!(count(&filter("owner: ops\n", "")), (1, 1, 0));
    assert_eq!(count(&filter("owner: ops\n", "expiry: soon\n")), (1, 1, 0));
}

#[test]
fn three_views_and_two_images() {
    let audit = "title: audit\nlogsource: {product: linux, service: auditd}\n\
        detection: {s: {type: EXECVE, a0|endswith: sh, a1: x.sh}, condition: s}\n";
    let keyword =
        "title: keyword\nlogsource: {product: linux}\ndetection: {keywords: ['secret word'], condition: keywords}\n";
    let script = "title: script\nlogsource: {product: linux, category: process_creation}\n\
        detection: {s: {Image|endswith: /x.sh}, condition: s}\n";
    let mut loaded = loaded(&[GOOD, audit, keyword, script]);
    let exec = Exec {
        filename: "/home/ann/x.sh",
        argv: vec!["/bin/bash", "x.sh", "secret word"],
        command_line: "/bin/bash x.sh secret word",
        ..bash()
    };
    assert_eq!(loaded.warnings, []);
    assert_eq!(fires(&mut loaded, &exec), 4);
}

#[test]
fn correlations_count_and_one_that_refers_to_nothing_is_refused() {
    let base = GOOD.replace("title: a shell", "title: a shell\nname: a_shell");
    let many = "title: many shells\ncorrelation: {type: event_count, rules: [a_shell], group-by: [User], timespan: 60s, condition: {gte: 3}}\nlevel: high\n";
    let lost = "title: lost\ncorrelation: {type: event_count, rules: [nobody], group-by: [User], timespan: 60s, condition: {gte: 3}}\n";
    let mut loaded = loaded(&[&base, many, lost]);
    let mut sigma = Sigma::new(&mut loaded).unwrap();
    assert_eq!(loaded.refused.len(), 1, "{:?}", loaded.refused);
    let fired: Vec<usize> = (0..4)
        .map(|second| sigma.exec(&Exec { time_us: second * 1_000_000, ..bash() }, &Facts::default()).len())
        .collect();
    assert_eq!(fired, [0, 0, 1, 0], "the base rule only feeds, and what fired is silent for a while");
}

#[test]
fn the_pack_loads_whole_and_says_what_people_need() {
    let mut loaded = Loaded::pack();
    let detector = Detector::new(&mut loaded).unwrap();
    assert_eq!((&loaded.refused, &loaded.warnings), (&Vec::new(), &Vec::new()));
    assert_eq!(detector.active(), loaded.rules.len());
    for (rule, cases) in loaded.cases() {
        assert!(
            !rule.techniques.is_empty() && !rule.description.is_empty() && !rule.falsepositives.is_empty(),
            "{}",
            rule.name
        );
        assert!(!rule.author.is_empty() && !rule.id.is_empty(), "{}", rule.name);
        assert!(cases.iter().any(|case| case.fires) && cases.iter().any(|case| !case.fires), "{}", rule.name);
    }
}

#[test]
fn each_rule_of_the_pack_fires_on_its_cases_and_on_no_other() {
    let mut loaded = Loaded::pack();
    let mut wrong = Vec::new();
    let cases: Vec<(String, Vec<Case>)> =
        loaded.cases().map(|(rule, cases)| (rule.name.to_string(), cases.to_vec())).collect();
    let mut detector = Detector::new(&mut loaded).unwrap();
    for (rule, cases) in cases {
        for case in cases {
            detector.forget();
            if judge_case(&mut detector, &mut Replay::default(), &case.event, &rule).unwrap() != case.fires {
                wrong.push(format!("{rule} fires={}: {}", case.fires, case.event));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn trust_lowers_and_never_silences() {
    let mut loaded = Loaded::pack();
    let mut detector = Detector::new(&mut loaded).unwrap();
    let below = |ancestors: Vec<&'static str>| Exec {
        exe: "/dev/shm/x",
        filename: "/dev/shm/x",
        argv: vec!["x"],
        command_line: "x",
        parent: ancestors[0],
        ancestors,
        ..Exec::default()
    };
    let level = |alerts: Vec<crate::detector::Alert>| {
        alerts.iter().find(|alert| &*alert.rule.name == "exec-dev-shm").map(|alert| alert.level)
    };
    assert_eq!(level(detector.exec(below(vec!["/usr/bin/bash"]))), Some(Level::High));
    assert_eq!(level(detector.exec(below(vec!["/usr/bin/make"]))), Some(Level::Medium));
    let memfd = Exec { flags: vec!["memfd"], ..below(vec!["/usr/bin/make"]) };
    let alerts = detector.exec(memfd);
    assert!(alerts.iter().any(|alert| alert.level == Level::Critical), "{alerts:?}");
}

#[test]
fn no_argument_vector_is_too_long() {
    let mut loaded = Loaded::pack();
    let mut detector = Detector::new(&mut loaded).unwrap();
    let many: Vec<String> = (0..100_000).map(|number| format!("-/a{number}")).collect();
    let mut argv = vec!["bash", "-c"];
    argv.extend(many.iter().map(String::as_str));
    let line = argv.join(" ");
    let exec = Exec { exe: "/usr/bin/bash", argv, command_line: &line, ..Exec::default() };
    let begun = std::time::Instant::now();
    detector.exec(exec);
    // Unoptimised, and beside other tests: the bench has the figure.
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}
