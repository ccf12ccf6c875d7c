//! What a rung makes of a finding: the action, with everything that it takes from the finding.

use skep_wire::order::{self, ReadError};
use skep_wire::v1::{self, command::Action};

use crate::finding::Finding;

/// What a rung does.
#[derive(Debug, Clone, PartialEq)]
pub enum Recipe {
    /// Limit the workload's CPU.
    Throttle(Limit),
    /// Any other action, with the parameters that the finding does not know.
    Other {
        /// As in the table.
        verb: String,
        /// As in the table, without process, unit and lease.
        parameters: String,
    },
}

/// What a throttled workload may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Thousandths of a core.
    Millicores(u32),
    /// Of what it used when it was found, but no less than `min_millicores`.
    Share {
        /// 0..1.
        share: f64,
        /// Thousandths of a core.
        min_millicores: u32,
    },
}

impl Limit {
    /// Thousandths of a core for a workload that uses `used_cores`.
    pub fn millicores(self, used_cores: f64) -> u32 {
        match self {
            Self::Millicores(millicores) => millicores,
            Self::Share { share, min_millicores } => ((used_cores * share * 1000.0).round() as u32).max(min_millicores),
        }
    }
}

/// Prefix of a workload that is a systemd unit.
const UNIT: &str = "unit:";

/// Of one that is a container.
const CONTAINER: &str = "container:";

/// Of one that is a pod; its namespace and name follow, or its uid where those are not known.
const POD: &str = "pod:";

/// What of a finding goes into an action.
#[derive(Debug, Clone, Copy)]
struct About<'a> {
    process: Option<(i64, i64)>,
    workload: &'a str,
    node: &'a str,
}

impl Recipe {
    /// As in the table.
    pub fn verb(&self) -> &str {
        match self {
            Self::Throttle(_) => "throttle",
            Self::Other { verb, .. } => verb,
        }
    }

    /// Whether it acts on a whole cgroup.
    pub fn aims_at_cgroup(&self) -> bool {
        match self {
            Self::Throttle(_) => true,
            Self::Other { verb, parameters } => {
                matches!(verb.as_str(), "limit_memory" | "limit_io" | "freeze") || parameters.contains("scope=workload")
            }
        }
    }

    /// Whether a finding with everything in it could be acted on.
    ///
    /// # Errors
    /// What is wrong with verb or parameters.
    pub fn check(&self) -> Result<(), ReadError> {
        match self {
            Self::Throttle(_) => Ok(()),
            Self::Other { verb, parameters } => {
                let workload = match verb.as_str() {
                    verb if order::is_for_cluster(verb) => "pod:x/y",
                    verb if verb.ends_with("_container") => "container:x",
                    _ => "unit:x.service",
                };
                read(verb, parameters, About { process: Some((1, 1)), workload, node: "x" }, 1).map(drop)
            }
        }
    }

    /// The action for a finding; `None` where it lacks what that needs.
    pub fn command(&self, finding: &Finding, lease_s: u32) -> Option<v1::Command> {
        let command = match self {
            Self::Throttle(limit) => {
                let used_cores = match limit {
                    Limit::Millicores(_) => 0.0,
                    Limit::Share { .. } => finding.used_cores?,
                };
                let cpu_millicores = limit.millicores(used_cores);
                let action = Some(Action::Throttle(v1::Throttle { cpu_millicores }));
                v1::Command { action, lease_s, ..v1::Command::default() }
            }
            Self::Other { verb, parameters } => {
                let about = About { process: finding.process, workload: &finding.workload, node: &finding.node };
                read(verb, parameters, about, lease_s).ok()?
            }
        };
        (finding.cgroup.is_some() || !order::aims_at_cgroup(&command)).then_some(command)
    }
}

/// Whom a command is about, for conflicts and budgets: what it names, else the finding's workload.
pub fn target(command: &v1::Command, workload: &str) -> String {
    order::named(command).unwrap_or_else(|| workload.to_owned())
}

fn read(verb: &str, parameters: &str, about: About<'_>, lease_s: u32) -> Result<v1::Command, ReadError> {
    let mut text = parameters.to_owned();
    let given = |name: &str| parameters.split_whitespace().any(|word| word.starts_with(name));
    if let Some((pid, start_ns)) = about.process.filter(|_| verb == "kill" && !given("scope=workload")) {
        text.push_str(&format!(" pid={pid} start_ns={start_ns}"));
    }
    let workload = |prefix| about.workload.strip_prefix(prefix);
    if let Some(unit) = workload(UNIT).filter(|_| verb.ends_with("_unit") && !given("unit=")) {
        text.push_str(&format!(" unit={unit}"));
    }
    if let Some(id) = workload(CONTAINER).filter(|_| verb.ends_with("_container") && !given("container=")) {
        text.push_str(&format!(" container={id}"));
    }
    if order::is_for_cluster(verb) && !given("name=") {
        let is_pod = matches!(verb, "evict_pod" | "delete_pod");
        if matches!(verb, "cordon" | "uncordon") {
            text.push_str(&format!(" name={}", about.node));
        } else if let Some((namespace, name)) = workload(POD).and_then(|pod| pod.split_once('/')) {
            // A rollout is that of what controls the pod.
            let kind = if is_pod { "" } else { " kind=pod" };
            text.push_str(&format!(" namespace={namespace}{kind} name={name}"));
        }
    }
    if order::is_leased(verb) {
        text.push_str(&format!(" lease_s={lease_s}"));
    }
    order::read(verb, &text)
}
