//! `cargo xtask test`: everything a change must pass, in the order of what fails fastest.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, checked, succeeds};
use crate::tally::{self, Tally};
use crate::{generate, lint, setup, vm};

/// Unit and component tests run side by side; kernel and end-to-end tests one at a time, because they share the kernel
/// and measure time.
pub(crate) fn run() -> Result<()> {
    ensure!(is_root(), "the kernel tests load eBPF programs: run `cargo xtask test` as root");
    setup::ensure_build()?;
    setup::ensure_tests()?;
    lint::run()?;
    generate::run(true)?;
    println!("== cargo build --workspace --all-targets");
    checked(cargo().args(["build", "--workspace", "--all-targets"]))?;
    let mut tally = Tally::default();
    println!("== unit and component tests");
    tally.add(tally::run(&mut side_by_side())?);
    println!("== kernel and end-to-end tests");
    tally.add(tally::run(&mut one_at_a_time())?);
    println!("== other kernels");
    let vm = vm::run(&vm::Choice { names: vm::IN_TESTS.map(str::to_owned).into(), record: false });
    tally.named.iter().for_each(|line| println!("{line}"));
    println!("{} passed, {} failed, {} ignored", tally.passed, tally.failed, tally.ignored);
    ensure!(tally.is_green(), "the tests did not pass");
    vm.context("other kernels")
}

/// Both halves select the whole workspace, and only then tests: a smaller selection would be other features of the same
/// dependencies, and all of them compiled again.
fn side_by_side() -> Command {
    let mut cargo = cargo();
    if has_nextest() {
        cargo.args(["nextest", "run", "--no-fail-fast", "--workspace", "-E", "not package(skep-tests)"]);
    } else {
        cargo.args(["test", "--no-fail-fast", "--workspace", "--exclude", "skep-tests"]);
    }
    cargo
}

fn one_at_a_time() -> Command {
    let mut cargo = cargo();
    if has_nextest() {
        cargo.args([
            "nextest",
            "run",
            "--no-fail-fast",
            "--workspace",
            "-E",
            "package(skep-tests)",
            "--test-threads=1",
        ]);
    } else {
        cargo.args(["test", "--no-fail-fast", "--workspace", "--test", "e2e_*", "--test", "kernel_*"]);
        cargo.args(["--", "--test-threads=1"]);
    }
    cargo
}

pub(crate) fn has_nextest() -> bool {
    succeeds(Command::new("cargo").args(["nextest", "--version"]))
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}
