//! Maintenance windows: when less is done by itself than else.

use crate::SECOND_US;
use crate::pattern;
use crate::policy::Mode;

const DAY_S: i64 = 86_400;

/// Days of the week, as policies name them; the first is Monday.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A span of some days of the week, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// For people.
    pub name: String,
    /// On which days it begins, Monday first.
    pub days: [bool; 7],
    /// Second of the day it begins.
    pub from_s: i64,
    /// Second of the day it ends; at or before `from_s` it is on the next day.
    pub to_s: i64,
    /// On which nodes.
    pub nodes: Vec<String>,
    /// For which workloads.
    pub workloads: Vec<String>,
    /// No more than this is done.
    pub mode: Mode,
}

impl Window {
    /// Whether it is open for this workload.
    pub fn holds(&self, node: &str, workload: &str, now_us: i64) -> bool {
        self.is_open(now_us) && pattern::any(&self.nodes, node) && pattern::any(&self.workloads, workload)
    }

    fn is_open(&self, now_us: i64) -> bool {
        let now_s = now_us.div_euclid(SECOND_US);
        let (day, second) = (now_s.div_euclid(DAY_S), now_s.rem_euclid(DAY_S));
        // The epoch was a Thursday.
        let begins = |day: i64| self.days[(day + 3).rem_euclid(7) as usize];
        if self.from_s < self.to_s {
            return begins(day) && (self.from_s..self.to_s).contains(&second);
        }
        (begins(day) && second >= self.from_s) || (begins(day - 1) && second < self.to_s)
    }
}

/// `HH:MM` as seconds of the day; 24:00 is its end.
pub fn time_of_day(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = hours * 3600 + minutes * 60;
    ((0..=24).contains(&hours) && (0..60).contains(&minutes) && seconds <= DAY_S).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[usize], from: &str, to: &str) -> Window {
        let mut on = [false; 7];
        days.iter().for_each(|day| on[*day] = true);
        let all = vec!["*".to_owned()];
        Window {
            name: "w".to_owned(),
            days: on,
            from_s: time_of_day(from).unwrap(),
            to_s: time_of_day(to).unwrap(),
            nodes: all.clone(),
            workloads: all,
            mode: Mode::Observe,
        }
    }

    /// 2026-11-26 was a Thursday.
    const THURSDAY_S: i64 = 1_795_651_200;

    fn at(days: i64, time: &str) -> i64 {
        (THURSDAY_S + days * DAY_S + time_of_day(time).unwrap()) * SECOND_US
    }

    #[test]
    fn a_window_is_open_on_its_days_between_its_times() {
        let lunch = window(&[3], "12:00", "13:30");
        for (when, open) in [
            (at(0, "11:59"), false),
            (at(0, "12:00"), true),
            (at(0, "13:29"), true),
            (at(0, "13:30"), false),
            (at(1, "12:30"), false),
            (at(7, "12:30"), true),
        ] {
            assert_eq!(lunch.is_open(when), open, "{when}");
        }
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let night = window(&[5], "22:00", "04:00");
        for (when, open) in [
            (at(1, "23:00"), false),
            (at(2, "03:00"), false),
            (at(2, "22:00"), true),
            (at(3, "03:59"), true),
            (at(3, "04:00"), false),
            (at(3, "22:30"), false),
        ] {
            assert_eq!(night.is_open(when), open, "{when}");
        }
        assert!(window(&[6], "00:00", "00:00").is_open(at(3, "23:59")), "a whole day");
    }

    #[test]
    fn times_of_day() {
        assert_eq!(time_of_day("24:00"), Some(86_400));
        assert!(["24:01", "7", "-1:00", "12:60", "a:b"].iter().all(|text| time_of_day(text).is_none()));
    }
}
