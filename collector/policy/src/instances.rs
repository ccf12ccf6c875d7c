//! How many instances of a service are healthy, by the checks of their nodes.
//!
//! A service is what has the same name on several nodes: a workload, or a check that is about none.

use std::collections::BTreeMap;

use crate::SECOND_US;

/// Checks remembered. Of one more nothing is known, and what is not known to be healthy is not.
const MOST: usize = 100_000;

/// A check says nothing any more when so many of its intervals,
const STALE_INTERVALS: i64 = 3;

/// and this long on top, went by without it.
const STALE_US: i64 = 30 * SECOND_US;

/// Workload of a check that is about none.
const HOST: &str = "host";

/// One run of a check.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Where.
    pub node: &'a str,
    /// Which.
    pub check: &'a str,
    /// Whom it is about.
    pub workload: &'a str,
    /// Whether it failed more often than is let pass.
    pub down: bool,
    /// Between two runs.
    pub interval_us: i64,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    down: bool,
    until_us: i64,
}

/// The last run of every check, by service, node and check.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    services: BTreeMap<String, BTreeMap<String, BTreeMap<String, Last>>>,
    known: usize,
    /// Runs of checks there was no room for.
    lost: u64,
}

/// The name of a service that is a check's.
fn of_check(name: &str) -> String {
    format!("check:{name}")
}

impl Instances {
    pub(crate) fn heard(&mut self, run: Run<'_>, now_us: i64) {
        let until_us = now_us.saturating_add(run.interval_us.saturating_mul(STALE_INTERVALS)).saturating_add(STALE_US);
        let service = if run.workload == HOST { of_check(run.check) } else { run.workload.to_owned() };
        let checks = self.services.entry(service).or_default().entry(run.node.to_owned()).or_default();
        if !checks.contains_key(run.check) {
            if self.known >= MOST {
                self.lost += 1;
                return;
            }
            self.known += 1;
        }
        checks.insert(run.check.to_owned(), Last { down: run.down, until_us });
    }

    /// Forgets what says nothing any more.
    pub(crate) fn tick(&mut self, now_us: i64) {
        for nodes in self.services.values_mut() {
            for checks in nodes.values_mut() {
                let before = checks.len();
                checks.retain(|_, last| now_us < last.until_us);
                self.known -= before - checks.len();
            }
            nodes.retain(|_, checks| !checks.is_empty());
        }
        self.services.retain(|_, nodes| !nodes.is_empty());
    }

    /// Every instance and whether it is healthy: of what is acted on, or else of the check that asks for it.
    pub(crate) fn of(&self, target: &str, check: Option<&str>) -> impl Iterator<Item = (&str, bool)> {
        let by_check = || self.services.get(&of_check(check?));
        let nodes = self.services.get(target).or_else(by_check);
        nodes.into_iter().flatten().map(|(node, checks)| (node.as_str(), checks.values().all(|last| !last.down)))
    }

    /// Runs there was no room for, since this was asked last.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<'a>(node: &'a str, check: &'a str, workload: &'a str, down: bool) -> Run<'a> {
        Run { node, check, workload, down, interval_us: 10 * SECOND_US }
    }

    #[test]
    fn an_instance_is_healthy_while_all_its_checks_say_so() {
        let mut instances = Instances::default();
        instances.heard(run("a", "page", "unit:web", false), 0);
        instances.heard(run("a", "port", "unit:web", true), 0);
        instances.heard(run("b", "page", "unit:web", false), 0);
        let of = |instances: &Instances, target: &str, check| {
            instances.of(target, check).map(|(node, well)| (node.to_owned(), well)).collect::<Vec<_>>()
        };
        let two = [("a".to_owned(), false), ("b".to_owned(), true)];
        assert_eq!(of(&instances, "unit:web", None), two);
        instances.heard(run("b", "page", "unit:web", true), 40 * SECOND_US);
        instances.tick(60 * SECOND_US);
        assert_eq!(of(&instances, "unit:web", None), [("b".to_owned(), false)], "a is not heard of any more");
        instances.heard(run("c", "shop", "host", false), 0);
        assert_eq!(of(&instances, "unit:shop", Some("shop")), [("c".to_owned(), true)]);
        instances.tick(i64::MAX);
        assert_eq!((instances.known, instances.services.len()), (0, 0));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut instances = Instances::default();
        let names: Vec<String> = (0..=MOST).map(|n| n.to_string()).collect();
        names.iter().for_each(|name| instances.heard(run("a", name, "unit:web", false), 0));
        assert_eq!((instances.known, instances.take_lost(), instances.take_lost()), (MOST, 1, 0));
    }
}
