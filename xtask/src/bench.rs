//! `cargo xtask bench`: costs of the hot paths, in their own programs, built with optimisation.

use anyhow::Result;

use crate::run::{cargo, checked};
use crate::{peers, setup};

/// Optimised, without the long link of a release.
const PROFILE: &str = "bench-run";

/// Runs one benchmark of `benches/`.
pub(crate) fn run(name: &str, json: bool, arguments: &[String]) -> Result<()> {
    setup::ensure_build()?;
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if name == "overhead" && !given("--no-bpftrace") {
        setup::ensure_peers()?;
    }
    if given("--peers") {
        setup::ensure_python()?;
        peers::prepare(&setup::target_folder()?)?;
    }
    // It measures the programs that stand beside it.
    let programs: &[&str] = match name {
        "agent" => &["skep-agent"],
        "ingest" | "fleet" => &["skep-collector"],
        "query" => &["skep-collector", "skep"],
        _ => &[],
    };
    for program in programs {
        checked(cargo().args(["build", "--quiet", "--profile", PROFILE, "--package", program]))?;
    }
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--profile", PROFILE, "--package", "skep-benches", "--", name]);
    if json {
        cargo.arg("--json");
    }
    cargo.args(arguments);
    checked(&mut cargo)
}
