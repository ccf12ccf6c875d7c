//! What may be done about which finding.

use serde::{Deserialize, Serialize};
use skep_wire::order;

use crate::finding::{Finding, Severity};
use crate::pattern;
use crate::quorum::Quorum;
use crate::recipe::Recipe;
use crate::window::Window;

/// The policy that holds where no file is given; printed by the collector, so that a user starts from it.
const DEFAULT_TEXT: &str = include_str!("default.toml");

/// What may be done about which finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// First 12 hex digits of SHA-256 over the file's text.
    pub version: String,
    /// How long an action waits for an operator.
    pub pending_expires_s: i64,
    /// Findings that rest on less than this share of what happened lead to no action.
    pub min_coverage: f64,
    /// Workloads never acted on; the built-in ones are always among them.
    pub protected: Vec<String>,
    /// Workloads whose owners want no action; said in the audit log like any other reason.
    pub opt_out: Vec<String>,
    /// How much may go on at a time.
    pub budget: Budget,
    /// How often the same is restarted.
    pub restart: Restart,
    /// When so much goes wrong at once that nothing is done by itself.
    pub storm: Storm,
    /// Findings that wait for their turn.
    pub queue: Queue,
    /// What counts how much where a rule lets outcomes choose.
    pub weights: Weights,
    /// What is repaired before what.
    pub depends: Vec<Depends>,
    /// When less is done by itself.
    pub maintenance: Vec<Window>,
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
    /// The same for each node.
    pub node_concurrent: usize,
    /// The same for each node.
    pub node_per_hour: usize,
    /// Commands sent in any hour for each target.
    pub target_per_hour: usize,
    /// Actions that wait for an operator.
    pub max_pending: usize,
    /// After an action on a target ended, none is begun for another finding about it for this long.
    pub cool_down_s: i64,
}

/// How often the same is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Restarts of one target,
    pub limit: usize,
    /// within so long.
    pub within_s: i64,
    /// Between two of them.
    pub cool_down_s: i64,
}

/// When so much goes wrong at once that nothing is done by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storm {
    /// More findings that lead to an action than this,
    pub findings: usize,
    /// within so long,
    pub within_s: i64,
    /// make `auto` mean `ask` for so long.
    pub hold_s: i64,
}

/// Findings that wait for their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// So many at most; more are turned away.
    pub max: usize,
    /// One that waited so long is given up: what it says is no longer true.
    pub expires_s: i64,
    /// Waiting so long counts as one point of priority.
    pub ageing_s: i64,
}

/// What counts how much where a rule lets outcomes choose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// The share that recovers.
    pub recovery: f64,
    /// The time it takes, against two minutes.
    pub time: f64,
    /// What may go wrong.
    pub risk: f64,
    /// What is given up.
    pub cost: f64,
    /// That it can be undone.
    pub reversibility: f64,
}

/// Workloads that need others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depends {
    /// They,
    pub workloads: Vec<String>,
    /// need these,
    pub on: Vec<String>,
    /// on whichever node they are; else on their own.
    pub anywhere: bool,
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// For people, and to find it again after a restart.
    pub name: String,
    /// Rule or signal of the finding; `*` at either end stands for anything.
    pub findings: Vec<String>,
    /// Least severity.
    pub min_severity: Severity,
    /// Least coverage, where it differs from the policy's.
    pub min_coverage: Option<f64>,
    /// Whom it is about.
    pub workloads: Vec<String>,
    /// Where.
    pub nodes: Vec<String>,
    /// Whether to act.
    pub mode: Mode,
    /// 0 to 100; ten more for each step of severity.
    pub priority: i64,
    /// How the next rung is chosen.
    pub choose: Choose,
    /// What is done, gentlest first.
    pub ladder: Vec<Rung>,
}

/// One rung of a ladder.
#[derive(Debug, Clone, PartialEq)]
pub struct Rung {
    /// What is done.
    pub recipe: Recipe,
    /// How long it may stand, where it does.
    pub lease_s: u32,
    /// How long after it the finding is watched, to see whether it helped.
    pub verify_s: i64,
    /// How often it is tried before the next.
    pub attempts: u32,
    /// Wait before the second try; doubled each time.
    pub backoff_s: i64,
    /// 0..1: what may go wrong.
    pub risk: f64,
    /// 0..1: what is given up.
    pub cost: f64,
    /// Peers that must see it too.
    pub quorum: Quorum,
    /// Other instances of the service that must stay healthy.
    pub min_healthy: Option<usize>,
}

