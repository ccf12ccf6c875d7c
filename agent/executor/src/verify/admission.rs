//! The command itself against clock, identity, policy and budgets; pure.

use skep_wire::order;
use skep_wire::v1::{self, Scope, command::Action};

use super::refusal::Refusal;
use crate::config::Policy;

/// Longest time a command may be valid for, from now: nonces need not be remembered for ever.
pub const MAX_VALID_US: i64 = 600_000_000;

/// What the command is held against.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// This node.
    pub node: &'a str,
    /// This boot.
    pub boot: &'a str,
    /// Wall clock.
    pub now_us: i64,
    /// Its nonce or id was seen before.
    pub seen: bool,
    /// It is of a time of which not all that was seen is known any more.
    pub may_be_seen: bool,
    /// Actions that stand or are being measured.
    pub standing: usize,
    /// Actions begun within the last hour.
    pub begun_in_hour: usize,
}

/// What the command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Change the host.
    Act,
    /// Undo this action.
    Undo {
        /// Its id.
        action_id: String,
    },
    /// Let this action stand for longer.
    Extend {
        /// Its id.
        action_id: String,
    },
}

/// Checks all that the command alone can answer.
///
/// # Errors
/// The first reason against it.
pub fn check(command: &v1::Command, policy: &Policy, situation: Situation<'_>) -> Result<Order, Refusal> {
    let order = understand(command)?;
    if command.node != situation.node {
        return Err(Refusal::OtherNode { node: command.node.clone() });
    }
    if command.boot != situation.boot {
        return Err(Refusal::OtherBoot);
    }
    // Whenever it comes again: another reason would be taken for the end of what was carried out.
    if situation.seen {
        return Err(Refusal::Replay);
    }
    in_time(command, policy, situation.now_us)?;
    if situation.may_be_seen {
        return Err(Refusal::Replay);
    }
    if order == Order::Act {
        within_policy(command, policy)?;
        within_budget(policy, situation)?;
    }
    Ok(order)
}

/// Whether an action's lease may be so long from now on.
///
/// # Errors
/// [`Refusal::Policy`].
pub fn lease_fits(command: &v1::Command, lease_s: u32, policy: &Policy) -> Result<(), Refusal> {
    let longest = policy.longest_lease_s(order::verb(command.action.as_ref())).unwrap_or(0);
    if lease_s > longest {
        return refuse(format!("a lease of {lease_s} s, the longest is {longest} s"));
    }
    Ok(())
}

fn in_time(command: &v1::Command, policy: &Policy, now_us: i64) -> Result<(), Refusal> {
    let left_us = command.not_after_us.saturating_sub(now_us);
    if left_us < 0 {
        return Err(Refusal::Expired { seconds: left_us.saturating_neg() / 1_000_000 });
    }
    if left_us > MAX_VALID_US {
        return Err(Refusal::ValidTooLong { seconds: left_us / 1_000_000, allowed: MAX_VALID_US / 1_000_000 });
    }
    // An issuer whose clock is ahead would have its commands live on after they were to be void; one whose clock is
    // behind gets them refused as expired.
    let ahead_s = command.issued_us.saturating_sub(now_us) / 1_000_000;
    if ahead_s > policy.max_clock_skew_s {
        return Err(Refusal::ClockSkew { seconds: ahead_s, allowed: policy.max_clock_skew_s });
    }
    Ok(())
}

