//! What this executor carries out, for whom, and within which limits.

use std::collections::BTreeSet;
use std::path::PathBuf;

use skep_runtime::settings::{Noted, Section};
use skep_wire::order;

use super::net::Net;

/// What it carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Verbs.
    pub actions: BTreeSet<String>,
    /// Modes of commands.
    pub modes: BTreeSet<String>,
    /// Cgroups (with all below them) that may be acted on; empty is all.
    pub allowed_cgroups: Vec<String>,
    /// Cgroups (with all below them) that are never acted on, beside those that hold a protected process.
    pub protected_cgroups: Vec<String>,
    /// By how much clocks may differ.
    pub max_clock_skew_s: i64,
    /// Actions at a time.
    pub max_concurrent: usize,
    /// Actions begun in any hour.
    pub max_per_hour: usize,
    /// Least limit in thousandths of a core.
    pub min_cpu_millicores: u32,
    /// Least limit of memory.
    pub min_memory_bytes: u64,
    /// Least limit of reading and of writing.
    pub min_io_bytes_per_s: u64,
    /// Longest leases.
    pub leases: Leases,
    /// Ending processes.
    pub kill: Kill,
    /// Patterns of units that may be changed.
    pub units: Vec<String>,
    /// Containers that may be changed.
    pub container: Container,
    /// Blocking and isolating.
    pub network: Network,
    /// Cleaning folders.
    pub clean: Clean,
    /// Commands that may be run.
    pub commands: Vec<Program>,
}

/// Longest leases, in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leases {
    /// Of a limit on cpu.
    pub throttle: u32,
    /// Of a limit on memory.
    pub limit_memory: u32,
    /// Of a limit on block devices.
    pub limit_io: u32,
    /// Of standing still.
    pub freeze: u32,
    /// Of a stopped unit.
    pub unit: u32,
    /// Of a paused container.
    pub container: u32,
    /// Of a blocked address or port, and of isolation.
    pub network: u32,
}

/// Ending processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// By one command.
    pub max_processes: usize,
    /// Longest time to end by themselves.
    pub max_grace_s: u32,
}

/// Changing containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Where the runtime listens; `None` is no containers.
    pub socket: Option<PathBuf>,
    /// Patterns of names.
    pub allowed: Vec<String>,
    /// How long processes have to end before a restart.
    pub stop_grace_s: u32,
}

/// Blocking and isolating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Stays reachable.
    pub management: Vec<Net>,
    /// The program that speaks to the kernel's packet filter.
    pub nft: PathBuf,
}

/// Cleaning folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clean {
    /// Files removed by one command.
    pub max_files: usize,
    /// Folders that may be.
    pub folders: Vec<Folder>,
}

/// A folder that may be cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where.
    pub path: PathBuf,
    /// Younger files stay.
    pub min_age_s: u64,
}

/// A command that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What commands call it.
    pub name: String,
    /// Path and arguments.
    pub argv: Vec<String>,
    /// Killed after.
    pub timeout_s: u64,
}

impl Default for Policy {
    fn default() -> Self {
        let texts = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self {
            actions: texts(&["throttle"]),
            modes: texts(&MODES),
            allowed_cgroups: Vec::new(),
            protected_cgroups: Vec::new(),
            max_clock_skew_s: 120,
            max_concurrent: 4,
            max_per_hour: 30,
            min_cpu_millicores: 50,
            min_memory_bytes: 64 << 20,
            min_io_bytes_per_s: 1 << 20,
            leases: Leases {
                throttle: 3600,
                limit_memory: 3600,
                limit_io: 3600,
                freeze: 300,
                unit: 600,
                container: 300,
                network: 3600,
            },
            kill: Kill { max_processes: 64, max_grace_s: 60 },
            units: Vec::new(),
            container: Container { socket: None, allowed: Vec::new(), stop_grace_s: 10 },
            network: Network { management: Vec::new(), nft: PathBuf::from("/usr/sbin/nft") },
            clean: Clean { max_files: 10_000, folders: Vec::new() },
            commands: Vec::new(),
        }
    }
}

const MODES: [&str; 2] = ["ask", "auto"];

const A_DAY_S: i64 = 86_400;

impl Policy {
    /// The longest lease of a verb; `None` for what has none.
    pub fn longest_lease_s(&self, verb: &str) -> Option<u32> {
        match verb {
            "throttle" => Some(self.leases.throttle),
            "limit_memory" => Some(self.leases.limit_memory),
            "limit_io" => Some(self.leases.limit_io),
            "freeze" => Some(self.leases.freeze),
            "stop_unit" => Some(self.leases.unit),
            "pause_container" => Some(self.leases.container),
            "block" | "isolate" => Some(self.leases.network),
            _ => None,
        }
    }

    /// Reads the keys of the file that are about it.
    pub(super) fn read(top: &mut Section, noted: &Noted) -> Self {
        let mut policy = Self::default();
        words(top, "actions", order::HOST_VERBS, &mut policy.actions);
        words(top, "modes", &MODES, &mut policy.modes);
        policy.allowed_cgroups = cgroups(top, "allowed_cgroups");
        policy.protected_cgroups = cgroups(top, "protected_cgroups");
        number(top, "max_clock_skew_s", 1..=3_600, &mut policy.max_clock_skew_s);
        let mut budget = top.section("budget");
        number(&mut budget, "max_concurrent", 0..=1_000, &mut policy.max_concurrent);
        number(&mut budget, "max_per_hour", 0..=10_000, &mut policy.max_per_hour);
        budget.finish();
        policy.read_cgroups(top);
        let mut unit = top.section("unit");
        policy.units = unit.texts("allowed").unwrap_or_default();
        number(&mut unit, "max_lease_s", 1..=A_DAY_S, &mut policy.leases.unit);
        unit.finish();
        policy.read_containers(top.section("container"));
        policy.read_network(top.section("network"));
        policy.read_clean(top.section("clean"), noted);
        policy.read_commands(top.section("run"), noted);
        policy
    }

