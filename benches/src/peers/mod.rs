//! Servers and engines that answer the same questions.
//!
//! `cargo xtask bench NAME --peers` puts their programs where [`folder`] says; none of them is installed on the host.
//!
//! * [`remote_write`]: the samples of a window as Prometheus' remote write has them.
//! * [`http`]: just enough of a client.
//! * [`victoria`], [`prometheus`]: the servers.
//! * [`python`]: DuckDB and ClickHouse (chdb), in a Python of their own.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

pub(crate) mod http;

pub(crate) mod prometheus;

pub(crate) mod remote_write;

pub(crate) mod victoria;

/// Where the peers are.
fn folder() -> Result<PathBuf> {
    let programs = std::env::current_exe()?;
    let target = programs.parent().and_then(|programs| programs.parent()).context("a program in no folder")?;
    Ok(target.join("peers"))
}

/// A program of a peer.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let program = folder()?.join(name);
    ensure!(program.exists(), "{} is missing: cargo xtask bench with --peers fetches it", program.display());
    Ok(program)
}
