//! What the collector's benchmarks compare with, in a folder of its own under the target folder.
//!
//! Debian's packages are unpacked there rather than installed: they would start servers on this host.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::run::checked;

/// Debian packages, and the program of each that is run.
const SERVERS: [(&str, &str); 2] =
    [("victoria-metrics", "usr/bin/victoria-metrics"), ("prometheus", "usr/bin/prometheus")];

/// Engines with a Python interface; pinned, so that figures can be compared.
const ENGINES: [&str; 2] = ["duckdb==1.5.5", "chdb==4.4.0"];

/// Fetches whatever is missing, saying each step.
pub(crate) fn prepare(target: &Path) -> Result<()> {
    let folder = target.join("peers");
    std::fs::create_dir_all(&folder)?;
    for (package, program) in SERVERS {
        if !folder.join(program).exists() {
            println!("setup: unpacking Debian's {package} in {}", folder.display());
            unpack(package, &folder).with_context(|| format!("cannot unpack {package}"))?;
        }
    }
    engines(&folder)
}

fn unpack(package: &str, folder: &Path) -> Result<()> {
    let download = folder.join("download");
    std::fs::create_dir_all(&download)?;
    let mut apt = Command::new("apt-get");
    // As root it would hand the download to a user who may not write here, and warn that it does not.
    apt.args(["-qq", "-o", "APT::Sandbox::User=root", "download", package]).current_dir(&download);
    checked(apt.stdin(Stdio::null()))?;
    for entry in std::fs::read_dir(&download)? {
        checked(Command::new("dpkg-deb").arg("--extract").arg(entry?.path()).arg(folder))?;
    }
    std::fs::remove_dir_all(&download)?;
    Ok(())
}

fn engines(folder: &Path) -> Result<()> {
    let (python, noted) = (folder.join("python"), folder.join("python/packages"));
    if std::fs::read_to_string(&noted).is_ok_and(|found| found == ENGINES.join("\n")) {
        return Ok(());
    }
    println!("setup: python environment with {} in {}", ENGINES.join(", "), python.display());
    checked(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&python))?;
    let mut pip = Command::new(python.join("bin/python"));
    checked(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(ENGINES))?;
    std::fs::write(noted, ENGINES.join("\n"))?;
    Ok(())
}
