//! The box, its services, its neighbour, and skep beside them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::boxed::Boxed;
use crate::hog::Hog;
use crate::kind::Kind;
use crate::neighbour::{Neighbour, tool};
use crate::record::Record;
use crate::settings::{self, Subject};
use crate::skep::Skep;
use crate::{Arguments, policy, subject};

/// How long all may take to be well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything. Dropping this takes it down, in this order.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) record: Record,
    skep: Skep,
    /// A batch job as it should be.
    _bystander: Option<Hog>,
    pub(crate) boxed: Boxed,
    _neighbour: Neighbour,
    _folder: Folder,
}

/// A folder with mounts in it.
#[derive(Debug)]
struct Folder(TempDir);

impl Folder {
    /// Beside the programs: on a disk, where a temporary folder may be in memory.
    fn make() -> Result<Self> {
        let programs = std::env::current_exe()?;
        let programs = programs.parent().context("a program in no folder")?;
        Ok(Self(tempfile::Builder::new().prefix("healing-").tempdir_in(programs.canonicalize()?)?))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|at| Path::new(at).starts_with(self.0.path()));
        for mount in below.collect::<Vec<_>>().into_iter().rev() {
            // What is left ends with this program.
            let _left = tool(&format!("umount --lazy {mount}")).is_err();
        }
    }
}

impl Ground {
    /// Everything that `kinds` need, `rounds` of each and one that is not to be touched.
    pub(crate) fn prepare(arguments: &Arguments, faults: &[(Kind, u16)]) -> Result<(Self, Vec<Subject>)> {
        let folder = Folder::make()?;
        let path = folder.0.path();
        let part = |name: &str| path.join(name);
        for name in ["box", "share"] {
            fs::create_dir(part(name))?;
        }
        let mut subjects = Vec::new();
        for &(kind, rounds) in faults {
            for number in 0..=rounds {
                subjects.push(Subject::make(kind, number, &part("share"))?);
            }
        }
        tool("ip link set lo up")?;
        let neighbour = Neighbour::start()?;
        eprintln!("a box with {} services is booted ...", subjects.len());
        let boxed = Boxed::boot(&part("box"), &part("share"), &settings::units())?;
        let services: Vec<String> =
            subjects.iter().filter(|subject| subject.kind.is_service()).map(Subject::unit).collect();
        let start: Vec<&str> = ["systemctl", "start"].into_iter().chain(services.iter().map(String::as_str)).collect();
        boxed.inside(&start)?;
        let hog = faults.iter().any(|(kind, _)| *kind == Kind::CpuHog);
        let idle = subjects.iter().find(|subject| hog && subject.kind == Kind::CpuHog);
        let bystander = idle.map(|idle| Hog::start(&idle.cgroup(), "while :; do sleep 0.2; done")).transpose()?;
        let policy = policy::write(arguments, &subjects, path)?;
        let (agent, executor) = (settings::agent(&subjects, path)?, settings::executor(&subjects, path)?);
        let bus = boxed.bus();
        let variables = [
            ("SKEP_AGENT_CONFIG", agent.to_str().context("an odd path")?),
            ("SKEP_EXECUTOR_CONFIG", executor.to_str().context("an odd path")?),
            ("DBUS_SYSTEM_BUS_ADDRESS", &bus),
        ];
        let policy = policy.to_str().context("an odd path")?;
        let skep = Skep::up(&part("data"), &["--act", "--window", "2s", "--policy", policy], &variables)?;
        let record = Record::begin(skep.reader());
        let ground = Self { record, skep, _bystander: bystander, boxed, _neighbour: neighbour, _folder: folder };
        ground.wait_until_well(services.len(), hog)?;
        Ok((ground, subjects))
    }

    /// All checks passed, and where usage is judged it is known what is usual.
    fn wait_until_well(&self, services: usize, judged: bool) -> Result<()> {
        let reader = self.skep.reader();
        let number = |sql: &str| {
            let rows = reader.query(sql).unwrap_or_default();
            rows.first().and_then(|row| row["n"].as_u64()).unwrap_or(0)
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let passed = number("SELECT count(DISTINCT name) AS n FROM checks WHERE ok");
            let windows = number("SELECT count(DISTINCT time) AS n FROM scores");
            if passed >= services as u64 && (windows >= 2 || !judged) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{passed} of {services} checks passed, {windows} windows were judged");
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// Ids of this life of each service's, as systemd has them.
    pub(crate) fn invocations(&self, subjects: &[Subject]) -> Result<Vec<String>> {
        let units: Vec<String> = subjects.iter().map(Subject::unit).collect();
        let show = ["systemctl", "show", "--value", "--property", "InvocationID"];
        let words: Vec<&str> = show.into_iter().chain(units.iter().map(String::as_str)).collect();
        let said = self.boxed.inside(&words)?;
        let ids: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
        ensure!(ids.len() == units.len(), "systemd told of {} of {} units", ids.len(), units.len());
        Ok(ids)
    }
}

/// What a service answers with.
pub(crate) fn answer(subject: &Subject, path: &str) -> Option<u16> {
    ask(subject.port(), path)
}

/// What whoever listens on a port of this host answers with.
pub(crate) fn ask(port: u16, path: &str) -> Option<u16> {
    let to = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    // In one piece: that is how it is read.
    stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

/// Whether somebody runs that an intruder started through this service.
pub(crate) fn intruder_runs(subject: &Subject) -> bool {
    let mark = format!("{}={}", subject::MARK, subject.port());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())).any(
        |entry| {
            // One that has ended has none.
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        },
    )
}
