//! The section `[alerts]` of the collector's settings.

use std::path::PathBuf;
use std::time::Duration;

use skep_runtime::secret::Secret;
use skep_runtime::settings::{self, Section};

use crate::channel::{Address, Channel, Mail, Security, Way};
use crate::desk::{Route, Silence};
use crate::pattern::Pattern;
use crate::report::{Labels, SEVERITIES};
use crate::rule::Rule;

/// Longest of all times here.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Where `PagerDuty` takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// Who hears of what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Channels.
    pub channels: Vec<Channel>,
    /// Routes, the first that matches in front.
    pub routes: Vec<Route>,
    /// Silences.
    pub silences: Vec<Silence>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// Notices that may wait on disk.
    pub queue: usize,
}

impl Settings {
    /// Channels that have to be reminded of what stands.
    pub fn refreshed(&self) -> Vec<String> {
        let forgets = |channel: &&Channel| matches!(channel.way, Way::Alertmanager { .. });
        self.channels.iter().filter(forgets).map(|channel| channel.name.clone()).collect()
    }
}

/// Reads the section. `defaults` is a file of rules that hold unless they are switched off, or one of the section's has the
/// same name. Faults are noted.
pub fn read(section: &mut Section, defaults: &str) -> Settings {
    let queue = section.integer("queue", 1..=1_000_000).and_then(|most| usize::try_from(most).ok()).unwrap_or(10_000);
    let channels: Vec<Channel> = each(section, "channel", channel);
    let mut routes: Vec<Route> = each(section, "route", |section| route(section, &channels));
    if routes.is_empty() && !channels.is_empty() {
        routes.extend(by_default(&channels));
    }
    let silences = each(section, "silence", silence);
    let mut rules: Vec<Rule> = each(section, "rule", rule);
    note_twice(section, "channel", channels.iter().map(|channel| channel.name.as_str()));
    note_twice(section, "route", routes.iter().map(|route| route.name.as_str()));
    note_twice(section, "rule", rules.iter().map(|rule| rule.name.as_str()));
    if section.truth("default_rules").unwrap_or(true) {
        let own: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
        rules.extend(default_rules(section, defaults).into_iter().filter(|rule| !own.contains(&rule.name)));
    }
    Settings { channels, routes, silences, rules, queue }
}

fn default_rules(section: &Section, defaults: &str) -> Vec<Rule> {
    let (mut top, noted) = match settings::parse(defaults) {
        Ok(parsed) => parsed,
        Err(faults) => {
            section.note("default_rules", faults);
            return Vec::new();
        }
    };
    let rules = each(&mut top, "rule", rule);
    top.finish();
    if let Err(faults) = noted.into_result() {
        section.note("default_rules", faults);
    }
    rules
}

/// A list of tables, each read by `one`.
fn each<T>(section: &mut Section, key: &str, mut one: impl FnMut(&mut Section) -> Option<T>) -> Vec<T> {
    let mut all = Vec::new();
    for mut part in section.sections(key).unwrap_or_default() {
        if let Some(value) = one(&mut part) {
            all.push(value);
            // Of one that is wrong already it is not known which keys it may have.
            part.finish();
        }
    }
    all
}

fn note_twice<'a>(section: &Section, key: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            section.note(key, format_args!("{name:?} is the name of two"));
        }
        seen.push(name);
    }
}

/// Where nothing is said everybody hears of incidents, and of what is worth a look and in none.
fn by_default(channels: &[Channel]) -> [Route; 2] {
    let only = |condition| Pattern::parse(condition).into_iter().collect();
    let incidents = Route {
        name: "incidents".to_owned(),
        matches: only("kind=incident"),
        group_by: vec!["incident".to_owned()],
        ..to_all(channels)
    };
    [incidents, Route { matches: only("incident="), ..to_all(channels) }]
}

/// Of what is worth a look.
fn to_all(channels: &[Channel]) -> Route {
    Route {
        name: "default".to_owned(),
        matches: Vec::new(),
        min_rank: rank("medium"),
        channels: channels.iter().map(|channel| channel.name.clone()).collect(),
        group_by: vec!["node".to_owned()],
        wait: Duration::from_secs(10),
        interval: Duration::from_secs(300),
        repeat: Some(Duration::from_secs(4 * 3600)),
        proceed: false,
    }
}

