//! `cargo xtask test`: everything a change must pass, in the order of what fails fastest.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::run::{checked, succeeds};
use crate::tally::{self, Tally};
use crate::{generate, lint, setup};

/// Unit and component tests run side by side; kernel and end-to-end tests one at a time, because they share the kernel
/// and measure time.
pub(crate) fn run() -> Result<()> {
    ensure!(is_root(), "the kernel tests load eBPF programs: run `cargo xtask test` as root");
    setup::ensure()?;
    lint::run()?;
    generate::run(true)?;
    println!("== cargo build --workspace --all-targets");
    checked(cargo().args(["build", "--workspace", "--all-targets"]))?;
    let mut tally = Tally::default();
    println!("== unit and component tests");
    tally.add(tally::run(&mut cargo_test(&["--workspace", "--exclude", "skep-tests"], None))?);
    println!("== kernel and end-to-end tests");
    tally.add(tally::run(&mut cargo_test(&["--package", "skep-tests"], Some(1)))?);
    println!("{} passed, {} failed, {} ignored", tally.passed, tally.failed, tally.ignored);
    ensure!(tally.is_green(), "the tests did not pass");
    Ok(())
}

fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(setup::repository());
    cargo
}

fn cargo_test(what: &[&str], threads: Option<u32>) -> Command {
    let mut cargo = cargo();
    if succeeds(Command::new("cargo").args(["nextest", "--version"])) {
        cargo.args(["nextest", "run", "--no-fail-fast", "--no-tests=pass"]).args(what);
        if let Some(threads) = threads {
            cargo.arg(format!("--test-threads={threads}"));
        }
    } else {
        cargo.args(["test", "--no-fail-fast"]).args(what);
        if let Some(threads) = threads {
            cargo.arg("--").arg(format!("--test-threads={threads}"));
        }
    }
    cargo
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}
