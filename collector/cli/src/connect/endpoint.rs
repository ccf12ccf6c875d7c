//! `endpoint.json`: where the collector of a folder listens. A collector that was killed leaves it behind, so it counts
//! only when somebody answers there.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::ConnectError;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Endpoint {
    /// `host:port` of the gRPC listener.
    pub grpc: String,
    /// The collector's process.
    pub pid: u32,
}

impl Endpoint {
    /// Reads the folder's file; `None` when there is none.
    ///
    /// # Errors
    /// [`ConnectError::Unreadable`], [`ConnectError::BadEndpoint`].
    pub fn read(data: &Path) -> Result<Option<Self>, ConnectError> {
        let path = data.join("endpoint.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| ConnectError::BadEndpoint { path, source })
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(source) => Err(ConnectError::Unreadable { path, source }),
        }
    }

    /// `https://host:port`. A listener on every address is asked on the loopback one.
    pub fn url(&self) -> String {
        let local = match self.grpc.rsplit_once(':') {
            Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
            Some(("[::]", port)) => format!("[::1]:{port}"),
            _ => self.grpc.clone(),
        };
        format!("https://{local}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("endpoint.json"), text).unwrap();
        folder
    }

    #[test]
    fn no_file_is_no_endpoint_and_nonsense_is_an_error() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(Endpoint::read(empty.path()).unwrap(), None);
        let bad = write("{");
        assert!(matches!(Endpoint::read(bad.path()), Err(ConnectError::BadEndpoint { .. })));
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        let check = |grpc: &str, url: &str| {
            assert_eq!(Endpoint { grpc: grpc.to_owned(), pid: 1 }.url(), url);
        };
        check("127.0.0.1:7443", "https://127.0.0.1:7443");
        check("0.0.0.0:7443", "https://127.0.0.1:7443");
        check("[::]:7443", "https://[::1]:7443");
    }
}
