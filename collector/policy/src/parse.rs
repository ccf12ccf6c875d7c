//! Reads a policy file; all that is wrong with it is told at once.

use sha2::{Digest, Sha256};
use skep_runtime::settings::{self, Faults, Noted, Section};
use skep_wire::order;

use crate::finding::Severity;
use crate::pattern;
use crate::policy::{Budget, Choose, Depends, Mode, Policy, Queue, Restart, Rule, Rung, Storm, Weights};
use crate::quorum::{self, Quorum};
use crate::recipe::{Limit, Recipe};
use crate::window::{DAYS, Window, time_of_day};

/// Longest lease a policy may ask for: an hour, so that no forgotten limit outlives a shift.
const MAX_LEASE_S: i64 = 3600;

/// Rungs of one ladder.
const MAX_RUNGS: usize = 16;

const CHOOSE: [(&str, Choose); 2] = [("order", Choose::Order), ("outcome", Choose::Outcome)];

/// Modes of a maintenance window: `auto` would lower nothing.
const LOWER: [(&str, Mode); 2] = [("observe", Mode::Observe), ("ask", Mode::Ask)];

/// What may go wrong with an action and what is given up, where a rung does not say.
const USUAL: [(&str, f64, f64); 23] = [
    ("throttle", 0.1, 0.2),
    ("limit_memory", 0.2, 0.2),
    ("limit_io", 0.1, 0.2),
    ("freeze", 0.4, 0.5),
    ("kill", 0.6, 0.5),
    ("restart_unit", 0.4, 0.3),
    ("reload_unit", 0.2, 0.1),
    ("stop_unit", 0.7, 0.8),
    ("start_unit", 0.2, 0.1),
    ("block", 0.3, 0.3),
    ("isolate", 0.8, 0.9),
    ("clean", 0.4, 0.2),
    ("run", 0.5, 0.3),
    ("restart_container", 0.4, 0.3),
    ("pause_container", 0.4, 0.5),
    ("unpause_container", 0.2, 0.1),
    ("evict_pod", 0.3, 0.2),
    ("delete_pod", 0.4, 0.3),
    ("restart_rollout", 0.3, 0.3),
    ("scale", 0.2, 0.4),
    ("undo_rollout", 0.4, 0.3),
    ("cordon", 0.2, 0.4),
    ("uncordon", 0.2, 0.1),
];

impl Policy {
    /// Reads a policy file's text.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        let (mut top, noted) = settings::parse(text)?;
        let pending_expires_s = top.integer("pending_expires_s", 10..=86_400).unwrap_or(900);
        let min_coverage = top.number("min_coverage", 0.0..=1.0).unwrap_or(0.8);
        let mut protected: Vec<String> = pattern::BUILT_IN.iter().map(|&pattern| pattern.to_owned()).collect();
        protected.extend(patterns(&mut top, "protected", &[]));
        let opt_out = patterns(&mut top, "opt_out", &[]);
        let budget = budget(top.section("budget"));
        let restart = restart(top.section("restart"));
        let storm = storm(top.section("storm"));
        let queue = queue(top.section("queue"));
        let weights = weights(top.section("weights"));
        let depends = top.sections("depends").unwrap_or_default().into_iter().map(depends).collect();
        let windows = top.sections("maintenance").unwrap_or_default();
        let maintenance = windows.into_iter().filter_map(|window| maintenance(window, &noted)).collect();
        let rules: Vec<Rule> =
            top.sections("rule").unwrap_or_default().into_iter().filter_map(|section| rule(section, &noted)).collect();
        for (at, rule) in rules.iter().enumerate() {
            if rules[..at].iter().any(|other| other.name == rule.name) {
                noted.note(format!("rule {}: another one has that name", rule.name));
            }
        }
        top.finish();
        noted.into_result()?;
        let version = Sha256::digest(text)[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            version,
            pending_expires_s,
            min_coverage,
            protected,
            opt_out,
            budget,
            restart,
            storm,
            queue,
            weights,
            depends,
            maintenance,
            rules,
        })
    }
}

/// Names with `*`; an empty one is a slip.
fn patterns(section: &mut Section, key: &str, otherwise: &[&str]) -> Vec<String> {
    let given = section.text_or_texts(key).unwrap_or_else(|| otherwise.iter().map(|&text| text.to_owned()).collect());
    if given.iter().any(String::is_empty) {
        section.note(key, "an empty pattern matches nothing");
    }
    given
}

