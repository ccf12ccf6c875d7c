//! VictoriaMetrics, one node, with its own defaults.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::http::{self, Client};
use crate::measured::Measured;

/// A running one.
#[derive(Debug)]
pub(crate) struct Victoria {
    pub(crate) process: Measured,
    pub(crate) client: Client,
}

impl Victoria {
    /// Starts it on an empty folder.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let address: SocketAddr = http::free_address()?;
        let mut command = Command::new(super::program("usr/bin/victoria-metrics")?);
        command.arg(format!("-httpListenAddr={address}")).arg(format!("-storageDataPath={}", folder.display()));
        // What a query of an hour of every process needs, and no answers from a cache.
        command.args(["-retentionPeriod=12", "-search.disableCache", "-search.maxUniqueTimeseries=10000000"]);
        command.arg("-maxInsertRequestSize=256MB");
        let process = Measured::spawn("victoria-metrics", &mut command, &folder.with_extension("log"))?;
        let client = Client::connect(address, "/health")?;
        Ok(Self { process, client })
    }
}
