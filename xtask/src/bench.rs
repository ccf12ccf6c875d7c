//! `cargo xtask bench`: costs of the hot paths, in their own programs, built with optimisation.

use std::process::Command;

use anyhow::Result;

use crate::run::checked;
use crate::setup;

/// Runs one benchmark of `benches/`.
pub(crate) fn run(name: &str, json: bool) -> Result<()> {
    setup::ensure_build()?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(setup::repository());
    cargo.args(["run", "--quiet", "--profile", "bench-run", "--package", "skep-benches", "--", name]);
    if json {
        cargo.arg("--json");
    }
    checked(&mut cargo)
}
