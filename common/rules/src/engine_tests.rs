use super::*;
use crate::detector::Detector;
use crate::replay::{Replay, judge_case};

/// An engine that asks every rule too, and wants the same answer.
#[derive(Debug)]
struct Thorough(Sigma);

impl Engine for Thorough {
    fn exec(&mut self, exec: &Exec<'_>, facts: &Facts<'_>) -> Vec<usize> {
        let all = self.0.execs.iter().filter_map(|asked| match asked.about {
            About::Audit => ask(asked, &AuditView(exec)),
            About::Keyword => ask(asked, &LineView(exec.command_line)),
            _ => ask(asked, &ProcessView { exec, facts }),
        });
        let all: Vec<usize> = all.map(|(number, _)| number).collect();
        let found = self.0.exec(exec, facts);
        assert_eq!(found, all, "{exec:?} {facts:?}");
        found
    }

    fn connection(&mut self, connection: &Connection<'_>, facts: &Facts<'_>) -> Vec<usize> {
        self.0.connection(connection, facts)
    }

    fn active(&self) -> usize {
        self.0.active()
    }
}

/// Rules with every way of saying what is needed, and of saying what is not.
const EVERY_WAY: &str = r#"
title: parts
logsource: {product: linux, category: process_creation}
detection:
  a: {CommandLine|contains|all: [etc, PASS]}
  b: {Image|endswith: [/cat, /LESS], ParentImage|startswith: /usr}
  c: [{skep.tool: curl}, {skep.arg|contains: http, User: root}]
  condition: (a and b) or 1 of c
---
title: but
logsource: {product: linux, category: process_creation}
detection:
  a: {skep.tool: [sh, bash, dash]}
  not_a: {CommandLine|contains: ['x', 'y', 'z', 'q', '/']}
  condition: a and not not_a
---
title: none of it can be told
logsource: {product: linux, category: process_creation}
detection:
  a: {CommandLine|re: '[aeiou]{2}'}
  b: {skep.tool|exists: false}
  c: {LogonId: 0}
  condition: 1 of them
---
title: case matters
logsource: {product: linux, category: process_creation}
detection:
  a: {skep.arg|cased: [-R, -X, É]}
  b: {CommandLine|contains|cased: Ä}
  condition: a or b
---
title: arguments
logsource: {product: linux, service: auditd}
detection:
  a: {type: EXECVE, a0|endswith: sh, a1: '-C'}
  b: {type: PATH, name: x}
  c: {type|contains: SYS, comm: ls, exe|startswith: /usr}
  condition: a or b or all of c*
---
title: words
logsource: {product: linux}
detection:
  keywords: [passwd, 'crontab -', 'ÄRGER']
  condition: keywords
"#;

#[test]
fn asking_those_whose_needs_are_met_is_asking_all() {
    let load = || {
        let mut loaded = Loaded::pack();
        loaded.text("every-way.yml", EVERY_WAY, false);
        assert_eq!(loaded.refused, []);
        loaded
    };
    let mut loaded = load();
    let cases: Vec<_> = loaded
        .cases()
        .flat_map(|(rule, cases)| cases.iter().map(|case| (rule.name.to_string(), case.clone())))
        .collect();
    let mut detector = Detector::new(&mut loaded).unwrap();
    detector.ask(Box::new(Thorough(Sigma::new(&mut load()).unwrap())));
    let mut replay = Replay::default();
    for (rule, case) in cases {
        detector.forget();
        judge_case(&mut detector, &mut replay, &case.event, &rule).unwrap();
        // The same shouted, and with what is beyond ASCII.
        let mut other = case.event.clone();
        for name in ["image", "exe", "parent_image", "parent_command_line", "cwd", "user"] {
            if let Some(text) = case.event[name].as_str() {
                other[name] = text.to_uppercase().into();
            }
        }
        if let Some(argv) = other["argv"].as_array_mut() {
            argv.iter_mut().for_each(|word| *word = word.as_str().unwrap_or_default().to_uppercase().into());
            argv.extend(["É".into(), "\u{212a}".into(), "Ärger".into()]);
        }
        judge_case(&mut detector, &mut replay, &other, &rule).unwrap();
    }
}

