//! Settings: a TOML file, then the environment, then flags, each over the one before.
//!
//! All faults of all of them are told at once. Clap reads environment and flags into [`Overrides`]; nothing here touches
//! the process environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_checks::check::Check;
use skep_checks::peer::Allowed;
use skep_runtime::settings::{self, Faults, Section};
use skep_runtime::telemetry::Format;
use tonic::transport::Uri;

use crate::govern::Budget;
use crate::probe::{LogLevel, ProbeOptions};
use crate::ship::credentials::CredentialPaths;

/// The default file, as `skep-agent config --default` prints it.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// Where the spool is if nothing else is said.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/skep/agent";

/// Where the probes are pinned if nothing else is said.
pub const DEFAULT_PIN: &str = "/sys/fs/bpf/skep";

/// Windows shorter than this would cost more than they show.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// Windows longer than this would be late.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);

/// Time between two canaries if nothing else is said.
const DEFAULT_CANARY: &str = "60s";

/// Share of a core the agent may use if nothing else is said. Built without optimisation it is not the agent that runs
/// on anybody's hosts, and costs ten times as much.
const DEFAULT_CPU_RATIO: f64 = if cfg!(debug_assertions) { 0.1 } else { 0.01 };

/// Less than this of a core cannot be measured, let alone be kept to.
const LEAST_CPU_RATIO: f64 = 0.0001;

/// Nobody has as many.
const MOST_CORES: f64 = 65_536.0;

/// Memory the agent may hold if nothing else is said: 60 MB of its own and the kernel maps as they are by default, with
/// room for a busy host.
const DEFAULT_MEMORY_BYTES: u64 = 160 << 20;

/// The agent does not get by with less.
const LEAST_MEMORY_BYTES: u64 = 16 << 20;

/// Collectors an agent can have.
const MOST_COLLECTORS: usize = 16;

/// How long to stay with another than the first collector if nothing else is said: it is back before that one misses it
/// (`node-silent`, with canaries as they are by default).
const DEFAULT_RETURN: &str = "2m";

/// Going back and forth more seldom than this is not going back.
const LONGEST_RETURN: Duration = Duration::from_secs(86_400);

/// A spool smaller than this cannot hold one busy window.
const SMALLEST_SPOOL_BYTES: u64 = 1 << 20;

/// Settings given by environment or flag, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Overrides {
    /// The collector, as https://HOST:PORT; several, the preferred one first, with commas in between
    #[arg(long, env = "SKEP_COLLECTOR", value_name = "URL", value_delimiter = ',', global = true)]
    pub collector: Vec<String>,
    /// How long to stay with another than the first collector, from 1s; 0 for ever
    #[arg(long, env = "SKEP_RETURN_AFTER", value_name = "TIME", global = true)]
    pub return_after: Option<String>,
    /// Certificate of the authority that signed the collector's, PEM
    #[arg(long, env = "SKEP_CA", value_name = "FILE", global = true)]
    pub ca: Option<String>,
    /// This node's certificate, PEM; its common name is the node's name
    #[arg(long, env = "SKEP_CERT", value_name = "FILE", global = true)]
    pub cert: Option<String>,
    /// The private key of the certificate, PEM
    #[arg(long, env = "SKEP_KEY", value_name = "FILE", global = true)]
    pub key: Option<String>,
    /// Folder for what must outlive the process: the spool
    #[arg(long, env = "SKEP_STATE_DIR", value_name = "DIR", global = true)]
    pub state_dir: Option<String>,
    /// Folder in a bpf file system where probes outlive the agent; empty: they do not
    #[arg(long, env = "SKEP_PIN", value_name = "DIR", global = true)]
    pub pin: Option<String>,
    /// Length of a window, from 1s
    #[arg(long, env = "SKEP_WINDOW", value_name = "TIME", global = true)]
    pub window: Option<String>,
    /// Most bytes of the spool on disk
    #[arg(long, env = "SKEP_SPOOL_MAX_BYTES", value_name = "BYTES", global = true)]
    pub spool_max_bytes: Option<String>,
    /// The executor's socket, on nodes that have one
    #[arg(long, env = "SKEP_EXECUTOR_SOCKET", value_name = "PATH", global = true)]
    pub executor_socket: Option<String>,
    /// Time between two canaries, from 1s; 0 for none
    #[arg(long, env = "SKEP_CANARY_INTERVAL", value_name = "TIME", global = true)]
    pub canary_interval: Option<String>,
    /// Share of one core the agent may use, probes included; 0 for as much as it takes
    #[arg(long, env = "SKEP_CPU_BUDGET", value_name = "RATIO", global = true)]
    pub cpu_budget: Option<String>,
    /// Where the container runtime listens, to call pods by their names
    #[arg(long, env = "SKEP_CRI_SOCKET", value_name = "PATH", global = true)]
    pub cri_socket: Option<String>,
    /// What to log: info, debug, skep_agent::ship=trace,info, ...
    #[arg(long, env = "SKEP_LOG", value_name = "FILTER", global = true)]
    pub log: Option<String>,
    /// human or json
    #[arg(long, env = "SKEP_LOG_FORMAT", value_name = "FORMAT", global = true)]
    pub log_format: Option<String>,
}