fn budget(mut section: Section) -> Budget {
    let mut count = |key: &str, least: i64, usual: i64| section.integer(key, least..=100_000).unwrap_or(usual) as usize;
    let budget = Budget {
        max_concurrent: count("max_concurrent", 0, 3),
        max_per_hour: count("max_per_hour", 0, 12),
        node_concurrent: count("node_concurrent", 0, 2),
        node_per_hour: count("node_per_hour", 0, 6),
        target_per_hour: count("target_per_hour", 0, 6),
        max_pending: count("max_pending", 1, 50),
        cool_down_s: section.integer("cool_down_s", 0..=86_400).unwrap_or(300),
    };
    section.finish();
    budget
}

fn restart(mut section: Section) -> Restart {
    let restart = Restart {
        limit: section.integer("limit", 0..=1_000).unwrap_or(5) as usize,
        within_s: section.integer("within_s", 60..=86_400).unwrap_or(3_600),
        cool_down_s: section.integer("cool_down_s", 0..=86_400).unwrap_or(60),
    };
    section.finish();
    restart
}

fn storm(mut section: Section) -> Storm {
    let storm = Storm {
        findings: section.integer("findings", 1..=100_000).unwrap_or(20) as usize,
        within_s: section.integer("within_s", 1..=86_400).unwrap_or(60),
        hold_s: section.integer("hold_s", 1..=86_400).unwrap_or(600),
    };
    section.finish();
    storm
}

fn queue(mut section: Section) -> Queue {
    let queue = Queue {
        max: section.integer("max", 1..=100_000).unwrap_or(500) as usize,
        expires_s: section.integer("expires_s", 10..=86_400).unwrap_or(900),
        ageing_s: section.integer("ageing_s", 1..=86_400).unwrap_or(30),
    };
    section.finish();
    queue
}

fn weights(mut section: Section) -> Weights {
    let mut weight = |key: &str, usual: f64| section.number(key, 0.0..=100.0).unwrap_or(usual);
    let weights = Weights {
        recovery: weight("recovery", 1.0),
        time: weight("time", 0.2),
        risk: weight("risk", 0.5),
        cost: weight("cost", 0.3),
        reversibility: weight("reversibility", 0.2),
    };
    section.finish();
    weights
}

fn depends(mut section: Section) -> Depends {
    let mut needed = |key: &str| {
        let given = patterns(&mut section, key, &[]);
        if given.is_empty() {
            section.note(key, "needed: names of workloads");
        }
        given
    };
    let (workloads, on) = (needed("workload"), needed("on"));
    let anywhere = section.truth("anywhere").unwrap_or(false);
    section.finish();
    Depends { workloads, on, anywhere }
}

/// `None` after noting what is wrong.
fn maintenance(mut section: Section, noted: &Noted) -> Option<Window> {
    let name = section.text("name");
    let mut days = [false; 7];
    for day in section.texts("days").unwrap_or_else(|| DAYS.map(str::to_owned).to_vec()) {
        match DAYS.iter().position(|known| *known == day) {
            Some(at) => days[at] = true,
            None => section.note("days", format_args!("{day:?} is none of {}", DAYS.join(", "))),
        }
    }
    let mut time = |key: &str| {
        let text = section.text(key);
        let seconds = text.as_deref().and_then(time_of_day);
        if seconds.is_none() {
            section.note(key, "needed as HH:MM, in UTC");
        }
        seconds
    };
    let (from_s, to_s) = (time("from"), time("to"));
    let nodes = patterns(&mut section, "nodes", &["*"]);
    let workloads = patterns(&mut section, "workloads", &["*"]);
    let mode = section.choice("mode", &LOWER).unwrap_or(Mode::Observe);
    if name.is_none() {
        noted.note(format!("{}: missing or not usable", section.name("name")));
    }
    section.finish();
    Some(Window { name: name?, days, from_s: from_s?, to_s: to_s?, nodes, workloads, mode })
}

