//! Groups reports, waits for company, holds back what is silenced, repeats what stands. Pure.
//!
//! A report belongs to a group for each route that takes it: the route, and what its labels in `group_by` say. A new group
//! waits `wait` for company and is told; what changes after that is told together, no sooner than `interval` after the last
//! time; what stands is told again after `repeat`, and when it is worse than what was told. What began and ended before anybody was told is not told. A silence is
//! looked at when something is about to be told: what it covers is told when it ends, if it stands then.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pattern::{Pattern, all_match};
use crate::report::{Item, Labels, Notice, Report, State};

/// Troubles of all groups. One more is not told of.
const MAX_MEMBERS: usize = 10_000;

/// How often it is looked whether a silence has ended.
const SILENCE_LOOK_US: i64 = 30_000_000;

/// How often channels that forget are reminded: Alertmanager forgets after five minutes if its settings say nothing.
const REFRESH_US: i64 = 60_000_000;

/// Items of one notice; the rest comes in the next.
const MAX_ITEMS: usize = 100;

/// Who hears of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Which reports it takes: all of these hold.
    pub matches: Vec<Pattern>,
    /// As a place in [`SEVERITIES`](crate::report::SEVERITIES).
    pub min_rank: usize,
    /// Channels, by name.
    pub channels: Vec<String>,
    /// Labels whose values make a group.
    pub group_by: Vec<String>,
    /// How long a new group waits for company.
    pub wait: Duration,
    /// Shortest time between two notices of one group.
    pub interval: Duration,
    /// How often what stands is told again; `None` for never.
    pub repeat: Option<Duration>,
    /// Whether the routes behind it get the report too.
    pub proceed: bool,
}

/// What is not to be told for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// Which reports it covers: all of these hold.
    pub matches: Vec<Pattern>,
    /// From when, microseconds since the epoch.
    pub from_us: i64,
    /// Until when.
    pub until_us: i64,
}

/// What is known of one trouble in one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Member {
    report: Report,
    since_us: i64,
    until_us: Option<i64>,
    told: bool,
    /// Than what was told.
    #[serde(default)]
    worse: bool,
}

/// One group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Group {
    route: String,
    labels: Labels,
    members: BTreeMap<String, Member>,
    /// When it is to be told.
    due_us: Option<i64>,
    told_us: Option<i64>,
    /// When channels that forget were reminded.
    refreshed_us: Option<i64>,
}

/// All groups.
#[derive(Debug)]
pub struct Desk {
    routes: Vec<Route>,
    silences: Vec<Silence>,
    /// Channels that take for over what they are not told again.
    refreshed: Vec<String>,
    groups: Vec<Group>,
    serial: u64,
    dropped: u64,
}

impl Desk {
    /// Nothing is wrong yet. `refreshed` are channels that take for over what they are not told again within minutes.
    pub fn new(routes: Vec<Route>, silences: Vec<Silence>, refreshed: Vec<String>) -> Self {
        Self { routes, silences, refreshed, groups: Vec::new(), serial: 0, dropped: 0 }
    }

    /// Reports for which there was no room, since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Takes a report.
    pub fn take(&mut self, report: &Report, now_us: i64) {
        if report.state == State::Resolved {
            return self.end(report, now_us);
        }
        let mut members: usize = self.groups.iter().map(|group| group.members.len()).sum();
        for at in 0..self.routes.len() {
            let route = &self.routes[at];
            if report.rank() < route.min_rank || !all_match(&route.matches, &report.labels) {
                continue;
            }
            let proceed = route.proceed;
            if members < MAX_MEMBERS {
                members += usize::from(self.begin(at, report, now_us));
            } else {
                self.dropped += 1;
            }
            if !proceed {
                return;
            }
        }
    }