/// Settings that cannot be wrong.
#[derive(Debug, Clone)]
pub struct Config {
    /// `https://HOST:PORT`, the preferred one first; at least one.
    pub collectors: Vec<Uri>,
    /// How long to stay with another than the first; `None` for ever.
    pub return_after: Option<Duration>,
    /// Certificates.
    pub credentials: CredentialPaths,
    /// Folder of the agent's state.
    pub state_dir: PathBuf,
    /// Where the probes are pinned, if they are.
    pub pin: Option<PathBuf>,
    /// Length of a window.
    pub window: Duration,
    /// Bound of the spool.
    pub spool_max_bytes: u64,
    /// The executor's socket.
    pub executor_socket: Option<PathBuf>,
    /// Time between two canaries; `None` for none.
    pub canary_interval: Option<Duration>,
    /// What the agent may cost.
    pub budget: Budget,
    /// The container runtime's socket.
    pub cri_socket: Option<PathBuf>,
    /// Processes known at once.
    pub processes: usize,
    /// Services to look after.
    pub checks: Vec<Check>,
    /// What is looked at for other nodes.
    pub peers: Allowed,
    /// How the probes are loaded.
    pub probes: ProbeOptions,
    /// Log filter.
    pub log: String,
    /// Log format.
    pub log_format: Format,
}

/// Reads `file` (its name and text) and puts `overrides` over it.
///
/// # Errors
/// Every fault there is, one line each.
pub fn load(file: Option<(&Path, &str)>, overrides: &Overrides) -> Result<Config, Faults> {
    let mut faults = Vec::new();
    let mut given = Overrides::default();
    let mut rest = FileOnly::default();
    if let Some((path, text)) = file {
        // What is right in a file with faults is used, so that the faults behind it are told too.
        let lines;
        (given, rest, lines) = read_file(text);
        faults.extend(lines.into_iter().map(|line| format!("{}: {line}", path.display())));
    }
    let config = validate(overlay(given, overrides), rest, &mut faults);
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(Faults(faults)),
    }
}

/// Settings that only the file has.
#[derive(Debug, Clone)]
struct FileOnly {
    processes: usize,
    memory_bytes: u64,
    checks: Vec<Check>,
    peers: Allowed,
    probes: ProbeOptions,
}

impl Default for FileOnly {
    fn default() -> Self {
        Self {
            processes: 65_536,
            memory_bytes: DEFAULT_MEMORY_BYTES,
            checks: Vec::new(),
            peers: Allowed::default(),
            probes: ProbeOptions::default(),
        }
    }
}

