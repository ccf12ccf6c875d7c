//! `cargo xtask lint`: formatting, clippy, and who may depend on whom.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, checked};
use crate::setup;

/// Packages that must not appear below a package, with the reason.
const LAYERS: [(&str, &[&str], &str); 11] = [
    ("skep-agent", &["arrow", "datafusion", "parquet", "skep-executor"], "the agent ships columns, it does not query"),
    ("skep-executor", &["arrow", "aya", "skep-agent", "skep-collector", "tonic"], "it acts and has no network"),
    ("skep-collector", &["aya", "skep-agent", "skep-executor"], "it runs without capabilities"),
    (
        "skep-kubernetes",
        &["arrow", "datafusion", "openssl", "skep-collector", "skep-executor"],
        "it acts and knows no tables",
    ),
    ("skep-audit", &["arrow", "datafusion", "skep-wire", "tokio"], "whoever has the files can verify them"),
    ("skep-policy", &["arrow", "datafusion", "skep-collector", "tonic"], "it decides, it does nothing"),
    ("skep-series", &["arrow", "datafusion", "skep-wire", "tokio"], "it is arithmetic on numbers"),
    (
        "skep-rules",
        &["arrow", "datafusion", "skep-agent", "skep-collector", "tokio"],
        "agent and collector use it alike",
    ),
    ("skep-checks", &["arrow", "datafusion", "skep-wire", "skep-agent"], "it asks services and knows no tables"),
    ("skep-alerts", &["arrow", "datafusion", "skep-wire"], "it is told what is wrong and knows no tables"),
    ("skep-common", &["skep-wire", "std"], "the kernel side compiles it too"),
];

/// Words that may stand only in one folder, with what they would mean elsewhere.
const PLACES: [(&str, &str, &str); 9] = [
    ("aya::", "agent/src/probe/", "only agent/src/probe names the loader"),
    ("cfs_quota_us\"", "agent/executor/src/act/", "only agent/executor/src/act changes the host"),
    ("memory.high\"", "agent/executor/src/act/", "only agent/executor/src/act changes the host"),
    ("cgroup.freeze\"", "agent/executor/src/act/", "only agent/executor/src/act changes the host"),
    ("pidfd_send_signal(", "agent/executor/src/act/", "only agent/executor/src/act changes the host"),
    ("zbus::", "agent/", "systemd is spoken to on its host: changed by the executor, looked at by checks"),
    ("\"StartUnit\"", "agent/executor/src/act/", "only agent/executor/src/act changes units"),
    ("inet skep", "agent/executor/src/act/", "only agent/executor/src/act changes the host"),
    ("unlinkat(", "agent/executor/src/act/", "only agent/executor/src/act removes others' files"),
];

/// Words that may not stand in a folder.
const ABSENT: [(&str, &str, &str); 6] = [
    ("agent/executor/src/", "std::net", "the executor has no network"),
    ("agent/executor/src/", "net::Tcp", "the executor has no network"),
    ("collector/policy/src/", "std::fs", "a policy comes as text"),
    ("collector/policy/src/", "std::time", "time is passed in; there is no clock"),
    ("collector/series/src/", "std::fs", "series come as numbers, not as files"),
    ("collector/series/src/", "std::time", "time is in the points; there is no clock"),
];

/// Everything that needs no test to run.
pub(crate) fn run() -> Result<()> {
    println!("== rustfmt, clippy, layers");
    checked(cargo().args(["fmt", "--all", "--check"]))?;
    layers()?;
    places()?;
    checked(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))
}

fn layers() -> Result<()> {
    for (package, forbidden, reason) in LAYERS {
        let tree = cargo()
            .args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .output()
            .context("cannot run cargo tree")?;
        let tree = String::from_utf8_lossy(&tree.stdout);
        let found =
            tree.lines().filter_map(|line| line.split_whitespace().next()).find(|name| forbidden.contains(name));
        if let Some(found) = found {
            bail!("{package} depends on {found}: {reason}");
        }
    }
    Ok(())
}

fn places() -> Result<()> {
    for file in sources(setup::repository())? {
        let relative = file.strip_prefix(setup::repository()).unwrap_or(&file).to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file)?;
        let stands =
            |word: &str| text.lines().position(|line| line.contains(word) && !line.trim_start().starts_with("//"));
        let outside = PLACES.iter().filter(|(_, folder, _)| !relative.starts_with(folder));
        let inside = ABSENT.iter().filter(|(folder, _, _)| relative.starts_with(folder));
        let rules = outside.map(|(word, _, reason)| (word, reason));
        for (word, reason) in rules.chain(inside.map(|(_, word, reason)| (word, reason))) {
            if let Some(line) = stands(word) {
                bail!("{relative}:{}: {word}: {reason}", line + 1);
            }
        }
    }
    Ok(())
}

/// Our Rust files outside tests, xtask and the eBPF crate.
fn sources(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![top.join("agent"), top.join("collector"), top.join("common")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.contains("tests") && name != "build.rs" {
                found.push(path);
            }
        }
    }
    Ok(found)
}
