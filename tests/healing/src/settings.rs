//! Who may be broken, and what agent and executor are told of them.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::boxed;
use crate::kind::Kind;
use crate::neighbour::tool;
use crate::subject::files;

/// The first port of a kind is so much above that of the one before.
const PORTS_OF_A_KIND: u16 = 100;

const FIRST_PORT: u16 = 20_000;

/// One thing that is broken once. With number 0 it never is: what is done to it is done to the wrong one.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) number: u16,
    /// Its files, seen from here.
    pub(crate) folder: PathBuf,
}

impl Subject {
    /// Makes its files.
    pub(crate) fn make(kind: Kind, number: u16, share: &Path) -> Result<Self> {
        let subject = Self { kind, number, folder: share.join(port(kind, number).to_string()) };
        for (release, answer) in [("v1", "200"), ("v2", "500")] {
            let release = subject.folder.join(release);
            fs::create_dir_all(&release)?;
            fs::write(release.join(files::ANSWER), answer)?;
        }
        symlink("v1", subject.folder.join(files::CURRENT))?;
        for name in [files::STATE, files::DISK] {
            fs::create_dir(subject.folder.join(name))?;
        }
        if kind == Kind::DiskFilling {
            tool(&format!("mount -t tmpfs -o size=16m heal-disk {}", subject.disk().display()))?;
        }
        Ok(subject)
    }

    pub(crate) fn port(&self) -> u16 {
        port(self.kind, self.number)
    }

    /// As tables and policy call it.
    pub(crate) fn workload(&self) -> String {
        if self.kind.is_service() {
            return format!("unit:{}", self.unit());
        }
        format!("cgroup:{}", self.cgroup())
    }

    pub(crate) fn unit(&self) -> String {
        format!("heal-{}@{}.service", self.kind.name(), self.port())
    }

    pub(crate) fn cgroup(&self) -> String {
        format!("/heal-{}-{}-{}", self.kind.name(), std::process::id(), self.number)
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.folder.join(files::DISK)
    }
}

fn port(kind: Kind, number: u16) -> u16 {
    FIRST_PORT + kind as u16 * PORTS_OF_A_KIND + number
}

/// The box's units: a template for each kind of service.
pub(crate) fn units() -> Vec<(String, String)> {
    let services = Kind::ALL.into_iter().filter(|kind| kind.is_service());
    services.map(|kind| (format!("heal-{}@.service", kind.name()), unit(kind))).collect()
}

fn unit(kind: Kind) -> String {
    let limit = match kind {
        Kind::FdLeak => "LimitNOFILE=256\n",
        Kind::MemoryLeak => "LimitAS=256M\n",
        _ => "",
    };
    let (program, share) = (boxed::PROGRAM, boxed::SHARE);
    format!(
        "[Service]\nExecStart={program} subject --port %i --folder {share}/%i\nLimitCORE=0\nTimeoutStopSec=5\n{limit}"
    )
}

/// The agent's: a check for each service, and one for each disk.
pub(crate) fn agent(subjects: &[Subject], folder: &Path) -> Result<PathBuf> {
    let script = folder.join("has-room.sh");
    fs::write(
        &script,
        "#!/bin/sh\nused=$(df --output=pcent \"$1\" | tail -n 1 | tr -dc 0-9)\n[ \"$used\" -lt 90 ] || { echo \"$used % are used\"; exit 1; }\n",
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut text = String::new();
    for subject in subjects.iter().filter(|subject| subject.kind.is_service()) {
        let unit = subject.unit();
        let way = match subject.kind {
            Kind::DiskFilling => {
                format!("kind = \"command\"\nargv = [\"{}\", \"{}\"]\n", script.display(), subject.disk().display())
            }
            _ => format!("kind = \"http\"\ntarget = \"http://127.0.0.1:{}/\"\n", subject.port()),
        };
        write!(
            text,
            "[[check]]\nname = \"{unit}\"\nunit = \"{unit}\"\ninterval = \"1s\"\ntimeout = \"1s\"\nretries = 1\n{way}"
        )?;
    }
    written(folder, "agent.toml", &text)
}

/// The executor's: what may be done to them, and to nobody else.
pub(crate) fn executor(subjects: &[Subject], folder: &Path) -> Result<PathBuf> {
    let mut text = "actions = [\"throttle\", \"kill\", \"restart_unit\", \"clean\", \"run\"]\n\
                    allowed_cgroups = [\"/heal-*\"]\n[budget]\nmax_concurrent = 100\nmax_per_hour = 10000\n\
                    [unit]\nallowed = [\"heal-*\"]\n"
        .to_owned();
    for subject in subjects {
        let folder = match subject.kind {
            Kind::DiskFilling => subject.disk(),
            Kind::CrashLoop => subject.folder.join(files::STATE),
            _ => continue,
        };
        write!(text, "[[clean.folder]]\npath = \"{}\"\nmin_age_s = 0\n", folder.display())?;
    }
    for subject in subjects.iter().filter(|subject| subject.kind == Kind::BadRollout) {
        let (port, current) = (subject.port(), subject.folder.join(files::CURRENT));
        write!(
            text,
            "[[run.command]]\nname = \"roll-back-{port}\"\nargv = [\"/bin/ln\", \"-sfn\", \"v1\", \"{}\"]\n",
            current.display()
        )?;
    }
    written(folder, "executor.toml", &text)
}

/// A file of settings.
pub(crate) fn written(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    Ok(path)
}