/// What the file says, and all that is wrong with it.
fn read_file(text: &str) -> (Overrides, FileOnly, Vec<String>) {
    let (mut top, noted) = match settings::parse(text) {
        Ok(parsed) => parsed,
        Err(Faults(lines)) => return (Overrides::default(), FileOnly::default(), lines),
    };
    let mut only = FileOnly::default();
    let max_bytes = |section: &mut Section, key: &str| section.integer(key, 0..=i64::MAX).map(|n| n.to_string());
    let mut spool = top.section("spool");
    let mut canary = top.section("canary");
    let mut budget = top.section("budget");
    let mut cri = top.section("cri");
    let mut log = top.section("log");
    let given = Overrides {
        collector: top.text_or_texts("collector").unwrap_or_default(),
        return_after: top.text("return_after"),
        ca: top.text("ca"),
        cert: top.text("cert"),
        key: top.text("key"),
        state_dir: top.text("state_dir"),
        pin: top.text("pin"),
        window: top.text("window"),
        spool_max_bytes: max_bytes(&mut spool, "max_bytes"),
        executor_socket: top.text("executor_socket"),
        canary_interval: canary.text("interval"),
        cpu_budget: budget.number("cpu_ratio", 0.0..=MOST_CORES).map(|ratio| ratio.to_string()),
        cri_socket: cri.text("socket"),
        log: log.text("filter"),
        log_format: log.text("format"),
    };
    if let Some(processes) = top.integer("processes", 1024..=4_194_304) {
        only.processes = usize::try_from(processes).unwrap_or(only.processes);
    }
    if let Some(bytes) = budget.integer("memory_bytes", 0..=i64::MAX) {
        only.memory_bytes = bytes.unsigned_abs();
        if bytes != 0 && only.memory_bytes < LEAST_MEMORY_BYTES {
            budget.note("memory_bytes", format_args!("{bytes} is neither 0 nor at least {LEAST_MEMORY_BYTES}"));
        }
    }
    only.checks = skep_checks::settings::read(&mut top);
    only.peers = Allowed::read(top.section("peers"));
    let mut probes = top.section("probes");
    read_probes(&mut probes, &mut only.probes);
    for section in [spool, canary, budget, cri, log, probes, top] {
        section.finish();
    }
    let faults = noted.into_result().err().map(|Faults(lines)| lines);
    (given, only, faults.unwrap_or_default())
}

fn read_probes(section: &mut Section, probes: &mut ProbeOptions) {
    for (key, wanted) in [
        ("cpu", &mut probes.cpu),
        ("off_cpu", &mut probes.off_cpu),
        ("syscall", &mut probes.syscall),
        ("tcp", &mut probes.tcp),
        ("socket", &mut probes.socket),
        ("process", &mut probes.process),
        ("cgroup", &mut probes.cgroup),
        ("security", &mut probes.security),
        ("block", &mut probes.block),
    ] {
        *wanted = section.truth(key).unwrap_or(*wanted);
    }
    for (key, entries) in [
        ("call_entries", &mut probes.call_entries),
        ("wait_entries", &mut probes.wait_entries),
        ("usage_entries", &mut probes.usage_entries),
        ("traffic_entries", &mut probes.traffic_entries),
        ("crowded_entries", &mut probes.crowded_entries),
        ("block_entries", &mut probes.block_entries),
        ("request_entries", &mut probes.request_entries),
        ("connection_entries", &mut probes.connection_entries),
    ] {
        if let Some(value) = section.integer(key, 64..=16_777_216) {
            *entries = u32::try_from(value).unwrap_or(*entries);
        }
    }
    let powers = [
        ("ring_bytes", 65_536..=1 << 30, &mut probes.ring_bytes),
        ("thread_places", 1_024..=1 << 22, &mut probes.thread_places),
    ];
    for (key, range, wanted) in powers {
        let Some(value) = section.integer(key, range) else { continue };
        match u32::try_from(value) {
            Ok(value) if value.is_power_of_two() => *wanted = value,
            _ => section.note(key, format_args!("{value} is not a power of two")),
        }
    }
    let levels = [("off", LogLevel::Off), ("debug", LogLevel::Debug)];
    probes.log = section.choice("log", &levels).unwrap_or(probes.log);
}