/// How the next rung is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choose {
    /// As they stand.
    Order,
    /// By what came of them before, weighed.
    Outcome,
}

/// Whether to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Only say what would be done.
    Observe,
    /// Wait for an operator.
    Ask,
    /// Act.
    Auto,
}

impl Mode {
    /// Names, as in the table and in policies.
    pub const CHOICES: [(&'static str, Self); 3] =
        [("observe", Self::Observe), ("ask", Self::Ask), ("auto", Self::Auto)];

    /// As in the table.
    pub fn as_str(self) -> &'static str {
        Self::CHOICES[self as usize].0
    }

    /// The inverse of [`Mode::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::CHOICES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode)
    }
}

impl Policy {
    /// The text of the policy that holds where no file is given.
    pub fn default_text() -> &'static str {
        DEFAULT_TEXT
    }

    /// The rule for a finding, if any.
    pub fn rule_for(&self, finding: &Finding) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            finding.severity >= rule.min_severity
                && pattern::any(&rule.findings, &finding.rule)
                && pattern::any(&rule.workloads, &finding.workload)
                && pattern::any(&rule.nodes, &finding.node)
        })
    }

    /// The rule of this name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// What a rule's mode is at this moment, and which window lowers it.
    pub fn mode_at(&self, rule: &Rule, finding: &Finding, now_us: i64) -> (Mode, Option<&Window>) {
        let open = self.maintenance.iter().filter(|window| window.holds(&finding.node, &finding.workload, now_us));
        let lowest = open.min_by_key(|window| window.mode).filter(|window| window.mode < rule.mode);
        (lowest.map_or(rule.mode, |window| window.mode), lowest)
    }

    /// Whether what `finding` is about needs what `other` is about.
    pub fn needs(&self, finding: &Finding, other: &Finding) -> bool {
        self.depends.iter().any(|depends| {
            pattern::any(&depends.workloads, &finding.workload)
                && pattern::any(&depends.on, &other.workload)
                && (depends.anywhere || finding.node == other.node)
                && (&finding.node, &finding.workload) != (&other.node, &other.workload)
        })
    }

    /// Why a finding must not be acted on at all.
    pub fn forbids(&self, rule: &Rule, finding: &Finding) -> Option<String> {
        // Where nothing else accounts for cpu all are in the root; what is aimed at one of them is not aimed at that.
        let aims = rule.ladder.iter().all(|rung| rung.recipe.aims_at_cgroup());
        let cgroup = finding.cgroup.as_ref().filter(|_| aims || !finding.is_in_root());
        let cgroup = cgroup.map_or("/-", |(cgroup, _)| cgroup.as_str());
        // What is about the host as a whole is aimed at something else by its recipe.
        let by = pattern::pattern_for(&self.protected, &finding.workload, cgroup);
        let about_all = finding.workload == "host" && finding.cgroup.is_none() && rule.ladder.iter().all(is_about_host);
        if let Some(pattern) = by.filter(|_| !about_all) {
            return Some(format!("{} is protected by {pattern}", finding.workload));
        }
        if let Some(pattern) = self.opt_out.iter().find(|pattern| pattern::matches(pattern, &finding.workload)) {
            return Some(format!("{} wants no action, by {pattern}", finding.workload));
        }
        let least = rule.min_coverage.unwrap_or(self.min_coverage);
        (finding.coverage < least).then(|| format!("coverage {:.2} is below the policy's {least:.2}", finding.coverage))
    }
}

/// Whether a rung needs no workload.
fn is_about_host(rung: &Rung) -> bool {
    match &rung.recipe {
        Recipe::Throttle(_) => false,
        Recipe::Other { verb, parameters } => {
            matches!(verb.as_str(), "block" | "isolate" | "clean" | "run" | "cordon" | "uncordon")
                || (verb.ends_with("_unit") && parameters.contains("unit="))
                || (verb.ends_with("_container") && parameters.contains("container="))
                || (order::is_for_cluster(verb) && parameters.contains("name="))
        }
    }
}