/// `None` after noting what is wrong.
fn rule(mut section: Section, noted: &Noted) -> Option<Rule> {
    let name = section.text("name");
    let findings = patterns(&mut section, "finding", &[]);
    let min_severity = section.choice("min_severity", &Severity::CHOICES).unwrap_or(Severity::Medium);
    let min_coverage = section.number("min_coverage", 0.0..=1.0);
    let workloads = patterns(&mut section, "workload", &["*"]);
    let nodes = patterns(&mut section, "node", &["*"]);
    let mode = section.choice("mode", &Mode::CHOICES).unwrap_or(Mode::Ask);
    let priority = section.integer("priority", 0..=100).unwrap_or(50);
    let choose = section.choice("choose", &CHOOSE).unwrap_or(Choose::Order);
    for (key, missing) in [("name", name.is_none()), ("finding", findings.is_empty())] {
        if missing {
            noted.note(format!("{}: missing or not usable", section.name(key)));
        }
    }
    // A rule with one rung says it in its own keys.
    let ladder: Vec<Option<Rung>> = match section.sections("rung") {
        Some(rungs) => rungs
            .into_iter()
            .map(|mut section| {
                let rung = rung(&mut section, noted);
                section.finish();
                rung
            })
            .collect(),
        None => vec![rung(&mut section, noted)],
    };
    if ladder.is_empty() || ladder.len() > MAX_RUNGS {
        section.note("rung", format_args!("a ladder has 1 to {MAX_RUNGS} rungs"));
    }
    section.finish();
    let ladder = ladder.into_iter().collect::<Option<Vec<Rung>>>()?;
    Some(Rule { name: name?, findings, min_severity, min_coverage, workloads, nodes, mode, priority, choose, ladder })
}

/// `None` after noting what is wrong.
fn rung(section: &mut Section, noted: &Noted) -> Option<Rung> {
    let verbs: Vec<(&str, &str)> = order::VERBS.iter().map(|&verb| (verb, verb)).collect();
    let action = section.choice("action", &verbs);
    let lease_s = section.integer("lease_s", 1..=MAX_LEASE_S).unwrap_or(600);
    let verify_s = section.integer("verify_s", 1..=86_400);
    let attempts = section.integer("attempts", 1..=100).unwrap_or(1) as u32;
    let backoff_s = section.integer("backoff_s", 0..=3_600).unwrap_or(10);
    let (risk, cost) = (section.number("risk", 0.0..=1.0), section.number("cost", 0.0..=1.0));
    let quorum = section.integer("quorum", 0..=quorum::MOST as i64).map(|of| Quorum::Of(of as usize));
    let min_healthy = section.integer("min_healthy", 1..=100_000).map(|least| least as usize);
    if action.is_none() {
        noted.note(format!("{}: missing or not usable", section.name("action")));
    }
    let recipe = match action {
        Some(verb) if verb != "throttle" => other(section, verb),
        // Its keys are looked at even where the action is none.
        _ => limit(section).map(Recipe::Throttle),
    };
    let action = action?;
    let leased = order::is_leased(action);
    if leased && verify_s.is_some_and(|verify_s| verify_s >= lease_s) {
        section.note("verify_s", format_args!("it is over after {lease_s} s, by lease_s"));
    }
    let verify_s = verify_s.unwrap_or(if leased { (lease_s / 2).clamp(1, 60) } else { 60 });
    let (_, usual_risk, usual_cost) = *USUAL.iter().find(|(verb, ..)| *verb == action)?;
    Some(Rung {
        recipe: recipe?,
        lease_s: lease_s as u32,
        verify_s,
        attempts,
        backoff_s,
        risk: risk.unwrap_or(usual_risk),
        cost: cost.unwrap_or(usual_cost),
        quorum: quorum.unwrap_or_else(|| quorum::usual(action)),
        min_healthy,
    })
}

fn limit(section: &mut Section) -> Option<Limit> {
    let millicores = section.integer("cpu_millicores", 10..=1_000_000).map(|value| value as u32);
    let share = section.number("cpu_share", 0.01..=1.0);
    let min_millicores = section.integer("min_cpu_millicores", 10..=1_000_000).unwrap_or(100) as u32;
    match (millicores, share) {
        (Some(millicores), None) => Some(Limit::Millicores(millicores)),
        (None, Some(share)) => Some(Limit::Share { share, min_millicores }),
        _ => {
            section.note("cpu_share", "exactly one of cpu_share and cpu_millicores is needed");
            None
        }
    }
}

