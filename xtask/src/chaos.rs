//! `cargo xtask chaos`: faults on purpose, and whether anything that was acknowledged is gone or there twice.

use std::process::Command;

use anyhow::Result;

use crate::run::{cargo, checked};
use crate::setup;

/// Builds the collector and the program that torments it, and runs that.
pub(crate) fn run(name: &str, json: bool, arguments: &[String]) -> Result<()> {
    setup::ensure_build()?;
    // The whole workspace is selected, and only then programs: see `test`.
    checked(cargo().args(["build", "--quiet", "--workspace", "--bin", "skep-collector", "--bin", "skep-chaos"]))?;
    let mut chaos = Command::new(setup::target_folder()?.join("debug/skep-chaos"));
    chaos.arg(name).args(arguments);
    if json {
        chaos.arg("--json");
    }
    checked(&mut chaos)
}