fn overlay(under: Overrides, over: &Overrides) -> Overrides {
    let pick = |over: &Option<String>, under: Option<String>| over.clone().or(under);
    Overrides {
        collector: if over.collector.is_empty() { under.collector } else { over.collector.clone() },
        return_after: pick(&over.return_after, under.return_after),
        ca: pick(&over.ca, under.ca),
        cert: pick(&over.cert, under.cert),
        key: pick(&over.key, under.key),
        state_dir: pick(&over.state_dir, under.state_dir),
        pin: pick(&over.pin, under.pin),
        window: pick(&over.window, under.window),
        spool_max_bytes: pick(&over.spool_max_bytes, under.spool_max_bytes),
        executor_socket: pick(&over.executor_socket, under.executor_socket),
        canary_interval: pick(&over.canary_interval, under.canary_interval),
        cpu_budget: pick(&over.cpu_budget, under.cpu_budget),
        cri_socket: pick(&over.cri_socket, under.cri_socket),
        log: pick(&over.log, under.log),
        log_format: pick(&over.log_format, under.log_format),
    }
}

/// Texts to values; faults go to `faults`, and `None` is returned if there was any.
fn validate(given: Overrides, rest: FileOnly, faults: &mut Vec<String>) -> Option<Config> {
    let collectors = match parse_collectors(&given.collector) {
        Ok(uris) => Some(uris),
        Err(lines) => {
            faults.extend(lines.into_iter().map(|line| format!("collector: {line}")));
            None
        }
    };
    let return_after = parse_return(given.return_after.as_deref().unwrap_or(DEFAULT_RETURN));
    let return_after = valid("return_after", return_after, faults);
    let mut required = |name: &str, value: Option<String>| valid(name, value.ok_or("not set"), faults);
    let ca = required("ca", given.ca);
    let cert = required("cert", given.cert);
    let key = required("key", given.key);
    let window = valid("window", parse_window(given.window.as_deref().unwrap_or("10s")), faults);
    let spool_max_bytes = valid("spool.max_bytes", parse_spool(given.spool_max_bytes.as_deref()), faults);
    let canary_interval = parse_canary(given.canary_interval.as_deref().unwrap_or(DEFAULT_CANARY));
    let canary_interval = valid("canary.interval", canary_interval, faults);
    let cpu_ratio = valid("budget.cpu_ratio", parse_cpu_budget(given.cpu_budget.as_deref()), faults);
    let log_format = valid("log.format", given.log_format.as_deref().unwrap_or("human").parse::<Format>(), faults);
    Some(Config {
        collectors: collectors?,
        return_after: return_after?,
        credentials: CredentialPaths { ca: ca?.into(), cert: cert?.into(), key: key?.into() },
        state_dir: given.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.to_owned()).into(),
        pin: pin_folder(given.pin.as_deref()),
        window: window?,
        spool_max_bytes: spool_max_bytes?,
        executor_socket: given.executor_socket.filter(|path| !path.is_empty()).map(PathBuf::from),
        canary_interval: canary_interval?,
        budget: Budget { cpu_ratio: cpu_ratio?, memory_bytes: (rest.memory_bytes != 0).then_some(rest.memory_bytes) },
        cri_socket: given.cri_socket.filter(|path| !path.is_empty()).map(PathBuf::from),
        processes: rest.processes,
        checks: rest.checks,
        peers: rest.peers,
        probes: rest.probes,
        log: given.log.unwrap_or_else(|| skep_runtime::telemetry::DEFAULT_FILTER.to_owned()),
        log_format: log_format?,
    })
}

/// The value, or a fault.
fn valid<T, E: std::fmt::Display>(name: &str, value: Result<T, E>, faults: &mut Vec<String>) -> Option<T> {
    value.map_err(|why| faults.push(format!("{name}: {why}"))).ok()
}

