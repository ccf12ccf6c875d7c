//! The list `[[check]]` of a settings file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hyper::Uri;
use skep_runtime::settings::Section;

use crate::check::{Check, Grpc, Http, Postgres, Redis, Way};
use crate::figure::{CERTIFICATE, Limits, Measure, POSTGRES, REDIS};
use skep_runtime::secret::Secret;

/// Checks of one host.
pub const MOST: usize = 256;

/// Characters of a name: it is a label of gauges and stands in titles.
const LONGEST_NAME: usize = 100;

/// More often than this asking is a load of its own.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);

const LONGEST_INTERVAL: Duration = Duration::from_secs(86_400);

const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Reads all checks. Faults are noted; a check with one is left out.
pub fn read(top: &mut Section) -> Vec<Check> {
    let sections = top.sections("check").unwrap_or_default();
    if sections.len() > MOST {
        top.note("check", format_args!("{} are more than {MOST}", sections.len()));
    }
    let mut checks: Vec<Check> = Vec::new();
    for mut section in sections {
        if let Some(check) = read_one(&mut section) {
            if checks.iter().any(|other| other.name == check.name) {
                section.note("name", format_args!("{:?} is the name of another check too", check.name));
            }
            checks.push(check);
            // Of one that is wrong already it is not known which keys it may have.
            section.finish();
        }
    }
    for fault in faults_between(&checks) {
        top.note("check", fault);
    }
    checks
}

fn read_one(section: &mut Section) -> Option<Check> {
    let name = needed(section, "name").filter(|name| is_name(section, name));
    let interval = time(section, "interval", SHORTEST_INTERVAL..=LONGEST_INTERVAL, Duration::from_secs(30));
    let timeout = time(section, "timeout", Duration::from_millis(50)..=LONGEST_TIMEOUT, Duration::from_secs(5));
    let retries = section.integer("retries", 0..=100).unwrap_or(2);
    let critical = section.truth("critical").unwrap_or(false);
    let depends_on = section.texts("depends_on").unwrap_or_default();
    let workload = workload(section);
    let Asked { way, target, measures } = asked(section)?;
    let workload = workload.unwrap_or_else(|| match &way {
        Way::Unit { name, .. } => format!("unit:{name}"),
        _ => "host".to_owned(),
    });
    let limits = limits(section, measures);
    Some(Check {
        name: name?,
        way,
        target,
        interval,
        timeout,
        retries: u32::try_from(retries).unwrap_or(0),
        critical,
        depends_on,
        workload,
        limits,
    })
}

/// What is asked, and what the answer is measured by.
struct Asked {
    way: Way,
    target: String,
    measures: &'static [Measure],
}

fn asked(section: &mut Section) -> Option<Asked> {
    type Read = fn(&mut Section) -> Option<Asked>;
    const KINDS: [(&str, Read); 7] = [
        ("http", http),
        ("tcp", tcp),
        ("grpc", grpc),
        ("command", command),
        ("unit", unit),
        ("postgres", postgres),
        ("redis", redis),
    ];
    let kind = needed(section, "kind")?;
    match KINDS.iter().find(|(name, _)| *name == kind) {
        Some((_, read)) => read(section),
        None => {
            let names = KINDS.map(|(name, _)| name).join(", ");
            section.note("kind", format_args!("{kind:?} is none of {names}"));
            None
        }
    }
}

fn http(section: &mut Section) -> Option<Asked> {
    let (target, url) = url(section)?;
    let status = section.integers("status", 100..=599).unwrap_or_default();
    let way = Way::Http(Http {
        url,
        status: status.into_iter().filter_map(|code| u16::try_from(code).ok()).collect(),
        body_contains: section.text("body_contains"),
        ca: section.text("ca").map(PathBuf::from),
        token: secret(section),
    });
    Some(Asked { way, target, measures: &CERTIFICATE })
}

fn tcp(section: &mut Section) -> Option<Asked> {
    let address = needed(section, "target").filter(|address| is_address(section, address))?;
    Some(Asked { target: address.clone(), way: Way::Tcp { address }, measures: &[] })
}

fn grpc(section: &mut Section) -> Option<Asked> {
    let (target, url) = url(section)?;
    let service = section.text("service").unwrap_or_default();
    let way = Way::Grpc(Grpc { url, service, ca: section.text("ca").map(PathBuf::from) });
    Some(Asked { way, target, measures: &[] })
}

fn command(section: &mut Section) -> Option<Asked> {
    let argv = section.texts("argv").unwrap_or_default();
    let exit_code = section.integer("exit_code", 0..=255).and_then(|code| i32::try_from(code).ok()).unwrap_or(0);
    if !argv.first().is_some_and(|program| program.starts_with('/')) {
        section.note("argv", "a list of texts is needed, the first of which is the full path of a program");
        return None;
    }
    Some(Asked { target: argv.join(" "), way: Way::Command { argv, exit_code }, measures: &[] })
}

fn unit(section: &mut Section) -> Option<Asked> {
    let name = needed(section, "target")?;
    if !name.contains('.') {
        section.note("target", format_args!("{name:?} has no ending, such as .service"));
        return None;
    }
    let states = section.texts("states").unwrap_or_else(|| vec!["active".to_owned(), "reloading".to_owned()]);
    Some(Asked { target: name.clone(), way: Way::Unit { name, states }, measures: &[] })
}

