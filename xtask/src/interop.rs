//! The other engines that tests read skep's files with, in a Python environment under the target folder.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::run::checked;

/// Pinned, so that a new release of theirs does not turn our tests red.
const PACKAGES: [&str; 2] = ["duckdb==1.5.5", "deltalake==1.6.6"];

/// Makes the environment unless it is there with exactly [`PACKAGES`].
pub(crate) fn prepare(target: &Path) -> Result<()> {
    if is_prepared(target) {
        return Ok(());
    }
    let folder = target.join("interop");
    println!("setup: python environment with {} in {}", PACKAGES.join(", "), folder.display());
    checked(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    checked(
        Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES),
    )?;
    std::fs::write(folder.join("packages"), PACKAGES.join("\n"))?;
    Ok(())
}

/// Whether the environment is there.
fn is_prepared(target: &Path) -> bool {
    let folder = target.join("interop");
    folder.join("bin/python").exists()
        && std::fs::read_to_string(folder.join("packages")).is_ok_and(|found| found == PACKAGES.join("\n"))
}
