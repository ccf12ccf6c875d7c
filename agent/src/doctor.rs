//! `skep-agent doctor`: what this host allows, feature by feature, and why not.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use skep_runtime::clock::Clock;

use crate::aggregate::hierarchy::Hierarchies;
use crate::config::{Config, DEFAULT_STATE_DIR, Overrides, pin_folder};
use crate::probe::{Feature, pin_feature, probe_feature_report};
use crate::ship::Credentials;
use crate::ship::connect::{connect, explain};

/// Free space below which the spool is in danger.
const LITTLE_SPACE_BYTES: u64 = 512 << 20;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether the agent is of no use without it.
    pub essential: bool,
    /// What was found, and what it means.
    pub detail: String,
    /// Numbers to go with it, by name; only programs get to see them.
    pub figures: Vec<(&'static str, u64)>,
}

/// Looks at everything, and at the settings if there are any. Cost: loads and unloads the probes, and connects to every
/// collector; one that does not answer takes ten seconds.
pub fn run(config: Option<&Config>, overrides: &Overrides) -> Vec<Check> {
    let (state_dir, pin) = match config {
        Some(config) => (config.state_dir.clone(), config.pin.clone()),
        None => {
            let state_dir = overrides.state_dir.as_deref().unwrap_or(DEFAULT_STATE_DIR);
            (PathBuf::from(state_dir), pin_folder(overrides.pin.as_deref()))
        }
    };
    let mut checks = vec![kernel(), lockdown()];
    let features = probe_feature_report();
    let any_probe = features.iter().any(|feature| feature.ok && PROBES.contains(&feature.name));
    checks.extend(features.into_iter().map(|feature| of_feature(feature, any_probe)));
    checks.push(of_feature(pin_feature(pin.as_deref()), any_probe));
    checks.extend([cgroups(), procfs(), state(&state_dir)]);
    checks.extend([space(&state_dir), clock()].into_iter().flatten());
    checks.extend(config.map(certificate));
    checks.extend(config.map(collectors).unwrap_or_default());
    checks
}

/// Whether something essential is missing.
pub fn is_unfit(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.essential && !check.ok)
}

/// For people: a line each.
pub fn human(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = match (check.ok, check.essential) {
            (true, _) => "ok     ",
            (false, true) => "MISSING",
            (false, false) => "limited",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark}  {:width$}  {}", check.name, check.detail);
    }
    text
}

/// For programs: an array of objects.
pub fn json(checks: &[Check]) -> String {
    let objects: Vec<String> = checks
        .iter()
        .map(|check| {
            format!(
                "{{\"check\":{},\"ok\":{},\"essential\":{},\"detail\":{}{}}}",
                quote(&check.name),
                check.ok,
                check.essential,
                quote(&check.detail),
                figures(&check.figures)
            )
        })
        .collect();
    format!("[{}]\n", objects.join(",\n "))
}

/// One more member of a check's object, if it has figures.
fn figures(figures: &[(&str, u64)]) -> String {
    if figures.is_empty() {
        return String::new();
    }
    let members: Vec<String> = figures.iter().map(|(name, value)| format!("{}:{value}", quote(name))).collect();
    format!(",\"figures\":{{{}}}", members.join(","))
}

/// A text as JSON.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Features that are probes; the agent is of use with any of them.
const PROBES: [&str; 5] = ["cpu", "syscall", "tcp", "socket", "process"];

/// Without these nothing can be loaded.
const GROUND: [&str; 4] = ["capabilities", "btf", "grace_period", "probes"];

fn of_feature(feature: Feature, any_probe: bool) -> Check {
    let is_probe = PROBES.contains(&feature.name);
    let essential = GROUND.contains(&feature.name) || (is_probe && !any_probe);
    let Feature { name, ok, reason, figures } = feature;
    Check { name: name.to_owned(), ok, essential, detail: reason, figures }
}

fn check(name: &str, ok: bool, essential: bool, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok, essential, detail: detail.into(), figures: Vec::new() }
}

fn kernel() -> Check {
    check("kernel", true, false, format!("{} {}", crate::host::kernel_release(), std::env::consts::ARCH))
}

fn lockdown() -> Check {
    match crate::probe::lockdown().as_deref() {
        None => check("lockdown", true, false, "not shown (no securityfs); the probes below tell what is allowed"),
        Some("confidentiality") => {
            check("lockdown", false, false, "confidentiality: the kernel lets no probe copy its memory")
        }
        Some(mode) => check("lockdown", true, false, mode),
    }
}

fn cgroups() -> Check {
    match Hierarchies::of_host().controlling_cpu() {
        Some(hierarchy) => {
            let version = if hierarchy.number == 0 { "2" } else { "1" };
            let mount = hierarchy.mount.display();
            check("cgroup", true, false, format!("cpu is controlled by version {version}, mounted at {mount}"))
        }
        None => check("cgroup", false, false, "no hierarchy controls cpu: every workload is the host"),
    }
}