    /// Whether there is one member more.
    fn begin(&mut self, at: usize, report: &Report, now_us: i64) -> bool {
        let route = &self.routes[at];
        let value = |label: &String| (label.clone(), report.labels.get(label).cloned().unwrap_or_default());
        let labels: Labels = route.group_by.iter().map(value).collect();
        let group = match self.groups.iter().position(|group| group.route == route.name && group.labels == labels) {
            Some(at) => &mut self.groups[at],
            None => {
                self.groups.push(Group { route: route.name.clone(), labels, ..Group::default() });
                let last = self.groups.len() - 1;
                &mut self.groups[last]
            }
        };
        // What happens without an end happens each time.
        let key = match report.state {
            State::Happened => format!("{} {}", report.key, report.finding),
            _ => report.key.clone(),
        };
        if let Some(member) = group.members.get_mut(&key) {
            // It came back before anybody was told that it was gone.
            member.until_us = None;
            if report.rank() > member.report.rank() {
                member.report = report.clone();
                member.worse = true;
                group.schedule(route, now_us);
            }
            return false;
        }
        let member =
            Member { report: report.clone(), since_us: report.time_us, until_us: None, told: false, worse: false };
        group.members.insert(key, member);
        group.schedule(route, now_us);
        true
    }

    fn end(&mut self, report: &Report, now_us: i64) {
        let Self { groups, routes, .. } = self;
        for group in groups.iter_mut().filter(|group| group.members.contains_key(&report.key)) {
            let Some(member) = group.members.get_mut(&report.key) else { continue };
            if !member.told {
                group.members.remove(&report.key);
                if !group.has_news() {
                    group.due_us = None;
                }
                continue;
            }
            member.until_us = Some(report.time_us.max(member.since_us));
            member.report.title.clone_from(&report.title);
            member.report.details.clone_from(&report.details);
            if let Some(route) = routes.iter().find(|route| route.name == group.route) {
                group.schedule(route, now_us);
            }
        }
    }

    /// What stands of those keys that begin like this, and is none of `keys`, is over: whoever reported it has begun anew
    /// and does not know of it. Whether there was any.
    pub fn settle(&mut self, prefix: &str, keys: &[String], now_us: i64) -> bool {
        let stale = |key: &&String| key.starts_with(prefix) && !keys.contains(*key);
        let members = self.groups.iter().flat_map(|group| &group.members);
        let standing = members.filter(|(key, member)| stale(key) && member.until_us.is_none());
        let ends: Vec<Report> = standing.map(|(_, member)| member.report.clone()).collect();
        let any = !ends.is_empty();
        for end in ends {
            self.end(&Report { state: State::Resolved, time_us: now_us, ..end }, now_us);
        }
        any
    }

    /// What is to be told now.
    pub fn tick(&mut self, now_us: i64) -> Vec<Notice> {
        let mut notices = Vec::new();
        let Self { groups, routes, silences, refreshed, serial, .. } = self;
        for group in groups.iter_mut() {
            let Some(route) = routes.iter().find(|route| route.name == group.route) else {
                // The settings have no such route any more.
                group.members.clear();
                continue;
            };
            let is_silent = |labels: &Labels| {
                let covers = |silence: &&Silence| (silence.from_us..silence.until_us).contains(&now_us);
                silences.iter().filter(covers).any(|silence| all_match(&silence.matches, labels))
            };
            let all = &route.channels;
            let (items, again, channels, counts) = if group.due_us.is_some_and(|due_us| due_us <= now_us) {
                (group.news(now_us, is_silent), false, all.iter().collect(), true)
            } else if group.is_to_repeat(route, now_us) {
                (group.standing(is_silent), true, all.iter().collect(), true)
            } else if group.is_to_refresh(now_us) {
                let forgetful: Vec<&String> = all.iter().filter(|channel| refreshed.contains(*channel)).collect();
                group.refreshed_us = Some(now_us);
                (group.standing(is_silent), true, forgetful, false)
            } else {
                continue;
            };
            if items.is_empty() {
                continue;
            }
            if counts {
                group.told_us = Some(now_us);
            }
            for channel in channels {
                *serial += 1;
                notices.push(group.notice(channel, items.clone(), again, (now_us, *serial)));
            }
        }
        // One that is empty is remembered while it would still have to keep its distance.
        groups.retain(|group| {
            let interval_us =
                routes.iter().find(|route| route.name == group.route).map_or(0, |route| micros(route.interval));
            !group.members.is_empty()
                || group.told_us.is_some_and(|told_us| now_us < told_us.saturating_add(interval_us))
        });
        notices
    }