fn understand(command: &v1::Command) -> Result<Order, Refusal> {
    let malformed = |what| Err(Refusal::Malformed { what });
    let hex = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex(&command.id) {
        return malformed("its id is not 32 hex digits");
    }
    if !hex(&command.nonce) {
        return malformed("its nonce is not 32 hex digits");
    }
    let verb = order::verb(command.action.as_ref());
    let target = command.target.as_ref();
    if command.trigger.as_ref().is_some_and(|trigger| !trigger.at_least.is_finite()) {
        return malformed("its trigger is at no number");
    }
    let has_process = target.is_some_and(|target| target.process.is_some());
    match &command.action {
        Some(Action::Undo(undo)) => return Ok(Order::Undo { action_id: undo.action_id.clone() }),
        Some(Action::Extend(_)) if command.lease_s == 0 => return malformed("it has no lease"),
        Some(Action::Extend(extend)) => return Ok(Order::Extend { action_id: extend.action_id.clone() }),
        _ if verb == order::UNKNOWN => return malformed("it asks for an action this version does not know"),
        Some(Action::Kill(kill)) if kill.scope() == Scope::Unspecified => return malformed("it has no scope"),
        Some(Action::Kill(kill)) if kill.scope() != Scope::Workload && !has_process => {
            return malformed("it has no target process");
        }
        Some(Action::ChangeUnit(_)) if target.and_then(|target| target.unit.as_ref()).is_none() => {
            return malformed("it has no target unit");
        }
        Some(Action::ChangeContainer(_)) if target.and_then(|target| target.container.as_ref()).is_none() => {
            return malformed("it has no target container");
        }
        _ if order::aims_at_cgroup(command) && target.is_none_or(|target| target.cgroup.is_empty()) => {
            return malformed("it has no target");
        }
        _ => {}
    }
    if order::is_leased(verb) && command.lease_s == 0 {
        return malformed("it has no lease");
    }
    Ok(Order::Act)
}

fn refuse<T>(why: String) -> Result<T, Refusal> {
    Err(Refusal::Policy { why })
}

fn within_policy(command: &v1::Command, policy: &Policy) -> Result<(), Refusal> {
    let verb = order::verb(command.action.as_ref());
    if !policy.actions.contains(verb) {
        return refuse(format!("{verb} is not among its actions"));
    }
    let mode = if command.mode.is_empty() { "ask" } else { &command.mode };
    if !policy.modes.contains(mode) {
        return refuse(format!("{mode} is not among its modes"));
    }
    match &command.action {
        Some(Action::Throttle(throttle)) if throttle.cpu_millicores < policy.min_cpu_millicores => {
            return refuse(format!(
                "{} millicores, the least is {}",
                throttle.cpu_millicores, policy.min_cpu_millicores
            ));
        }
        Some(Action::LimitMemory(limit)) if limit.high_bytes < policy.min_memory_bytes => {
            return refuse(format!("{} bytes, the least is {}", limit.high_bytes, policy.min_memory_bytes));
        }
        Some(Action::LimitIo(limit)) => {
            let asked = [limit.read_bytes_per_s, limit.write_bytes_per_s];
            if asked == [0, 0] {
                return Err(Refusal::Malformed { what: "it limits neither reading nor writing" });
            }
            if let Some(low) = asked.iter().find(|&&limit| limit != 0 && limit < policy.min_io_bytes_per_s) {
                return refuse(format!("{low} bytes a second, the least is {}", policy.min_io_bytes_per_s));
            }
        }
        Some(Action::Kill(kill)) if kill.grace_s > policy.kill.max_grace_s => {
            return refuse(format!("{} s to end, the longest is {} s", kill.grace_s, policy.kill.max_grace_s));
        }
        _ => {}
    }
    match policy.longest_lease_s(verb) {
        Some(_) => lease_fits(command, command.lease_s, policy),
        None => Ok(()),
    }
}