    fn read_cgroups(&mut self, top: &mut Section) {
        let mut section = top.section("throttle");
        number(&mut section, "min_cpu_millicores", 10..=1_000_000, &mut self.min_cpu_millicores);
        number(&mut section, "max_lease_s", 1..=A_DAY_S, &mut self.leases.throttle);
        section.finish();
        let mut section = top.section("limit_memory");
        number(&mut section, "min_bytes", 1 << 20..=i64::MAX, &mut self.min_memory_bytes);
        number(&mut section, "max_lease_s", 1..=A_DAY_S, &mut self.leases.limit_memory);
        section.finish();
        let mut section = top.section("limit_io");
        number(&mut section, "min_bytes_per_s", 4096..=i64::MAX, &mut self.min_io_bytes_per_s);
        number(&mut section, "max_lease_s", 1..=A_DAY_S, &mut self.leases.limit_io);
        section.finish();
        let mut section = top.section("freeze");
        number(&mut section, "max_lease_s", 1..=A_DAY_S, &mut self.leases.freeze);
        section.finish();
        let mut section = top.section("kill");
        number(&mut section, "max_processes", 1..=100_000, &mut self.kill.max_processes);
        number(&mut section, "max_grace_s", 0..=3_600, &mut self.kill.max_grace_s);
        section.finish();
    }

    fn read_containers(&mut self, mut section: Section) {
        self.container.socket = absolute(&mut section, "socket");
        self.container.allowed = section.texts("allowed").unwrap_or_default();
        number(&mut section, "stop_grace_s", 0..=600, &mut self.container.stop_grace_s);
        number(&mut section, "max_lease_s", 1..=A_DAY_S, &mut self.leases.container);
        section.finish();
    }

    fn read_network(&mut self, mut section: Section) {
        for text in section.texts("management").unwrap_or_default() {
            match Net::parse(&text) {
                Some(net) => self.network.management.push(net),
                None => section.note("management", format_args!("{text:?} is no address or network")),
            }
        }
        if let Some(nft) = absolute(&mut section, "nft") {
            self.network.nft = nft;
        }
        number(&mut section, "max_lease_s", 1..=A_DAY_S, &mut self.leases.network);
        section.finish();
    }

    fn read_clean(&mut self, mut section: Section, noted: &Noted) {
        number(&mut section, "max_files", 1..=10_000_000, &mut self.clean.max_files);
        for mut folder in section.sections("folder").unwrap_or_default() {
            let mut min_age_s = 86_400;
            number(&mut folder, "min_age_s", 0..=i64::MAX, &mut min_age_s);
            match absolute(&mut folder, "path") {
                Some(path) if path.components().count() > 2 => self.clean.folders.push(Folder { path, min_age_s }),
                Some(path) => folder.note("path", format_args!("{} is too much to clean", path.display())),
                None => noted.note(format!("{}: missing or not usable", folder.name("path"))),
            }
            folder.finish();
        }
        section.finish();
    }

    fn read_commands(&mut self, mut section: Section, noted: &Noted) {
        for mut command in section.sections("command").unwrap_or_default() {
            let mut timeout_s = 30;
            number(&mut command, "timeout_s", 1..=3_600, &mut timeout_s);
            let argv = command.texts("argv").unwrap_or_default();
            if !argv.first().is_some_and(|program| program.starts_with('/')) {
                command.note("argv", "the program must be an absolute path");
            }
            match command.text("name") {
                Some(name) => self.commands.push(Program { name, argv, timeout_s }),
                None => noted.note(format!("{}: missing or not usable", command.name("name"))),
            }
            command.finish();
        }
        section.finish();
    }
}

/// Replaces the default where the file has a number.
fn number<T: TryFrom<i64>>(section: &mut Section, key: &str, range: std::ops::RangeInclusive<i64>, into: &mut T) {
    if let Some(value) = section.integer(key, range).and_then(|value| T::try_from(value).ok()) {
        *into = value;
    }
}

/// Replaces the default where the file has a list of known words.
fn words(section: &mut Section, key: &str, known: &[&str], into: &mut BTreeSet<String>) {
    let Some(given) = section.texts(key) else { return };
    for unknown in given.iter().filter(|word| !known.contains(&word.as_str())) {
        section.note(key, format_args!("{unknown:?} is none of {}", known.join(", ")));
    }
    *into = given.into_iter().collect();
}

fn cgroups(section: &mut Section, key: &str) -> Vec<String> {
    let paths = section.texts(key).unwrap_or_default();
    for path in paths.iter().filter(|path| !path.starts_with('/')) {
        section.note(key, format_args!("{path:?} does not begin with a slash"));
    }
    paths
}

fn absolute(section: &mut Section, key: &str) -> Option<PathBuf> {
    let text = section.text(key)?;
    let path = PathBuf::from(&text);
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if path.is_absolute() && plain {
        return Some(path);
    }
    section.note(key, format_args!("{text:?} is no absolute path"));
    None
}