    /// What must survive a restart: who was told of what.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.groups).unwrap_or_default()
    }

    /// Takes it up again.
    ///
    /// # Errors
    /// It does not read; nothing was told yet.
    pub fn take_up(&mut self, bytes: &[u8]) -> Result<(), serde_json::Error> {
        self.groups = serde_json::from_slice(bytes)?;
        Ok(())
    }
}

impl Group {
    fn schedule(&mut self, route: &Route, now_us: i64) {
        let soon = now_us.saturating_add(micros(route.wait));
        let due = self.told_us.map_or(soon, |told_us| soon.max(told_us.saturating_add(micros(route.interval))));
        self.due_us = Some(self.due_us.map_or(due, |before| before.min(due)));
    }

    /// What nobody was told yet, and what ended; both are told by this.
    fn news(&mut self, now_us: i64, is_silent: impl Fn(&Labels) -> bool) -> Vec<Item> {
        self.due_us = None;
        let (mut items, mut gone) = (Vec::new(), Vec::new());
        for (key, member) in &mut self.members {
            if member.told && member.until_us.is_none() && !member.worse {
                continue;
            }
            let is_end = member.told && member.until_us.is_some();
            if items.len() == MAX_ITEMS {
                self.due_us = Some(now_us);
                break;
            }
            let silent = is_silent(&member.report.labels);
            if silent && !is_end && member.report.state == State::Firing {
                self.due_us = Some(now_us.saturating_add(SILENCE_LOOK_US));
                continue;
            }
            (member.told, member.worse) = (true, false);
            if is_end || member.report.state == State::Happened {
                gone.push(key.clone());
            }
            // Of a trouble that was told its end is told too, whatever is silent by now.
            if !silent || is_end {
                items.push(member.item());
            }
        }
        gone.iter().for_each(|key| drop(self.members.remove(key)));
        items
    }

    fn has_news(&self) -> bool {
        self.members.values().any(|member| !member.told || member.until_us.is_some() || member.worse)
    }

    fn is_to_repeat(&self, route: &Route, now_us: i64) -> bool {
        let (Some(repeat), Some(told_us)) = (route.repeat, self.told_us) else { return false };
        now_us >= told_us.saturating_add(micros(repeat)) && self.members.values().any(|member| member.told)
    }

    fn is_to_refresh(&self, now_us: i64) -> bool {
        let last_us = self.told_us.max(self.refreshed_us);
        last_us.is_some_and(|last_us| now_us >= last_us.saturating_add(REFRESH_US))
            && self.members.values().any(|member| member.told)
    }

    fn standing(&self, is_silent: impl Fn(&Labels) -> bool) -> Vec<Item> {
        let told = self.members.values().filter(|member| member.told && !is_silent(&member.report.labels));
        told.take(MAX_ITEMS).map(Member::item).collect()
    }

    fn notice(&self, channel: &str, items: Vec<Item>, again: bool, (now_us, serial): (i64, u64)) -> Notice {
        let about: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Notice {
            id: format!("{now_us:x}-{serial}"),
            channel: channel.to_owned(),
            group: format!("{}:{}", self.route, about.join(",")),
            labels: self.labels.clone(),
            items,
            again,
            time_us: now_us,
        }
    }
}

impl Member {
    fn item(&self) -> Item {
        let state = if self.until_us.is_some() { State::Resolved } else { self.report.state };
        let report = Report { state, ..self.report.clone() };
        Item { report, since_us: self.since_us, until_us: self.until_us }
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