fn rank(severity: &str) -> usize {
    SEVERITIES.iter().position(|name| *name == severity).unwrap_or(0)
}

fn needed(section: &mut Section, key: &str) -> Option<String> {
    let text = section.text(key).filter(|text| !text.is_empty());
    if text.is_none() {
        section.note(key, "not set");
    }
    text
}

fn route(section: &mut Section, channels: &[Channel]) -> Option<Route> {
    let name = needed(section, "name");
    let otherwise = to_all(&[]);
    let matches = patterns(section);
    let min_rank = severity(section, "min_severity", "medium");
    let to = section.texts("channels").unwrap_or_default();
    for unknown in to.iter().filter(|name| channels.iter().all(|channel| channel.name != **name)) {
        section.note("channels", format_args!("{unknown:?} is no channel"));
    }
    let group_by = section.texts("group_by").unwrap_or(otherwise.group_by);
    let wait = time(section, "wait", LONGEST).unwrap_or(otherwise.wait);
    let interval = time(section, "interval", LONGEST).unwrap_or(otherwise.interval);
    let repeat = time(section, "repeat", LONGEST).or(otherwise.repeat).filter(|repeat| !repeat.is_zero());
    let proceed = section.truth("continue").unwrap_or(false);
    Some(Route { name: name?, matches, min_rank, channels: to, group_by, wait, interval, repeat, proceed })
}

fn silence(section: &mut Section) -> Option<Silence> {
    let matches = patterns(section);
    if matches.is_empty() {
        section.note("match", "a silence needs to say what it covers; [\"node=*\"] is all");
    }
    let from_us = moment(section, "from").unwrap_or(i64::MIN);
    let until_us = moment(section, "until");
    if until_us.is_none() {
        section.note("until", "a silence needs an end, such as 2030-01-31T18:00:00Z");
    }
    // For people.
    drop(section.text("why"));
    Some(Silence { matches, from_us, until_us: until_us? })
}

fn rule(section: &mut Section) -> Option<Rule> {
    let (name, sql) = (needed(section, "name"), needed(section, "sql"));
    let every = time(section, "every", LONGEST).unwrap_or(Duration::from_secs(60)).max(Duration::from_secs(1));
    let lasts = time(section, "for", LONGEST).unwrap_or_default();
    let keep_firing = time(section, "keep_firing", LONGEST).unwrap_or_default();
    let severity = SEVERITIES[severity(section, "severity", "medium")].to_owned();
    let mut labels = Labels::new();
    for text in section.texts("labels").unwrap_or_default() {
        match text.split_once('=').filter(|(label, _)| !label.trim().is_empty()) {
            Some((label, value)) => drop(labels.insert(label.trim().to_owned(), value.trim().to_owned())),
            None => section.note("labels", format_args!("{text:?} is not label=value")),
        }
    }
    let title = section.text("title");
    let name = name?;
    Some(Rule {
        title: title.unwrap_or_else(|| name.clone()),
        name,
        sql: sql?,
        every,
        lasts,
        keep_firing,
        severity,
        labels,
    })
}

fn channel(section: &mut Section) -> Option<Channel> {
    type Read = fn(&mut Section) -> Option<Way>;
    const KINDS: [(&str, Read); 7] = [
        ("log", |_| Some(Way::Log)),
        ("file", |section| needed(section, "path").map(|path| Way::File(PathBuf::from(path)))),
        ("webhook", |section| {
            let token = secret(section, "secret");
            Some(Way::Webhook { url: address(section, None)?, token })
        }),
        ("slack", |section| Some(Way::Slack { url: address(section, None)? })),
        ("pagerduty", |section| {
            let url = address(section, Some(PAGERDUTY))?;
            Some(Way::PagerDuty { url, key: needed_secret(section)? })
        }),
        ("mail", |section| mail(section).map(Way::Mail)),
        ("alertmanager", |section| {
            let token = secret(section, "secret");
            Some(Way::Alertmanager { url: address(section, None)?, token })
        }),
    ];
    let name = needed(section, "name");
    let kind = needed(section, "kind")?;
    let Some((_, read)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        section.note("kind", format_args!("{kind:?} is none of {}", KINDS.map(|(name, _)| name).join(", ")));
        return None;
    };
    let way = read(section)?;
    Some(Channel { name: name?, way })
}

