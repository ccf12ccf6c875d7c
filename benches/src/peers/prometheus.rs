//! Prometheus as a receiver of remote write, with its own defaults.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::http::{self, Client};
use crate::measured::Measured;

/// A running one.
#[derive(Debug)]
pub(crate) struct Prometheus {
    pub(crate) process: Measured,
    pub(crate) client: Client,
}

impl Prometheus {
    /// Starts it on an empty folder.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let address: SocketAddr = http::free_address()?;
        let settings = folder.with_extension("yml");
        std::fs::write(&settings, "global: {}\n")?;
        let mut command = Command::new(super::program("usr/bin/prometheus")?);
        command.arg(format!("--config.file={}", settings.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.display()));
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--web.enable-remote-write-receiver", "--web.enable-admin-api"]);
        let process = Measured::spawn("prometheus", &mut command, &folder.with_extension("log"))?;
        let client = Client::connect(address, "/-/ready")?;
        Ok(Self { process, client })
    }

    /// Writes what is in memory as a block: two hours would have to pass before it does by itself.
    pub(crate) fn write_block(&mut self) -> Result<()> {
        self.client.post("/api/v1/admin/tsdb/snapshot", "", &[]).map(|_| ())
    }
}
