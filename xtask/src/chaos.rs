//! `cargo xtask chaos`: faults on purpose, and whether anything that was acknowledged is gone or there twice, or was done to
//! the host twice or for too long.

use std::process::Command;

use anyhow::Result;

use crate::run::{cargo, checked};
use crate::setup;

/// Builds the programs and the one that torments them, and runs that.
pub(crate) fn run(name: &str, json: bool, arguments: &[String]) -> Result<()> {
    setup::ensure_build()?;
    // The whole workspace is selected, and only then programs: see `test`.
    let acts = name == "act";
    let programs: &[&str] = if acts {
        &["skep", "skep-collector", "skep-agent", "skep-executor", "skep-chaos-act"]
    } else {
        &["skep-collector", "skep-chaos"]
    };
    checked(cargo().args(["build", "--quiet", "--workspace"]).args(programs.iter().flat_map(|name| ["--bin", *name])))?;
    let program = if acts { "debug/skep-chaos-act" } else { "debug/skep-chaos" };
    let mut chaos = Command::new(setup::target_folder()?.join(program));
    if !acts {
        chaos.arg(name);
    }
    chaos.args(arguments);
    if json {
        chaos.arg("--json");
    }
    checked(&mut chaos)
}
