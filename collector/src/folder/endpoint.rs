//! Where the collector of this folder listens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{FolderError, io, write_whole};

const FILE: &str = "endpoint.json";

/// Content of `endpoint.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address and port of the gRPC listener.
    pub grpc: String,
    /// Its process.
    pub pid: u32,
}

/// Removes the file when dropped.
#[derive(Debug)]
pub struct Announced {
    path: PathBuf,
}

impl Endpoint {
    /// What the folder says; `None` when it says nothing readable.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()
    }
}

pub(super) fn announce(folder: &Path, grpc: SocketAddr) -> Result<Announced, FolderError> {
    let path = folder.join(FILE);
    let endpoint = Endpoint { grpc: grpc.to_string(), pid: std::process::id() };
    let bytes =
        serde_json::to_vec(&endpoint).map_err(|source| FolderError::Malformed { path: path.clone(), source })?;
    write_whole(&path, &bytes).map_err(|source| io("write", &path, source))?;
    Ok(Announced { path })
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, file = %self.path.display(), "could not be removed");
        }
    }
}
