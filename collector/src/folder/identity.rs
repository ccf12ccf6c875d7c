//! Who stores in this folder.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{FolderError, io, write_whole};

const FILE: &str = "collector.json";

/// Made once for a folder and never changed: files and transactions carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// 12 hex digits: in file names and Delta transactions.
    pub collector: String,
    /// 32 hex digits: the stream of the collector's own rows.
    pub stream: String,
}

impl Identity {
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, FolderError> {
        let path = folder.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| FolderError::Malformed { path, source })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io("read", &path, source)),
        }
    }

    pub(super) fn make(folder: &Path) -> Result<Self, FolderError> {
        let identity = Self { collector: random_hex::<6>()?, stream: random_hex::<16>()? };
        let path = folder.join(FILE);
        let bytes =
            serde_json::to_vec(&identity).map_err(|source| FolderError::Malformed { path: path.clone(), source })?;
        write_whole(&path, &bytes).map_err(|source| io("write", &path, source))?;
        Ok(identity)
    }
}

fn random_hex<const BYTES: usize>() -> Result<String, FolderError> {
    let mut bytes = [0u8; BYTES];
    getrandom::fill(&mut bytes).map_err(FolderError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