#[test]
fn few_rules_are_looked_at_for_an_everyday_event() {
    let mut sigma = Sigma::new(&mut Loaded::pack()).unwrap();
    let exec = Exec {
        exe: "/usr/bin/ls",
        filename: "/usr/bin/ls",
        argv: vec!["ls", "-la"],
        command_line: "ls -la",
        parent: "/usr/bin/bash",
        uid: Some(1_000),
        ..Exec::default()
    };
    let words = crate::words::Words::parse(crate::pack::WORDS).unwrap();
    let shared = crate::analyse::Sharing::default().of(&words, &exec);
    let mut facts = Facts::default();
    crate::analyse::exec(&words, &exec, &shared, &mut facts);
    sigma.demand.look(&exec, &facts);
    let looked_at = sigma.demand.rules().len();
    assert!(looked_at < sigma.execs.len() / 4, "{looked_at} of {}", sigma.execs.len());
}

/// What test events of the pack are made of, to be put together in other ways.
#[derive(Default)]
struct Parts {
    paths: Vec<String>,
    words: Vec<String>,
    lines: Vec<String>,
}

impl Parts {
    fn of_the_pack() -> Self {
        let mut own = Self::default();
        let loaded = Loaded::pack();
        for event in loaded.cases().flat_map(|(_, cases)| cases).map(|case| &case.event) {
            let texts = |name: &str| event[name].as_str().map(str::to_owned);
            own.paths.extend(
                ["image", "exe", "filename", "parent_image", "parent_exe"].iter().filter_map(|name| texts(name)),
            );
            own.lines.extend(["command_line", "parent_command_line"].iter().filter_map(|name| texts(name)));
            let words = event["argv"].as_array().into_iter().flatten().filter_map(|word| word.as_str());
            own.words.extend(words.map(str::to_owned));
        }
        own.words.extend(
            ["", "*", "..", "É", "-\u{212a}x", "SSH_AUTH_SOCK=/x", "\u{17f}tratum+tcp://h", "a b"].map(str::to_owned),
        );
        own
    }

    /// Tells so many events, the same in every run. Now and then one is like the one before but for its words.
    fn put_together(&self, events: usize, mut tell: impl FnMut(Exec<'_>)) {
        let mut state = 7_u64;
        let mut number = move |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % most
        };
        let mut family: Vec<usize> = vec![0; 6];
        for event in 0..events {
            if number(3) == 0 {
                family.iter_mut().for_each(|at| *at = number(self.paths.len()));
            }
            let path = |at: usize| self.paths[family[at]].as_str();
            let argv: Vec<&str> = (0..=number(6)).map(|_| self.words[number(self.words.len())].as_str()).collect();
            let line = argv.join(" ");
            tell(Exec {
                time_us: event as i64 * 1_000_000,
                pid: event as i64 + 10,
                ppid: number(9) as i64,
                exe: path(0),
                filename: path(number(2)),
                argv: argv.clone(),
                command_line: &line,
                cwd: ["", "/", "/tmp", "/home/ann", "x"][number(5)],
                parent: path(2),
                parent_command_line: self.lines[family[5] % self.lines.len()].as_str(),
                ancestors: (2..2 + number(3)).map(path).collect(),
                uid: [None, Some(0), Some(1_000)][number(3)],
                user: ["", "root", "ann"][number(3)],
                tty: ["", "pts/0"][number(2)],
                ..Exec::default()
            });
        }
    }
}

#[test]
fn events_put_together_anyhow_match_as_if_every_rule_was_asked() {
    let mut loaded = Loaded::pack();
    loaded.text("every-way.yml", EVERY_WAY, false);
    let mut again = Loaded::pack();
    again.text("every-way.yml", EVERY_WAY, false);
    let mut detector = Detector::new(&mut loaded).unwrap();
    detector.ask(Box::new(Thorough(Sigma::new(&mut again).unwrap())));
    let mut matched = 0;
    Parts::of_the_pack().put_together(600, |exec| matched += detector.exec(exec).len());
    assert!(matched > 300, "{matched} is too little to tell anything");
}

#[test]
fn facts_do_not_depend_on_what_was_asked_before() {
    let words = crate::words::Words::parse(crate::pack::WORDS).unwrap();
    let mut sharing = crate::analyse::Sharing::default();
    Parts::of_the_pack().put_together(6_000, |exec| {
        let told = |sharing: &mut crate::analyse::Sharing| {
            let shared = sharing.of(&words, &exec);
            let mut facts = Facts::default();
            crate::analyse::exec(&words, &exec, &shared, &mut facts);
            format!("{facts:?}")
        };
        assert_eq!(told(&mut sharing), told(&mut crate::analyse::Sharing::default()), "{exec:?}");
    });
}
