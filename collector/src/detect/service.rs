//! Services that are down, by the checks of their nodes. Pure.
//!
//! The agent says of each run whether the check is down by its settings; here it becomes one beginning and one end. What is
//! down because something it depends on is, is no trouble of its own.

use std::collections::HashMap;

use skep_wire::chunk::Row;
use skep_wire::envelope::Origin;

/// Checks that are down at once and remembered. One more than that is not told of.
const MAX_DOWN: usize = 100_000;

/// A check that is not heard of for so many of its intervals,
const GONE_INTERVALS: f64 = 10.0;

/// and so long on top, is no longer made.
const GONE_GRACE_US: i64 = 600_000_000;

/// A pause between two ticks longer than this was the collector's own: nobody was there to hear.
const OWN_PAUSE_US: i64 = 5_000_000;

/// A check, by its node and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who {
    /// Node.
    pub node: String,
    /// Name.
    pub name: String,
}

/// Something changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// It is down.
    Down,
    /// It passes again.
    Up {
        /// After so long.
        after_us: i64,
    },
}

/// A check that is down and was told of.
#[derive(Debug)]
struct Down {
    since_us: i64,
    heard_us: i64,
    interval_us: i64,
    workload: String,
}

/// Checks of all nodes.
#[derive(Debug, Default)]
pub struct Services {
    down: HashMap<Who, Down>,
    ticked_us: Option<i64>,
}

/// A check that was down when it was heard of last.
#[derive(Debug, Clone, PartialEq)]
pub struct Gone {
    /// Which.
    pub who: Who,
    /// Whom it was about.
    pub workload: String,
    /// Down for so long.
    pub after_us: i64,
}

impl Services {
    /// Takes a row of `checks`.
    pub fn row(&mut self, origin: &Origin, row: &Row<'_>, now_us: i64) -> Option<Turn> {
        let who = Who { node: origin.node.clone(), name: row.text("name")?.to_owned() };
        let interval_us = (row.float("interval_s").unwrap_or(0.0) * 1e6) as i64;
        if row.int("ok") == Some(1) {
            let down = self.down.remove(&who)?;
            let time_us = row.int("time").unwrap_or(now_us);
            return Some(Turn::Up { after_us: (time_us - down.since_us).max(0) });
        }
        if let Some(down) = self.down.get_mut(&who) {
            (down.heard_us, down.interval_us) = (now_us, interval_us);
            return None;
        }
        if row.int("down") != Some(1) || row.text("blocked_by").is_some() || self.down.len() >= MAX_DOWN {
            return None;
        }
        let since_us = row.int("time").unwrap_or(now_us);
        let workload = row.text("workload").unwrap_or("host").to_owned();
        self.down.insert(who, Down { since_us, heard_us: now_us, interval_us, workload });
        Some(Turn::Down)
    }

    /// To be called every second; checks that were down and are not heard of any more: they are no longer in their node's
    /// settings, or the node is gone.
    pub fn tick(&mut self, now_us: i64) -> Vec<Gone> {
        let last_us = self.ticked_us.replace(now_us).unwrap_or(now_us);
        if now_us - last_us > OWN_PAUSE_US {
            self.down.values_mut().for_each(|down| down.heard_us = now_us);
        }
        let is_gone = |down: &Down| {
            let patience_us = (down.interval_us as f64 * GONE_INTERVALS) as i64 + GONE_GRACE_US;
            now_us - down.heard_us > patience_us
        };
        let mut gone: Vec<Gone> = self
            .down
            .extract_if(|_, down| is_gone(down))
            .map(|(who, down)| Gone { who, workload: down.workload, after_us: now_us - down.since_us })
            .collect();
        gone.sort_by(|one, other| one.who.cmp(&other.who));
        gone
    }

    /// What the last finding about this check said, of before this start.
    pub fn restore(&mut self, who: Who, is_down: bool, workload: &str, time_us: i64, now_us: i64) {
        if !is_down {
            self.down.remove(&who);
        } else if self.down.len() < MAX_DOWN {
            let workload = workload.to_owned();
            self.down.insert(who, Down { since_us: time_us, heard_us: now_us, interval_us: 0, workload });
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_wire::chunk::{self, Builder};
    use skep_wire::tables::CHECKS;

    use super::*;

    const S: i64 = 1_000_000;

    fn origin() -> Origin {
        Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 }
    }

    fn who(name: &str) -> Who {
        Who { node: "n".to_owned(), name: name.to_owned() }
    }

    /// One run at a second: whether it is well, down, and what blocks it.
    fn run(services: &mut Services, at_s: i64, ok: bool, down: bool, blocked_by: Option<&str>) -> Option<Turn> {
        let mut row = Builder::new(&CHECKS);
        row.int("time", at_s * S)
            .text("name", "shop")
            .text("kind", "tcp")
            .text("target", "x:1")
            .text("workload", "host");
        row.bool("ok", ok).int("latency_ns", 1).int("failures", 1).int("retries", 0).bool("down", down);
        row.bool("critical", false).float("interval_s", 30.0).text_list::<&str>("depends_on", &[]);
        row.maybe_text("blocked_by", blocked_by).text_list::<&str>("figures", &[]).end_row().unwrap();
        let chunk = row.finish().unwrap();
        chunk::rows(&chunk).find_map(|row| services.row(&origin(), &row, at_s * S))
    }

    #[test]
    fn down_and_up_are_told_once_each() {
        let mut services = Services::default();
        assert_eq!(run(&mut services, 0, true, false, None), None);
        assert_eq!(run(&mut services, 30, false, false, None), None, "it may pass");
        assert_eq!(run(&mut services, 40, false, true, None), Some(Turn::Down));
        assert_eq!(run(&mut services, 70, false, true, None), None);
        assert_eq!(run(&mut services, 100, true, false, None), Some(Turn::Up { after_us: 60 * S }));
        assert_eq!(run(&mut services, 130, true, false, None), None);
    }

    #[test]
    fn what_something_else_explains_is_told_when_that_is_well_and_this_is_not() {
        let mut services = Services::default();
        assert_eq!(run(&mut services, 0, false, true, Some("db")), None);
        assert_eq!(run(&mut services, 30, false, true, None), Some(Turn::Down));
        assert_eq!(run(&mut services, 60, false, true, Some("db")), None);
        assert_eq!(run(&mut services, 90, true, false, None), Some(Turn::Up { after_us: 60 * S }));
    }

    #[test]
    fn what_was_told_before_the_start_is_not_told_again_and_its_end_is() {
        let mut services = Services::default();
        services.restore(who("shop"), true, "host", 0, 5 * S);
        assert_eq!(run(&mut services, 30, false, true, None), None);
        assert_eq!(run(&mut services, 60, true, false, None), Some(Turn::Up { after_us: 60 * S }));
        services.restore(who("shop"), true, "host", 0, 5 * S);
        services.restore(who("shop"), false, "host", 0, 5 * S);
        assert_eq!(run(&mut services, 30, false, true, None), Some(Turn::Down));
    }

    #[test]
    fn a_check_that_is_no_longer_made_does_not_stay_down_for_ever() {
        let mut services = Services::default();
        run(&mut services, 0, false, true, None);
        let mut told = Vec::new();
        for at in 0..1000 {
            told.extend(services.tick(at * S).into_iter().map(|gone| (at, gone)));
        }
        let gone = Gone { who: who("shop"), workload: "host".to_owned(), after_us: 901 * S };
        assert_eq!(told, [(901, gone)]);
        run(&mut services, 1000, false, true, None);
        assert_eq!(services.tick(1_000_000 * S), [], "the collector was not there to hear");
    }
}
