//! The programs that run in the machines, built to need no library: their file systems have none.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::run::cargo;
use crate::setup;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Programs of the tests' package that the kernel tests start.
const STARTED: [&str; 2] = ["skep-generator", "skep-churn"];

/// Where they are.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) agent: PathBuf,
    /// The kernel tests.
    pub(super) tests: PathBuf,
    /// What the tests start; they know the paths from when they were built.
    pub(super) started: Vec<PathBuf>,
}

/// Builds them.
pub(super) fn build() -> Result<Programs> {
    println!("== cargo build, static: agent and kernel tests");
    let mut command = cargo();
    command
        .args(["build", "--target", TARGET, "--package", "skep-agent", "--package", "skep-tests"])
        .args(["--bins", "--test", "kernel_probes"])
        .arg("--message-format=json-render-diagnostics")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .stderr(Stdio::inherit());
    if let Some(object) = object()? {
        command.env("SKEP_EBPF_OBJECT", object);
    }
    let output = command.output().context("cannot run cargo build")?;
    ensure!(output.status.success(), "the static build failed");
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = |name: &str| executable(&messages, name).with_context(|| format!("cargo built no {name}"));
    let started = STARTED.iter().map(|name| built(name)).collect::<Result<_>>()?;
    Ok(Programs { agent: built("skep-agent")?, tests: built("kernel_probes")?, started })
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