/// Where probes are pinned according to a setting.
pub fn pin_folder(given: Option<&str>) -> Option<PathBuf> {
    Some(given.unwrap_or(DEFAULT_PIN)).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// All that is wrong with the list, or with one of it.
fn parse_collectors(texts: &[String]) -> Result<Vec<Uri>, Vec<String>> {
    let (mut uris, mut faults): (Vec<Uri>, Vec<String>) = (Vec::new(), Vec::new());
    for text in texts {
        match parse_collector(text) {
            Ok(uri) if uris.iter().any(|other| other.authority() == uri.authority()) => {
                faults.push(format!("{text:?} is named twice"));
            }
            Ok(uri) => uris.push(uri),
            Err(why) => faults.push(format!("{text:?} {why}")),
        }
    }
    if texts.is_empty() {
        faults.push("not set".to_owned());
    } else if texts.len() > MOST_COLLECTORS {
        faults.push(format!("{} are more than {MOST_COLLECTORS}", texts.len()));
    }
    if faults.is_empty() { Ok(uris) } else { Err(faults) }
}

fn parse_collector(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
    if uri.scheme_str() != Some("https") {
        return Err("does not begin with https://; there is no plaintext connection");
    }
    if uri.port_u16().is_none() {
        return Err("has no port");
    }
    Ok(uri)
}

fn parse_window(text: &str) -> Result<Duration, String> {
    let window = humantime::parse_duration(text).map_err(|why| format!("{text:?} is not a time: {why}"))?;
    if !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&window) {
        return Err(format!("{text:?} is not between 1s and 1h"));
    }
    Ok(window)
}

/// `None` for never.
fn parse_return(text: &str) -> Result<Option<Duration>, String> {
    let after = humantime::parse_duration(text).map_err(|why| format!("{text:?} is not a time: {why}"))?;
    match after {
        Duration::ZERO => Ok(None),
        _ if (SHORTEST_WINDOW..=LONGEST_RETURN).contains(&after) => Ok(Some(after)),
        _ => Err(format!("{text:?} is neither 0 nor between 1s and 1d")),
    }
}

/// `None` for no canaries. One that comes more seldom than once an hour tells nobody in time.
fn parse_canary(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" {
        return Ok(None);
    }
    let interval = humantime::parse_duration(text).map_err(|why| format!("{text:?} is not a time: {why}"))?;
    match interval {
        Duration::ZERO => Ok(None),
        _ if (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&interval) => Ok(Some(interval)),
        _ => Err(format!("{text:?} is neither 0 nor between 1s and 1h")),
    }
}

/// `None` for no budget.
fn parse_cpu_budget(text: Option<&str>) -> Result<Option<f64>, String> {
    let Some(text) = text else { return Ok(Some(DEFAULT_CPU_RATIO)) };
    let ratio: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    match ratio {
        0.0 => Ok(None),
        _ if (LEAST_CPU_RATIO..=MOST_CORES).contains(&ratio) => Ok(Some(ratio)),
        _ => Err(format!("{text} is neither 0 nor at least {LEAST_CPU_RATIO} of a core")),
    }
}

