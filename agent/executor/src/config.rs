//! The executor's own policy: whatever a command says, this file is the last word.

use skep_runtime::settings::{self, Faults};

/// The configuration that holds where no file is given; `skep-executor config` prints it.
pub const DEFAULT_TEXT: &str = include_str!("config.toml");

/// What this executor does, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Change the host; otherwise everything is checked and nothing is changed.
    pub act: bool,
    /// Users besides root who may use the socket.
    pub allowed_uids: Vec<u32>,
    /// What it carries out.
    pub policy: Policy,
}

/// What it carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether cgroups may be throttled.
    pub allow_throttle: bool,
    /// Least limit in thousandths of a core.
    pub min_cpu_millicores: u32,
    /// Longest lease.
    pub max_lease_s: u32,
    /// Actions at a time.
    pub max_concurrent: usize,
    /// Actions begun in any hour.
    pub max_per_hour: usize,
    /// Cgroups (with all below them) that are never acted on, beside those that hold a protected process.
    pub protected_cgroups: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            allow_throttle: true,
            min_cpu_millicores: 50,
            max_lease_s: 3600,
            max_concurrent: 4,
            max_per_hour: 30,
            protected_cgroups: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        let (mut top, noted) = settings::parse(text)?;
        let defaults = Policy::default();
        let act = top.truth("act").unwrap_or(false);
        let uids = top.texts("allowed_uids").unwrap_or_default();
        let mut allowed_uids = Vec::new();
        for uid in uids {
            match uid.parse() {
                Ok(uid) => allowed_uids.push(uid),
                Err(_) => top.note("allowed_uids", format_args!("{uid:?} is no user id")),
            }
        }
        let allow_throttle = match top.texts("actions") {
            None => defaults.allow_throttle,
            Some(actions) => {
                for unknown in actions.iter().filter(|action| *action != "throttle") {
                    top.note("actions", format_args!("{unknown:?} is none of throttle"));
                }
                !actions.is_empty()
            }
        };
        let protected_cgroups = top.texts("protected_cgroups").unwrap_or_default();
        for path in protected_cgroups.iter().filter(|path| !path.starts_with('/')) {
            top.note("protected_cgroups", format_args!("{path:?} does not begin with a slash"));
        }
        let mut throttle = top.section("throttle");
        let min = throttle.integer("min_cpu_millicores", 10..=1_000_000);
        let lease = throttle.integer("max_lease_s", 1..=86_400);
        throttle.finish();
        let mut budget = top.section("budget");
        let concurrent = budget.integer("max_concurrent", 0..=1_000);
        let per_hour = budget.integer("max_per_hour", 0..=10_000);
        budget.finish();
        top.finish();
        noted.into_result()?;
        let policy = Policy {
            allow_throttle,
            min_cpu_millicores: min.map_or(defaults.min_cpu_millicores, |value| value as u32),
            max_lease_s: lease.map_or(defaults.max_lease_s, |value| value as u32),
            max_concurrent: concurrent.map_or(defaults.max_concurrent, |value| value as usize),
            max_per_hour: per_hour.map_or(defaults.max_per_hour, |value| value as usize),
            protected_cgroups,
        };
        Ok(Self { act, allowed_uids, policy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_configuration_is_the_one_that_holds() {
        let config = Config::parse(DEFAULT_TEXT).unwrap();
        assert_eq!(config, Config { act: false, allowed_uids: Vec::new(), policy: Policy::default() });
        assert_eq!(config, Config::parse("").unwrap());
    }

    #[test]
    fn every_fault_is_told() {
        let text = "act = 1\nactions = [\"kill\"]\nallowed_uids = [\"bee\"]\nprotected_cgroups = [\"x\"]\nstray = 1\n\
                    [throttle]\nmax_lease_s = 0\n[budget]\nmax_per_day = 1\n";
        let faults = Config::parse(text).unwrap_err().0;
        assert_eq!(
            faults,
            [
                "act: expected true or false, found integer 1",
                "actions: \"kill\" is none of throttle",
                "allowed_uids: \"bee\" is no user id",
                "budget.max_per_day: unknown key",
                "protected_cgroups: \"x\" does not begin with a slash",
                "stray: unknown key",
                "throttle.max_lease_s: 0 is not between 1 and 86400",
            ]
        );
    }
}
