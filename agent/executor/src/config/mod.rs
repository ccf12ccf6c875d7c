//! The executor's own policy: whatever a command says, this file is the last word.
//!
//! * [`policy`]: what is carried out, and within which limits.
//! * [`net`]: an address or a network of addresses.

pub mod policy;

pub mod net;

use skep_runtime::settings::{self, Faults};

pub use policy::Policy;

/// The configuration that holds where no file is given; `skep-executor config` prints it.
pub const DEFAULT_TEXT: &str = include_str!("executor.toml");

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

impl Config {
    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        let (mut top, noted) = settings::parse(text)?;
        let act = top.truth("act").unwrap_or(false);
        let mut allowed_uids = Vec::new();
        for uid in top.texts("allowed_uids").unwrap_or_default() {
            match uid.parse().ok().or_else(|| uid_of(&uid)) {
                Some(uid) => allowed_uids.push(uid),
                None => top.note("allowed_uids", format_args!("{uid:?} is no user of this host")),
            }
        }
        let policy = Policy::read(&mut top, &noted);
        top.finish();
        noted.into_result()?;
        Ok(Self { act, allowed_uids, policy })
    }
}

/// The number of a user, from the host's own list. Users of a directory service have to be given by number.
fn uid_of(name: &str) -> Option<u32> {
    let list = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = list.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':');
    fields.nth(1)?.parse().ok()
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
    fn users_are_given_by_name_or_number() {
        let config = Config::parse("allowed_uids = [\"root\", \"77\"]\n").unwrap();
        assert_eq!(config.allowed_uids, [0, 77]);
    }

    #[test]
    fn folders_commands_and_networks_are_read() {
        let text = "actions = [\"clean\", \"run\"]\n[network]\nmanagement = [\"192.0.2.0/24\"]\n[[clean.folder]]\n\
                    path = \"/var/cache/app\"\nmin_age_s = 60\n[[run.command]]\nname = \"a\"\nargv = [\"/bin/true\"]\n";
        let policy = Config::parse(text).unwrap().policy;
        assert_eq!(policy.actions.iter().map(String::as_str).collect::<Vec<_>>(), ["clean", "run"]);
        assert_eq!(policy.network.management[0].to_string(), "192.0.2.0/24");
        assert_eq!((policy.clean.folders[0].min_age_s, policy.commands[0].timeout_s), (60, 30));
    }

    #[test]
    fn every_fault_is_told() {
        let text = "act = 1\nactions = [\"reboot\"]\nallowed_uids = [\"bee\"]\nprotected_cgroups = [\"x\"]\nstray = 1\n\
                    [throttle]\nmax_lease_s = 0\n[budget]\nmax_per_day = 1\n[network]\nmanagement = [\"hive\"]\n\
                    [[clean.folder]]\npath = \"/var\"\n[[run.command]]\nargv = [\"true\"]\n";
        let faults = Config::parse(text).unwrap_err().0;
        assert_eq!(
            faults,
            [
                "act: expected true or false, found integer 1",
                "actions: \"reboot\" is none of throttle, limit_memory, limit_io, freeze, kill, restart_unit, \
                 reload_unit, stop_unit, start_unit, block, isolate, clean, run, restart_container, \
                 pause_container, unpause_container",
                "allowed_uids: \"bee\" is no user of this host",
                "budget.max_per_day: unknown key",
                "clean.folder[0].path: /var is too much to clean",
                "network.management: \"hive\" is no address or network",
                "protected_cgroups: \"x\" does not begin with a slash",
                "run.command[0].argv: the program must be an absolute path",
                "run.command[0].name: missing or not usable",
                "stray: unknown key",
                "throttle.max_lease_s: 0 is not between 1 and 86400",
            ]
        );
    }
}