fn within_budget(policy: &Policy, situation: Situation<'_>) -> Result<(), Refusal> {
    if situation.standing >= policy.max_concurrent {
        return refuse(format!("{} actions stand, {} may", situation.standing, policy.max_concurrent));
    }
    if situation.begun_in_hour >= policy.max_per_hour {
        return refuse(format!("{} actions in an hour, {} may be", situation.begun_in_hour, policy.max_per_hour));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> v1::Command {
        v1::Command {
            id: "0".repeat(32),
            node: "n".to_owned(),
            boot: "b".to_owned(),
            target: Some(v1::Target {
                workload: "w".to_owned(),
                cgroup: "/w".to_owned(),
                cgroup_id: 1,
                ..v1::Target::default()
            }),
            action: Some(Action::Throttle(v1::Throttle { cpu_millicores: 500 })),
            not_after_us: 60_000_000,
            nonce: "1".repeat(32),
            lease_s: 60,
            ..Default::default()
        }
    }

    fn situation() -> Situation<'static> {
        Situation { node: "n", boot: "b", now_us: 0, seen: false, may_be_seen: false, standing: 0, begun_in_hour: 0 }
    }

    fn check_with(change: impl FnOnce(&mut v1::Command, &mut Situation<'static>)) -> String {
        let (mut command, mut situation) = (command(), situation());
        change(&mut command, &mut situation);
        match check(&command, &Policy::default(), situation) {
            Ok(_) => "ok".to_owned(),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn each_fault_has_its_own_reason() {
        assert_eq!(check_with(|_, _| {}), "ok");
        for (change, reason) in [
            (
                (|c, _| c.node = "m".to_owned()) as fn(&mut v1::Command, &mut Situation<'static>),
                "the command is for node m",
            ),
            (|c, _| c.boot = "c".to_owned(), "the command is for another boot of this host"),
            (|_, s| s.now_us = 65_000_000, "the command expired 5 s ago"),
            (|c, _| c.not_after_us = 3_600_000_000, "the command is valid for 3600 s, at most 600 are allowed"),
            (|c, _| c.not_after_us = i64::MIN, "the command expired 9223372036854 s ago"),
            (|_, s| s.seen = true, "the command was carried out or refused before"),
            (|_, s| (s.seen, s.now_us) = (true, 90_000_000), "the command was carried out or refused before"),
            (|_, s| s.may_be_seen = true, "the command was carried out or refused before"),
            (|_, s| (s.may_be_seen, s.now_us) = (true, 65_000_000), "the command expired 5 s ago"),
            (|c, _| c.nonce.clear(), "the command cannot be understood: its nonce is not 32 hex digits"),
            (|c, _| c.id = "../x".to_owned(), "the command cannot be understood: its id is not 32 hex digits"),
            (|c, _| c.target = None, "the command cannot be understood: it has no target"),
            (|c, _| c.lease_s = 0, "the command cannot be understood: it has no lease"),
            (
                |c, _| c.trigger = Some(v1::Trigger { signal: 1, at_least: f64::NAN }),
                "the command cannot be understood: its trigger is at no number",
            ),
            (
                |c, _| c.action = None,
                "the command cannot be understood: it asks for an action this version does not know",
            ),
            (
                |c, _| c.action = Some(Action::Throttle(v1::Throttle { cpu_millicores: 1 })),
                "not allowed by this executor's policy: 1 millicores, the least is 50",
            ),
            (
                |c, _| c.lease_s = 100_000,
                "not allowed by this executor's policy: a lease of 100000 s, the longest is 3600 s",
            ),
            (
                |c, _| c.issued_us = 300_000_000,
                "the command was issued 300 s from now: the clocks of collector and host differ by more than 120 s",
            ),
            (
                |c, _| c.action = Some(Action::Freeze(v1::Freeze {})),
                "not allowed by this executor's policy: freeze is not among its actions",
            ),
            (
                |c, _| c.action = Some(Action::Kill(v1::Kill::default())),
                "the command cannot be understood: it has no scope",
            ),
            (
                |c, _| c.action = Some(Action::ChangeUnit(v1::ChangeUnit::default())),
                "the command cannot be understood: it asks for an action this version does not know",
            ),
            (|c, _| c.mode = "auto ".to_owned(), "not allowed by this executor's policy: auto  is not among its modes"),
            (|_, s| s.standing = 4, "not allowed by this executor's policy: 4 actions stand, 4 may"),
            (|_, s| s.begun_in_hour = 30, "not allowed by this executor's policy: 30 actions in an hour, 30 may be"),
        ] {
            assert_eq!(check_with(change), reason);
        }
    }

    #[test]
    fn an_undo_needs_no_budget() {
        let undo = v1::Undo { action_id: "x".to_owned() };
        let command = v1::Command { action: Some(Action::Undo(undo)), lease_s: 0, target: None, ..command() };
        let situation = Situation { standing: 99, begun_in_hour: 99, ..situation() };
        let order = check(&command, &Policy::default(), situation);
        assert_eq!(order, Ok(Order::Undo { action_id: "x".to_owned() }));
    }
}