fn postgres(section: &mut Section) -> Option<Asked> {
    let url = needed(section, "target")?;
    let password = secret(section);
    let ca = section.text("ca").map(PathBuf::from);
    let slow_after =
        time(section, "slow_after", Duration::from_millis(100)..=LONGEST_INTERVAL, Duration::from_secs(60));
    let warm_after = warm_after(section);
    match tokio_postgres::Config::from_str(&url) {
        // The text is shown to everybody who may look at checks.
        Ok(config) if config.get_password().is_some() => {
            section.note("target", "holds a password: put it into a file and name it with secret_file");
            None
        }
        Ok(config) if config.get_user().is_none() => {
            section.note("target", "names no user");
            None
        }
        Ok(_) => {
            let way = Way::Postgres(Postgres { url: url.clone(), password, ca, slow_after, warm_after });
            Some(Asked { way, target: url, measures: &POSTGRES })
        }
        Err(error) => {
            section.note("target", format_args!("no address of a PostgreSQL server: {error}"));
            None
        }
    }
}

fn redis(section: &mut Section) -> Option<Asked> {
    let address = needed(section, "target")?;
    let (user, password) = (section.text("user"), secret(section));
    let warm_after = warm_after(section);
    if !address.starts_with('/') && !is_address(section, &address) {
        return None;
    }
    let way = Way::Redis(Redis { address: address.clone(), user, password, warm_after });
    Some(Asked { way, target: address, measures: &REDIS })
}

fn needed(section: &mut Section, key: &str) -> Option<String> {
    let text = section.text(key).filter(|text| !text.is_empty());
    if text.is_none() {
        section.note(key, "not set");
    }
    text
}

fn is_name(section: &Section, name: &str) -> bool {
    let good = name.chars().count() <= LONGEST_NAME && !name.chars().any(char::is_control);
    if !good {
        section.note("name", format_args!("more than {LONGEST_NAME} characters, or a line break in it"));
    }
    good
}

fn is_address(section: &Section, address: &str) -> bool {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    let good = matches!(port, Some(Ok(port)) if port > 0);
    if !good {
        section.note("target", format_args!("{address:?} is not HOST:PORT"));
    }
    good
}

fn url(section: &mut Section) -> Option<(String, Uri)> {
    let text = needed(section, "target")?;
    let uri: Option<Uri> = text.parse().ok();
    let good = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    match uri.filter(good) {
        Some(uri) if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
            section.note("target", "holds a user or a password: put a token into a file and name it with secret_file");
            None
        }
        Some(uri) => Some((text, uri)),
        None => {
            section.note("target", format_args!("{text:?} does not begin with http://HOST or https://HOST"));
            None
        }
    }
}

fn secret(section: &mut Section) -> Option<Secret> {
    let file = section.text("secret_file").map(|path| Secret::File(path.into()));
    let variable = section.text("secret_env").map(Secret::Variable);
    if file.is_some() && variable.is_some() {
        section.note("secret_env", "there is a secret_file already");
    }
    file.or(variable)
}

/// `workload`, or what `unit` stands for.
fn workload(section: &mut Section) -> Option<String> {
    let (unit, workload) = (section.text("unit"), section.text("workload"));
    if unit.is_some() && workload.is_some() {
        section.note("unit", "there is a workload already");
    }
    workload.or(unit.map(|unit| format!("unit:{unit}"))).filter(|workload| !workload.is_empty())
}

/// When the cache of a server that was started is filled.
fn warm_after(section: &mut Section) -> Duration {
    time(section, "warm_after", Duration::ZERO..=LONGEST_INTERVAL, Duration::from_secs(600))
}

fn time(section: &mut Section, key: &str, range: std::ops::RangeInclusive<Duration>, otherwise: Duration) -> Duration {
    let Some(text) = section.text(key) else { return otherwise };
    match humantime::parse_duration(&text) {
        Ok(time) if range.contains(&time) => time,
        Ok(_) => {
            let [from, to] = [range.start(), range.end()].map(|end| humantime::format_duration(*end));
            section.note(key, format_args!("{text:?} is not between {from} and {to}"));
            otherwise
        }
        Err(why) => {
            section.note(key, format_args!("{text:?} is not a time: {why}"));
            otherwise
        }
    }
}

fn limits(section: &mut Section, measures: &[Measure]) -> Limits {
    let mut given = section.section("limits");
    let limits = Limits::new(measures, |measure| given.number(measure.name, 0.0..=f64::INFINITY));
    given.finish();
    limits
}

/// Dependencies that are not there, or go round in a circle.
fn faults_between(checks: &[Check]) -> Vec<String> {
    let by_name: HashMap<&str, &Check> = checks.iter().map(|check| (check.name.as_str(), check)).collect();
    let mut faults = Vec::new();
    for check in checks {
        for wanted in check.depends_on.iter().filter(|wanted| !by_name.contains_key(wanted.as_str())) {
            faults.push(format!("{:?} depends on {wanted:?}, which is no check", check.name));
        }
        if reaches_itself(check, &by_name) {
            faults.push(format!("{:?} depends on itself by way of others", check.name));
        }
    }
    faults
}

fn reaches_itself(check: &Check, by_name: &HashMap<&str, &Check>) -> bool {
    let mut seen = Vec::new();
    let mut next: Vec<&str> = check.depends_on.iter().map(String::as_str).collect();
    while let Some(name) = next.pop() {
        if name == check.name {
            return true;
        }
        if !seen.contains(&name) {
            seen.push(name);
            next.extend(by_name.get(name).into_iter().flat_map(|check| check.depends_on.iter().map(String::as_str)));
        }
    }
    false
}

#[cfg(test)]
mod tests;