fn other(section: &mut Section, verb: &str) -> Option<Recipe> {
    let parameters = section.text("parameters").unwrap_or_default();
    let recipe = Recipe::Other { verb: verb.to_owned(), parameters };
    match recipe.check() {
        Ok(()) => Some(recipe),
        Err(error) => {
            section.note("parameters", error);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_asks_before_it_throttles_a_busy_workload() {
        let policy = Policy::parse(Policy::default_text()).unwrap();
        assert_eq!(policy.rules.len(), 1);
        assert_eq!((policy.rules[0].mode, policy.rules[0].ladder.len()), (Mode::Ask, 1));
        let Recipe::Throttle(limit) = policy.rules[0].ladder[0].recipe else { panic!("{:?}", policy.rules[0]) };
        assert_eq!((limit.millicores(1.0), limit.millicores(0.1)), (500, 100));
        let empty = Policy::parse("").unwrap();
        assert_eq!(
            Policy { rules: Vec::new(), version: empty.version.clone(), ..policy },
            empty,
            "what it says is usual"
        );
    }

    #[test]
    fn every_action_can_be_named_by_a_rule() {
        for (action, parameters) in [
            ("limit_memory", "high_bytes=1048576"),
            ("limit_io", "write_bytes_per_s=1048576 when=io_bytes_per_s at_least=2097152"),
            ("freeze", ""),
            ("kill", "scope=process grace_s=5"),
            ("kill", "scope=workload"),
            ("restart_unit", "when=unit_down"),
            ("stop_unit", ""),
            ("block", "address=192.0.2.7"),
            ("isolate", ""),
            ("clean", "folder=/var/cache/app older_than_s=86400"),
            ("run", "name=flush"),
            ("restart_container", ""),
            ("pause_container", "container=web"),
            ("evict_pod", ""),
            ("restart_rollout", ""),
            ("scale", "replicas=3"),
            ("undo_rollout", "namespace=shop name=web"),
            ("cordon", ""),
        ] {
            let rule = format!("[[rule]]\nname = \"r\"\nfinding = \"*\"\naction = \"{action}\"\n");
            let policy = Policy::parse(&format!("{rule}parameters = \"{parameters}\"\n"));
            assert!(policy.is_ok(), "{action}: {policy:?}");
        }
        let text = "[[rule]]\nname = \"r\"\nfinding = \"*\"\naction = \"clean\"\nparameters = \"folder=/x hard=1\"\n";
        assert_eq!(Policy::parse(text).unwrap_err().0, ["rule[0].parameters: clean needs older_than_s="]);
    }

    #[test]
    fn every_fault_of_a_policy_is_told() {
        let text = "pending_expires_s = 1\nprotect = []\n[budget]\nmax_concurrent = -1\n[[rule]]\nname = \"x\"\n\
                    finding = \"cpu_cores\"\naction = \"reboot\"\nmode = \"sometimes\"\nlease_s = 90000\ncpu_share = 0.5\n\
                    cpu_millicores = 100\n[[maintenance]]\nname = \"m\"\ndays = [\"sabbath\"]\nfrom = \"25:00\"\nto = \"4:00\"\n\
                    [[rule]]\nname = \"y\"\nfinding = \"a\"\n[[rule.rung]]\naction = \"freeze\"\nlease_s = 5\nverify_s = 6\n";
        let faults = Policy::parse(text).unwrap_err().0;
        let expected = [
            "budget.max_concurrent: -1 is not between 0 and 100000",
            "maintenance[0].days: \"sabbath\" is none of mon, tue, wed, thu, fri, sat, sun",
            "maintenance[0].from: needed as HH:MM, in UTC",
            "pending_expires_s: 1 is not between 10 and 86400",
            "protect: unknown key",
            "rule[0].action: \"reboot\" is none of throttle, limit_memory, limit_io, freeze, kill, restart_unit, \
             reload_unit, stop_unit, start_unit, block, isolate, clean, run, restart_container, pause_container, \
             unpause_container, evict_pod, delete_pod, restart_rollout, scale, undo_rollout, cordon, uncordon",
            "rule[0].action: missing or not usable",
            "rule[0].cpu_share: exactly one of cpu_share and cpu_millicores is needed",
            "rule[0].lease_s: 90000 is not between 1 and 3600",
            "rule[0].mode: \"sometimes\" is none of observe, ask, auto",
            "rule[1].rung[0].verify_s: it is over after 5 s, by lease_s",
        ];
        assert_eq!(faults, expected);
    }

    #[test]
    fn an_empty_policy_does_nothing_and_still_protects() {
        let policy = Policy::parse("").unwrap();
        assert!(policy.rules.is_empty());
        assert!(policy.protected.iter().any(|pattern| pattern == "host"));
        assert_eq!((policy.restart.limit, policy.restart.cool_down_s), (5, 60));
    }

    #[test]
    fn two_rules_of_one_name_could_not_be_told_apart() {
        let rule = "[[rule]]\nname = \"r\"\nfinding = \"*\"\naction = \"isolate\"\n";
        assert_eq!(Policy::parse(&rule.repeat(2)).unwrap_err().0, ["rule r: another one has that name"]);
    }
}