fn parse_spool(text: Option<&str>) -> Result<u64, String> {
    let Some(text) = text else { return Ok(256 << 20) };
    let bytes: u64 = text.parse().map_err(|_| format!("{text:?} is not a number of bytes"))?;
    if bytes < SMALLEST_SPOOL_BYTES {
        return Err(format!("{bytes} is less than {SMALLEST_SPOOL_BYTES}"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Overrides {
        Overrides {
            collector: vec!["https://127.0.0.1:7443".to_owned()],
            ca: Some("ca.pem".to_owned()),
            cert: Some("agent.pem".to_owned()),
            key: Some("agent.key".to_owned()),
            ..Overrides::default()
        }
    }

    #[test]
    fn flags_go_over_the_file() {
        let text = "window = \"5s\"\nstate_dir = \"/a\"\n[spool]\nmax_bytes = 2000000\n[probes]\ntcp = false\n";
        let over = Overrides { window: Some("2s".to_owned()), ..flags() };
        let config = load(Some((Path::new("agent.toml"), text)), &over).unwrap();
        assert_eq!(config.window, Duration::from_secs(2));
        assert_eq!(config.state_dir, Path::new("/a"));
        assert_eq!(config.spool_max_bytes, 2_000_000);
        assert!(!config.probes.tcp && config.probes.cpu);
        assert_eq!(config.executor_socket, None);
    }

    #[test]
    fn every_fault_of_file_and_flags_is_told_at_once() {
        let text = "windwo = \"5s\"\n[spool]\nmax_bytes = \"many\"\n[probes]\nring_bytes = 70000\ncpu = 1\n";
        let over = Overrides {
            collector: vec!["http://127.0.0.1:7443".to_owned()],
            window: Some("100ms".to_owned()),
            log_format: Some("xml".to_owned()),
            ..Overrides::default()
        };
        let Faults(lines) = load(Some((Path::new("agent.toml"), text)), &over).unwrap_err();
        let expected = [
            "agent.toml: probes.cpu: expected true or false, found integer 1",
            "agent.toml: probes.ring_bytes: 70000 is not a power of two",
            "agent.toml: spool.max_bytes: expected a whole number, found string \"many\"",
            "agent.toml: windwo: unknown key",
            "collector: \"http://127.0.0.1:7443\" does not begin with https://; there is no plaintext connection",
            "ca: not set",
            "cert: not set",
            "key: not set",
            "window: \"100ms\" is not between 1s and 1h",
            "log.format: log format \"xml\" is neither human nor json",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn collectors_are_one_or_a_list_without_anything_wrong_in_it() {
        let of = |line: &str, over: &[&str]| {
            let collector = over.iter().map(|&url| url.to_owned()).collect();
            load(Some((Path::new("agent.toml"), line)), &Overrides { collector, ..flags() })
                .map(|config| config.collectors)
        };
        let uris = |texts: &[&str]| -> Vec<Uri> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let (one, two) = ("https://a.example:7443", "https://b.example:7443");
        assert_eq!(of(&format!("collector = {one:?}"), &[]).unwrap(), uris(&[one]));
        assert_eq!(of(&format!("collector = [{one:?}, {two:?}]"), &[]).unwrap(), uris(&[one, two]));
        assert_eq!(of(&format!("collector = [{one:?}, {two:?}]"), &[two]).unwrap(), uris(&[two]), "flags go over it");
        let many = [one; 17];
        for (line, faults) in [
            ("collector = []", &["collector: not set"][..]),
            ("collector = [\"\"]", &["collector: \"\" is not a URL"]),
            (
                "collector = [\"https://A.example:7443/\", \"https://a.example:7443\", \"https://b.example\"]",
                &[
                    "collector: \"https://a.example:7443\" is named twice",
                    "collector: \"https://b.example\" has no port",
                ],
            ),
            (
                "collector = [1]",
                &["agent.toml: collector: expected a list of texts, found integer 1", "collector: not set"],
            ),
        ] {
            assert_eq!(of(line, &[]).unwrap_err().0, faults, "{line}");
        }
        let Faults(lines) = of(&format!("collector = {many:?}"), &[]).unwrap_err();
        assert_eq!(lines.last().map(String::as_str), Some("collector: 17 are more than 16"));
        let after = |text: &str| load(None, &Overrides { return_after: Some(text.to_owned()), ..flags() });
        assert_eq!(after("90s").unwrap().return_after, Some(Duration::from_secs(90)));
        assert_eq!(after("0").unwrap().return_after, None);
        assert_eq!(after("1ms").unwrap_err().0, ["return_after: \"1ms\" is neither 0 nor between 1s and 1d"]);
    }

    #[test]
    fn canaries_can_be_had_seldom_or_not_at_all_but_not_always() {
        let interval = |text: &str| {
            let text = format!("[canary]\ninterval = \"{text}\"\n");
            load(Some((Path::new("agent.toml"), &text)), &flags()).map(|config| config.canary_interval)
        };
        assert_eq!(interval("5s").unwrap(), Some(Duration::from_secs(5)));
        assert_eq!((interval("0").unwrap(), interval("0s").unwrap(), interval("off").unwrap()), (None, None, None));
        assert_eq!(load(None, &flags()).unwrap().canary_interval, Some(Duration::from_secs(60)));
        for (wrong, why) in [("5ms", "is neither 0 nor between 1s and 1h"), ("often", "is not a time")] {
            let Faults(lines) = interval(wrong).unwrap_err();
            assert!(lines.len() == 1 && lines[0].contains(why) && lines[0].contains("canary.interval"), "{lines:?}");
        }
    }

    #[test]
    fn a_budget_is_a_share_of_a_core_and_some_memory_or_none() {
        let budget = |text: &str| {
            let text = format!("[budget]\n{text}\n");
            load(Some((Path::new("agent.toml"), &text)), &flags()).map(|config| config.budget)
        };
        let both = Budget { cpu_ratio: Some(0.003), memory_bytes: Some(100_000_000) };
        assert_eq!(budget("cpu_ratio = 0.003\nmemory_bytes = 100000000").unwrap(), both);
        let neither = Budget { cpu_ratio: None, memory_bytes: None };
        assert_eq!(budget("cpu_ratio = 0\nmemory_bytes = 0").unwrap(), neither);
        for (wrong, line) in [
            ("cpu_ratio = -1", "agent.toml: budget.cpu_ratio: -1 is not between 0 and 65536"),
            ("cpu_ratio = 1e-9", "budget.cpu_ratio: 0.000000001 is neither 0 nor at least 0.0001 of a core"),
            ("cpu_ratio = nan", "agent.toml: budget.cpu_ratio: NaN is not between 0 and 65536"),
            ("memory_bytes = 5", "agent.toml: budget.memory_bytes: 5 is neither 0 nor at least 16777216"),
        ] {
            assert_eq!(budget(wrong).unwrap_err().0, [line]);
        }
        let over = Overrides { cpu_budget: Some("inf".to_owned()), ..flags() };
        assert!(load(None, &over).is_err());
    }

    #[test]
    fn values_of_a_file_with_faults_are_looked_at_too() {
        let text = "windwo = 1\nwindow = \"5ms\"\n[spool]\nmax_bytes = 5\n";
        let Faults(lines) = load(Some((Path::new("agent.toml"), text)), &flags()).unwrap_err();
        let expected = [
            "agent.toml: windwo: unknown key",
            "window: \"5ms\" is not between 1s and 1h",
            "spool.max_bytes: 5 is less than 1048576",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_printed_default_is_what_is_used_without_a_file() {
        let from_file = load(Some((Path::new("default.toml"), DEFAULT_FILE)), &Overrides::default()).unwrap();
        let built_in = load(None, &flags()).unwrap();
        assert_eq!(from_file.collectors, built_in.collectors);
        assert_eq!(from_file.return_after, built_in.return_after);
        assert_eq!(from_file.pin, built_in.pin);
        assert_eq!(from_file.window, built_in.window);
        assert_eq!(from_file.state_dir, built_in.state_dir);
        assert_eq!(from_file.spool_max_bytes, built_in.spool_max_bytes);
        let memory_bytes = Some(DEFAULT_MEMORY_BYTES);
        assert_eq!(from_file.budget, Budget { cpu_ratio: Some(0.01), memory_bytes });
        assert_eq!(built_in.budget, Budget { cpu_ratio: Some(DEFAULT_CPU_RATIO), memory_bytes });
        assert_eq!(from_file.canary_interval, built_in.canary_interval);
        assert_eq!(from_file.processes, built_in.processes);
        assert_eq!(from_file.checks, built_in.checks);
        assert_eq!(from_file.peers, built_in.peers);
        assert_eq!(from_file.probes, built_in.probes);
        assert_eq!((from_file.log, from_file.log_format), (built_in.log, built_in.log_format));
    }
}
