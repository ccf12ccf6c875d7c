//! `cargo xtask bench`: costs of the hot paths, in their own programs, built with optimisation.

use anyhow::Result;

use crate::run::{cargo, checked};
use crate::setup;

/// Optimised, without the long link of a release.
const PROFILE: &str = "bench-run";

/// Runs one benchmark of `benches/`.
pub(crate) fn run(name: &str, json: bool, arguments: &[String]) -> Result<()> {
    setup::ensure_build()?;
    if name == "overhead" && !arguments.iter().any(|argument| argument == "--no-bpftrace") {
        setup::ensure_peers()?;
    }
    if name == "agent" {
        // It measures the program that stands beside it.
        checked(cargo().args(["build", "--quiet", "--profile", PROFILE, "--package", "skep-agent"]))?;
    }
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--profile", PROFILE, "--package", "skep-benches", "--", name]);
    if json {
        cargo.arg("--json");
    }
    cargo.args(arguments);
    checked(&mut cargo)
}
