//! `cargo xtask bench`: costs of the hot paths, in their own programs, built with optimisation.

use std::process::Command;

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
    let mut command = match name {
        // They measure the programs that stand beside them. All at once: with fewer selected, cargo gives what they share
        // other features, and the query engine is compiled anew.
        "ingest" | "query" | "fleet" => {
            checked(cargo().args(["build", "--quiet", "--profile", PROFILE, "--workspace", "--bins"]))?;
            let mut bench = Command::new(setup::target_folder()?.join(PROFILE).join("skep-bench"));
            bench.arg(name);
            bench
        }
        "healing" | "found" => {
            setup::ensure_box()?;
            checked(cargo().args(["build", "--quiet", "--profile", PROFILE, "--workspace", "--bins"]))?;
            let mut bench = Command::new(setup::target_folder()?.join(PROFILE).join("skep-healing"));
            bench.args((name == "found").then_some("find"));
            bench
        }
        // Quality first: it stands beside the arithmetic it measures, not among the costs.
        "series" => {
            let mut cargo = cargo();
            cargo.args(["run", "--quiet", "--profile", PROFILE, "--package", "skep-series", "--example", "evaluate"]);
            cargo.arg("--");
            cargo
        }
        // Needs neither the probes nor the query engine.
        "detect" | "detection" => {
            let mut cargo = cargo();
            cargo.args([
                "run",
                "--quiet",
                "--profile",
                PROFILE,
                "--package",
                "skep-rules",
                "--example",
                "detect",
                "--",
            ]);
            cargo
        }
        _ => {
            if name == "agent" {
                checked(cargo().args(["build", "--quiet", "--profile", PROFILE, "--package", "skep-agent"]))?;
            }
            let mut cargo = cargo();
            cargo.args(["run", "--quiet", "--profile", PROFILE, "--package", "skep-benches", "--", name]);
            cargo
        }
    };
    if json {
        command.arg("--json");
    }
    command.args(arguments);
    checked(&mut command)
}
