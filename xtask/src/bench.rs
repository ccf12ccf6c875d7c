//! `cargo xtask bench`: costs of the hot paths, in their own programs, built with optimisation.

use anyhow::Result;

use crate::run::{cargo, checked};
use crate::setup;

/// Runs one benchmark of `benches/`.
pub(crate) fn run(name: &str, json: bool, arguments: &[String]) -> Result<()> {
    setup::ensure_build()?;
    if name == "overhead" && !arguments.iter().any(|argument| argument == "--no-bpftrace") {
        setup::ensure_peers()?;
    }
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--profile", "bench-run", "--package", "skep-benches", "--", name]);
    if json {
        cargo.arg("--json");
    }
    cargo.args(arguments);
    checked(&mut cargo)
}
