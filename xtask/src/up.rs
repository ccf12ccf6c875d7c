//! `cargo xtask up`: builds the programs and starts skep on this host.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{cargo, checked};
use crate::setup;

/// Replaces this process by `skep up` with `arguments`; without `--data` the data lies in the target folder.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    setup::ensure_build()?;
    checked(cargo().arg("build"))?;
    let target = setup::target_folder()?;
    let mut skep = Command::new(target.join("debug/skep"));
    skep.arg("up");
    if !arguments.iter().any(|argument| argument == "--data" || argument.starts_with("--data=")) {
        let data = target.join("skep-data");
        println!("data in {} (choose another place with --data DIR)", data.display());
        skep.arg("--data").arg(data);
    }
    let error = skep.args(arguments).exec();
    Err(error).context("cannot start skep")
}