fn procfs() -> Check {
    let others = procfs::process::all_processes().into_iter().flatten().flatten();
    // Kernel threads have no executable, so the first process with a command line is asked.
    let sample = others.filter(|process| process.cmdline().is_ok_and(|words| !words.is_empty())).find(|process| {
        let own = rustix::process::getuid().as_raw();
        process.uid().is_ok_and(|uid| uid != own) || own == 0
    });
    match sample.map(|process| (process.pid, process.exe())) {
        None => check("proc", true, false, "no other user's process to try on"),
        Some((_, Ok(_))) => check("proc", true, false, "executables of other users' processes are readable"),
        Some((pid, Err(error))) => {
            let detail = format!("/proc/{pid}/exe: {error}; names of executables need CAP_SYS_PTRACE");
            check("proc", false, false, detail)
        }
    }
}

fn state(dir: &Path) -> Check {
    let probe = dir.join("doctor.tmp");
    let write = || {
        fs::create_dir_all(dir)?;
        fs::write(&probe, b"x")?;
        fs::remove_file(&probe)
    };
    match write() {
        Ok(()) => check("state", true, false, format!("{} can be written", dir.display())),
        Err(error) => {
            let detail = format!("{}: {error}; batches would be kept in memory only", dir.display());
            check("state", false, false, detail)
        }
    }
}

fn certificate(config: &Config) -> Check {
    let now_s = Clock::system().wall_us() / 1_000_000;
    let usable = Credentials::load(&config.credentials).and_then(|credentials| {
        credentials.check_expiry(&config.credentials.cert, now_s)?;
        Ok(credentials)
    });
    match usable {
        Ok(credentials) => {
            let days = (credentials.not_after_s - now_s) / 86_400;
            check("certificate", true, true, format!("node {}, valid for {days} days", credentials.node))
        }
        Err(error) => check("certificate", false, true, crate::error::chain(&error)),
    }
}

/// Whether each collector can be reached and is ours; nothing where there is nothing to show it, which [`certificate`] says.
fn collectors(config: &Config) -> Vec<Check> {
    let Ok(credentials) = Credentials::load(&config.credentials) else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    // An error means that there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let tried = config.collectors.iter().map(|collector| {
        let (collector, credentials) = (collector.clone(), credentials.clone());
        runtime.spawn(async move {
            match connect(&collector, &credentials).await {
                Ok(_) => check("collector", true, false, format!("{collector} can be reached")),
                Err(error) => check("collector", false, false, explain(&collector, &error)),
            }
        })
    });
    let tried: Vec<_> = tried.collect();
    tried.into_iter().filter_map(|task| runtime.block_on(task).ok()).collect()
}

fn space(dir: &Path) -> Option<Check> {
    let existing = dir.ancestors().find(|dir| dir.exists())?;
    let space = rustix::fs::statvfs(existing).ok()?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    Some(check("disk", free >= LITTLE_SPACE_BYTES, false, format!("{} MiB free for the spool", free >> 20)))
}

fn clock() -> Option<Check> {
    let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").ok()?;
    // Whether it is synchronised is not in /proc; a wrong year is.
    let wall_us = Clock::system().wall_us();
    let plausible = wall_us > 1_700_000_000_000_000;
    let detail = if plausible { source.trim().to_owned() } else { "the wall clock is years behind".to_owned() };
    Some(check("clock", plausible, false, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_essential_makes_a_host_unfit() {
        let checks = vec![check("a", false, false, "x"), check("b", true, true, "y")];
        assert!(!is_unfit(&checks));
        assert!(is_unfit(&[check("c", false, true, "z")]));
        assert_eq!(human(&checks), "limited  a  x\nok       b  y\n");
    }

    #[test]
    fn json_quotes_what_must_be_quoted() {
        let text = json(&[check("a", true, false, "say \"x\\y\"\n")]);
        assert_eq!(
            text,
            "[{\"check\":\"a\",\"ok\":true,\"essential\":false,\"detail\":\"say \\\"x\\\\y\\\"\\u000a\"}]\n"
        );
    }

    #[test]
    fn json_carries_figures_where_there_are_some() {
        let figures = vec![("sys_enter", 33), ("sys_exit", 1_204)];
        assert_eq!(
            json(&[Check { figures, ..check("verifier", true, false, "") }]),
            "[{\"check\":\"verifier\",\"ok\":true,\"essential\":false,\"detail\":\"\",\
             \"figures\":{\"sys_enter\":33,\"sys_exit\":1204}}]\n"
        );
    }

    #[test]
    fn one_missing_probe_is_no_disaster_and_all_missing_is() {
        let feature = |ok| Feature { name: "tcp", ok, reason: String::new(), figures: Vec::new() };
        assert!(!of_feature(feature(false), true).essential);
        assert!(of_feature(feature(false), false).essential);
    }
}