fn mail(section: &mut Section) -> Option<Mail> {
    let security = section
        .choice("security", &[("tls", Security::Tls), ("starttls", Security::StartTls), ("none", Security::None)])
        .unwrap_or(Security::StartTls);
    let port = match security {
        Security::Tls => 465,
        Security::StartTls => 587,
        Security::None => 25,
    };
    let port = section.integer("port", 1..=65_535).and_then(|port| u16::try_from(port).ok()).unwrap_or(port);
    let (host, from) = (needed(section, "host"), needed(section, "from"));
    let (user, password) = (section.text("user"), secret(section, "secret"));
    if user.is_some() != password.is_some() {
        section.note("user", "a user needs secret_file or secret_env, and they need a user");
    }
    let to = section.texts("to").unwrap_or_default();
    if to.is_empty() {
        section.note("to", "not set");
    }
    for address in from.iter().chain(&to) {
        if let Err(error) = crate::channel::mailbox(address) {
            section.note("to", format_args!("{error}"));
        }
    }
    Some(Mail { host: host?, port, security, user, password, from: from?, to })
}

/// `url`, or `url_file` or `url_env` where it is a secret.
fn address(section: &mut Section, otherwise: Option<&str>) -> Option<Address> {
    let plain = section.text("url");
    let secret = secret(section, "url");
    if plain.is_some() && secret.is_some() {
        section.note("url", "there is a url_file or url_env already");
    }
    let url = plain.or(otherwise.filter(|_| secret.is_none()).map(str::to_owned));
    if let Some(url) = url.as_ref().filter(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        section.note("url", format_args!("{url:?} does not begin with http:// or https://"));
    }
    let address = secret.map(Address::Secret).or(url.map(Address::Plain));
    if address.is_none() {
        section.note("url", "not set");
    }
    address
}

fn secret(section: &mut Section, stem: &str) -> Option<Secret> {
    let file = section.text(&format!("{stem}_file")).map(|path| Secret::File(path.into()));
    let variable = section.text(&format!("{stem}_env")).map(Secret::Variable);
    if file.is_some() && variable.is_some() {
        section.note(&format!("{stem}_env"), format_args!("there is a {stem}_file already"));
    }
    file.or(variable)
}

fn needed_secret(section: &mut Section) -> Option<Secret> {
    let secret = secret(section, "secret");
    if secret.is_none() {
        section.note("secret_file", "not set");
    }
    secret
}

fn patterns(section: &mut Section) -> Vec<Pattern> {
    let texts = section.texts("match").unwrap_or_default();
    let parse = |text: &String| {
        let pattern = Pattern::parse(text);
        if pattern.is_none() {
            section.note("match", format_args!("{text:?} is not label=value"));
        }
        pattern
    };
    texts.iter().filter_map(parse).collect()
}

fn severity(section: &mut Section, key: &str, otherwise: &str) -> usize {
    let choices: Vec<(&str, usize)> = SEVERITIES.iter().enumerate().map(|(rank, name)| (*name, rank)).collect();
    section.choice(key, &choices).unwrap_or(rank(otherwise))
}

fn time(section: &mut Section, key: &str, longest: Duration) -> Option<Duration> {
    let text = section.text(key)?;
    match humantime::parse_duration(&text) {
        Ok(time) if time <= longest => Some(time),
        Ok(_) => {
            section.note(key, format_args!("{text:?} is more than {}", humantime::format_duration(longest)));
            None
        }
        Err(why) => {
            section.note(key, format_args!("{text:?} is not a time: {why}"));
            None
        }
    }
}

fn moment(section: &mut Section, key: &str) -> Option<i64> {
    let text = section.text(key)?;
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Some(time.as_microsecond()),
        Err(_) => {
            section.note(key, format_args!("{text:?} is not a moment such as 2030-01-31T18:00:00Z"));
            None
        }
    }
}

#[cfg(test)]
mod tests;
