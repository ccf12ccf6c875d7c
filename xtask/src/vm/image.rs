//! A small file system for a machine: busybox, our programs, and a script that is the first process.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::programs::{self, Programs};
use crate::run::checked;

const BUSYBOX: &str = "/bin/busybox";
const INIT: &str = include_str!("init.sh");

/// Nobody is at that address: what is counted stays in the spool.
const SETTINGS: &str = r#"collector = "https://127.0.0.1:7443"
ca = "/etc/skep/ca.pem"
cert = "/etc/skep/agent.pem"
key = "/etc/skep/agent.key"
window = "1s"
"#;

/// Folders that mounts and tests want.
const FOLDERS: [&str; 8] = ["bin", "dev", "etc", "proc", "sys", "tmp", "usr/share", "var/tmp"];

/// Makes the file system anew; returns the archive.
pub(super) fn small(programs: &Programs, folder: &Path) -> Result<PathBuf> {
    let root = empty(folder, "small")?;
    for name in FOLDERS {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).with_context(|| format!("cannot copy {BUSYBOX}"))?;
    let named = [
        ("/bin/skep-agent", &programs.agent),
        ("/bin/kernel_probes", &programs.tests),
        ("/bin/executor_tests", &programs.executor_tests),
    ];
    let named = named.map(|(place, program)| (Path::new(place), program));
    // Tests know those they start by the paths from when they were built.
    for (place, program) in named.into_iter().chain(programs.started.iter().map(|program| (program.as_path(), program)))
    {
        add(&root, place, program)?;
        add_libraries(&root, program)?;
    }
    compile_true(&root.join("bin/true"))?;
    settings(&root)?;
    executable(&root.join("init"), INIT)?;
    pack(&root)
}

/// An empty folder.
pub(super) fn empty(folder: &Path, name: &str) -> Result<PathBuf> {
    let root = folder.join("roots").join(name);
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    Ok(root)
}

/// Puts a program at `place` of the file system, without its debug information.
pub(super) fn add(root: &Path, place: &Path, program: &Path) -> Result<()> {
    let place = root.join(place.strip_prefix("/").unwrap_or(place));
    fs::create_dir_all(place.parent().context("a program lies in a folder")?)?;
    checked(Command::new("strip").arg("-o").arg(&place).arg(program))
}

/// What a program needs besides, where it looks for it.
fn add_libraries(root: &Path, program: &Path) -> Result<()> {
    for library in programs::libraries(program)? {
        let place = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(place.parent().context("a library lies in a folder")?)?;
        fs::copy(&library, &place).with_context(|| format!("cannot copy {}", library.display()))?;
    }
    Ok(())
}

/// Settings of an agent whose collector is not there, and certificates for them.
pub(super) fn settings(root: &Path) -> Result<()> {
    let etc = root.join("etc/skep");
    fs::create_dir_all(&etc)?;
    fs::write(etc.join("agent.toml"), SETTINGS)?;
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=machine/OU=agent", "-keyout"])
        .arg(etc.join("agent.key"))
        .arg("-out")
        .arg(etc.join("agent.pem"))
        .output()
        .context("cannot run openssl")?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    fs::copy(etc.join("agent.pem"), etc.join("ca.pem"))?;
    Ok(())
}

/// Writes a script.
pub(super) fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Packs a folder into the archive next to it.
pub(super) fn pack(root: &Path) -> Result<PathBuf> {
    let archive = root.with_extension("cpio");
    let script = "find . -print0 | cpio --null --create --format=newc --quiet >\"$0\"";
    checked(Command::new("sh").args(["-c", script]).arg(&archive).current_dir(root))?;
    Ok(archive)
}

/// The program that tests start most. busybox's does not work under another name, which tests give it.
fn compile_true(place: &Path) -> Result<()> {
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-Os", "-s", "-x", "c", "-", "-o"]).arg(place).stdin(Stdio::piped());
    let mut gcc = gcc.spawn().context("cannot run gcc")?;
    let mut source = gcc.stdin.take().context("gcc reads nothing")?;
    source.write_all(b"int main(void) { return 0; }\n")?;
    drop(source);
    ensure!(gcc.wait()?.success(), "gcc did not make a program that does nothing");
    Ok(())
}
