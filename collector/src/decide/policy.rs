//! What may be done about which finding: the policy file.

use skep_runtime::settings::{self, Faults, Noted, Section};

use skep_wire::order;

use super::protected;
use super::recipe::{Limit, Recipe};
use crate::detect::finding::{Finding, Severity};

/// The policy that holds where no file is given; printed by the collector, so that a user starts from it.
const DEFAULT_TEXT: &str = include_str!("policy.toml");

/// Longest lease a policy may ask for: an hour, so that no forgotten limit outlives a shift.
const MAX_LEASE_S: i64 = 3600;

/// What may be done about which finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How long an action waits for an operator.
    pub pending_expires_s: i64,
    /// Findings that rest on less than this share of what happened lead to no action.
    pub min_coverage: f64,
    /// How much may go on at a time.
    pub budget: Budget,
    /// Workloads never acted on; `*` at either end stands for anything. The built-in ones are always among them.
    pub protected: Vec<String>,
    /// The first rule that matches decides.
    pub rules: Vec<Rule>,
}

/// How much may go on at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Actions that stand or are on their way, over all nodes.
    pub max_concurrent: usize,
    /// Commands sent in any hour.
    pub max_per_hour: usize,
    /// Actions that wait for an operator.
    pub max_pending: usize,
    /// After an action on a workload ended, none is proposed for it for this long.
    pub cool_down_s: i64,
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// For people: it stands in the action's detail.
    pub name: String,
    /// Rule or signal of the finding; `*` at either end stands for anything.
    pub finding: String,
    /// Least severity.
    pub min_severity: Severity,
    /// Whether to act.
    pub mode: Mode,
    /// What is done.
    pub recipe: Recipe,
    /// How long it may stand, where it does.
    pub lease_s: u32,
}

/// Whether to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only say what would be done.
    Observe,
    /// Wait for an operator.
    Ask,
    /// Act.
    Auto,
}

impl Mode {
    /// As in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Ask => "ask",
            Self::Auto => "auto",
        }
    }

    /// The inverse of [`Mode::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        MODES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode)
    }
}

const MODES: [(&str, Mode); 3] = [("observe", Mode::Observe), ("ask", Mode::Ask), ("auto", Mode::Auto)];

impl Policy {
    /// The text of the policy that holds where no file is given.
    pub fn default_text() -> &'static str {
        DEFAULT_TEXT
    }

    /// Reads a policy file's text.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        let (mut top, noted) = settings::parse(text)?;
        let pending_expires_s = top.integer("pending_expires_s", 10..=86_400).unwrap_or(900);
        let min_coverage = top.number("min_coverage", 0.0..=1.0).unwrap_or(0.8);
        let budget = read_budget(top.section("budget"));
        let mut protected: Vec<String> = protected::BUILT_IN.iter().map(|&pattern| pattern.to_owned()).collect();
        for pattern in top.texts("protected").unwrap_or_default() {
            if pattern.is_empty() {
                top.note("protected", "an empty pattern matches nothing");
            }
            protected.push(pattern);
        }
        let rules: Vec<Rule> =
            top.sections("rule").unwrap_or_default().into_iter().filter_map(|rule| read_rule(rule, &noted)).collect();
        top.finish();
        noted.into_result()?;
        Ok(Self { pending_expires_s, min_coverage, budget, protected, rules })
    }

    /// The rule for a finding, if any.
    pub fn rule_for(&self, finding: &Finding) -> Option<&Rule> {
        self.rules
            .iter()
            .find(|rule| finding.severity >= rule.min_severity && protected::matches(&rule.finding, &finding.rule))
    }
}

fn read_budget(mut section: Section) -> Budget {
    let budget = Budget {
        max_concurrent: section.integer("max_concurrent", 0..=10_000).unwrap_or(3) as usize,
        max_per_hour: section.integer("max_per_hour", 0..=100_000).unwrap_or(12) as usize,
        max_pending: section.integer("max_pending", 1..=1_000).unwrap_or(50) as usize,
        cool_down_s: section.integer("cool_down_s", 0..=86_400).unwrap_or(300),
    };
    section.finish();
    budget
}

/// `None` after noting what is wrong.
fn read_rule(mut section: Section, noted: &Noted) -> Option<Rule> {
    let name = section.text("name");
    let finding = section.text("finding");
    let min_severity = section.choice("min_severity", &Severity::CHOICES).unwrap_or(Severity::Medium);
    let verbs: Vec<(&str, &str)> = order::VERBS.iter().map(|&verb| (verb, verb)).collect();
    let action = section.choice("action", &verbs);
    let mode = section.choice("mode", &MODES).unwrap_or(Mode::Ask);
    let lease_s = section.integer("lease_s", 1..=MAX_LEASE_S).unwrap_or(600) as u32;
    for (key, missing) in [("name", name.is_none()), ("finding", finding.is_none()), ("action", action.is_none())] {
        if missing {
            noted.note(format!("{}: missing or not usable", section.name(key)));
        }
    }
    let recipe = match action {
        Some(verb) if verb != "throttle" => read_recipe(&mut section, verb),
        // Its keys are looked at even where the action is none.
        _ => read_limit(&mut section).map(Recipe::Throttle),
    };
    section.finish();
    action?;
    Some(Rule { name: name?, finding: finding?, min_severity, mode, recipe: recipe?, lease_s })
}

fn read_limit(section: &mut Section) -> Option<Limit> {
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

fn read_recipe(section: &mut Section, verb: &str) -> Option<Recipe> {
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
        assert_eq!(policy.rules[0].mode, Mode::Ask);
        let Recipe::Throttle(limit) = policy.rules[0].recipe else { panic!("{:?}", policy.rules[0]) };
        assert_eq!((limit.millicores(1.0), limit.millicores(0.1)), (500, 100));
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
                    cpu_millicores = 100\n";
        let faults = Policy::parse(text).unwrap_err().0;
        let expected = [
            "budget.max_concurrent: -1 is not between 0 and 10000",
            "pending_expires_s: 1 is not between 10 and 86400",
            "protect: unknown key",
            "rule[0].action: \"reboot\" is none of throttle, limit_memory, limit_io, freeze, kill, restart_unit, \
             reload_unit, stop_unit, start_unit, block, isolate, clean, run",
            "rule[0].action: missing or not usable",
            "rule[0].cpu_share: exactly one of cpu_share and cpu_millicores is needed",
            "rule[0].lease_s: 90000 is not between 1 and 3600",
            "rule[0].mode: \"sometimes\" is none of observe, ask, auto",
        ];
        assert_eq!(faults, expected);
    }

    #[test]
    fn an_empty_policy_does_nothing_and_still_protects() {
        let policy = Policy::parse("").unwrap();
        assert!(policy.rules.is_empty());
        assert!(policy.protected.iter().any(|pattern| pattern == "host"));
    }
}
