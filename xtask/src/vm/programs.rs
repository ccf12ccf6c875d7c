//! The programs that run in the machines: those of the ordinary build, with the libraries they need, or built to need
//! none, where a whole Debian has its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::run::cargo;
use crate::setup;

const PACKAGES: [&str; 3] = ["skep-agent", "skep-tests", "skep-executor"];

const TESTS: &str = "kernel_probes";

const EXECUTOR_TESTS: &str = "executor";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Programs that the tests start.
const STARTED: [&str; 3] = ["skep-generator", "skep-churn", "skep-executor"];

/// Where they are.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) agent: PathBuf,
    /// The kernel tests.
    pub(super) tests: PathBuf,
    /// The executor's tests.
    pub(super) executor_tests: PathBuf,
    /// What the tests start; they know the paths from when they were built.
    pub(super) started: Vec<PathBuf>,
}

/// Builds them. The ordinary build is that of the whole workspace: a smaller selection would be other features of the same
/// dependencies, and all of them compiled again.
pub(super) fn build(without_libraries: bool) -> Result<Programs> {
    let mut command = cargo();
    command.arg("build");
    if without_libraries {
        println!("== cargo build, static: agent, kernel tests and executor's tests");
        command.args(["--target", TARGET]).env("RUSTFLAGS", "-C target-feature=+crt-static");
        command.args(PACKAGES.map(|package| format!("--package={package}")));
        if let Some(object) = object()? {
            command.env("SKEP_EBPF_OBJECT", object);
        }
    } else {
        println!("== cargo build: agent, kernel tests and executor's tests");
        command.arg("--workspace");
    }
    command.args(["--bins", "--test", TESTS, "--test", EXECUTOR_TESTS]);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo build")?;
    ensure!(output.status.success(), "the build failed");
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = |name: &str| executable(&messages, name).with_context(|| format!("cargo built no {name}"));
    let started = STARTED.iter().map(|name| built(name)).collect::<Result<_>>()?;
    Ok(Programs { agent: built("skep-agent")?, tests: built(TESTS)?, executor_tests: built(EXECUTOR_TESTS)?, started })
}

/// The libraries a program needs and its loader, where this system has them; none of one that was built without.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f...)`, `/lib64/ld-linux-x86-64.so.2 (0x7f...)`; fails for a
    // static one.
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(if output.status.success() { lines.lines().filter_map(path).collect() } else { Vec::new() })
}

/// What cargo says it built under a name.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// The eBPF object of the ordinary build, when it is newer than all it is made from: building it takes as long as all
/// the rest.
fn object() -> Result<Option<PathBuf>> {
    if let Some(given) = std::env::var_os("SKEP_EBPF_OBJECT") {
        return Ok(Some(given.into()));
    }
    let builds = std::fs::read_dir(setup::target_folder()?.join("debug/build")).into_iter().flatten().flatten();
    let objects = builds.map(|entry| entry.path().join("out/skep-agent-ebpf.o"));
    let newest = objects.filter_map(|path| Some((changed(&path)?, path))).max();
    let top = setup::repository();
    let sources = [top.join("agent-ebpf"), top.join("common/src"), top.join("agent/build.rs")];
    let source = sources.iter().filter_map(|path| newest_below(path)).max();
    Ok(newest.filter(|(built, _)| source.is_some_and(|source| *built > source)).map(|(_, path)| path))
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

fn newest_below(path: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| newest_below(&entry.path())).chain(changed(path)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_messages_tell_what_was_built() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"a\"},\"executable\":null}\n\
             {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"b\"},\"executable\":\"/t/b\"}\nno message\n";
        assert_eq!(executable(messages, "b"), Some(PathBuf::from("/t/b")));
        assert_eq!(executable(messages, "a"), None);
    }
}
