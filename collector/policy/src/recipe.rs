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
            Self::Other { verb, parameters } => read(verb, parameters, Some((1, 1)), Some("x.service"), 1).map(drop),
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
                let unit = finding.workload.strip_prefix(UNIT);
                read(verb, parameters, finding.process, unit, lease_s).ok()?
            }
        };
        (finding.cgroup.is_some() || !order::aims_at_cgroup(&command)).then_some(command)
    }
}

/// Whom a command is about, for conflicts and budgets: the unit it names, else the finding's workload.
pub fn target(command: &v1::Command, workload: &str) -> String {
    let unit = command.target.as_ref().and_then(|target| target.unit.as_ref());
    unit.map_or_else(|| workload.to_owned(), |unit| format!("{UNIT}{}", unit.name))
}

fn read(
    verb: &str,
    parameters: &str,
    process: Option<(i64, i64)>,
    unit: Option<&str>,
    lease_s: u32,
) -> Result<v1::Command, ReadError> {
    let mut text = parameters.to_owned();
    let given = |name: &str| parameters.split_whitespace().any(|word| word.starts_with(name));
    if let Some((pid, start_ns)) = process.filter(|_| verb == "kill" && !given("scope=workload")) {
        text.push_str(&format!(" pid={pid} start_ns={start_ns}"));
    }
    if let Some(unit) = unit.filter(|_| verb.ends_with("_unit") && !given("unit=")) {
        text.push_str(&format!(" unit={unit}"));
    }
    if order::is_leased(verb) {
        text.push_str(&format!(" lease_s={lease_s}"));
    }
    order::read(verb, &text)
}
