//! A whole Debian with systemd: the agent's unit loads the probes and counts as a user with four capabilities.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::debian::Kernel;
use super::image::{add, empty, executable, pack, settings};
use super::machine::Machine;
use super::transcript::{checks, section};
use super::{Ground, probes};
use crate::run::checked;
use crate::setup;

const RELEASE: &str = "bookworm";

/// What nobody reads in the machine.
const LEFT_OUT: [&str; 4] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/i18n/*"];

/// Where the files of `systemd/` and those of this folder go.
const FILES: [(&str, &str); 5] = [
    ("systemd/skep-agent.service", "usr/lib/systemd/system/skep-agent.service"),
    ("systemd/skep-agent.sysusers", "usr/lib/sysusers.d/skep-agent.conf"),
    ("systemd/skep-agent.tmpfiles", "usr/lib/tmpfiles.d/skep-agent.conf"),
    ("xtask/src/vm/check.service", "etc/systemd/system/check.service"),
    ("xtask/src/vm/check.conf", "etc/systemd/system/skep-agent.service.d/check.conf"),
];

/// `CAP_DAC_READ_SEARCH`, `CAP_SYS_PTRACE`, `CAP_PERFMON`, `CAP_BPF`.
const CAPABILITIES: u64 = 1 << 2 | 1 << 19 | 1 << 38 | 1 << 39;

pub(super) fn run(name: &str, kernel: &Kernel, ground: &Ground) -> Result<String> {
    let file_system = file_system(ground)?;
    let machine = Machine {
        kernel,
        file_system: &file_system,
        memory_mib: 2048,
        arguments: "systemd.show_status=no systemd.mask=getty@tty1.service systemd.mask=serial-getty@ttyS0.service",
        patience: Duration::from_secs(600),
    };
    judge(&machine.run(&ground.folder.join("logs").join(name))?)
}

fn file_system(ground: &Ground) -> Result<PathBuf> {
    let archive = debian(&ground.folder)?;
    let root = empty(&ground.folder, "systemd")?;
    checked(Command::new("tar").arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(&root))?;
    add(&root, Path::new("/usr/bin/skep-agent"), &ground.programs.agent)?;
    settings(&root)?;
    for (from, to) in FILES {
        let to = root.join(to);
        fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        fs::copy(setup::repository().join(from), &to).with_context(|| format!("cannot copy {from}"))?;
    }
    executable(&root.join("usr/local/sbin/check"), include_str!("check.sh"))?;
    // As the package's scripts will do it.
    checked(Command::new("chroot").arg(&root).arg("systemd-sysusers"))?;
    checked(Command::new("chroot").arg(&root).args(["systemctl", "--quiet", "enable", "skep-agent", "check"]))?;
    if fs::symlink_metadata(root.join("init")).is_err() {
        std::os::unix::fs::symlink("/usr/lib/systemd/systemd", root.join("init"))?;
    }
    pack(&root)
}

/// The release with systemd and little else, made once.
fn debian(folder: &Path) -> Result<PathBuf> {
    let archive = folder.join(format!("{RELEASE}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    println!("== mmdebstrap {RELEASE}");
    let unfinished = folder.join(format!("{RELEASE}.unfinished.tar"));
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=essential", "--include=systemd,systemd-sysv,dbus"]);
    command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    checked(command.arg(RELEASE).arg(&unfinished))?;
    fs::rename(&unfinished, &archive)?;
    Ok(archive)
}

fn judge(said: &str) -> Result<String> {
    let journal = || section(said, "journal").map_or("nothing", |journal| journal.text);
    let doctor = section(said, "doctor")?;
    probes::all_in_order(&checks(doctor.text)?)?;
    let unit = section(said, "unit")?;
    ensure!(unit.status == 0, "the unit is {}; its journal:\n{}", unit.text.trim(), journal());
    let spool = section(said, "spool")?;
    ensure!(spool.status == 0, "the spool does not grow: {}; the journal:\n{}", spool.text.trim(), journal());
    let pins = section(said, "pins")?;
    ensure!(pins.status == 0, "the unit cannot keep anything in the bpf file system: {}", pins.text.trim());
    let exposure = section(said, "exposure")?;
    let level = exposure.text.lines().last().unwrap_or_default().trim();
    ensure!(exposure.status == 0, "the unit is too exposed: {level}");
    confined(section(said, "process")?.text)?;
    Ok(format!("probes count under the unit (spool {} bytes); {level}", spool.text.trim().replace(' ', " -> ")))
}

/// Whether the agent's process, as /proc shows it, has what the unit gives it and no more.
fn confined(status: &str) -> Result<()> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    let uid = field("Uid").and_then(|ids| ids.split('\t').nth(1)).context("the agent does not run")?;
    ensure!(uid != "0", "the agent runs as root");
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let found = field(set).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        ensure!(found == Some(CAPABILITIES), "{set} is {:?}, not {CAPABILITIES:016x}", field(set));
    }
    for (name, wanted) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        ensure!(field(name) == Some(wanted), "{name} is {:?}", field(name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_root_nor_one_capability_more_is_confined() {
        let status = |uid: &str, mask: &str| {
            format!(
                "Name:\tskep-agent\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapInh:\t{mask}\nCapPrm:\t{mask}\nCapEff:\t{mask}\n\
                 CapBnd:\t{mask}\nCapAmb:\t{mask}\nNoNewPrivs:\t1\nSeccomp:\t2\n"
            )
        };
        assert!(confined(&status("998", "000000c000080004")).is_ok());
        assert!(confined(&status("0", "000000c000080004")).is_err());
        assert!(confined(&status("998", "000000c000280004")).is_err());
        assert!(confined("").is_err());
    }
}
